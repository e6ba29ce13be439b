"""Calls as they were recorded, with what followed from each event: another version must read them the same way.

Each file is one call: a line for each event, with a summary of the state after it and the keys of what
was due then.  From tag 0.1.0 on a file is never written anew: an older plivotx has left such calls in the
logs of others.  `python -m tests.histories` records those that are not there yet.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from plivotx import plugins
from plivotx.commands import Command, Decide
from plivotx.config import Config
from plivotx.events import Event, decode, encode
from plivotx.policies import Policy
from plivotx.policies.call_back import call_back
from plivotx.policies.keep_time import keep_time
from plivotx.policies.run_script import run_script
from plivotx.projections.call import Call, evolve

FOLDER = Path(__file__).parent
CONFIG = Config()


class Line(msgspec.Struct):
    """One event, and what followed."""

    event: msgspec.Raw
    state: dict[str, object]
    due: list[str]


def policies() -> list[Policy]:
    """Those that a script hangs on; dialling has histories of its own."""
    loaded = plugins.load([plugins.shipped()], CONFIG)
    return [
        run_script(loaded.verbs, loaded.session, CONFIG),
        call_back(loaded.callbacks, CONFIG),
        keep_time(CONFIG),
    ]


def summary(call: Call) -> dict[str, object]:
    """The state, in what does not change with the version."""
    script = call.script
    return {
        "document": script.number,
        "verb": script.verb,
        "round": script.round,
        "history": [f"{type(each).__name__} {each.key}" for each in script.history],
        "script end": script.end.cause if script.end else "",
        "up": call.up is not None,
        "owed": {each.what.key: each.delivered for each in call.owed},
        "cause": call.ended.cause if call.ended else "",
        "closed": call.closed,
    }


def due(call: Call, asked: list[Policy]) -> list[str]:
    """The keys of what is due, and the kinds of what is to be decided."""
    commands: list[Command] = [each for policy in asked for each in policy(call)]
    return sorted(
        f"decide {type(each.event).__name__}" if isinstance(each, Decide) else " ".join(each.key[1:])
        for each in commands
    )


def replayed(events: list[Event]) -> Iterator[Line]:
    """What follows from each event of a call."""
    asked = policies()
    call: Call | None = None
    for event in events:
        call = evolve(call, event)
        assert call is not None
        yield Line(msgspec.Raw(encode(event)), summary(call), due(call, asked))


def read(path: Path) -> list[Line]:
    """A recorded call."""
    return [msgspec.json.decode(line, type=Line) for line in path.read_bytes().splitlines()]


def events(path: Path) -> list[Event]:
    """The events of a recorded call."""
    return [decode(bytes(each.event)) for each in read(path)]
