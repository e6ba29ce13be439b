"""(d) Memory of an open call: ten thousand that are answered and run a step of their document."""

import time
from pathlib import Path

from benchmarks.measure import Line, callers, emulator, free_port, progress, server

CALLS = 10_000
AT_ONCE = 200
WANTED = 20
SETTLED = 3.0
"""Seconds until the last of them are where they stay."""


def run(folder: Path) -> list[Line]:
    """The lines of the table."""
    progress(f"memory: {CALLS:,} calls")
    with emulator(folder) as switch, server(folder, f"127.0.0.1:{switch.port()}") as process:
        before = process.memory()
        with callers(folder, free_port(), process.http_port, CALLS, AT_ONCE, 0):
            time.sleep(SETTLED)
            held = process.memory() - before
    return [
        Line(
            f"(d) memory, {CALLS:,} calls in progress",
            f"{held / CALLS / 1024:.1f} KB a call",
            f"without calls {before / 1024**2:.0f} MB",
            "",
            f"<= {WANTED} KB",
        )
    ]
