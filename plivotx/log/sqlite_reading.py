"""The log in an SQLite file, in its reader's thread: what it answers, each within a transaction of its own."""
# ruff: noqa: S608 - the names in the statements are ours, every value is bound

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from plivotx.events import COLUMNS, Column, Event, decode_all
from plivotx.log.common import any_of, understood
from plivotx.log.interface import START, Position, Recorded, Row, Wanted

PAGE = 200
"""Events read at a time for a follower that catches up."""

_OPEN_STREAMS = "SELECT name FROM streams WHERE open ORDER BY opened, id"
_EVENTS = (
    "SELECT position, name, events.version, at, data FROM events JOIN streams ON streams.id = events.stream"
)
# As one JSON list: to give Python each of them takes longer than to read them.
_ALL_EVENTS = """
    SELECT name, (
        SELECT '[' || group_concat(data) || ']'
        FROM (SELECT data FROM events WHERE stream = streams.id ORDER BY version)
    ) FROM streams
"""


def read_end(connection: sqlite3.Connection) -> int:
    """Position of the last event that ever was."""
    last = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return last[0] if last else 0


def read_page(after: int, connection: sqlite3.Connection) -> tuple[Sequence[Recorded], int]:
    """Some events after a position, and how far in the log this page reaches."""
    rows = connection.execute(
        f"{_EVENTS} WHERE position > ? ORDER BY position LIMIT ?", (after, PAGE)
    ).fetchall()
    return _from_rows(rows), rows[-1][0] if len(rows) == PAGE else read_end(connection)


def read_stream(stream: str, after_version: int, connection: sqlite3.Connection) -> Sequence[Recorded]:
    """The events of one stream after a version."""
    rows = connection.execute(
        f"{_EVENTS} WHERE name = ? AND events.version > ? ORDER BY events.version", (stream, after_version)
    )
    return _from_rows(rows)


def read_streams(streams: Sequence[str], connection: sqlite3.Connection) -> Mapping[str, Sequence[Event]]:
    """All events of each of these streams that there is."""
    names = ", ".join("?" * len(streams))
    rows = connection.execute(f"{_ALL_EVENTS} WHERE name IN ({names})", (*streams,))
    found: dict[str, Sequence[Event]] = {}
    for name, data in rows.fetchall():
        try:
            found[name] = decode_all(data.encode())
        except ValueError:  # one that is damaged, or of a newer version
            found[name] = [each.event for each in read_stream(name, 0, connection)]
    return found


def _from_rows(rows: Iterable[tuple[int, str, int, float, str]]) -> list[Recorded]:
    recorded = []
    for position, stream, version, at, text in rows:
        data = text.encode()
        event = understood(stream, version, data)
        recorded.append(Recorded(Position(str(position)), stream, version, at, event, data))
    return recorded


def read_open_streams(connection: sqlite3.Connection) -> tuple[Position, Sequence[str]]:
    """The end of the log, and the streams that are open, oldest first."""
    end = read_end(connection)
    names = [name for (name,) in connection.execute(_OPEN_STREAMS)]
    return Position(str(end)) if end else START, names


def read_row(stream: str, connection: sqlite3.Connection) -> Row | None:
    """The row of one stream."""
    found = connection.execute("SELECT * FROM calls WHERE stream = ?", (stream,)).fetchone()
    return None if found is None else _as_row(found)


def read_rows(wanted: Wanted, limit: int, connection: sqlite3.Connection) -> Sequence[Row]:
    """Some of the rows that are wanted, newest first."""
    return [_as_row(row) for row in connection.execute(*_listing(wanted, limit))]


def _listing(wanted: Wanted, limit: int) -> tuple[str, Sequence[Column]]:
    """The query for a list, and its values.

    Where closed calls have an index, they are asked for apart from the open ones, which are few, and for each
    of several values that will do apart: each such query walks an index, and SQLite merges them.  Asked for
    all in one it would sort all it finds.
    """
    common, common_values = _terms(wanted)
    terms = [
        f"({' OR '.join([f'{name} IS ?'] * len(any_of(value))) or '0'})"
        for name, value in wanted.where.items()  # the names were checked
    ]
    values = [each for value in wanted.where.values() for each in any_of(value)] + common_values
    queries = [[*terms, *common]]
    if not wanted.open_only and not _INDEXED.isdisjoint(wanted.where):
        queries[0].append("open")
        for chosen in product(*(dict.fromkeys(any_of(value)) for value in wanted.where.values())):
            given = dict(zip(wanted.where, chosen, strict=True))
            terms = [f"{name} IS ?" for name in given]
            # so that SQLite sees that it may use the index, which leaves out the empty ones
            terms += [f"{name} > ''" for name, value in given.items() if name in _SPARSE and value]
            queries.append([*terms, *common, "NOT open"])
            values += [*chosen, *common_values]
    selects = [f"SELECT * FROM calls WHERE {' AND '.join(each) or '1'}" for each in queries]
    return f"{' UNION ALL '.join(selects)} ORDER BY opened DESC, stream DESC LIMIT ?", [*values, limit]


_SPARSE = frozenset(("account_sid", "call_uuid"))
_INDEXED = frozenset(("from_number", "to_number", *_SPARSE))
"""Columns by which closed calls are found; see `plivotx.log.schema`."""


def _terms(wanted: Wanted) -> tuple[list[str], list[Column]]:
    """What all rows of a list must fit besides the values of columns."""
    terms: list[str] = []
    values: list[Column] = []
    if wanted.open_only:
        terms.append("open")
    if wanted.undelivered_only:
        terms.append("undelivered > 0")
    if wanted.opened_from is not None:
        terms.append("opened >= ?")
        values.append(wanted.opened_from)
    if wanted.opened_until is not None:
        terms.append("opened < ?")
        values.append(wanted.opened_until)
    if wanted.after is not None:
        terms.append("(opened, stream) < (?, ?)")
        values += wanted.after
    return terms, values


def _as_row(found: Sequence[Any]) -> Row:
    stream, rank, is_open, opened, changed, *columns = found
    return Row(stream, rank, bool(is_open), opened, changed, dict(zip(COLUMNS, columns, strict=True)))
