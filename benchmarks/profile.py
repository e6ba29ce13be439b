"""What the server does in a benchmark, under the profiler: `python -m benchmarks.profile PART`, or `script/bench profile PART`.

The text that it prints counts the reactor's thread alone, and the profiler makes each call of a function dearer:
it shows what is done how often and by whom, while the benchmarks say what it costs.
"""

import argparse
import platform
import pstats
import re
import subprocess
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

from benchmarks import accept, calls, start
from benchmarks.measure import ROOT, TWISTD, callers, emulator, free_port, progress, server
from benchmarks.stories import on_record
from plivotx.log.schema import connect

OWN = 40
CUMULATIVE = 60
"""How many functions are shown."""
SECONDS = 8.0
CALLS = 1000

Function: TypeAlias = tuple[str, int, str]
"""File, line and name, as the profiler has them."""
Spent: TypeAlias = tuple[int, float, float]
"""How often it was called, seconds in itself, seconds with all that it called."""


def _accept(folder: Path, twistd: Sequence[str]) -> tuple[int, str]:
    with server(folder, twistd=twistd) as process:
        accepted, _ = accept.load(folder, process.http_port, 16, SECONDS)
    return int(accepted), "POSTs over 16 connections"


def _calls(folder: Path, twistd: Sequence[str]) -> tuple[int, str]:
    with (
        emulator(folder) as switch,
        server(folder, f"127.0.0.1:{switch.port()}", twistd=twistd) as process,
        callers(folder, free_port(), process.http_port, CALLS, calls.AT_ONCE, 1),
    ):
        return CALLS, f"whole calls, {calls.AT_ONCE} at once"


def _start(folder: Path, twistd: Sequence[str]) -> tuple[int, str]:
    begun, whole = on_record()
    log = folder / "full.sqlite"
    with closing(connect(str(log))) as connection:
        start.write(connection, whole, start.CLOSED)
        start.write(connection, begun, start.OPEN)
    command, program, *options = twistd
    # to let go of so many calls at the end takes as long as to load them
    unending = f"from plivotx.engine import Engine; Engine.stop = lambda engine: None; {program}"
    with server(folder, log=str(log), twistd=[command, unending, *options]):
        return start.OPEN, f"open calls found at the start, beside {start.CLOSED:,} closed ones"


PARTS: Mapping[str, Callable[[Path, Sequence[str]], tuple[int, str]]] = {
    "accept": _accept,
    "calls": _calls,
    "start": _start,
}


def text(title: str, spent: Mapping[Function, Spent], count: int) -> str:
    """The functions with the most time of their own, and those with the most in all, for each of *count*."""
    lines = [title]
    for heading, column, number in (("their own", 1, OWN), ("all", 2, CUMULATIVE)):
        lines += ["", f"by {heading} time", "", f"{'times':>9} {'own us':>9} {'all us':>9}  function"]
        for function, (times, own, everything) in sorted(
            spent.items(), key=lambda each: (-each[1][column], each[0])
        )[:number]:
            figures = (times / count, own / count * 1e6, everything / count * 1e6)
            lines.append(f"{' '.join(f'{each:9,.2f}' for each in figures)}  {named(function)}")
    return "\n".join(lines) + "\n"


def named(function: Function) -> str:
    """A function by its file, as it is named within the project, a package or Python itself."""
    file, line, name = function
    if not line:
        return re.sub(r" at 0x[0-9a-f]+", "", name)
    for place in (f"{ROOT}/", f"{sysconfig.get_path('stdlib')}/"):
        file = file.removeprefix(place)
    return f"{file.rpartition('site-packages/')[2]}:{line} {name}"


def commit() -> str:
    """What is measured, as git has it."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=, changed"],  # noqa: S607 - whichever git there is
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return described.stdout.strip()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a part under the profiler, and print what it took."""
    parser = argparse.ArgumentParser(prog="script/bench profile")
    parser.add_argument("part", choices=PARTS)
    part = parser.parse_args(arguments).part
    progress(f"profile: {part}")
    with TemporaryDirectory(prefix="plivotx-bench-") as folder:
        saved = Path(folder) / "profile"
        options = ("--profile", str(saved), "--savestats", "--profiler", "cprofile")
        count, what = PARTS[part](Path(folder), [*TWISTD, *options])
        stats: Mapping[Function, tuple[int, int, float, float, object]] = vars(pstats.Stats(str(saved)))[
            "stats"
        ]
    title = (
        f"{part}: the reactor's thread under cProfile, for each of {count:,} {what}; "
        f"commit {commit()}, {time.strftime('%Y-%m-%d')}, Python {platform.python_version()}"
    )
    print(text(title, {function: each[1:4] for function, each in stats.items()}, count), end="")


if __name__ == "__main__":
    main()
