"""The log in one SQLite file: the default, for a single process.

One thread writes and one reads, so the reactor waits for no disk, but for `LENT` at most while a
transaction is prepared.  All writes that wait share a transaction and so an fsync; one that is refused
leaves the others untouched.  Followers hear in the reactor's thread, after the commit.
"""
# ruff: noqa: S608 - the names in the statements are ours, every value is bound

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from plivotx.events import COLUMNS, Column, Event, decode_all
from plivotx.log.common import (
    Standing,
    any_of,
    as_read,
    check_expected,
    check_fence,
    check_wanted,
    hand_over,
    texts,
    understood,
)
from plivotx.log.interface import (
    ALL,
    START,
    Position,
    Recorded,
    Refused,
    Row,
    Unopenable,
    Unreadable,
    Unwritable,
    Wanted,
)
from plivotx.log.schema import another, connect

MAX_GROUP = 500
"""Writes in one transaction."""
MAX_ROWS = 256
"""In one statement, a power of two; SQLite takes 32,766 values."""
LENT = 0.005
"""Seconds that the reactor stands back for the writer to prepare a transaction, at most."""
PAGE = 200
"""Events read at a time for a follower that catches up."""
MAX_KEPT = 10_000
"""Open streams of which the writer knows how they stand without asking; some 500 bytes each."""
FORGET_AT_ONCE = 50
"""Streams deleted in one go; appends come in between."""
GONE = (
    "the file, or FILE-wal or FILE-shm, was deleted or replaced while it was open; put it back, or start anew"
)
RETRY = 1.0
"""Seconds until a page that could not be read is tried again."""

_T = TypeVar("_T")
_Written: TypeAlias = tuple[_T, Sequence[Recorded]]
"""What a write gives its caller, and what followers hear of it once it is committed."""


class _Job(msgspec.Struct, Generic[_T], frozen=True):
    """Something for one of the threads to do."""

    work: Callable[[sqlite3.Connection], _T]
    done: Deferred[Any]


class _Append(msgspec.Struct, frozen=True):
    """Events for the end of a stream."""

    stream: str
    batch: Sequence[tuple[Event, bytes]]
    expected: int | None
    fence: int | None
    at: float
    done: Deferred[int]


_Write: TypeAlias = _Job[_Written[Any]] | _Append


class _Group(msgspec.Struct, frozen=True):
    """Writes for one transaction."""

    writes: Sequence[_Write]
    preparing: threading.Lock
    """Held until nothing is left to be done but the commit."""


_Outcome: TypeAlias = tuple[Deferred[Any], Any]
"""Whom to tell what; a Failure is told as one."""
_Outcomes: TypeAlias = tuple[list[_Outcome], list[Recorded]]
"""Of a group: whom to tell what, and what followers hear."""


class _Follower(msgspec.Struct, eq=False):
    deliver: Callable[[Recorded], None]
    on_reset: Callable[[str], None]
    after: int
    """Position of the last event delivered."""
    live: bool
    """Whether it has caught up and hears of each commit."""
    retry: IDelayedCall | None = None


class SQLiteLog:
    """A `plivotx.log.interface.Log` in one file; `open` makes it."""

    _complaints = Logger()

    def __init__(self, path: str, reactor: Any, wall: Callable[[], float]) -> None:
        self._path = path
        self._reactor = reactor
        self._wall = wall
        self._gathered: list[_Write] = []  # the writes since the last group was handed over
        self._writing = False  # whether the writer has a group
        self._writes: SimpleQueue[_Group | None] = SimpleQueue()  # None ends the thread
        self._reads: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._followers: list[_Follower] = []
        self._end = 0  # position of the last event that the reactor's thread has heard of
        self._closers: list[Deferred[None]] = []
        self._closing = self._closed = False

    @classmethod
    def open(cls, path: str, reactor: Any, wall: Callable[[], float] = time.time) -> "Deferred[SQLiteLog]":
        """Open the log in the file *path*, which is made if it is missing; its folder must be there.

        Fails with `Unopenable`.  ``PATH.lock`` stays locked until the log is closed or the process
        ends.  *wall* gives the wall time in seconds.
        """
        log = cls(path, reactor, wall)
        opened: Deferred[SQLiteLog] = Deferred()
        threading.Thread(target=log._write_loop, args=(opened,), name=f"write {path}", daemon=True).start()
        return opened

    # -- writing -----------------------------------------------------------------------------------

    def append(
        self, stream: str, events: Sequence[Event], expected: int | None = None, fence: int | None = None
    ) -> Deferred[int]:
        """See `plivotx.log.interface.Log.append`."""
        try:
            batch = list(zip(events, texts(stream, events), strict=True))
        except Refused as why:
            return fail(why)
        return self._gather(_Append(stream, batch, expected, fence, self._wall(), Deferred()))

    def take_fence(self) -> Deferred[int]:
        """See `plivotx.log.interface.Log.take_fence`."""
        return self._write(_take_fence)

    def forget(self, closed_before: float) -> Deferred[int]:
        """See `plivotx.log.interface.Log.forget`."""

        async def forget() -> int:
            total = 0
            while deleted := await self._write(partial(_forget_some, closed_before)):
                total += deleted
            return total

        return Deferred.fromCoroutine(forget())

    def close(self) -> Deferred[None]:
        """See `plivotx.log.interface.Log.close`."""
        closed: Deferred[None] = Deferred()
        self._closers.append(closed)
        if self._closed:
            self._tell_closers()
        elif not self._closing:
            self._closing = True
            self._hand_over()
            self._end_threads()
        return closed

    def _end_threads(self) -> None:
        if self._closing and not self._writing:
            # The writer ends last: closing the last connection empties the write-ahead log.
            self._reads.put(None)

    def _write(self, work: Callable[[sqlite3.Connection], _Written[_T]]) -> Deferred[_T]:
        return self._gather(_Job(work, Deferred()))

    def _gather(self, write: _Write) -> Deferred[Any]:
        if self._closing:
            return fail(Unwritable(f"{self._path}: the log is closed"))
        self._gathered.append(write)
        if len(self._gathered) == 1 and not self._writing:
            self._reactor.callLater(0, self._await_others)
        return write.done

    def _await_others(self) -> None:
        """Wait for a turn of the reactor more: what clients send meanwhile shares the commit."""
        self._reactor.callLater(0, self._hand_over)

    def _hand_over(self) -> None:
        """Give the writer a group, unless it has one."""
        if self._writing or not self._gathered:
            return
        group = _Group(self._gathered[:MAX_GROUP], threading.Lock())
        group.preparing.acquire()
        self._gathered = self._gathered[MAX_GROUP:]
        self._writing = True
        self._writes.put(group)
        # The writer gives the interpreter's lock away for each statement, and to get it back from a reactor that
        # is at work costs more than the statements.  So the reactor rests until only the disk is waited for.
        group.preparing.acquire(timeout=LENT)

    # -- the writer's thread -----------------------------------------------------------------------

    def _write_loop(self, opened: "Deferred[SQLiteLog]") -> None:
        try:
            locks = _lock(self._path)
            try:
                writer = _Writer(self._path)
                reading, end = another(self._path), writer.end()
            except BaseException:
                _let_go(locks)
                raise
        except Exception:
            self._reactor.callFromThread(opened.errback, Failure())
            return
        self._reactor.callFromThread(self._opened, opened, reading, end)
        while (group := self._writes.get()) is not None:
            outcomes, recorded = writer.write(group)
            self._reactor.callFromThread(self._committed, outcomes, recorded)
        writer.close()
        _let_go(locks)  # last: SQLite's own locks on the file go with it
        self._reactor.callFromThread(self._has_closed)

    def _opened(self, opened: "Deferred[SQLiteLog]", reading: sqlite3.Connection, end: int) -> None:
        self._end = end
        threading.Thread(
            target=self._read_loop, args=(reading,), name=f"read {self._path}", daemon=True
        ).start()
        opened.callback(self)

    def _committed(self, outcomes: Sequence[_Outcome], recorded: Sequence[Recorded]) -> None:
        if recorded:  # first, for whoever follows from the present end once his append is acknowledged
            self._end = int(recorded[-1].position)
        for done, outcome in outcomes:
            done.callback(outcome)
        for follower in [each for each in self._followers if each.live]:
            self._deliver(follower, recorded)
        self._writing = False  # only now, so that what is appended because of all this is in the next group
        self._hand_over()
        self._end_threads()

    def _has_closed(self) -> None:
        self._closed = True
        self._followers.clear()
        self._tell_closers()

    def _tell_closers(self) -> None:
        closers, self._closers = self._closers, []
        for closer in closers:
            closer.callback(None)

    # -- following ---------------------------------------------------------------------------------

    def follow(
        self,
        deliver: Callable[[Recorded], None],
        on_reset: Callable[[str], None],
        after: Position | None = None,
    ) -> Callable[[], None]:
        """See `plivotx.log.interface.Log.follow`."""
        position = self._end if after is None else int(after or 0)
        follower = _Follower(deliver, on_reset, position, live=position == self._end)
        self._followers.append(follower)
        if not follower.live:
            self._catch_up(follower)
        return partial(self._stop, follower)

    def _stop(self, follower: _Follower) -> None:
        if follower in self._followers:
            self._followers.remove(follower)
        if follower.retry is not None and follower.retry.active():
            follower.retry.cancel()

    def _deliver(self, follower: _Follower, recorded: Sequence[Recorded]) -> None:
        for each in recorded:
            if follower not in self._followers:
                return
            position = int(each.position)
            if position > follower.after:  # it may have been on the page that caught up
                follower.after = position
                hand_over(follower.deliver, each)

    def _catch_up(self, follower: _Follower) -> None:
        self._read(partial(_page, follower.after)).addCallbacks(
            self._page_read, self._page_unread, callbackArgs=(follower,), errbackArgs=(follower,)
        )

    def _page_read(self, page: tuple[Sequence[Recorded], int], follower: _Follower) -> None:
        recorded, end = page
        if end < follower.after and follower in self._followers:
            self._stop(follower)
            follower.on_reset(f"{self._path}: the log ends at {end}, before {follower.after}")
        self._deliver(follower, recorded)
        follower.after = max(follower.after, end)
        # What the reactor has not heard of yet comes with its commit; anything before was on a page.
        follower.live = follower.after >= self._end
        if not follower.live and follower in self._followers:
            self._catch_up(follower)

    def _page_unread(self, why: Failure, follower: _Follower) -> None:
        if follower in self._followers and not self._closing:
            self._complaints.warn("a follower waits: {why}", why=why.value)
            follower.retry = self._reactor.callLater(RETRY, self._catch_up, follower)

    # -- reading -----------------------------------------------------------------------------------

    def read(self, stream: str, after_version: int = 0) -> Deferred[Sequence[Recorded]]:
        """See `plivotx.log.interface.Log.read`."""
        return self._read(partial(_read_stream, stream, after_version))

    def read_several(self, streams: Sequence[str]) -> Deferred[Mapping[str, Sequence[Event]]]:
        """See `plivotx.log.interface.Log.read_several`."""
        return self._read(partial(_read_streams, streams))

    def open_streams(self) -> Deferred[tuple[Position, Sequence[str]]]:
        """See `plivotx.log.interface.Log.open_streams`."""
        return self._read(_open_streams)

    def call(self, stream: str) -> Deferred[Row | None]:
        """See `plivotx.log.interface.Log.call`."""
        return self._read(partial(_row, stream))

    def calls(self, wanted: Wanted = ALL, limit: int = 100) -> Deferred[Sequence[Row]]:
        """See `plivotx.log.interface.Log.calls`."""
        check_wanted(wanted)
        return self._read(partial(_rows, wanted, limit))

    def _read(self, work: Callable[[sqlite3.Connection], _T]) -> Deferred[_T]:
        if self._closing:
            return fail(Unreadable(f"{self._path}: the log is closed"))
        done: Deferred[_T] = Deferred()
        self._reads.put(_Job(work, done))
        return done

    def _read_loop(self, connection: sqlite3.Connection) -> None:
        while (job := self._reads.get()) is not None:
            outcome: Any
            try:
                connection.execute("BEGIN")  # one view of the log for all that the job asks
                try:
                    outcome = job.work(connection)
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                outcome = Failure(Unreadable(f"{self._path}: {error}"))
            except Exception:
                outcome = Failure()
            self._reactor.callFromThread(job.done.callback, outcome)
        connection.close()
        self._writes.put(None)


# -- in the writer's thread ------------------------------------------------------------------------


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


class _Stream(msgspec.Struct):
    """A stream to which something is appended."""

    id: int | None = None
    """None if it is new."""
    rank: int = 0
    open: bool = False
    """As it stands in the file."""
    standing: Standing = msgspec.field(default_factory=Standing)
    """As it will stand, with the columns that change."""


class _Writer:
    """The one that changes the file.  So it need not ask again how the streams stand that it has in mind."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection = connect(path)
        self._paths = [Path(path + suffix) for suffix in ("", "-wal", "-shm")]
        self._files = self._found()
        self._kept: dict[str, _Stream] = {}  # open streams, as they stand in the file

    def end(self) -> int:
        """Position of the last event that ever was."""
        return _end(self._connection)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

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

    def write(self, group: _Group) -> _Outcomes:
        """Do a group of writes, whose outcomes and events these are."""
        try:
            if self._found() == self._files:
                return self._commit(group.writes, group.preparing)
            # SQLite would write on, into files that nobody finds again
            return self._refused(group.writes, Unwritable(f"{self._path}: {GONE}"))
        finally:
            _release(group.preparing)  # also if it came to no commit

    def _refused(self, writes: Sequence[_Write], why: Exception) -> _Outcomes:
        return [(each.done, Failure(why)) for each in writes], []

    def _commit(self, writes: Sequence[_Write], preparing: threading.Lock) -> _Outcomes:
        """Do these writes in one transaction; what fails alone fails alone."""
        outcomes: list[_Outcome] = []
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

    def _work(self, writes: Sequence[_Write], outcomes: list[_Outcome], recorded: list[Recorded]) -> None:
        """Do writes in their order, appends that follow each other together."""
        appends: list[_Append] = []
        for each in writes:
            if isinstance(each, _Append):
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

    def _append(self, appends: Sequence[_Append], outcomes: list[_Outcome], recorded: list[Recorded]) -> None:
        """Do all these appends, with few statements; one that is refused changes nothing."""
        streams = self._stand({each.stream for each in appends})
        changed: dict[str, _Stream] = {}
        events: list[tuple[_Stream, _Append, int, Event, bytes]] = []
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
            changes: dict[str, Column] = {"version": standing.version, "changed": standing.changed}
            if standing.rank > stream.rank:
                changes |= standing.columns
                changes["rank"] = standing.rank
            if stream.id is None:
                changes = {
                    "name": name,
                    "opened": standing.opened,
                    "rank": 0,
                    "open": standing.open,
                    **changes,
                }
                new.setdefault(tuple(changes), []).append((stream, (*changes.values(),)))
            else:
                if standing.open != stream.open:
                    changes["open"] = standing.open
                known.setdefault(tuple(changes), []).append((*changes.values(), stream.id))
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


def _recorded(position: int | None, stream: str, version: int, at: float, data: bytes) -> Recorded:
    return Recorded(
        position=Position(str(position)),
        stream=stream,
        version=version,
        at=at,
        event=understood(stream, version, data),
        data=data,
    )


def _take_fence(connection: sqlite3.Connection) -> _Written[int]:
    (token,) = connection.execute("UPDATE fence SET token = token + 1 RETURNING token").fetchone()
    return token, ()


def _forget_some(closed_before: float, connection: sqlite3.Connection) -> _Written[int]:
    old = connection.execute(
        "SELECT id FROM streams WHERE NOT open AND changed < ? LIMIT ?", (closed_before, FORGET_AT_ONCE)
    ).fetchall()
    connection.executemany("DELETE FROM events WHERE stream = ?", old)
    connection.executemany("DELETE FROM streams WHERE id = ?", old)
    return len(old), ()


# -- in the reader's thread ------------------------------------------------------------------------

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


def _end(connection: sqlite3.Connection) -> int:
    """Position of the last event that ever was."""
    last = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return last[0] if last else 0


def _page(after: int, connection: sqlite3.Connection) -> tuple[Sequence[Recorded], int]:
    """Some events after a position, and how far in the log this page reaches."""
    rows = connection.execute(
        f"{_EVENTS} WHERE position > ? ORDER BY position LIMIT ?", (after, PAGE)
    ).fetchall()
    return _from_rows(rows), rows[-1][0] if len(rows) == PAGE else _end(connection)


def _read_stream(stream: str, after_version: int, connection: sqlite3.Connection) -> Sequence[Recorded]:
    rows = connection.execute(
        f"{_EVENTS} WHERE name = ? AND events.version > ? ORDER BY events.version", (stream, after_version)
    )
    return _from_rows(rows)


def _read_streams(streams: Sequence[str], connection: sqlite3.Connection) -> Mapping[str, Sequence[Event]]:
    names = ", ".join("?" * len(streams))
    rows = connection.execute(f"{_ALL_EVENTS} WHERE name IN ({names})", (*streams,))
    found: dict[str, Sequence[Event]] = {}
    for name, data in rows.fetchall():
        try:
            found[name] = decode_all(data.encode())
        except ValueError:  # one that is damaged, or of a newer version
            found[name] = [each.event for each in _read_stream(name, 0, connection)]
    return found


def _from_rows(rows: Iterable[tuple[int, str, int, float, str]]) -> list[Recorded]:
    return [
        _recorded(position, stream, version, at, data.encode())
        for position, stream, version, at, data in rows
    ]


def _open_streams(connection: sqlite3.Connection) -> tuple[Position, Sequence[str]]:
    end = _end(connection)
    names = [name for (name,) in connection.execute(_OPEN_STREAMS)]
    return Position(str(end)) if end else START, names


def _row(stream: str, connection: sqlite3.Connection) -> Row | None:
    found = connection.execute("SELECT * FROM calls WHERE stream = ?", (stream,)).fetchone()
    return None if found is None else _as_row(found)


def _rows(wanted: Wanted, limit: int, connection: sqlite3.Connection) -> Sequence[Row]:
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
