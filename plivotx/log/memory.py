"""The log as lists, for unit tests and for the simulation: it keeps the promises and no file.

It behaves like one on disk: an append waits for a commit, a follower hears afterwards, a crash loses
what was not committed.  When commits happen is up to the caller, so a test has every interleaving at
its command.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec
from twisted.internet.defer import Deferred, fail, succeed

from plivotx.events import Event
from plivotx.log.common import (
    Standing,
    check_expected,
    check_fence,
    check_wanted,
    fits,
    hand_over,
    texts,
    understood,
)
from plivotx.log.interface import ALL, START, Position, Recorded, Refused, Row, Unreadable, Unwritable, Wanted

_T = TypeVar("_T")


class MemoryDisk:
    """What is durable.  It outlives the log that wrote it, as a file outlives a process."""

    def __init__(self) -> None:
        self.events: dict[int, Recorded] = {}
        self.streams: dict[str, list[Recorded]] = {}
        self.standings: dict[str, Standing] = {}
        self.open: dict[str, None] = {}  # a set that keeps the order of opening
        self.end = 0
        self.fence = 0
        self.holder: MemoryLog | None = None


class _Append(msgspec.Struct, frozen=True):
    stream: str
    events: Sequence[Event]
    texts: list[bytes]
    expected: int | None
    fence: int | None
    done: "Deferred[int]"


class _Follower(msgspec.Struct, eq=False):
    deliver: Callable[[Recorded], None]
    on_reset: Callable[[str], None]
    after: int


def _next_turn(turn: Callable[[], None]) -> object:
    from twisted.internet import reactor  # noqa: PLC0415  # importing it installs it

    return reactor.callLater(0, turn)


def _ignore(committed: Sequence[Recorded]) -> None:
    del committed


class MemoryLog:
    """A `plivotx.log.interface.Log` in memory.

    *disk* is what an earlier log left behind; whoever held it until now is abandoned.  *schedule* is
    called with a function to be called later, never at once: it commits what waits and then delivers.
    *wall* gives the wall time in seconds.  *on_commit* is told what has become durable before anybody
    else hears of it; a crash may be staged there by calling `abandon`.
    """

    def __init__(
        self,
        disk: MemoryDisk | None = None,
        schedule: Callable[[Callable[[], None]], object] | None = None,
        wall: Callable[[], float] = time.time,
        on_commit: Callable[[Sequence[Recorded]], None] = _ignore,
    ) -> None:
        self.refusing = ""
        """While this is not empty every append fails with `Unwritable`, giving it as the reason."""
        self.disk = disk or MemoryDisk()
        if self.disk.holder is not None:
            self.disk.holder.abandon()
        self.disk.holder = self
        self._schedule = schedule or _next_turn
        self._wall = wall
        self._on_commit = on_commit
        self._waiting: list[_Append] = []
        self._followers: list[_Follower] = []
        self._closers: list[Deferred[None]] = []
        self._scheduled = False
        self._closed = False
        self._abandoned = False

    def abandon(self) -> None:
        """Crash: from now on nothing is committed, no deferred fires, no follower is called."""
        self._abandoned = True
        self._waiting.clear()
        self._followers.clear()

    # -- writing -----------------------------------------------------------------------------------

    def append(
        self, stream: str, events: Sequence[Event], expected: int | None = None, fence: int | None = None
    ) -> Deferred[int]:
        """See `plivotx.log.interface.Log.append`."""
        if self._closed:
            return fail(Unwritable("the log is closed"))
        try:
            batch = texts(stream, events)
        except Refused as why:
            return fail(why)
        done: Deferred[int] = Deferred()
        self._waiting.append(_Append(stream, tuple(events), batch, expected, fence, done))
        self._wake()
        return done

    def take_fence(self) -> Deferred[int]:
        """See `plivotx.log.interface.Log.take_fence`."""
        self.disk.fence += 1
        return succeed(self.disk.fence)

    def forget(self, closed_before: float) -> Deferred[int]:
        """See `plivotx.log.interface.Log.forget`."""
        disk = self.disk
        old = [
            stream
            for stream, standing in disk.standings.items()
            if not standing.open and standing.changed < closed_before
        ]
        for stream in old:
            for recorded in disk.streams.pop(stream):
                del disk.events[int(recorded.position)]
            del disk.standings[stream]
        return succeed(len(old))

    def close(self) -> Deferred[None]:
        """See `plivotx.log.interface.Log.close`."""
        self._closed = True
        done: Deferred[None] = Deferred()
        self._closers.append(done)
        self._wake()
        return done

    # -- one turn: commit, acknowledge, deliver ----------------------------------------------------

    def _wake(self) -> None:
        if not self._scheduled and not self._abandoned:
            self._scheduled = True
            self._schedule(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        waiting, self._waiting = self._waiting, []
        before = self.disk.end
        outcomes = [(each.done, self._write(each)) for each in waiting]
        if self.disk.end > before:
            self._on_commit([self.disk.events[n] for n in range(before + 1, self.disk.end + 1)])
        for done, outcome in outcomes:
            if self._abandoned:
                return
            if isinstance(outcome, int):
                done.callback(outcome)
            else:
                done.errback(outcome)
        for follower in tuple(self._followers):
            self._deliver(follower)
        if self._closed and not self._waiting and not self._abandoned:
            self._followers.clear()
            self.disk.holder = None
            closers, self._closers = self._closers, []
            for closer in closers:
                closer.callback(None)

    def _write(self, append: _Append) -> int | Refused | Unwritable:
        disk, stream = self.disk, append.stream
        if self.refusing:
            return Unwritable(f"stream {stream!r}: {self.refusing}")
        standing = disk.standings.get(stream) or Standing()
        try:
            check_fence(stream, disk.fence, append.fence)
            check_expected(stream, standing.version, append.expected)
        except Refused as why:
            return why
        if not append.events:
            return standing.version
        disk.standings[stream] = standing
        recorded_before = disk.streams.setdefault(stream, [])
        at = self._wall()
        for event, data in zip(append.events, append.texts, strict=True):
            standing.apply(event, at)
            disk.end += 1
            recorded = Recorded(
                position=Position(str(disk.end)),
                stream=stream,
                version=standing.version,
                at=at,
                event=understood(stream, standing.version, data),
                data=data,
            )
            disk.events[disk.end] = recorded
            recorded_before.append(recorded)
        if standing.open:
            disk.open[stream] = None
        else:
            disk.open.pop(stream, None)
        return standing.version

    # -- following ---------------------------------------------------------------------------------

    def follow(
        self,
        deliver: Callable[[Recorded], None],
        on_reset: Callable[[str], None],
        after: Position | None = None,
    ) -> Callable[[], None]:
        """See `plivotx.log.interface.Log.follow`."""
        follower = _Follower(deliver, on_reset, self.disk.end if after is None else int(after or 0))
        self._followers.append(follower)
        self._wake()

        def stop() -> None:
            if follower in self._followers:
                self._followers.remove(follower)

        return stop

    def _deliver(self, follower: _Follower) -> None:
        if follower.after > self.disk.end and follower in self._followers:
            self._followers.remove(follower)
            follower.on_reset(f"the log ends at {self.disk.end}, before {follower.after}")
        while follower.after < self.disk.end and follower in self._followers:
            follower.after += 1
            recorded = self.disk.events.get(follower.after)
            if recorded is not None:  # it may have been forgotten
                hand_over(follower.deliver, recorded)

    # -- reading -----------------------------------------------------------------------------------

    def read(self, stream: str, after_version: int = 0) -> Deferred[Sequence[Recorded]]:
        """See `plivotx.log.interface.Log.read`."""
        return self._answer(tuple(self.disk.streams.get(stream, ())[max(0, after_version) :]))

    def read_several(self, streams: Sequence[str]) -> Deferred[Mapping[str, Sequence[Event]]]:
        """See `plivotx.log.interface.Log.read_several`."""
        known = self.disk.streams
        return self._answer({name: [each.event for each in known[name]] for name in streams if name in known})

    def open_streams(self) -> Deferred[tuple[Position, Sequence[str]]]:
        """See `plivotx.log.interface.Log.open_streams`."""
        end = Position(str(self.disk.end)) if self.disk.end else START
        return self._answer((end, tuple(self.disk.open)))

    def call(self, stream: str) -> Deferred[Row | None]:
        """See `plivotx.log.interface.Log.call`."""
        return self._answer(self.disk.standings.get(stream, Standing()).row(stream))

    def calls(self, wanted: Wanted = ALL, limit: int = 100) -> Deferred[Sequence[Row]]:
        """See `plivotx.log.interface.Log.calls`."""
        check_wanted(wanted)
        rows = [
            row
            for stream, standing in self.disk.standings.items()
            if (row := standing.row(stream)) is not None and fits(row, wanted)
        ]
        rows.sort(key=lambda row: row.cursor, reverse=True)
        return self._answer(rows[:limit])

    def _answer(self, answer: _T) -> Deferred[_T]:
        return fail(Unreadable("the log is closed")) if self._closed else succeed(answer)
