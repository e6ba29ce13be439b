"""Runs the benchmarks that are named, all if none is, and prints the table: `python -m benchmarks.run [--write] [NAME ...]`.

The first word `profile` has a part of them run under the profiler instead: see `benchmarks.profile`.
"""

import argparse
import importlib
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import profile
from benchmarks.measure import Line

NAMES = ("accept", "calls", "events", "memory", "start")
RESULTS = Path(__file__).with_name("RESULTS.md")
BEGIN = "<!-- the table: written by script/bench --write -->\n"


def table(lines: Sequence[Line]) -> str:
    """The lines as a table."""
    rows = [Line("what", "plivotx", "beside it", "ratio", "wanted"), *lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(Line._fields))]
    texts = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    return "\n".join([texts[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *texts[1:]])


def main() -> None:
    """Run what is asked for."""
    if sys.argv[1:2] == ["profile"]:
        profile.main(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="script/bench")
    parser.add_argument("names", nargs="*", choices=[[], *NAMES], metavar="NAME")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.write and options.names:
        parser.error("--write is for the whole table")
    lines: list[Line] = []
    with TemporaryDirectory(prefix="plivotx-bench-") as folder:
        for name in options.names or NAMES:
            place = Path(folder) / name
            place.mkdir()
            lines += importlib.import_module(f"benchmarks.{name}").run(place)
    printed = table(lines)
    if options.write:
        page = RESULTS.read_text(encoding="utf-8")
        when = time.strftime("%Y-%m-%d")
        where = f"{when}, Python {platform.python_version()}, {platform.machine()}"
        head = page.partition(BEGIN)[0]
        RESULTS.write_text(f"{head}{BEGIN}\n{where}\n\n{printed}\n", encoding="utf-8")
    sys.stdout.write(printed + "\n")


if __name__ == "__main__":
    main()
