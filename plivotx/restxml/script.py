"""A verb is a generator that is replayed.

A running generator dies with its process, so it is never kept: whenever the call changes, the verb is
run again through what was recorded of it.  It has no clock, no dice and no input or output of its own,
and so gives the same steps each time.

It yields `Start` (gives the step's key at once; the step is due until it ended) and `Wait` (gives the
oldest event not yet taken that matches, or `Gone`), and returns nothing (the next verb runs) or
`Finish` (the call is hung up).
"""

import hashlib
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeAlias

import msgspec

from plivotx.events import Pairs, StepEnded, StepStarted


class Execute(msgspec.Struct, frozen=True):
    """Run an application of the switch on the channel."""

    app: str
    arg: str = ""
    returns: tuple[str, ...] = ()
    """Channel variables to be kept of the result."""

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that change with the command."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:8]


class Start(msgspec.Struct, frozen=True):
    """Begin a step; the generator gets its key back at once."""

    command: Execute


class Wait(msgspec.Struct, frozen=True):
    """Sleep until the step with this key has ended, or the call is gone."""

    key: str


class Ended(msgspec.Struct, frozen=True):
    """A step is over."""

    key: str
    vars: Mapping[str, str]
    failed: str = ""


class Gone(msgspec.Struct, frozen=True):
    """The channel is gone; nothing can be done on it any more."""


class Finish(msgspec.Struct, frozen=True):
    """Returned by a verb that ends the call."""

    cause: str
    why: str


MAX_STEPS = 10_000
"""A verb that asks for more without coming to an end has lost its way: after the caller's end, say."""

Happening: TypeAlias = Ended | Gone
Steps: TypeAlias = Generator[Start | Wait, Any, Finish | None]


class Verb(msgspec.Struct, frozen=True, kw_only=True):
    """One element of the application's XML: its attributes are the fields, `run` is what it does.

    Field names are attribute names; types, limits and defaults are those of the fields.
    """

    text: str = ""
    """What stands between the tags, white space reduced to single blanks."""

    def run(self) -> Steps:
        """The steps of the verb."""
        raise NotImplementedError


class Waiting(msgspec.Struct, frozen=True):
    """The verb is not over; these steps have not ended."""

    running: tuple[tuple[str, Execute, bool], ...]
    """Key, command, and whether its start is on record."""


class Over(msgspec.Struct, frozen=True):
    """The verb has returned."""

    finish: Finish | None


class Changed(msgspec.Struct, frozen=True):
    """The verb no longer does what is on record, or it raised."""

    why: str


def execute(
    app: str, arg: str = "", returns: tuple[str, ...] = ()
) -> Generator[Start | Wait, Any, Happening]:
    """Run one application and wait for its end."""
    key = yield Start(Execute(app, arg, returns))
    happening: Happening = yield Wait(key)
    return happening


def replay(
    verb: Verb, prefix: str, history: Sequence[StepStarted | StepEnded], *, gone: bool = False
) -> Waiting | Over | Changed:
    """Run *verb* through *history* and tell where that leaves it; *prefix* begins the keys of its steps."""
    recorded = {each.key: each.digest for each in history if isinstance(each, StepStarted)}
    inbox = deque(each for each in history if isinstance(each, StepEnded))
    running: dict[str, Execute] = {}
    count = 0
    answer: object = None
    # A verb is a plugin: whatever it raises or yields ends the verb, not the server.
    try:
        generator = verb.run()
        with closing(generator):
            for _ in range(MAX_STEPS):
                asked = generator.send(answer)
                if isinstance(asked, Start):
                    count += 1
                    key = f"{prefix}/{count}"
                    if recorded.get(key, asked.command.digest) != asked.command.digest:
                        return Changed(
                            f"step {key} is recorded with another command than {asked.command.app}"
                        )
                    running[key] = asked.command
                    answer = key
                elif not isinstance(asked, Wait):
                    return Changed(f"it yields {asked!r}, which is neither Start nor Wait")
                elif taken := _take(inbox, asked.key):
                    running.pop(taken.key, None)
                    answer = Ended(taken.key, _mapping(taken.result), taken.failed)
                elif gone:
                    answer = Gone()
                elif asked.key not in running:
                    return Changed(f"it waits for {asked.key}, which is not running")
                else:
                    return Waiting(tuple((key, each, key in recorded) for key, each in running.items()))
            return Changed(f"it comes to no end within {MAX_STEPS} steps")
    except StopIteration as stop:
        if stop.value is None or isinstance(stop.value, Finish):
            return Over(finish=stop.value)
        return Changed(f"it returns {stop.value!r}, which is not Finish")
    except Exception as error:
        return Changed(f"{type(verb).__name__} raised {error!r}")


def _take(inbox: deque[StepEnded], key: str) -> StepEnded | None:
    for each in inbox:
        if each.key == key:
            inbox.remove(each)
            return each
    return None


def _mapping(pairs: Pairs) -> Mapping[str, str]:
    return dict(pairs)
