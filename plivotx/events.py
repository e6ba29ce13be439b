"""All that can be written in the log.

An event is past tense and frozen.  A *fact* is what the world did; it is never refused.  A *decision*
is what plivotx did; it is appended with an expected version and dropped when refused.  From tag 0.1.0
on the shape of an event is for ever: a new field has a default, a field is never removed.

Times named ``at`` are microseconds of the epoch on the clock of the switch that reported them
(FreeSWITCH's ``Event-Date-Timestamp``), so that elapsed time is a difference of two readings of one
clock.  The wall time at which an event was recorded is kept by the log, beside the event.
"""

from collections.abc import Mapping
from typing import ClassVar, TypeAlias, get_args

import msgspec

Column: TypeAlias = str | int | float | None
Pairs: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values in a fixed order: form parameters, channel variables."""


class Event(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """What the log holds.

    `columns` and `rank` feed the read model ``calls``: the row of a stream takes an event's columns
    only if the event's rank is above the highest one applied to that row so far.
    """

    opens: ClassVar[bool] = False
    """Whether this event makes its stream one of the open ones."""
    closes: ClassVar[bool] = False
    """Whether nothing is left to be done for the stream after this event."""
    fact: ClassVar[bool] = True

    def columns(self) -> Mapping[str, Column]:
        """The columns of the read model that this event sets."""
        return {}

    @property
    def rank(self) -> int:
        """How far the call has come; 0 for events that set no column."""
        return 0

    @property
    def complaint(self) -> str:
        """What the operator should read of it in the log of the server; empty for what goes as it should."""
        return ""


COLUMNS: dict[str, str] = {
    "state": "TEXT",  # one of plivotx.states
    "from_number": "TEXT",
    "to_number": "TEXT",
    "account_sid": "TEXT",
    "switch": "TEXT",
    "gateway": "TEXT",  # of the latest attempt
    "attempt": "INTEGER",  # number of the latest attempt
    "call_uuid": "TEXT",  # channel that rang or was answered
    "rang_at": "INTEGER",  # microseconds, switch clock
    "answered_at": "INTEGER",  # microseconds, switch clock
    "ended_at": "INTEGER",  # microseconds, switch clock; 0 if no channel ended
    "cause": "TEXT",  # hangup cause
    "undelivered": "INTEGER",  # callbacks that were given up, as of the last time the call was closed
}
"""Columns of the read model, with their SQL type.  The log adds ``stream``, ``rank``, ``open``,
``opened`` and ``changed`` (wall time, seconds, of its first and latest event)."""


# -- the request ---------------------------------------------------------------------------------


class Gateway(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of the parameter Gateways: a dial-string prefix and how it is to be tried."""

    prefix: str
    timeout: int = 60
    """Longest time to the answer, seconds, per attempt."""
    tries: int = 1
    codecs: str = ""


class CallRequested(Event, frozen=True, kw_only=True):
    """`POST /v0.1/Call/` was accepted.  Everything needed to make the call is here."""

    opens: ClassVar[bool] = True

    request_uuid: str
    from_number: str
    to_number: str
    gateways: tuple[Gateway, ...]
    answer_url: str
    hangup_url: str
    ring_url: str = ""
    caller_name: str = ""
    time_limit: int | None = None
    """Seconds from the answer."""
    hangup_on_ring: int | None = None
    """Seconds from the first ring or early media."""
    account_sid: str = ""
    variables: Pairs = ()
    """Channel variables of the client's (ExtraDialString), in the order given."""
    send_digits: str = ""
    """As the parameter SendDigits has them."""
    send_on_preanswer: bool = False
    """Whether these are sent in early media instead of at the answer."""

    @property
    def early_digits(self) -> bool:
        """Whether digits may have to be sent before the answer.

        Then early media is not ignored, and so FreeSWITCH's own time-out ends when it begins.
        """
        return bool(self.send_digits) and self.send_on_preanswer

    def columns(self) -> Mapping[str, Column]:
        return {
            "state": "accepted",
            "from_number": self.from_number,
            "to_number": self.to_number,
            "account_sid": self.account_sid,
        }

    @property
    def rank(self) -> int:
        return 1


# -- what the switch did ---------------------------------------------------------------------------


class ChannelRang(Event, frozen=True, kw_only=True):
    """The far end rings (SIP 180), or its early media is heard (183)."""

    channel: str
    at: int
    early_media: bool = False
    created_at: int = 0
    """When the switch made the channel; 0 if it did not say."""
    variables: Pairs = ()
    """Of the channel at that moment, those that the configuration asks for (EXTRA_FS_VARS)."""

    def columns(self) -> Mapping[str, Column]:
        return {"state": "ringing", "call_uuid": self.channel, "rang_at": self.at}

    @property
    def rank(self) -> int:
        return 10_000


class ChannelAnswered(Event, frozen=True, kw_only=True):
    """The far end answered."""

    channel: str
    at: int
    created_at: int = 0
    """When the switch made the channel; 0 if it did not say."""
    variables: Pairs = ()
    """Of the channel at that moment, those that the configuration asks for (EXTRA_FS_VARS)."""

    def columns(self) -> Mapping[str, Column]:
        return {"state": "in-progress", "call_uuid": self.channel, "answered_at": self.at}

    @property
    def rank(self) -> int:
        return 20_000


class ChannelEnded(Event, frozen=True, kw_only=True):
    """The switch has let go of the channel; nothing more will be heard from it."""

    channel: str
    cause: str
    at: int = 0
    """0 when nobody knows: the channel was found missing."""
    rang_at: int = 0
    answered_at: int = 0
    sip_code: str = ""
    sip_side: str = ""
    """FreeSWITCH's sip_hangup_disposition: who ended it and how (recv_refuse, send_bye, ...)."""
    found: str = "event"
    """How it is known: ``event``, ``kept`` (the line the channel left behind on the switch),
    ``missing`` (the channel is gone and left nothing), ``restart`` (its switch was started anew)."""
    created_at: int = 0
    """When the switch made the channel; 0 if it did not say."""
    q850: int = 0
    """The cause as a Q.850 number, by the switch's table; 0 if it did not say."""
    variables: Pairs = ()
    """Of the channel at that moment, those that the configuration asks for (EXTRA_FS_VARS)."""


class JobFailed(Event, frozen=True, kw_only=True):
    """FreeSWITCH could not originate the channel, and there is no such channel."""

    channel: str
    cause: str
    dialled: bool = True
    """Whether FreeSWITCH was told to; if not, the gateway has no part in it."""


class StepEnded(Event, frozen=True, kw_only=True):
    """An application that the script started on the channel has ended."""

    key: str
    result: Pairs = ()
    """The channel variables the step asked for, as far as they were set."""
    failed: str = ""
    """Why the step could not be done at all; empty for an ordinary end."""
    stopped: bool = False
    """The script broke it off."""
    cut: bool = False
    """The end of the channel cut it off; nothing of the script can be done on the channel any more."""


# -- what the application did ----------------------------------------------------------------------


class DocumentFetched(Event, frozen=True, kw_only=True):
    """The application answered a document request."""

    number: int
    body: str


class DocumentFailed(Event, frozen=True, kw_only=True):
    """A try to fetch a document failed."""

    number: int
    attempt: int
    why: str
    final: bool = False
    """No further try would help: the answer is there and cannot be used (too large, no text)."""


class CallbackDelivered(Event, frozen=True, kw_only=True):
    """The application took a callback (status 200 to 299)."""

    key: str
    attempt: int
    status: int


class CallbackFailed(Event, frozen=True, kw_only=True):
    """A try to deliver a callback failed."""

    key: str
    attempt: int
    why: str


# -- decisions -------------------------------------------------------------------------------------


class Decision(Event, frozen=True, kw_only=True):
    """What plivotx did; appended with an expected version."""

    fact: ClassVar[bool] = False


class AttemptStarted(Decision, frozen=True, kw_only=True):
    """A channel is about to be originated.  Written before the one and only originate command."""

    number: int
    gateway: str
    channel: str
    switch: str
    core: str
    """Core-UUID of the running FreeSWITCH; another one later means that the channel is gone."""

    def columns(self) -> Mapping[str, Column]:
        return {
            "state": "dialling",
            "switch": self.switch,
            "gateway": self.gateway,
            "attempt": self.number,
        }

    @property
    def rank(self) -> int:
        return min(1 + self.number, 9_999)


class AttemptSkipped(Decision, frozen=True, kw_only=True):
    """An attempt was not made: its gateway has kept failing of late, and there is another one to try."""

    number: int
    gateway: str
    why: str


class AttemptFailed(Decision, frozen=True, kw_only=True):
    """An attempt ended without ringing, early media or answer."""

    channel: str
    cause: str
    why: str
    """Where the cause comes from, for whoever asks why the next gateway was tried."""


class LimitReached(Decision, frozen=True, kw_only=True):
    """A limit of the call was reached while its channel was up; only now it is hung up."""

    limit: str
    """``HangupOnRing``, ``TimeLimit``, or ``GatewayTimeouts`` where the switch itself does not keep that."""
    cause: str


class CallbackOwed(Decision, frozen=True, kw_only=True):
    """The application is to be told something.  What it will be told is fixed here."""

    key: str
    """``ring`` or ``hangup``; the same on every try."""
    url: str
    method: str
    params: Pairs


class CallbackGivenUp(Decision, frozen=True, kw_only=True):
    """A callback was tried as often as the configuration allows."""

    key: str
    why: str


class HangupRequested(Decision, frozen=True, kw_only=True):
    """A client asked for the end of a call that had not ended: what is up is hung up, nothing more is dialled."""

    cause: str


class CallbackRenewed(Decision, frozen=True, kw_only=True):
    """A callback that was given up is to be sent again, as an operator asked; its tries are counted anew."""

    opens: ClassVar[bool] = True

    key: str
    renewal: int
    """How many times callbacks of the call were renewed, this one counted."""
    live: bool = False
    """Whether the call had not ended yet: then where it stands is for others to say."""

    def columns(self) -> Mapping[str, Column]:
        return {} if self.live else {"state": "completed"}

    @property
    def rank(self) -> int:
        return 0 if self.live else 39_999 + 2 * self.renewal


class StepStarted(Decision, frozen=True, kw_only=True):
    """A step of the script is about to be sent to the switch."""

    key: str
    digest: str
    """Of the command; a different one at replay means that the verb was changed by an upgrade."""
    kind: str = "execute"
    """``execute`` (an application of the switch), ``api`` (a command of the switch) or ``tell`` (a request)."""


class VerbEnded(Decision, frozen=True, kw_only=True):
    """A verb is over and the script goes on with the next one."""

    document: int
    verb: int
    name: str


class VerbRound(Decision, frozen=True, kw_only=True):
    """A verb has done all it does and begins anew; what it lived through is forgotten."""

    document: int
    verb: int
    steps: int
    """How many steps it had so far: the next ones are counted from there, so that no key comes twice."""


class VerbAbandoned(Decision, frozen=True, kw_only=True):
    """A verb no longer does what was recorded of it (plivotx was upgraded in mid-call)."""

    document: int
    verb: int
    why: str

    @property
    def complaint(self) -> str:
        return f"verb {self.verb + 1} of document {self.document} is abandoned: {self.why}"


class Redirected(Decision, frozen=True, kw_only=True):
    """Another document takes the place of this one.  What it is asked for with is fixed here."""

    document: int
    """The one that is left."""
    url: str
    method: str
    params: Pairs


class ScriptEnded(Decision, frozen=True, kw_only=True):
    """Nothing of the script is left to run; the call is hung up with *cause*, if it is still up."""

    cause: str
    why: str
    fault: bool = False
    """Whether it ended because of what the application gave, or failed to give."""

    @property
    def complaint(self) -> str:
        return self.why if self.fault else ""


class CallEnded(Decision, frozen=True, kw_only=True):
    """The call is over.  Exactly one for each call."""

    cause: str
    call_uuid: str = ""
    """The channel that rang or was answered; empty if none did."""
    at: int = 0

    def columns(self) -> Mapping[str, Column]:
        return {"state": "completed", "cause": self.cause, "call_uuid": self.call_uuid, "ended_at": self.at}

    @property
    def rank(self) -> int:
        return 30_000


class CallClosed(Decision, frozen=True, kw_only=True):
    """Everything owed to the application was delivered or given up."""

    closes: ClassVar[bool] = True

    undelivered: int = 0
    """How many callbacks were given up."""
    renewal: int = 0
    """That of the last `CallbackRenewed`, so that this closing outranks the ones before it."""

    def columns(self) -> Mapping[str, Column]:
        return {"state": "closed", "undelivered": self.undelivered}

    @property
    def rank(self) -> int:
        return 40_000 + 2 * self.renewal


# -- on disk ---------------------------------------------------------------------------------------


class Unknown(Event, frozen=True, kw_only=True, tag=False):
    """An event of a version newer than this one, kept as it is."""

    type: str
    data: bytes


_Any: TypeAlias = (
    CallRequested
    | ChannelRang
    | ChannelAnswered
    | ChannelEnded
    | JobFailed
    | StepEnded
    | DocumentFetched
    | DocumentFailed
    | CallbackDelivered
    | CallbackFailed
    | AttemptStarted
    | AttemptSkipped
    | AttemptFailed
    | LimitReached
    | HangupRequested
    | CallbackOwed
    | CallbackGivenUp
    | CallbackRenewed
    | StepStarted
    | VerbEnded
    | VerbRound
    | VerbAbandoned
    | Redirected
    | ScriptEnded
    | CallEnded
    | CallClosed
)
BY_NAME: dict[str, type[Event]] = {each.__name__: each for each in get_args(_Any)}
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(_Any)
_decoder_of_all: msgspec.json.Decoder[list[Event]] = msgspec.json.Decoder(list[_Any])


class _Tagged(msgspec.Struct):
    type: str


def encode(event: Event) -> bytes:
    """The JSON text of *event*; ``decode`` gives it back."""
    if isinstance(event, Unknown):
        return event.data
    return _encoder.encode(event)


def decode(data: bytes) -> Event:
    """The event that *data* holds; one of an unknown type becomes `Unknown`.

    Raises ValueError if *data* is no event at all, or lacks a field that its type must have.
    """
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError:
        name = msgspec.json.decode(data, type=_Tagged).type
        if name in BY_NAME:
            raise
        return Unknown(type=name, data=data)


def decode_all(data: bytes) -> list[Event]:
    """The events that *data* holds, a JSON list of those that `encode` gave.

    Raises ValueError if `decode` would of one of them, and if it knew one as `Unknown`.
    """
    return _decoder_of_all.decode(data)
