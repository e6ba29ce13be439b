"""The log in one SQLite file: the default, for a single process.

One thread writes and one reads, so the reactor waits for no disk, but for `LENT` at most while a
transaction is prepared.  All writes that wait share a transaction and so an fsync; one that is refused
leaves the others untouched.  Followers hear in the reactor's thread, after the commit.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from plivotx.events import Event
from plivotx.log.common import check_wanted, hand_over, texts
from plivotx.log.interface import ALL, Position, Recorded, Refused, Row, Unreadable, Unwritable, Wanted
from plivotx.log.schema import another
from plivotx.log.sqlite_reading import (
    read_open_streams,
    read_page,
    read_row,
    read_rows,
    read_stream,
    read_streams,
)
from plivotx.log.sqlite_writing import (
    Append,
    Group,
    Job,
    Outcome,
    Write,
    Writer,
    Written,
    forget_some,
    take_fence,
)

MAX_GROUP = 500
"""Writes in one transaction."""
LENT = 0.005
"""Seconds that the reactor stands back for the writer to prepare a transaction, at most."""
RETRY = 1.0
"""Seconds until a page that could not be read is tried again."""

_T = TypeVar("_T")


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
        self._gathered: list[Write] = []  # the writes since the last group was handed over
        self._writing = False  # whether the writer has a group
        self._writes: SimpleQueue[Group | None] = SimpleQueue()  # None ends the thread
        self._reads: SimpleQueue[Job[Any] | None] = SimpleQueue()
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
        return self._gather(Append(stream, batch, expected, fence, self._wall(), Deferred()))

    def take_fence(self) -> Deferred[int]:
        """See `plivotx.log.interface.Log.take_fence`."""
        return self._write(take_fence)

    def forget(self, closed_before: float) -> Deferred[int]:
        """See `plivotx.log.interface.Log.forget`."""

        async def forget() -> int:
            total = 0
            while deleted := await self._write(partial(forget_some, closed_before)):
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

    def _write(self, work: Callable[[sqlite3.Connection], Written[_T]]) -> Deferred[_T]:
        return self._gather(Job(work, Deferred()))

    def _gather(self, write: Write) -> Deferred[Any]:
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
        group = Group(self._gathered[:MAX_GROUP], threading.Lock())
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
            writer = Writer(self._path)
            try:
                reading, end = another(self._path), writer.end()
            except BaseException:
                writer.close()
                raise
        except Exception:
            self._reactor.callFromThread(opened.errback, Failure())
            return
        self._reactor.callFromThread(self._opened, opened, reading, end)
        while (group := self._writes.get()) is not None:
            outcomes, recorded = writer.write(group)
            self._reactor.callFromThread(self._committed, outcomes, recorded)
        writer.close()
        self._reactor.callFromThread(self._has_closed)

    def _opened(self, opened: "Deferred[SQLiteLog]", reading: sqlite3.Connection, end: int) -> None:
        self._end = end
        threading.Thread(
            target=self._read_loop, args=(reading,), name=f"read {self._path}", daemon=True
        ).start()
        opened.callback(self)

    def _committed(self, outcomes: Sequence[Outcome], recorded: Sequence[Recorded]) -> None:
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
        self._read(partial(read_page, follower.after)).addCallbacks(
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
        return self._read(partial(read_stream, stream, after_version))

    def read_several(self, streams: Sequence[str]) -> Deferred[Mapping[str, Sequence[Event]]]:
        """See `plivotx.log.interface.Log.read_several`."""
        return self._read(partial(read_streams, streams))

    def open_streams(self) -> Deferred[tuple[Position, Sequence[str]]]:
        """See `plivotx.log.interface.Log.open_streams`."""
        return self._read(read_open_streams)

    def call(self, stream: str) -> Deferred[Row | None]:
        """See `plivotx.log.interface.Log.call`."""
        return self._read(partial(read_row, stream))

    def calls(self, wanted: Wanted = ALL, limit: int = 100) -> Deferred[Sequence[Row]]:
        """See `plivotx.log.interface.Log.calls`."""
        check_wanted(wanted)
        return self._read(partial(read_rows, wanted, limit))

    def _read(self, work: Callable[[sqlite3.Connection], _T]) -> Deferred[_T]:
        if self._closing:
            return fail(Unreadable(f"{self._path}: the log is closed"))
        done: Deferred[_T] = Deferred()
        self._reads.put(Job(work, done))
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
