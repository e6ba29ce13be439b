"""(e) The time from the start of the process until it serves, with open and closed calls in the log."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

from benchmarks.measure import Line, middle, progress, server
from benchmarks.stories import on_record
from plivotx.events import CallRequested, Event, encode
from plivotx.log.common import Standing
from plivotx.log.schema import connect
from plivotx.projections.call import channel_uuid

OPEN = 10_000
CLOSED = 200_000
ROUNDS = 3
WANTED = 3.0
AT = 1_800_000_000.0
"""Wall time of the first event."""


def run(folder: Path) -> list[Line]:
    """The lines of the table."""
    begun, whole = on_record()
    progress(f"start: writing {OPEN:,} open and {CLOSED:,} closed calls")
    full, empty = folder / "full.sqlite", folder / "empty.sqlite"
    with closing(connect(str(full))) as connection:
        write(connection, whole, CLOSED)
        write(connection, begun, OPEN)
    seconds: dict[Path, list[float]] = {full: [], empty: []}
    cost: dict[Path, list[float]] = {full: [], empty: []}
    for number in range(ROUNDS):
        progress(f"start: round {number + 1} of {ROUNDS}")
        for log in (full, empty):
            with server(folder, log=str(log)) as process:
                seconds[log].append(process.seconds)
                cost[log].append(process.cpu())
    return [
        Line(
            f"(e) start, {OPEN:,} open calls, {CLOSED:,} closed",
            f"{middle(values[full]):.2f} s{unit}",
            f"empty log {middle(values[empty]):.2f} s{unit}",
            f"{middle(values[full]) / middle(values[empty]):.1f}",
            wanted,
        )
        for values, unit, wanted in ((seconds, "", f"<= {WANTED:g} s"), (cost, " of CPU", ""))
    ]


def write(connection: sqlite3.Connection, events: list[Event], count: int) -> None:
    """Put *count* calls into the log that lived through what this one did."""
    first = events[0]
    assert isinstance(first, CallRequested)
    standing = Standing()
    for event in events:
        standing.apply(event, AT)
    row = {
        "version": standing.version,
        "open": standing.open,
        "opened": AT,
        "changed": AT,
        "rank": standing.rank,
        **standing.columns,
    }
    texts = [encode(each).decode() for each in events]
    names = [(first.request_uuid, channel_uuid(first.request_uuid, "A", 1))]
    names += [(new := str(uuid4()), channel_uuid(new, "A", 1)) for _ in range(count)]
    (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM streams").fetchone()
    connection.execute("BEGIN")
    connection.executemany(
        f"INSERT INTO streams (id, name, {', '.join(row)}) VALUES (?, ?, {', '.join('?' * len(row))})",  # noqa: S608 - names of ours
        ((number, name, *row.values()) for number, (name, _) in enumerate(names[1:], last + 1)),
    )
    connection.executemany(
        "INSERT INTO events (stream, version, at, data) VALUES (?, ?, ?, ?)", _rows(texts, names, last + 1)
    )
    connection.execute("COMMIT")


def _rows(
    texts: list[str], names: list[tuple[str, str]], first: int
) -> Iterator[tuple[int, int, float, str]]:
    (stream, channel), *others = names
    for number, (name, other) in enumerate(others, first):
        for version, text in enumerate(_renamed(texts, ((stream, name), (channel, other))), 1):
            yield number, version, AT, text


def _renamed(texts: Iterable[str], names: Iterable[tuple[str, str]]) -> Iterator[str]:
    for text in texts:
        for old, new in names:
            text = text.replace(old, new)  # noqa: PLW2901 - the same text, another name
        yield text
