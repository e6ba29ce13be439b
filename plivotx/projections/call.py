"""What the events of one call mean.

`evolve` takes events in any order, with any of them missing or doubled: facts come from a world that
gives no better promise.  An event of no concern changes nothing.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha1
from typing import Any

import msgspec

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
    Gateway,
    HangupRequested,
    JobFailed,
    LimitReached,
    Redirected,
    ScriptEnded,
    StepEnded,
    StepStarted,
    VerbAbandoned,
    VerbEnded,
    VerbRound,
)

OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
"""The hangup cause of a call that may have rung or been answered, and nobody can tell any more."""
SWITCH_RESTARTED = "CRASH"
"""FreeSWITCH's own name for a channel that ended with its switch."""


class Attempt(msgspec.Struct, frozen=True):
    """One channel of a leg, or one that was not made because its gateway was passed over."""

    number: int
    gateway: str
    channel: str = ""
    switch: str = ""
    core: str = ""
    skipped: str = ""
    """Why it was passed over; empty if it was not."""
    created_at: int = 0
    """When the switch made the channel, microseconds of its clock; 0 if it did not say."""
    rang_at: int = 0
    ring: ChannelRang | None = None
    answered_at: int = 0
    answer: ChannelAnswered | None = None
    job_failed: str = ""
    """The cause, if FreeSWITCH could not originate it."""
    dialled: bool = True
    """Whether FreeSWITCH was told to, as far as is known."""
    end: ChannelEnded | None = None
    failed: bool = False
    """Whether it was decided that this attempt is over and the next may follow."""

    @property
    def over(self) -> bool:
        """Whether the channel is gone, or never was."""
        return self.end is not None or bool(self.job_failed) or bool(self.skipped)

    @property
    def cause(self) -> str:
        """Hangup cause, once over."""
        return self.end.cause if self.end else self.job_failed

    @property
    def progressed(self) -> bool:
        """Whether it rang, gave early media or was answered: then no further attempt is made."""
        return bool(self.rang_at or self.answered_at)


class Owed(msgspec.Struct, frozen=True):
    """A callback and how far its delivery has come."""

    what: CallbackOwed
    tries: int = 0
    delivered: bool = False
    given_up: bool = False
    why: str = ""

    @property
    def settled(self) -> bool:
        """Whether nothing more is to be done about it."""
        return self.delivered or self.given_up


class Script(msgspec.Struct, frozen=True):
    """Where the script stands: the current document, the verb that runs, and what it has lived through."""

    number: int = 1
    source: Redirected | None = None
    """Where this document comes from; None for the first one, which is AnswerUrl's."""
    body: str | None = None
    failures: tuple[str, ...] = ()
    """Why the tries to fetch this document failed."""
    hopeless: bool = False
    """Whether no further try can help."""
    verb: int = 0
    history: tuple[StepStarted | StepEnded, ...] = ()
    """Of the running verb, and its running round, only."""
    round: int = 0
    """How often the running verb has begun anew."""
    steps: int = 0
    """How many steps its earlier rounds had."""
    idle: int = 0
    """How many documents in a row redirected without anything having been run on the channel."""
    read: int = 0
    """Characters of this document and all before it."""
    end: ScriptEnded | None = None


class Call(msgspec.Struct, frozen=True):
    """One call, as far as the log tells."""

    request: CallRequested
    version: int
    """How many events of its stream this state holds."""
    attempts: tuple[Attempt, ...] = ()
    limits: tuple[LimitReached, ...] = ()
    hangup: HangupRequested | None = None
    """A client asked for its end."""
    owed: tuple[Owed, ...] = ()
    script: Script = Script()
    ended: CallEnded | None = None
    closed: bool = False
    renewals: int = 0
    """How many times callbacks that were given up have been renewed."""

    @property
    def uuid(self) -> str:
        """RequestUUID, which names the stream."""
        return self.request.request_uuid

    @property
    def attempt(self) -> Attempt | None:
        """The latest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def up(self) -> Attempt | None:
        """The attempt whose channel is up, or may be."""
        latest = self.attempt
        return latest if latest and not latest.over and not self.ended else None

    @property
    def gateways(self) -> list[Gateway]:
        """One entry for each attempt that may be made, in order."""
        return [each for each in self.request.gateways for _ in range(each.tries)]


def channel_uuid(request_uuid: str, leg: str, attempt: int) -> str:
    """The channel's UUID: derived, so that whoever has the log knows it before FreeSWITCH does.

    A UUID of version 5, by which the event filter tells our channels from everybody else's.
    """
    return derived_uuid(request_uuid, f"{leg}/{attempt}")


@lru_cache(maxsize=2048)
def derived_uuid(request_uuid: str, name: str) -> str:
    """The UUID (version 5) of what is called *name* within a call."""
    # What uuid.uuid5 makes, in a tenth of its time; each request waits for one.
    space = bytes.fromhex(request_uuid.replace("-", ""))
    made = sha1(space + name.encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(made[16], 16) % 4]
    return f"{made[:8]}-{made[8:12]}-5{made[13:16]}-{variant}{made[17:20]}-{made[20:32]}"


def evolve(call: Call | None, event: Event) -> Call | None:
    """Return what *call* has become; None as long as its request was not seen."""
    if call is None:
        return Call(request=event, version=1) if isinstance(event, CallRequested) else None
    change = _CHANGES.get(type(event))
    fields = change(call, event) if change else {}
    return msgspec.structs.replace(call, version=call.version + 1, **fields)


_Fields = dict[str, Any]


def _on_channel(call: Call, channel: str, **fields: Any) -> _Fields:
    """Change the attempt that has this channel; a fact about no attempt of the call changes nothing."""
    return {
        "attempts": tuple(
            [
                msgspec.structs.replace(each, **fields) if each.channel == channel else each
                for each in call.attempts
            ]
        )
    }


def _find(call: Call, channel: str) -> Attempt | None:
    for each in call.attempts:
        if each.channel == channel:
            return each
    return None


def _attempt_started(call: Call, event: AttemptStarted) -> _Fields:
    if _find(call, event.channel):
        return {}
    started = Attempt(
        number=event.number,
        gateway=event.gateway,
        channel=event.channel,
        switch=event.switch,
        core=event.core,
    )
    return {"attempts": (*call.attempts, started)}


def _attempt_skipped(call: Call, event: AttemptSkipped) -> _Fields:
    if any(each.number == event.number for each in call.attempts):
        return {}
    passed = Attempt(number=event.number, gateway=event.gateway, skipped=event.why, failed=True)
    return {"attempts": (*call.attempts, passed)}


def _attempt_failed(call: Call, event: AttemptFailed) -> _Fields:
    return _on_channel(call, event.channel, failed=True)


def _channel_rang(call: Call, event: ChannelRang) -> _Fields:
    attempt = _find(call, event.channel)
    if attempt is None or attempt.rang_at or attempt.failed:
        return {}
    created = attempt.created_at or event.created_at
    return _on_channel(call, event.channel, rang_at=event.at, created_at=created, ring=event)


def _channel_answered(call: Call, event: ChannelAnswered) -> _Fields:
    attempt = _find(call, event.channel)
    if attempt is None or attempt.answered_at or attempt.failed:
        return {}
    created = attempt.created_at or event.created_at
    return _on_channel(call, event.channel, answered_at=event.at, created_at=created, answer=event)


def _channel_ended(call: Call, event: ChannelEnded) -> _Fields:
    attempt = _find(call, event.channel)
    if attempt is None or attempt.end:
        return {}
    late = {}
    if not attempt.failed:  # what was missed and is told now; after the decision it would be too late
        late = {
            "rang_at": attempt.rang_at or event.rang_at,
            "answered_at": attempt.answered_at or event.answered_at,
        }
    return _on_channel(call, event.channel, end=event, **late)


def _job_failed(call: Call, event: JobFailed) -> _Fields:
    attempt = _find(call, event.channel)
    if attempt is None or attempt.over:
        return {}
    return _on_channel(call, event.channel, job_failed=event.cause, dialled=event.dialled)


def _limit_reached(call: Call, event: LimitReached) -> _Fields:
    if any(each.limit == event.limit for each in call.limits):
        return {}
    return {"limits": (*call.limits, event)}


def _hangup_requested(call: Call, event: HangupRequested) -> _Fields:
    return {} if call.hangup or call.ended else {"hangup": event}


def _callback_owed(call: Call, event: CallbackOwed) -> _Fields:
    if event.key in [each.what.key for each in call.owed]:
        return {}
    return {"owed": (*call.owed, Owed(what=event))}


def _on_callback(call: Call, key: str, **fields: Any) -> _Fields:
    return {
        "owed": tuple(
            [
                msgspec.structs.replace(each, **fields) if each.what.key == key and not each.settled else each
                for each in call.owed
            ]
        )
    }


def _callback_delivered(call: Call, event: CallbackDelivered) -> _Fields:
    # What it told is not told again, and most of what a call holds in memory would be that.
    told = CallbackOwed(key=event.key, url="", method="", params=())
    return _on_callback(call, event.key, tries=event.attempt, delivered=True, what=told)


def _callback_failed(call: Call, event: CallbackFailed) -> _Fields:
    tried = next((each.tries for each in call.owed if each.what.key == event.key), 0)
    return _on_callback(call, event.key, tries=max(tried, event.attempt), why=event.why)


def _callback_given_up(call: Call, event: CallbackGivenUp) -> _Fields:
    return _on_callback(call, event.key, given_up=True)


def _callback_renewed(call: Call, event: CallbackRenewed) -> _Fields:
    owed = tuple(
        msgspec.structs.replace(each, given_up=False, tries=0)
        if each.what.key == event.key and each.given_up
        else each
        for each in call.owed
    )
    return {"owed": owed, "closed": False, "renewals": max(call.renewals, event.renewal)}


def _script(call: Call, **fields: Any) -> _Fields:
    return {"script": msgspec.structs.replace(call.script, **fields)}


def _document_fetched(call: Call, event: DocumentFetched) -> _Fields:
    script = call.script
    if event.number != script.number or script.body is not None or script.end:
        return {}
    return _script(call, body=event.body, read=script.read + len(event.body))


def _document_failed(call: Call, event: DocumentFailed) -> _Fields:
    script = call.script
    if event.number != script.number or script.body is not None or event.attempt != len(script.failures) + 1:
        return {}
    return _script(call, failures=(*script.failures, event.why), hopeless=event.final)


def _step(call: Call, event: StepStarted | StepEnded) -> _Fields:
    script = call.script
    known = any(type(each) is type(event) and each.key == event.key for each in script.history)
    if known or script.end or not _of_running_round(script, event.key):
        return {}
    runs = isinstance(event, StepStarted) and event.kind == "execute"
    return _script(call, history=(*script.history, event), idle=0 if runs else script.idle)


_NUMBER = re.compile("[0-9]{1,9}")


def _of_running_round(script: Script, key: str) -> bool:
    prefix, _, number = key.rpartition("/")
    if prefix != f"{script.number}/{script.verb}" or not _NUMBER.fullmatch(number):
        return False
    return int(number) > script.steps


def _verb_over(call: Call, event: VerbEnded | VerbAbandoned) -> _Fields:
    if (event.document, event.verb) != (call.script.number, call.script.verb):
        return {}
    return _script(call, verb=event.verb + 1, history=(), round=0, steps=0)


def _verb_round(call: Call, event: VerbRound) -> _Fields:
    if (event.document, event.verb) != (call.script.number, call.script.verb):
        return {}
    return _script(call, history=(), round=call.script.round + 1, steps=event.steps)


def _redirected(call: Call, event: Redirected) -> _Fields:
    script = call.script
    if event.document != script.number or script.body is None or script.end:
        return {}
    following = Script(number=script.number + 1, source=event, idle=script.idle + 1, read=script.read)
    return {"script": following}


def _script_ended(call: Call, event: ScriptEnded) -> _Fields:
    return {} if call.script.end else _script(call, end=event, history=())


def _call_ended(call: Call, event: CallEnded) -> _Fields:
    return {} if call.ended else {"ended": event}


def _call_closed(call: Call, event: CallClosed) -> _Fields:
    del call, event
    return {"closed": True}


_CHANGES: dict[type[Event], Callable[[Call, Any], _Fields]] = {
    AttemptStarted: _attempt_started,
    AttemptSkipped: _attempt_skipped,
    AttemptFailed: _attempt_failed,
    ChannelRang: _channel_rang,
    ChannelAnswered: _channel_answered,
    ChannelEnded: _channel_ended,
    JobFailed: _job_failed,
    LimitReached: _limit_reached,
    HangupRequested: _hangup_requested,
    CallbackOwed: _callback_owed,
    CallbackDelivered: _callback_delivered,
    CallbackFailed: _callback_failed,
    CallbackGivenUp: _callback_given_up,
    CallbackRenewed: _callback_renewed,
    DocumentFetched: _document_fetched,
    DocumentFailed: _document_failed,
    StepStarted: _step,
    StepEnded: _step,
    VerbEnded: _verb_over,
    VerbAbandoned: _verb_over,
    VerbRound: _verb_round,
    Redirected: _redirected,
    ScriptEnded: _script_ended,
    CallEnded: _call_ended,
    CallClosed: _call_closed,
}
