"""What the back ends have in common: the text of events, the row of a stream, careful delivery."""

from collections.abc import Callable, Sequence

import msgspec
from twisted.logger import Logger

from plivotx.events import BY_NAME, COLUMNS, Column, Event, Unknown, decode, encode
from plivotx.log.interface import Conflict, Fenced, Recorded, Refused, Row, Wanted

_log = Logger(namespace="plivotx.log")


def texts(stream: str, events: Sequence[Event]) -> list[bytes]:
    """The text of each event as it goes to disk; raises `Refused` if one cannot be written."""
    try:
        stream.encode()
        batch = [encode(each) for each in events]
        for event in events:
            if isinstance(event, Unknown):  # all others come from the encoder
                event.data.decode()
    except (TypeError, ValueError, OverflowError) as why:  # such as half a surrogate pair
        raise Refused(f"stream {stream!r}: an event cannot be written: {why}")
    return batch


def understood(stream: str, version: int, data: bytes) -> Event:
    """The event that *data* holds; damaged data is reported and becomes `Unknown`.

    One damaged event must not keep a log from being read: what follows it may be live calls.
    """
    try:
        return decode(data)
    except ValueError as why:
        _log.error(
            "event {version} of stream {stream!r} is damaged: {why}", version=version, stream=stream, why=why
        )
        return Unknown(type="", data=data)


def as_read(event: Event, stream: str, version: int, data: bytes) -> Event:
    """What `understood` makes of *data*, the text of *event*: the same, if it is of a type that is known."""
    kind = type(event)
    return event if BY_NAME.get(kind.__name__) is kind else understood(stream, version, data)


def check_expected(stream: str, actual: int, expected: int | None) -> None:
    """Raise `Conflict` if the stream does not have the expected version."""
    if expected is not None and expected != actual:
        raise Conflict(f"stream {stream!r} has version {actual}, expected was {expected}")


def check_fence(stream: str, current: int, fence: int | None) -> None:
    """Raise `Fenced` if *fence* is not the token that was taken last."""
    if fence is not None and fence != current:
        raise Fenced(f"stream {stream!r}: fence {fence} is stale, {current} was taken since")


def check_wanted(wanted: Wanted) -> None:
    """Raise ValueError if a column is asked for that the read model lacks."""
    for name in wanted.where:
        if name not in COLUMNS:
            raise ValueError(f"the read model has no column {name!r}")


def fits(row: Row, wanted: Wanted) -> bool:
    """Whether *row* is one of those that are wanted."""
    undelivered = row.columns["undelivered"]
    return (
        all(row.columns[name] in any_of(value) for name, value in wanted.where.items())
        and (row.open or not wanted.open_only)
        and (bool(undelivered) or not wanted.undelivered_only)
        and (wanted.opened_from is None or row.opened >= wanted.opened_from)
        and (wanted.opened_until is None or row.opened < wanted.opened_until)
        and (wanted.after is None or row.cursor < wanted.after)
    )


def any_of(value: Column | tuple[Column, ...]) -> tuple[Column, ...]:
    """The values of which any will do."""
    return value if isinstance(value, tuple) else (value,)


def hand_over(deliver: Callable[[Recorded], None], recorded: Recorded) -> None:
    """Call a follower; what it raises is logged and keeps nobody else from hearing."""
    try:
        deliver(recorded)
    except Exception:
        _log.failure(
            "a follower failed at event {version} of stream {stream!r}",
            version=recorded.version,
            stream=recorded.stream,
        )


class Standing(msgspec.Struct):
    """How one stream stands: its version and its row of the read model, folded from its events."""

    version: int = 0
    rank: int = 0
    open: bool = False
    opened: float = 0.0
    changed: float = 0.0
    columns: dict[str, Column] = msgspec.field(default_factory=dict)
    """Those that were set."""

    def apply(self, event: Event, at: float) -> None:
        """Count *event*, recorded at wall time *at*.

        Columns are taken only from an event that outranks all before it, so that a late event about
        an earlier state does not turn the row back.
        """
        if self.version == 0:
            self.opened = at
        self.version += 1
        self.changed = at
        if event.closes:
            self.open = False
        elif event.opens:
            self.open = True
        rank = event.rank
        if rank > self.rank:
            self.rank = rank
            for name, value in event.columns().items():
                if name in COLUMNS:
                    self.columns[name] = value

    def row(self, stream: str) -> Row | None:
        """The row as callers see it; None if no event of the stream belongs in the read model."""
        if self.rank == 0:
            return None
        return Row(
            stream=stream,
            rank=self.rank,
            open=self.open,
            opened=self.opened,
            changed=self.changed,
            columns={name: self.columns.get(name) for name in COLUMNS},
        )
