"""A verb is a generator that is replayed.

A running generator dies with its process, so it is never kept: whenever the call changes, the verb is
run again through what was recorded of it.  It has no clock, no dice and no input or output of its own,
and so gives the same steps each time.

It yields

* `Start`: begin a step; its key comes back at once, and the step is due until it ended;
* `Wait`: sleep until that step has `Ended`, or the call is `Gone`;
* `Stop`: break a step off; it ends as any other does, and its end says that it was stopped;

and returns nothing (the next verb runs), `Goto` (another document takes the place of this one), `Again`
(the verb begins anew, and what it lived through is forgotten) or `Finish` (the call is hung up).

When the channel is gone every wait gives `Gone`, and nothing can be started any more but a `Tell`.
"""

import hashlib
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

import msgspec

from plivotx.config import Config
from plivotx.events import CallRequested, Pairs, StepEnded, StepStarted

Method: TypeAlias = Literal["GET", "POST"]


# -- what a step does ------------------------------------------------------------------------------


class _Doing(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that change with the command, and not with the version of plivotx."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:8]


class Execute(_Doing, frozen=True):
    """Run an application of the switch on the channel.  At most one runs at a time, the others wait for it."""

    app: str
    arg: str = ""
    returns: tuple[str, ...] = ()
    """Channel variables to be kept of the result."""
    variables: Pairs = ()
    """Channel variables that are set before; an empty value unsets one."""


class Api(_Doing, frozen=True):
    """Run an API command of the switch.

    A process that dies while it runs has the next one send it again, so it must be one that bears this.
    Each word gets there as one word, or the step fails; its result has the answer as ``reply``.
    """

    command: str
    words: tuple[str, ...] = ()


class Tell(_Doing, frozen=True):
    """Tell the application something.  Over when it was tried once; retries go on by themselves.

    The parameters of the session (CallUUID, To, ...) go along.
    """

    url: str
    method: str = ""
    """``GET`` or ``POST``; empty: as the configuration says."""
    params: Pairs = ()


Doing: TypeAlias = Execute | Api | Tell


# -- what a verb yields, gets and returns ------------------------------------------------------------


class Start(msgspec.Struct, frozen=True):
    """Begin a step; the generator gets its key back at once."""

    command: Doing


class Wait(msgspec.Struct, frozen=True):
    """Sleep until the step with this key has ended, or the call is gone."""

    key: str


class Stop(msgspec.Struct, frozen=True):
    """Break off the application of the step with this key; wait for its end to see what came of it."""

    key: str


class Ended(msgspec.Struct, frozen=True):
    """A step is over."""

    key: str
    vars: Mapping[str, str]
    failed: str = ""
    stopped: bool = False
    """Whether it was broken off."""


class Gone(msgspec.Struct, frozen=True):
    """The channel is gone; nothing can be done on it any more."""

    vars: Mapping[str, str] = {}
    """What the step had come to when the end of the channel cut it off, as far as that is known."""


class Finish(msgspec.Struct, frozen=True):
    """Returned by a verb that ends the call."""

    cause: str
    why: str


class Goto(msgspec.Struct, frozen=True):
    """Returned by a verb that has another document take the place of this one."""

    url: str
    method: str = ""
    """``GET`` or ``POST``; empty: as the configuration says."""
    params: Pairs = ()
    """Sent with the request, besides those of the session."""


class Again(msgspec.Struct, frozen=True):
    """Returned by a verb that begins anew; `Caller.round` counts how often it did."""


_CAUSE = re.compile(r"[A-Za-z0-9_]{1,64}")
"""What a verb may end the call with; one that FreeSWITCH does not know counts as NORMAL_CLEARING there."""
MISTAKES = BaseException
"""Whatever a plugin raises is its own mistake, `sys.exit` included, and must not leave a call standing still.

An operator's Ctrl-C does not come this way: while the reactor runs it is told by a signal.
"""
MAX_AT_ONCE = 100
"""Steps of a verb that have begun and not ended: each event of the call has all of them looked at."""
MAX_STEPS = 10_000
"""A verb that asks for more without coming to an end has lost its way: after the caller's end, say."""

Happening: TypeAlias = Ended | Gone
Outcome: TypeAlias = Finish | Goto | Again | None
_T = TypeVar("_T")
Part: TypeAlias = Generator[Start | Wait | Stop, Any, _T]
"""Some steps of a verb, and what came of them."""
Steps: TypeAlias = Part[Outcome]
"""All steps of a verb, and how it ended."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """What a verb may know of its call.  All of it is as it was when the verb began."""

    channel: str
    """CallUUID: the name of the channel on the switch."""
    request: CallRequested
    config: Config
    round: int = 0
    """How often the verb has begun anew."""

    @property
    def to_number(self) -> str:
        """The number that was called."""
        return self.request.to_number

    @property
    def from_number(self) -> str:
        """The number that called."""
        return self.request.from_number


class Verb(msgspec.Struct, frozen=True, kw_only=True):
    """One element of the application's XML: its attributes are the fields, `run` is what it does.

    Field names are attribute names; types, limits, defaults and descriptions are those of the fields,
    and the description of the verb is its docstring.  docs/verbs.md is made of the same.
    """

    text: str = ""
    """What stands between the tags, white space reduced to single blanks."""
    children: tuple["Verb", ...] = ()
    """The verbs inside this one."""

    content: ClassVar[str] = ""
    """What the text is (``a URL``), if the verb can't do without it."""
    nests: ClassVar[tuple[str, ...]] = ()
    """Names of the verbs that may stand inside."""

    def check(self, config: Config) -> None:
        """Raise ValueError for what *config* does not allow; the document is refused with its sentence."""

    def unfold(self) -> "tuple[Verb, ...]":
        """The verbs that run in the place of this one, in order."""
        return (self,)

    def run(self, call: Caller) -> Steps:
        """The steps of the verb."""
        raise NotImplementedError


def execute(app: str, arg: str = "", returns: tuple[str, ...] = (), variables: Pairs = ()) -> Part[Happening]:
    """Run one application and wait for its end."""
    return (yield from do(Execute(app, arg, returns, variables)))


def api(command: str, *words: str) -> Part[Happening]:
    """Run one API command and wait for its answer, which is the variable ``reply``."""
    return (yield from do(Api(command, words)))


def do(command: Doing) -> Part[Happening]:
    """One step, and its end."""
    key = yield Start(command)
    happening: Happening = yield Wait(key)
    return happening


def place(key: str) -> str:
    """Where the verb with a step of this key stands, as people count: ``2-1`` is the first one of the second document."""
    document, verb, _ = key.split("/")
    return f"{document}-{int(verb) + 1}"


# -- replay ------------------------------------------------------------------------------------------


class Running(msgspec.Struct, frozen=True):
    """A step that is due, or under way."""

    key: str
    command: Doing
    started: bool
    """Whether its start is on record."""
    stop: bool = False
    """Whether it is to be broken off."""


class Waiting(msgspec.Struct, frozen=True):
    """The verb is not over; these steps have not ended."""

    running: tuple[Running, ...]


class Over(msgspec.Struct, frozen=True):
    """The verb has returned."""

    outcome: Outcome
    running: tuple[Running, ...] = ()
    """What it left behind.  It is over only when these have ended: applications are broken off."""
    steps: int = 0
    """How many steps it had, those of earlier rounds included."""


class Changed(msgspec.Struct, frozen=True):
    """The verb no longer does what is on record, or it raised."""

    why: str
    running: tuple[Running, ...] = ()
    """What is on record as started and has not ended, to be broken off."""


def replay(
    verb: Verb,
    call: Caller,
    prefix: str,
    history: Sequence[StepStarted | StepEnded],
    *,
    steps: int = 0,
    gone: bool = False,
) -> Waiting | Over | Changed:
    """Run *verb* through *history* and tell where that leaves it.

    *prefix* begins the keys of its steps, which are counted from *steps* on; *gone* says that the channel is.
    """
    replayed = _Replay(prefix, history, steps, gone=gone)
    # A verb is a plugin: whatever it raises or yields ends the verb, not the server.
    try:
        with closing(verb.run(call)) as generator:
            return replayed.through(generator)
    except StopIteration as stop:
        if _is_outcome(stop.value):
            return Over(stop.value, replayed.left_behind(), replayed.count)
        return Changed(f"it returns {stop.value!r}, which is no outcome", replayed.orphans())
    except MISTAKES as error:
        return Changed(f"{type(verb).__name__} raised {error!r}", replayed.orphans())


def _is_outcome(value: object) -> bool:
    """Whether a verb may return it: what it says goes into an event, and must be there when that is read."""
    if not isinstance(value, Finish | Goto | Again):
        return value is None
    return is_sound(value) and not (isinstance(value, Finish) and not _CAUSE.fullmatch(value.cause))


def is_sound(value: msgspec.Struct) -> bool:
    """Whether its fields are of their types, and texts that can be written."""
    try:
        msgspec.json.decode(msgspec.json.encode(value), type=type(value))
    except (msgspec.MsgspecError, TypeError, ValueError):
        return False
    return True


class _Replay:
    """One run of a generator through its history."""

    def __init__(
        self, prefix: str, history: Sequence[StepStarted | StepEnded], steps: int, *, gone: bool
    ) -> None:
        self.count = steps
        self._prefix = prefix
        self._gone = gone
        self._recorded: dict[str, StepStarted] = {}
        self._ended: dict[str, StepEnded] = {}
        for each in history:
            if isinstance(each, StepStarted):
                self._recorded[each.key] = each
            else:
                self._ended.setdefault(each.key, each)
        self._untaken = dict(self._ended)
        self._commands: dict[str, Doing] = {}
        self._stopped: set[str] = set()

    def through(self, generator: Steps) -> Waiting | Changed:
        """Where the generator waits; raises StopIteration when it returns."""
        answer: object = None
        for _ in range(MAX_STEPS):
            asked = generator.send(answer)
            answer = None
            if isinstance(asked, Start) and isinstance(asked.command, _Doing):
                answer = key = self._start(asked.command)
                if len(self._commands) - len(self._ended) > MAX_AT_ONCE and not self._gone:
                    return Changed(f"it has more than {MAX_AT_ONCE} steps at once", self.orphans())
                recorded = self._recorded.get(key)
                if not recorded and not is_sound(asked.command):
                    return Changed(
                        f"it starts {asked.command!r}, which cannot be told to anybody", self.orphans()
                    )
                if recorded and recorded.digest != asked.command.digest:
                    return Changed(f"step {key} is recorded with another command", self.orphans())
            elif isinstance(asked, Stop):
                self._stopped.add(asked.key)
            elif not isinstance(asked, Wait):
                return Changed(f"it yields {asked!r}, which is no Start, Wait or Stop", self.orphans())
            elif taken := self._take(asked.key):
                answer = taken
            elif asked.key not in self._commands or asked.key in self._ended:
                return Changed(f"it waits for {asked.key}, which is not running", self.orphans())
            elif self._gone and not isinstance(self._commands[asked.key], Tell):
                answer = Gone()
            else:
                return Waiting(self._running())
        return Changed(f"it comes to no end within {MAX_STEPS} steps", self.orphans())

    def _start(self, command: Doing) -> str:
        self.count += 1
        key = f"{self._prefix}/{self.count}"
        self._commands[key] = command
        return key

    def _take(self, key: str) -> Happening | None:
        ended = self._untaken.pop(key, None)
        if ended is None:
            return None
        if ended.cut:
            self._gone = True
            return Gone(dict(ended.result))
        return Ended(key, dict(ended.result), ended.failed, ended.stopped)

    def _running(self) -> tuple[Running, ...]:
        return tuple(
            Running(key, command, key in self._recorded, key in self._stopped)
            for key, command in self._commands.items()
            if key not in self._ended and (isinstance(command, Tell) or not self._gone)
        )

    def left_behind(self) -> tuple[Running, ...]:
        """Of what still runs: applications are broken off, commands and tidings are done, but not waited for."""
        left = []
        for each in self._running():
            if isinstance(each.command, Execute) and each.started:
                left.append(msgspec.structs.replace(each, stop=True))
            elif isinstance(each.command, Api) or (isinstance(each.command, Tell) and not each.started):
                left.append(each)
        return tuple(left)

    def orphans(self) -> tuple[Running, ...]:
        """The steps on record that have not ended, whatever they are: nothing but their keys is known for sure."""
        return tuple(
            Running(key, Execute(""), started=True, stop=True)
            for key, started in self._recorded.items()
            if key not in self._ended and started.kind == EXECUTE and not self._gone
        )


EXECUTE = "execute"
"""What `StepStarted.kind` says of a step that runs an application."""


def kind(command: Doing) -> str:
    """The kind of a step, as it is recorded."""
    return type(command).__name__.lower()
