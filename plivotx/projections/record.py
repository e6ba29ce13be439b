"""What is on record of one call, as `GET /v0.1/Calls/RequestUUID/` and other tools show it.

Pure: from the events of one stream to a value that JSON can hold.  Any events in any order make a record;
what is not known is None.  Moments are ISO 8601 texts in UTC: those of the log on our wall clock, RingTime,
AnswerTime and EndTime on the clock of the switch.  Delays and durations are differences on that clock.
"""

import re
from calendar import isleap, monthrange
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from plivotx.causes import CAUSES, q850
from plivotx.events import (
    AttemptFailed,
    AttemptSkipped,
    AttemptStarted,
    CallbackDelivered,
    CallbackFailed,
    CallbackGivenUp,
    CallbackOwed,
    CallbackRenewed,
    CallClosed,
    CallEnded,
    CallRequested,
    ChannelAnswered,
    ChannelEnded,
    ChannelRang,
    DocumentFailed,
    DocumentFetched,
    Event,
    HangupRequested,
    JobFailed,
    LimitReached,
    Redirected,
    ScriptEnded,
    StepEnded,
    StepStarted,
    Unknown,
    VerbAbandoned,
    VerbEnded,
    VerbRound,
)

MICROSECONDS = 1_000_000
"""In a second."""
LAST_SECOND = 253_402_300_799.0
"""The end of the year 9999."""


class Entry(Protocol):
    """An event as the log has it (`plivotx.log.interface.Recorded`)."""

    @property
    def version(self) -> int:
        """Number of the event in its stream, from 1."""

    @property
    def at(self) -> float:
        """Wall time, seconds of the epoch."""

    @property
    def event(self) -> Event:
        """What happened."""


def record(stream: str, entries: Sequence[Entry]) -> dict[str, Any]:
    """The record of the call whose RequestUUID is *stream*, from all its events."""
    request = _first(entries, CallRequested)
    ended = _first(entries, CallEnded)
    attempts = _attempts(entries)
    carried = next((each for each in attempts if each.rang_at or each.answered_at), None)
    channel = (ended and ended.call_uuid) or (carried.channel if carried else "")
    end = ended.at if ended else 0
    return {
        "RequestUUID": stream,
        "State": _state(entries),
        "Direction": "outbound" if request else None,
        "From": request and request.from_number,
        "To": request and request.to_number,
        "AccountSID": request and request.account_sid,
        "CallUUID": channel or None,
        "Created": iso(entries[0].at) if entries else None,
        "RingTime": switch_time(carried.rang_at) if carried else None,
        "AnswerTime": switch_time(carried.answered_at) if carried else None,
        "EndTime": switch_time(end),
        "Duration": seconds_between(carried.begun_at, end) if carried else None,
        "BillDuration": seconds_between(carried.answered_at, end) if carried else None,
        "HangupCause": ended and ended.cause,
        "HangupOnRing": request and request.hangup_on_ring,
        "TimeLimit": request and request.time_limit,
        "Attempts": [each.shown() for each in attempts],
        "Callbacks": _callbacks(entries),
        "Script": _script(entries),
        "Timeline": timeline(entries),
    }


def news(entries: Sequence[Entry], after: int) -> dict[str, Any]:
    """Where the call stands and its timeline after version *after*, from all its events."""
    return {"State": _state(entries), "Timeline": timeline(entries, after)}


def iso(at: float) -> str:
    """A moment, seconds of the epoch, as an ISO 8601 text in UTC with milliseconds."""
    milliseconds = int(min(max(at, 0.0), LAST_SECOND) * 1000)
    seconds, rest = divmod(milliseconds, 1000)
    days, seconds = divmod(seconds, 86_400)
    year, month, day = _date(days)
    hour, minute, second = seconds // 3600, seconds // 60 % 60, seconds % 60
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{rest:03}Z"


@lru_cache(maxsize=256)
def _date(days: int) -> tuple[int, int, int]:
    """Year, month and day of the day that is so many after 1970-01-01."""
    year, month = 1970, 1
    while days >= (length := 365 + isleap(year)):
        days, year = days - length, year + 1
    while days >= (length := monthrange(year, month)[1]):
        days, month = days - length, month + 1
    return year, month, days + 1


def switch_time(at: int) -> str | None:
    """A moment on the switch's clock, microseconds, as `iso` has it; None for 0."""
    return iso(at / MICROSECONDS) if at else None


def seconds_between(first: int, last: int) -> float | None:
    """Between two moments of the switch's clock, microseconds; None unless both are known."""
    return round((last - first) / MICROSECONDS, 3) if first and last else None


def _first(entries: Sequence[Entry], kind: type[Any]) -> Any:
    return next((each.event for each in entries if isinstance(each.event, kind)), None)


def _state(entries: Sequence[Entry]) -> str | None:
    """As the read model has it: an event changes it only if it outranks all before it."""
    state, rank = None, 0
    for each in entries:
        if each.event.rank > rank:
            rank = each.event.rank
            state = each.event.columns().get("state", state)
    return None if state is None else str(state)


# -- attempts --------------------------------------------------------------------------------------


class _Attempt(msgspec.Struct):
    number: int
    gateway: str
    switch: str = ""
    channel: str = ""
    started: float | None = None
    """Wall time; None if its gateway was passed over."""
    created_at: int = 0
    rang_at: int = 0
    answered_at: int = 0
    early_media: bool = False
    over: float | None = None
    """Wall time."""
    job_failed: str = ""
    end: ChannelEnded | None = None
    ordered: str = ""
    """With which cause we meant to hang it up, if we did."""
    why: str | None = None

    @property
    def begun_at(self) -> int:
        """When its channel was made, or the first that is known of it; microseconds, switch clock."""
        return self.created_at or self.rang_at or self.answered_at

    def shown(self) -> dict[str, Any]:
        end = self.end
        cause = end.cause if end else self.job_failed
        return {
            "Number": self.number,
            "Gateway": self.gateway,
            "Switch": self.switch or None,
            "CallUUID": self.channel or None,
            "Started": None if self.started is None else iso(self.started),
            "RingDelay": seconds_between(self.created_at, self.rang_at),
            "AnswerDelay": seconds_between(self.created_at, self.answered_at),
            "EarlyMedia": self.early_media,
            "Ended": None if self.over is None else iso(self.over),
            "SipCode": (end and end.sip_code) or None,
            "Cause": cause or None,
            "Q850": (end and end.q850) or (q850(cause) if cause in CAUSES else 0) or None,
            "HungUpBy": hung_up_by(end, self.ordered) if self.over is not None else None,
            "Disposition": (end and end.sip_side) or None,
            "Why": self.why,
        }


def hung_up_by(end: ChannelEnded | None, ordered: str) -> str:
    """Who ended a channel: ``far end``, ``switch``, ``plivotx`` or ``unknown``.

    *ordered* is the cause with which we meant to hang it up before it ended, empty if we did not.
    FreeSWITCH's sip_hangup_disposition begins with ``recv_`` if the far end sent what ended the channel,
    with ``send_`` if the switch did, at our order or by itself.
    """
    if end is None:
        return "unknown"
    if end.found == "restart":
        return "switch"
    if end.sip_side.startswith("recv_"):
        return "far end"
    if end.sip_side.startswith("send_"):
        return "plivotx" if ordered else "switch"
    return "plivotx" if ordered and end.cause == ordered else "unknown"


def _attempts(entries: Sequence[Entry]) -> list[_Attempt]:
    attempts: dict[str, _Attempt] = {}
    for entry in entries:
        event = entry.event
        if isinstance(event, AttemptStarted):
            attempts.setdefault(
                event.channel,
                _Attempt(event.number, event.gateway, event.switch, event.channel, entry.at),
            )
        elif isinstance(event, AttemptSkipped):
            attempts.setdefault(
                f"skipped {event.number}", _Attempt(event.number, event.gateway, why=event.why)
            )
        elif isinstance(event, LimitReached | HangupRequested | ScriptEnded):
            for attempt in attempts.values():
                if attempt.over is None:
                    attempt.ordered = attempt.ordered or event.cause
        else:
            known = attempts.get(getattr(event, "channel", ""))
            if known is not None:
                _learn(known, event, entry.at)
    return list(attempts.values())


def _learn(attempt: _Attempt, event: Event, at: float) -> None:
    """Take what one event tells about its attempt; of two that say the same the first counts."""
    match event:
        case ChannelRang():
            attempt.early_media = attempt.early_media or event.early_media
            attempt.rang_at = attempt.rang_at or event.at
            attempt.created_at = attempt.created_at or event.created_at
        case ChannelAnswered():
            attempt.answered_at = attempt.answered_at or event.at
            attempt.created_at = attempt.created_at or event.created_at
        case ChannelEnded() if attempt.end is None:
            attempt.end = event
            attempt.over = at
            attempt.rang_at = attempt.rang_at or event.rang_at
            attempt.answered_at = attempt.answered_at or event.answered_at
            attempt.created_at = attempt.created_at or event.created_at
        case JobFailed():
            attempt.job_failed = attempt.job_failed or event.cause
            attempt.over = at if attempt.over is None else attempt.over
        case AttemptFailed():
            attempt.why = attempt.why or event.why


# -- callbacks and the script ----------------------------------------------------------------------


def _callbacks(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    callbacks: dict[str, dict[str, Any]] = {}
    for entry in entries:
        event = entry.event
        if isinstance(event, CallbackOwed):
            callbacks.setdefault(
                event.key,
                {
                    "Key": event.key,
                    "Url": event.url,
                    "Method": event.method,
                    "Parameters": dict(event.params),
                    "State": "waiting",
                    "Owed": iso(entry.at),
                    "Tries": [],
                },
            )
        callback = callbacks.get(getattr(event, "key", ""))
        if callback is None:
            continue
        match event:
            case CallbackDelivered():
                callback["State"] = "delivered"
                tried = {"Try": event.attempt, "Time": iso(entry.at), "Status": event.status, "Why": None}
                callback["Tries"].append(tried)
            case CallbackFailed():
                tried = {"Try": event.attempt, "Time": iso(entry.at), "Status": None, "Why": event.why}
                callback["Tries"].append(tried)
            case CallbackGivenUp() if callback["State"] == "waiting":
                callback["State"] = "given-up"
            case CallbackRenewed() if callback["State"] == "given-up":
                callback["State"] = "waiting"
    return list(callbacks.values())


def _script(entries: Sequence[Entry]) -> dict[str, Any]:
    documents: dict[int, dict[str, Any]] = {}
    verbs: dict[tuple[int, int], dict[str, Any]] = {}
    errors: list[dict[str, Any]] = []
    end: dict[str, Any] = {"Ended": None, "Cause": None, "Why": None}

    def verb(document: int, number: int) -> dict[str, Any]:
        empty = {"Document": document, "Verb": number, "Name": None, "Started": None, "Ended": None}
        return verbs.setdefault((document, number), empty)

    def leave(time: str, document: int | None = None) -> None:
        for each in verbs.values():
            if document in (None, each["Document"]):
                each["Ended"] = each["Ended"] or time

    for entry in entries:
        time = iso(entry.at)
        match entry.event:
            case DocumentFetched(number=number, body=body):
                fetched = {"Number": number, "Fetched": time, "Characters": len(body)}
                documents.setdefault(number, fetched)
            case DocumentFailed(number=number, why=why):
                errors.append(_error(time, number, why))
            case StepStarted(key=key) | StepEnded(key=key) as step if found := _STEP.match(key):
                document = int(found[1])
                running = verb(document, int(found[2]) + 1)
                running["Started"] = running["Started"] or time
                if isinstance(step, StepEnded) and step.failed:
                    errors.append(_error(time, document, f"step {key}: {step.failed}"))
            case VerbEnded(document=number, verb=place, name=name):
                ended = verb(number, place + 1)
                ended.update(Name=name, Started=ended["Started"] or time, Ended=time)
            case VerbAbandoned(document=number, verb=place, why=why):
                verb(number, place + 1)["Ended"] = time
                errors.append(_error(time, number, why))
            case Redirected(document=number):
                leave(time, number)
            case ScriptEnded(cause=cause, why=why, fault=fault) if end["Ended"] is None:
                end = {"Ended": time, "Cause": cause, "Why": why}
                leave(time)
                if fault:
                    errors.append(_error(time, None, why))
    return {"Documents": list(documents.values()), "Verbs": list(verbs.values()), "Errors": errors, **end}


_STEP = re.compile(r"([0-9]{1,9})/([0-9]{1,9})/")
"""The beginning of a step's key: its document and its verb."""


def _error(time: str, document: int | None, why: str) -> dict[str, Any]:
    """An error, with its document and line as far as the text names them."""
    line = re.search(r"\bline ([0-9]{1,9})\b", why)
    named = re.match(r"document ([0-9]{1,9}):", why)
    return {
        "Time": time,
        "Document": int(named[1]) if named else document,
        "Line": int(line[1]) if line else None,
        "Why": why,
    }


# -- the timeline ----------------------------------------------------------------------------------


def timeline(entries: Sequence[Entry], after: int = 0) -> list[dict[str, Any]]:
    """Every event after version *after* with its wall time and one sentence for people.

    All events are needed: those before tell which attempt has which channel.
    """
    numbers = {
        each.event.channel: each.event.number for each in entries if isinstance(each.event, AttemptStarted)
    }
    return [
        {
            "Version": each.version,
            "Time": iso(each.at),
            "Event": each.event.type if isinstance(each.event, Unknown) else type(each.event).__name__,
            "Text": sentence(each.event, numbers),
        }
        for each in entries
        if each.version > after
    ]


def sentence(event: Event, numbers: Mapping[str, int] = {}) -> str:
    """What *event* says, in one sentence; *numbers* has the attempts by their channel.

    The queries of URLs are left out: they may hold what is not for everybody's eyes.
    """
    tell = _SENTENCES.get(type(event))
    if tell is None:
        return f"{type(event).__name__}."
    text = tell(event, numbers).rstrip(".") + "."  # a reason may have a full stop of its own
    return _QUERY.sub(r"\1?...", text)


_QUERY = re.compile(r"""(https?://[^\s?'"]*)\?[^\s'"]*?(?=[:,;.]?(?:['"\s]|$))""")


def _which(channel: str, numbers: Mapping[str, int]) -> str:
    """What to call the attempt that has this channel."""
    return f"attempt {numbers[channel]}" if channel in numbers else "a channel of no attempt of this call"


def _after(begun_at: int, at: int) -> str:
    delay = seconds_between(begun_at, at)
    return "" if delay is None else f", {delay:.1f} s after its channel was made"


def _requested(event: CallRequested, _: Mapping[str, int]) -> str:
    gateways = ", ".join(
        each.prefix if each.tries == 1 else f"{each.prefix} ({each.tries} tries)" for each in event.gateways
    )
    limits = []
    if event.hangup_on_ring is not None:
        limits.append(f"{event.hangup_on_ring} s after it rings")
    if event.time_limit is not None:
        limits.append(f"{event.time_limit} s after the answer")
    then = f"; to be hung up {' or '.join(limits)}" if limits else ""
    return f"A call from {event.from_number} to {event.to_number} was accepted, by way of {gateways}{then}."


def _started(event: AttemptStarted, _: Mapping[str, int]) -> str:
    return f"Attempt {event.number} is dialled through {event.gateway} on switch {event.switch}."


def _failed(event: AttemptFailed, numbers: Mapping[str, int]) -> str:
    which = _which(event.channel, numbers)
    return f"{which[:1].upper()}{which[1:]} is over without ringing or answer ({event.cause}): {event.why}."


def _rang(event: ChannelRang, numbers: Mapping[str, int]) -> str:
    what = "Early media is heard" if event.early_media else "The far end rings"
    return f"{what} ({_which(event.channel, numbers)}){_after(event.created_at, event.at)}."


def _answered(event: ChannelAnswered, numbers: Mapping[str, int]) -> str:
    return f"The far end answers ({_which(event.channel, numbers)}){_after(event.created_at, event.at)}."


_HOW_FOUND = {
    "kept": ", as the switch had kept it",
    "missing": ", found missing on the switch",
    "restart": ", lost when the switch was started anew",
}
_HOW_ENDED = {
    "recv_bye": ", hung up by the far end",
    "recv_refuse": ", refused by the far end",
    "recv_cancel": ", cancelled by the far end",
    "send_bye": ", hung up from this side",
    "send_refuse": ", refused from this side",
    "send_cancel": ", cancelled from this side",
}
"""By FreeSWITCH's sip_hangup_disposition."""


def _ended(event: ChannelEnded, numbers: Mapping[str, int]) -> str:
    sip = f", SIP {event.sip_code}" if event.sip_code else ""
    how = _HOW_ENDED.get(event.sip_side, "") + _HOW_FOUND.get(event.found, "")
    return f"The channel of {_which(event.channel, numbers)} has ended: {event.cause}{sip}{how}."


def _job_failed(event: JobFailed, numbers: Mapping[str, int]) -> str:
    if not event.dialled:
        which = _which(event.channel, numbers)
        return f"{which[:1].upper()}{which[1:]} was not dialled: {event.cause}."
    return f"The switch could not make the channel of {_which(event.channel, numbers)}: {event.cause}."


def _step(key: str) -> str:
    """A step as people count: its key counts the verbs of a document from 0."""
    found = _STEP.match(key)
    if not found:
        return f"Step {key}"
    return f"Step {key[found.end() :]} of verb {int(found[2]) + 1} of document {found[1]}"


def _step_ended(event: StepEnded, _: Mapping[str, int]) -> str:
    if event.failed:
        return f"{_step(event.key)} could not be done: {event.failed}."
    how = "was broken off" if event.stopped else "was cut off by the end" if event.cut else "has ended"
    return f"{_step(event.key)} {how}."


def _document_failed(event: DocumentFailed, _: Mapping[str, int]) -> str:
    final = "; no further try would help" if event.final else ""
    return f"Try {event.attempt} to fetch document {event.number} failed{final}: {event.why}."


def _closed(event: CallClosed, _: Mapping[str, int]) -> str:
    if not event.undelivered:
        return "The application knows all; the call is closed."
    callbacks = "1 callback" if event.undelivered == 1 else f"{event.undelivered} callbacks"
    return f"The call is closed, and {callbacks} could not be delivered."


def _unknown(event: Unknown, _: Mapping[str, int]) -> str:
    if not event.type:
        return "An event that cannot be read."
    return f"{event.type}: an event that this version does not know."


_SENTENCES: dict[type[Event], Callable[[Any, Mapping[str, int]], str]] = {
    CallRequested: _requested,
    AttemptStarted: _started,
    AttemptFailed: _failed,
    AttemptSkipped: lambda event, _: (
        f"Attempt {event.number} was not made: {event.gateway} is passed over, {event.why}."
    ),
    ChannelRang: _rang,
    ChannelAnswered: _answered,
    ChannelEnded: _ended,
    JobFailed: _job_failed,
    LimitReached: lambda event, _: f"{event.limit} is reached; the call is hung up with {event.cause}.",
    HangupRequested: lambda event, _: f"A client asks for the end of the call ({event.cause}).",
    DocumentFetched: lambda event, _: f"Document {event.number} was fetched ({len(event.body)} characters).",
    DocumentFailed: _document_failed,
    StepStarted: lambda event, _: f"{_step(event.key)} begins ({event.kind}).",
    StepEnded: _step_ended,
    VerbEnded: lambda event, _: f"Verb {event.verb + 1} of document {event.document}, {event.name}, is over.",
    VerbRound: lambda event, _: f"Verb {event.verb + 1} of document {event.document} begins anew.",
    Redirected: lambda event, _: f"Document {event.document} is left for another one, at {event.url}.",
    VerbAbandoned: lambda event, _: (
        f"Verb {event.verb + 1} of document {event.document} was abandoned: {event.why}."
    ),
    ScriptEnded: lambda event, _: f"The script is over ({event.cause}): {event.why}.",
    CallbackOwed: lambda event, _: f"The application is to be told: {event.key}, at {event.url}.",
    CallbackDelivered: lambda event, _: (
        f"The application was told: {event.key}, at try {event.attempt} (status {event.status})."
    ),
    CallbackFailed: lambda event, _: f"Try {event.attempt} to tell {event.key} failed: {event.why}.",
    CallbackGivenUp: lambda event, _: (
        f"The application cannot be told: {event.key} is given up, {event.why}."
    ),
    CallbackRenewed: lambda event, _: f"The application is to be told once more: {event.key}, as was asked.",
    CallEnded: lambda event, _: f"The call has ended: {event.cause}.",
    CallClosed: _closed,
    Unknown: _unknown,
}
