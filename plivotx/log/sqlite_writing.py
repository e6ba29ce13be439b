"""The log in an SQLite file, in its writer's thread: who has the file, and how groups of events get into it."""
# ruff: noqa: S608 - the names in the statements are ours, every value is bound

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from plivotx.events import Column, Event
from plivotx.log.common import Standing, as_read, check_expected, check_fence
from plivotx.log.interface import Position, Recorded, Refused, Unopenable, Unwritable
from plivotx.log.schema import connect
from plivotx.log.sqlite_reading import read_end

MAX_ROWS = 256
"""In one statement, a power of two; SQLite takes 32,766 values."""
MAX_KEPT = 10_000
"""Open streams of which the writer knows how they stand without asking; some 500 bytes each."""
FORGET_AT_ONCE = 50
"""Streams deleted in one go; appends come in between."""
GONE = (
    "the file, or FILE-wal or FILE-shm, was deleted or replaced while it was open; put it back, or start anew"
)

_T = TypeVar("_T")
Written: TypeAlias = tuple[_T, Sequence[Recorded]]
"""What a write gives its caller, and what followers hear of it once it is committed."""


class Job(msgspec.Struct, Generic[_T], frozen=True):
    """Something for one of the threads to do."""

    work: Callable[[sqlite3.Connection], _T]
    done: Deferred[Any]


class Append(msgspec.Struct, frozen=True):
    """Events for the end of a stream."""

    stream: str
    batch: Sequence[tuple[Event, bytes]]
    expected: int | None
    fence: int | None
    at: float
    done: Deferred[int]


Write: TypeAlias = Job[Written[Any]] | Append


class Group(msgspec.Struct, frozen=True):
    """Writes for one transaction."""

    writes: Sequence[Write]
    preparing: threading.Lock
    """Held until nothing is left to be done but the commit."""


Outcome: TypeAlias = tuple[Deferred[Any], Any]
"""Whom to tell what; a Failure is told as one."""
Outcomes: TypeAlias = tuple[list[Outcome], list[Recorded]]
"""Of a group: whom to tell what, and what followers hear."""


def _lock(path: str) -> list[int]:
    """Lock ``PATH.lock`` and the log itself for as long as the returned descriptors are open; raises `Unopenable`.

    The lock file says who has it.  The log is locked as well because people delete lock files.
    """
    held: list[int] = []
    try:
        for name in (f"{path}.lock", path):
            held.append(os.open(name, os.O_RDWR | os.O_CREAT, 0o666))
            fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(held[0], 20).decode("ascii", "replace").strip() or "unknown"
        _let_go(held)
        raise Unopenable(f"{path}: another process has it (process id {holder} in {path}.lock)")
    except OSError as error:
        _let_go(held)
        raise Unopenable(f"{path}: {error}")
    with suppress(OSError):  # the number is a courtesy; a full disk must not keep live calls waiting
        os.truncate(held[0], 0)
        os.write(held[0], f"{os.getpid()}\n".encode())
    return held


def _let_go(locks: Sequence[int]) -> None:
    for each in locks:
        os.close(each)


class _Stream(msgspec.Struct):
    """A stream to which something is appended."""

    id: int | None = None
    """None if it is new."""
    rank: int = 0
    open: bool = False
    """As it stands in the file."""
    standing: Standing = msgspec.field(default_factory=Standing)
    """As it will stand, with the columns that change."""


class Writer:
    """The only one that changes the file *path*.  So it need not ask again how the streams stand that it keeps.

    Raises `Unopenable`.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._locks = _lock(path)
        try:
            self._connection = connect(path)
        except BaseException:
            _let_go(self._locks)
            raise
        self._paths = [Path(path + suffix) for suffix in ("", "-wal", "-shm")]
        self._files = self._found()
        self._kept: dict[str, _Stream] = {}  # open streams, as they stand in the file

    def end(self) -> int:
        """Position of the last event that ever was."""
        return read_end(self._connection)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
        _let_go(self._locks)  # last: SQLite's own locks on the file go with it

    def _found(self) -> list[tuple[int, int] | None]:
        """Which files there are by the names of the log and of what SQLite has beside it; None for one that is missing."""
        found: list[tuple[int, int] | None] = []
        for each in self._paths:
            try:
                status = each.stat()
            except OSError:
                found.append(None)
            else:
                found.append((status.st_dev, status.st_ino))
        return found

    def write(self, group: Group) -> Outcomes:
        """Do a group of writes, whose outcomes and events these are."""
        try:
            if self._found() == self._files:
                return self._commit(group.writes, group.preparing)
            # SQLite would write on, into files that nobody finds again
            return self._refused(group.writes, Unwritable(f"{self._path}: {GONE}"))
        finally:
            _release(group.preparing)  # also if it came to no commit

    def _refused(self, writes: Sequence[Write], why: Exception) -> Outcomes:
        return [(each.done, Failure(why)) for each in writes], []

    def _commit(self, writes: Sequence[Write], preparing: threading.Lock) -> Outcomes:
        """Do these writes in one transaction; what fails alone fails alone."""
        outcomes: list[Outcome] = []
        recorded: list[Recorded] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            return self._refused(writes, _unwritable(self._path, error))
        try:
            self._work(writes, outcomes, recorded)
            _release(preparing)
            self._connection.execute("COMMIT")
        except Exception as error:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")  # unless SQLite did so itself
            self._kept.clear()
            if len(writes) == 1:
                return self._refused(writes, _unwritable(self._path, error))
            # Whose fault it was can't be told: a small write may fit where a large one did not.
            outcomes.clear()
            recorded.clear()
            for each in writes:
                told, heard = self._commit([each], preparing)
                outcomes += told
                recorded += heard
        return outcomes, recorded

    def _work(self, writes: Sequence[Write], outcomes: list[Outcome], recorded: list[Recorded]) -> None:
        """Do writes in their order, appends that follow each other together."""
        appends: list[Append] = []
        for each in writes:
            if isinstance(each, Append):
                appends.append(each)
                continue
            self._append(appends, outcomes, recorded)
            appends = []
            self._kept.clear()  # who knows what it does to them
            outcome, heard = each.work(self._connection)
            outcomes.append((each.done, outcome))
            recorded += heard
        if appends:
            self._append(appends, outcomes, recorded)

    def _append(self, appends: Sequence[Append], outcomes: list[Outcome], recorded: list[Recorded]) -> None:
        """Do all these appends, with few statements; one that is refused changes nothing."""
        streams = self._stand({each.stream for each in appends})
        changed: dict[str, _Stream] = {}
        events: list[tuple[_Stream, Append, int, Event, bytes]] = []
        for each in appends:
            stream = streams.get(each.stream) or _Stream()
            standing = stream.standing
            try:
                if each.fence is not None:
                    (token,) = self._connection.execute("SELECT token FROM fence").fetchone()
                    check_fence(each.stream, token, each.fence)
                check_expected(each.stream, standing.version, each.expected)
            except Refused as why:
                # Its traceback leads to these very outcomes: a circle, and only the garbage collector ends it.
                outcomes.append((each.done, Failure(why.with_traceback(None))))
                continue
            if each.batch:
                streams[each.stream] = changed[each.stream] = stream
            for event, data in each.batch:
                standing.apply(event, each.at)
                events.append((stream, each, standing.version, event, data))
            outcomes.append((each.done, standing.version))
        self._put(changed)
        rows = [(stream.id, version, each.at, data.decode()) for stream, each, version, _, data in events]
        positions = _insert(self._connection, "events", ("stream", "version", "at", "data"), rows)
        for position, (_, each, version, event, data) in zip(positions, events, strict=True):
            heard = as_read(event, each.stream, version, data)
            recorded.append(Recorded(Position(str(position)), each.stream, version, each.at, heard, data))

    def _stand(self, names: Iterable[str]) -> dict[str, _Stream]:
        """How these streams stand, by name; those that are not there are left out."""
        found: dict[str, _Stream] = {}
        unknown = []
        for name in names:
            if stream := self._kept.get(name):
                found[name] = stream
            else:
                unknown.append(name)
        for piece in _pieces(unknown):
            marks = ", ".join("?" * len(piece))
            for number, name, version, rank, is_open in self._connection.execute(
                f"SELECT id, name, version, rank, open FROM streams WHERE name IN ({marks})", piece
            ):
                standing = Standing(version, rank, bool(is_open))
                found[name] = _Stream(number, rank, bool(is_open), standing)
        return found

    def _put(self, streams: Mapping[str, _Stream]) -> None:
        """Write the rows of streams, and give the new ones their numbers."""
        new: dict[tuple[str, ...], list[tuple[_Stream, tuple[Column, ...]]]] = {}
        known: dict[tuple[str, ...], list[tuple[Column, ...]]] = {}
        for name, stream in streams.items():
            standing = stream.standing
            # Only what changes is set: SQLite leaves the indexes of the other columns alone.
            names: tuple[str, ...] = ("version", "changed")
            values: tuple[Column, ...] = (standing.version, standing.changed)
            if stream.id is None or standing.rank > stream.rank:
                names += ("rank", *standing.columns)
                values += (standing.rank, *standing.columns.values())
            if stream.id is None or standing.open != stream.open:
                names += ("open",)
                values += (standing.open,)
            if stream.id is None:
                new.setdefault((*names, "name", "opened"), []).append(
                    (stream, (*values, name, standing.opened))
                )
            else:
                known.setdefault(names, []).append((*values, stream.id))
        for names, made in new.items():
            numbers = _insert(self._connection, "streams", names, [row for _, row in made])
            for number, (stream, _) in zip(numbers, made, strict=True):
                stream.id = number
        for names, rows in known.items():
            changed = ", ".join(f"{name} = ?" for name in names)
            written = self._connection.executemany(f"UPDATE streams SET {changed} WHERE id = ?", rows)
            if written.rowcount != len(rows):
                raise sqlite3.IntegrityError("another program deleted streams")
        for name, stream in streams.items():
            self._keep(name, stream)

    def _keep(self, name: str, stream: _Stream) -> None:
        """Remember how a stream stands that was written, while it is open."""
        if not stream.standing.open:
            self._kept.pop(name, None)
            return
        stream.open = True
        stream.rank = stream.standing.rank
        stream.standing.columns.clear()
        self._kept[name] = stream
        if len(self._kept) > MAX_KEPT:
            del self._kept[next(iter(self._kept))]


def _unwritable(path: str, error: Exception) -> Exception:
    """What the caller is told of *error*."""
    if isinstance(error, OverflowError | sqlite3.DataError):  # a number or a text that SQLite can't hold
        return Refused(f"{path}: {error}")
    if not isinstance(error, sqlite3.Error):
        return error
    unwritable = Unwritable(f"{path}: {error}")
    # The transaction may be whole in the file, and would count if the machine went down now.
    unwritable.in_doubt = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_FSYNC
    return unwritable


def _release(preparing: threading.Lock) -> None:
    if preparing.locked():
        preparing.release()


def _insert(
    connection: sqlite3.Connection, table: str, names: Sequence[str], rows: Sequence[Sequence[Column]]
) -> list[int]:
    """Insert rows and return their numbers, which follow each other."""
    numbers: list[int] = []
    marks = f"({', '.join('?' * len(names))})"
    for piece in _pieces(rows):
        cursor = connection.execute(
            f"INSERT INTO {table} ({', '.join(names)}) VALUES {', '.join([marks] * len(piece))}",
            [value for row in piece for value in row],
        )
        last = cursor.lastrowid
        assert last is not None
        numbers += range(last - len(piece) + 1, last + 1)
    return numbers


def _pieces(rows: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """All of *rows*, in pieces as long as powers of two, so that there are few different statements."""
    first = 0
    while first < len(rows):
        length = 1 << min(len(rows) - first, MAX_ROWS).bit_length() - 1
        yield rows[first : first + length]
        first += length


def take_fence(connection: sqlite3.Connection) -> Written[int]:
    """Make a new token the valid one."""
    (token,) = connection.execute("UPDATE fence SET token = token + 1 RETURNING token").fetchone()
    return token, ()


def forget_some(closed_before: float, connection: sqlite3.Connection) -> Written[int]:
    """Delete some of the closed streams whose latest event is older than that wall time; gives how many."""
    old = connection.execute(
        "SELECT id FROM streams WHERE NOT open AND changed < ? LIMIT ?", (closed_before, FORGET_AT_ONCE)
    ).fetchall()
    connection.executemany("DELETE FROM events WHERE stream = ?", old)
    connection.executemany("DELETE FROM streams WHERE id = ?", old)
    return len(old), ()
