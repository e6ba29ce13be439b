"""What an event log promises.  docs/log.md tells it in prose; tests/log_contract.py tests each promise.

1. Positions only grow; callers compare nothing but equality.
2. A batch for one stream is all there or not at all.
3. A follower gets each event once, in order, after it is durable.
4. A stale ``expected`` or ``fence`` is refused, and a refused append leaves the others of its commit
   group untouched.
5. Open streams are found without reading closed ones.
6. Fields that this version does not know survive.
7. A torn write at the tail loses only what was never acknowledged.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NewType, Protocol, TypeAlias

import msgspec
from twisted.internet.defer import Deferred

from plivotx.events import Column, Event

Position = NewType("Position", str)
START = Position("")
"""Before the first event."""
Cursor: TypeAlias = tuple[float, str]
"""Where a row stands in lists, which are in falling order of it: `Row.opened`, then the stream's name."""


class Recorded(msgspec.Struct, frozen=True):
    """An event and where it stands in the log."""

    position: Position
    stream: str
    version: int
    """Number of the event in its stream, from 1."""
    at: float
    """Wall time of the append, seconds of the epoch; for people and for retention, never for limits."""
    event: Event
    data: bytes
    """The event as it stands on disk, with fields that this version may not know."""


class Row(msgspec.Struct, frozen=True):
    """One row of the read model ``calls``: what lists and call records show."""

    stream: str
    rank: int
    open: bool
    opened: float
    """Wall time of the first event, seconds."""
    changed: float
    """Wall time of the latest event, seconds."""
    columns: Mapping[str, Column]
    """Every name of `plivotx.events.COLUMNS`; None where nothing is known."""

    @property
    def cursor(self) -> Cursor:
        """Where this row stands in lists."""
        return self.opened, self.stream


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows of the read model are asked for: those that fit all of it."""

    where: Mapping[str, Column | tuple[Column, ...]] = {}
    """By the name of a column its value, or several of which any will do."""
    open_only: bool = False
    undelivered_only: bool = False
    """Only calls of which a callback was given up."""
    opened_from: float | None = None
    """Wall time, seconds; that moment included."""
    opened_until: float | None = None
    """Wall time, seconds; that moment not included."""
    after: Cursor | None = None
    """Only what a list shows below this row."""


ALL = Wanted()


class Refused(Exception):
    """The append was not done and nothing of it is in the log.  To try it unchanged is of no use."""


class Conflict(Refused):
    """The stream has another version than the caller expected."""


class Fenced(Refused):
    """Another process has taken over what the caller thought its own."""


class Unwritable(Exception):
    """The log could not write now (disk full, connection lost).  It may be tried again.

    The events are not in the log, unless ``in_doubt`` says that this could not be found out.
    """

    in_doubt = False


class Unreadable(Exception):
    """The log could not be read now (connection lost, file damaged, closed).  It may be tried again."""


class Unopenable(Exception):
    """The log can't be opened: another process has it, a newer version wrote it, it is no log."""


class Log(Protocol):
    """An append-only event log with a read model beside it."""

    def append(
        self, stream: str, events: Sequence[Event], expected: int | None = None, fence: int | None = None
    ) -> Deferred[int]:
        """Add *events* to *stream*; fires with the stream's new version once they are durable.

        *expected* is the version the stream must have now (0: it must not exist), *fence* the token
        under which the caller holds the log.  Fails with `Conflict`, `Fenced` or `Unwritable`.
        """

    def take_fence(self) -> Deferred[int]:
        """Take the log over: fires with a new token, and appends with an older one are `Fenced`."""

    def follow(
        self,
        deliver: Callable[[Recorded], None],
        on_reset: Callable[[str], None],
        after: Position | None = None,
    ) -> Callable[[], None]:
        """Call *deliver* with every durable event after *after*; returns a function that stops it.

        None stands for the present end of the log.  *deliver* is never called from within `append`
        or `follow`, nor from within itself.  What *deliver* raises is logged and ends nothing.
        *on_reset* is told why when the log no longer holds what was delivered (its tail was lost);
        nothing is delivered after that until `follow` is called again.
        """

    def read(self, stream: str, after_version: int = 0) -> Deferred[Sequence[Recorded]]:
        """The events of one stream, in order; empty if there is no such stream."""

    def read_several(self, streams: Sequence[str]) -> Deferred[Mapping[str, Sequence[Event]]]:
        """The events of several streams at once: for each stream that there is all of its events, in order.

        Some hundreds at a time: the answer is in memory as a whole.
        """

    def open_streams(self) -> Deferred[tuple[Position, Sequence[str]]]:
        """The streams that were opened and not closed, oldest first, and the log's end at that moment.

        Whoever reads these streams and then follows from that position misses nothing; he may get
        some events twice, which the versions tell.
        """

    def call(self, stream: str) -> Deferred[Row | None]:
        """The read model's row of one stream."""

    def calls(self, wanted: Wanted = ALL, limit: int = 100) -> Deferred[Sequence[Row]]:
        """Some of the rows that are wanted, newest first.

        The cursor of the last one as `Wanted.after` continues the list: no row is skipped and none
        comes twice, whatever is opened meanwhile.
        """

    def forget(self, closed_before: float) -> Deferred[int]:
        """Delete closed streams whose latest event is older than that wall time; fires with their number.

        Positions keep growing over it.  Open streams are never touched.
        """

    def close(self) -> Deferred[None]:
        """Finish what is being written and let go of the log; later appends fail with `Unwritable`."""
