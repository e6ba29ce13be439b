"""The log in one SQLite file: the default, for a single process.

One thread writes and one reads, so the reactor never waits for a disk.  All writes that wait share a
transaction and so an fsync; each has a savepoint of its own, so that one refused leaves the others
untouched.  Followers hear in the reactor's thread, after the commit.
"""
# ruff: noqa: S608 - the names in the statements are ours, every value is bound

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache, partial
from queue import SimpleQueue
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from plivotx.events import COLUMNS, Column, Event
from plivotx.log.common import (
    Standing,
    any_of,
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
"""Writes in one transaction, or a few more; make the first of them wait."""
PAGE = 200
"""Events read at a time for a follower that catches up."""
FORGET_AT_ONCE = 50
"""Streams deleted in one go; appends come in between."""
RETRY = 1.0
"""Seconds until a page that could not be read is tried again."""

_T = TypeVar("_T")
_Written: TypeAlias = tuple[_T, Sequence[Recorded]]
"""What a write gives its caller, and what followers hear of it once it is committed."""


class _Job(msgspec.Struct, Generic[_T], frozen=True):
    """Something for one of the threads to do."""

    work: Callable[[sqlite3.Connection], _T]
    done: Deferred[Any]


_Outcome: TypeAlias = tuple[Deferred[Any], Any]
"""Whom to tell what; a Failure is told as one."""


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
        self._gathered: list[_Job[_Written[Any]]] = []  # the writes of this turn of the reactor
        self._writes: SimpleQueue[list[_Job[_Written[Any]]] | None] = SimpleQueue()  # None ends the thread
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
        return self._write(partial(_append, stream, batch, expected, fence, self._wall()))

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
            # The writer ends last: closing the last connection empties the write-ahead log.
            self._reads.put(None)
        return closed

    def _write(self, work: Callable[[sqlite3.Connection], _Written[_T]]) -> Deferred[_T]:
        if self._closing:
            return fail(Unwritable(f"{self._path}: the log is closed"))
        done: Deferred[_T] = Deferred()
        self._gathered.append(_Job(work, done))
        if len(self._gathered) == 1:
            # Handed over one by one, the first would be committed alone, and the two threads would take turns
            # for each of the others.
            self._reactor.callLater(0, self._hand_over)
        return done

    def _hand_over(self) -> None:
        if self._gathered:
            self._writes.put(self._gathered)
            self._gathered = []

    # -- the writer's thread -----------------------------------------------------------------------

    def _write_loop(self, opened: "Deferred[SQLiteLog]") -> None:
        try:
            lock = _lock(self._path)
            try:
                connection = connect(self._path)
                reading, end = another(self._path), _end(connection)
            except BaseException:
                os.close(lock)
                raise
        except Exception:
            self._reactor.callFromThread(opened.errback, Failure())
            return
        self._reactor.callFromThread(self._opened, opened, reading, end)
        for group in _groups(self._writes):
            outcomes, recorded = _commit(connection, self._path, group)
            self._reactor.callFromThread(self._committed, outcomes, recorded)
        connection.close()
        os.close(lock)
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

    def read_several(self, streams: Sequence[str]) -> Deferred[Sequence[Recorded]]:
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


def _lock(path: str) -> int:
    """Lock ``PATH.lock`` for as long as the returned descriptor is open; raises `Unopenable`."""
    name = f"{path}.lock"
    try:
        lock = os.open(name, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise Unopenable(f"{path}: {error}")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(lock, 20).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise Unopenable(f"{path}: another process has it (process id {holder} in {name})")
    with suppress(OSError):  # the number is a courtesy; a full disk must not keep live calls waiting
        os.truncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def _groups(queue: "SimpleQueue[list[_T] | None]") -> Iterator[list[_T]]:
    """All that waits, again and again, until None comes."""
    while (group := queue.get()) is not None:
        while len(group) < MAX_GROUP and not queue.empty():
            another = queue.get()
            if another is None:
                yield group
                return
            group += another
        yield group


def _commit(
    connection: sqlite3.Connection, path: str, group: Sequence[_Job[_Written[Any]]]
) -> tuple[list[_Outcome], list[Recorded]]:
    """Do a group of writes in one transaction; what fails alone fails alone."""
    outcomes: list[_Outcome] = []
    recorded: list[Recorded] = []
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:
        failure = Failure(_unwritable(path, error))
        return [(job.done, failure) for job in group], []
    try:
        for job in group:
            outcome, heard = _attempt(connection, path, job)
            outcomes.append((job.done, outcome))
            recorded += heard
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")  # unless SQLite did so itself
        if len(group) == 1:
            return [(group[0].done, Failure(_unwritable(path, error)))], []
        # Whose fault it was can't be told: a small write may fit where a large one did not.
        outcomes.clear()
        recorded.clear()
        for job in group:
            told, heard = _commit(connection, path, [job])
            outcomes += told
            recorded += heard
    return outcomes, recorded


def _attempt(
    connection: sqlite3.Connection, path: str, job: _Job[_Written[Any]]
) -> tuple[Any, Sequence[Recorded]]:
    """Do one write of a group or nothing of it; raises sqlite3.Error if the whole transaction is gone."""
    connection.execute("SAVEPOINT one")
    try:
        outcome, recorded = job.work(connection)
    except Exception as error:
        if not connection.in_transaction:
            raise
        connection.execute("ROLLBACK TO one")
        outcome, recorded = Failure(_unwritable(path, error)), ()
    connection.execute("RELEASE one")
    return outcome, recorded


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


_FIND = "SELECT id, version, rank, open FROM streams WHERE name = ?"
_RECORD = "INSERT INTO events (stream, version, at, data) VALUES (?, ?, ?, ?)"


@cache
def _insert(names: tuple[str, ...]) -> str:
    return f"INSERT INTO streams ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"


@cache
def _update(names: tuple[str, ...]) -> str:
    return f"UPDATE streams SET {', '.join(f'{name} = ?' for name in names)} WHERE id = ?"


def _append(
    stream: str,
    batch: Sequence[tuple[Event, bytes]],
    expected: int | None,
    fence: int | None,
    at: float,
    connection: sqlite3.Connection,
) -> _Written[int]:
    if fence is not None:
        (token,) = connection.execute("SELECT token FROM fence").fetchone()
        check_fence(stream, token, fence)
    found = connection.execute(_FIND, (stream,)).fetchone()
    number, version, rank, is_open = found or (None, 0, 0, 0)
    check_expected(stream, version, expected)
    if not batch:
        return version, ()
    standing = Standing(version=version, rank=rank, open=bool(is_open))
    for event, _ in batch:
        standing.apply(event, at)
    # Only what changes is set: SQLite leaves the indexes of the other columns alone.
    changes: dict[str, Column] = {"version": standing.version, "changed": at}
    if standing.rank > rank:
        changes |= standing.columns
        changes["rank"] = standing.rank
    if number is None or standing.open != is_open:
        changes["open"] = standing.open
    if number is None:
        changes = {"name": stream, "opened": at, "rank": 0, **changes}
        number = connection.execute(_insert(tuple(changes)), (*changes.values(),)).lastrowid
    else:
        connection.execute(_update(tuple(changes)), (*changes.values(), number))
    recorded = []
    for event_version, (_, data) in enumerate(batch, version + 1):
        row = (number, event_version, at, data.decode())
        position = connection.execute(_RECORD, row).lastrowid
        recorded.append(_recorded(position, stream, event_version, at, data))
    return standing.version, recorded


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


def _read_streams(streams: Sequence[str], connection: sqlite3.Connection) -> Sequence[Recorded]:
    names = ", ".join("?" * len(streams))
    rows = connection.execute(
        f"{_EVENTS} WHERE name IN ({names}) ORDER BY events.stream, events.version", (*streams,)
    )
    return _from_rows(rows)


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
    terms: list[str] = []
    values: list[Column] = []
    for name, value in wanted.where.items():  # the names were checked
        choice = any_of(value)
        terms.append(f"({' OR '.join([f'{name} IS ?'] * len(choice)) or '0'})")
        values += choice
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
    rows = connection.execute(
        f"SELECT * FROM calls WHERE {' AND '.join(terms) or '1'} ORDER BY opened DESC, stream DESC LIMIT ?",
        (*values, limit),
    )
    return [_as_row(row) for row in rows]


def _as_row(found: Sequence[Any]) -> Row:
    stream, rank, is_open, opened, changed, *columns = found
    return Row(stream, rank, bool(is_open), opened, changed, dict(zip(COLUMNS, columns, strict=True)))
