"""(d) Memory of an open call: ten thousand that are answered and run a step of their document.

The server finds them in its log, and on a switch that says of each channel that it is there; it then holds what
it would hold had it dialled them itself.
"""

import time
from contextlib import closing
from pathlib import Path

from benchmarks.measure import Line, Process, module, progress, running, server
from benchmarks.start import AT, write
from benchmarks.stories import on_record
from plivotx.events import AttemptStarted
from plivotx.log.schema import connect

CALLS = 10_000
WANTED = 20
QUIET = 0.05
"""CPU seconds in two seconds, below which the server has nothing more to do."""


def run(folder: Path) -> list[Line]:
    """The lines of the table."""
    begun, _ = on_record()
    core = next(each.core for each in begun if isinstance(each, AttemptStarted))
    progress(f"memory: {CALLS:,} calls in progress")
    full, empty = folder / "full.sqlite", folder / "empty.sqlite"
    with closing(connect(str(full))) as connection:
        write(connection, begun, CALLS)
    held = {}
    for log in (empty, full):
        with (
            running(module("answering", core, AT + 60), folder, "answering", "listens on") as switch,
            server(folder, f"127.0.0.1:{switch.port()}", str(log)) as process,
        ):
            _come_to_rest(process)
            held[log] = process.memory()
    return [
        Line(
            f"(d) memory, {CALLS:,} calls in progress",
            f"{(held[full] - held[empty]) / CALLS / 1024:.1f} KB a call",
            f"without calls {held[empty] / 1024**2:.0f} MB",
            "",
            f"<= {WANTED} KB",
        )
    ]


def _come_to_rest(process: Process) -> None:
    """Wait until everything is compared and in its place."""
    spent = -1.0
    while process.cpu() - spent > QUIET:
        spent = process.cpu()
        time.sleep(2)
