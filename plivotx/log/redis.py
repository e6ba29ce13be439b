"""The log in a Redis Stream: shared by several nodes.

Every write is one Lua script, so it is done whole or not at all: checks, events, the index of the
stream, its row, the set of open streams.  An append whose answer is lost with the connection is sent
again with the token it had, and the script writes nothing that it has written before.  Each follower
has a connection of its own and notices when a server comes back without what was delivered.
"""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import txredisapi
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from plivotx.events import COLUMNS, Column, Event
from plivotx.log import redis_scripts
from plivotx.log.common import check_wanted, fits, hand_over, texts, understood
from plivotx.log.interface import (
    ALL,
    Conflict,
    Fenced,
    Position,
    Recorded,
    Refused,
    Row,
    Unopenable,
    Unreadable,
    Unwritable,
    Wanted,
)
from plivotx.log.redis_connection import Connection, understand

FORMAT = 1
"""Version of the layout of the keys; a log of a higher one is not opened."""
PAGE = 200
"""Events read at a time by a follower; rows read at a time for a list."""
FORGET_AT_ONCE = 20
"""Streams deleted by one run of the script: Redis does nothing else meanwhile."""
BLOCK = 5.0
"""Seconds that a follower waits for an event before it makes sure that the log is still the same."""
KEEPING_POLICIES = ("noeviction", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl")
"""What Redis may do when its memory is full without deleting a log, which has no time to live."""

_FROM_TEXT: dict[str, Callable[[str], Column]] = {"TEXT": str, "INTEGER": int, "REAL": float}

_Entry = tuple[str, list[str]]
_decode_page = msgspec.msgpack.Decoder(tuple[str, str, list[_Entry]]).decode
_decode_entries = msgspec.msgpack.Decoder(list[_Entry]).decode
_decode_pair = msgspec.msgpack.Decoder(tuple[str, str]).decode
_decode_open = msgspec.msgpack.Decoder(tuple[str, list[str]]).decode


class _Append(msgspec.Struct, eq=False):
    """An append that was not answered yet."""

    stream: str
    keys: Sequence[str]
    arguments: Sequence[str | bytes]
    done: Deferred[int]
    expected: int | None
    fence: int | None
    limit: IDelayedCall
    sendings: int = 0


class _Follower(msgspec.Struct, eq=False):
    deliver: Callable[[Recorded], None]
    on_reset: Callable[[str], None]
    connection: Connection
    stopped: bool = False


class RedisLog:
    """A `plivotx.log.interface.Log` in a Redis Stream; `open` makes it.

    Needs Redis 6.2 or later.  Nobody but plivotx may write the keys that begin with the prefix.
    """

    _complaints = Logger()

    def __init__(self, url: str, reactor: Any, prefix: str, wall: Callable[[], float], limit: float) -> None:
        self._address = understand(url, reactor)
        self._reactor = reactor
        self._prefix = prefix
        self._wall = wall
        self._limit = limit
        self._patience = limit / 3  # so that there is time to connect again and ask
        self._identity = ""
        self._writer = uuid.uuid4().hex
        self._appends = 0
        self._pending: dict[str, _Append] = {}  # by token, in the order of the calls
        self._followers: list[_Follower] = []
        self._closing = False
        self._drained: list[Deferred[None]] = []
        self._connection = Connection(self._address, reactor, self._patience, self._send_pending)

    @classmethod
    def open(
        cls,
        url: str,
        reactor: Any,
        prefix: str = "plivotx",
        wall: Callable[[], float] = time.time,
        limit: float = 10.0,
    ) -> "Deferred[RedisLog]":
        """Open the log whose keys begin with *prefix*, on the server at *url*; a missing one is made.

        *url* is ``redis://[USER:PASSWORD@]HOST[:PORT][/DB]`` or ``unix:///PATH[?db=DB]``.  *wall* gives
        the wall time in seconds.  *limit* is the longest that anything is waited for, in seconds.
        Fails with `Unopenable`.  A server that may lose what it acknowledged is warned of in our own log.
        """

        async def open_it() -> RedisLog:
            log = cls(url, reactor, prefix, wall, limit)
            try:
                keys = log._keys("format", "identity")
                found = await log._ask(Unopenable, redis_scripts.OPEN, keys, [str(FORMAT), uuid.uuid4().hex])
                layout, log._identity = _decode_pair(found)
                if int(layout) > FORMAT:
                    raise Unopenable(
                        f"{log._address.shown}: the log {prefix!r} was written by a newer plivotx"
                        f" (it has format {layout}, this one knows up to {FORMAT})"
                    )
            except Exception:
                await log._connection.close()
                raise
            await log._warn_of_losses()
            return log

        return Deferred.fromCoroutine(open_it())

    # -- writing -----------------------------------------------------------------------------------

    def append(
        self, stream: str, events: Sequence[Event], expected: int | None = None, fence: int | None = None
    ) -> Deferred[int]:
        """See `plivotx.log.interface.Log.append`."""
        if self._closing:
            return fail(Unwritable(f"{self._address.shown}: the log is closed"))
        try:
            batch = texts(stream, events)
        except Refused as why:
            return fail(why)
        self._appends += 1
        token = f"{self._writer}:{self._appends}"
        append = _Append(
            stream=stream,
            keys=(
                *self._keys("log", "last", "fence", "open", "closed", "calls"),
                *self._keys_of(stream, "ids", "tokens", "row"),
            ),
            arguments=(
                token,
                "" if expected is None else str(expected),
                "" if fence is None else str(fence),
                repr(self._wall()),
                stream,
                _opens(events),
                _steps(events),
                *batch,
            ),
            done=Deferred(),
            expected=expected,
            fence=fence,
            limit=self._reactor.callLater(self._limit, self._give_up, token),
        )
        self._pending[token] = append
        if self._connection.redis is not None:
            self._send(token, append)
        return append.done

    def _send_pending(self, _: Any) -> None:
        for token, append in list(self._pending.items()):
            self._send(token, append)

    def _send(self, token: str, append: _Append) -> None:
        append.sendings += 1
        maybeDeferred(
            self._connection.redis.eval, redis_scripts.APPEND, append.keys, append.arguments
        ).addCallbacks(self._answered, self._not_done, callbackArgs=(token,), errbackArgs=(token, append))

    def _answered(self, version: int, token: str) -> None:
        self._settle(token, version)

    def _not_done(self, failure: Failure, token: str, append: _Append) -> None:
        if failure.check(txredisapi.ConnectionError):
            return  # in doubt; it is sent again once the connection is back
        why = str(failure.value).strip()
        kind, _, number = why.partition(" ")
        where = f"stream {append.stream!r}"
        if kind == "CONFLICT":
            self._settle(token, Conflict(f"{where} has version {number}, expected was {append.expected}"))
        elif kind == "FENCED":
            self._settle(token, Fenced(f"{where}: fence {append.fence} is stale, {number} was taken since"))
        elif append.sendings > 1:
            # The script did not run, but it may have when it was first sent: ask a server that can tell.
            self._connection.drop()
        else:
            self._settle(token, Unwritable(f"{self._address.shown}: {where}: {why}"))
            if kind == "READONLY":  # another server is the master now
                self._connection.drop()

    def _give_up(self, token: str) -> None:
        error = Unwritable(
            f"{self._address.shown}: no answer within {self._limit:g} s: {self._connection.why}"
        )
        error.in_doubt = self._pending[token].sendings > 0
        self._settle(token, error)

    def _settle(self, token: str, outcome: int | Exception) -> None:
        append = self._pending.pop(token, None)
        if append is None:
            return  # given up before
        if append.limit.active():
            append.limit.cancel()
        append.done.callback(outcome if isinstance(outcome, int) else Failure(outcome))
        self._tell_drained()

    def take_fence(self) -> Deferred[int]:
        """See `plivotx.log.interface.Log.take_fence`."""
        return Deferred.fromCoroutine(self._ask(Unwritable, redis_scripts.TAKE_FENCE, self._keys("fence")))

    def forget(self, closed_before: float) -> Deferred[int]:
        """See `plivotx.log.interface.Log.forget`."""

        async def forget() -> int:
            total = 0
            keys = self._keys("log", "closed", "calls")
            arguments = [repr(closed_before), str(FORGET_AT_ONCE), *self._keys_of("", "ids", "tokens", "row")]
            while deleted := await self._ask(Unwritable, redis_scripts.FORGET, keys, arguments):
                total += deleted
            return total

        return Deferred.fromCoroutine(forget())

    def close(self) -> Deferred[None]:
        """See `plivotx.log.interface.Log.close`."""

        async def close() -> None:
            self._closing = True
            drained: Deferred[None] = Deferred()
            self._drained.append(drained)
            self._tell_drained()
            await drained
            for follower in list(self._followers):
                await self._stop(follower)
            await self._connection.close()

        return Deferred.fromCoroutine(close())

    def _tell_drained(self) -> None:
        if self._closing and not self._pending:
            drained, self._drained = self._drained, []
            for each in drained:
                each.callback(None)

    # -- following ---------------------------------------------------------------------------------

    def follow(
        self,
        deliver: Callable[[Recorded], None],
        on_reset: Callable[[str], None],
        after: Position | None = None,
    ) -> Callable[[], None]:
        """See `plivotx.log.interface.Log.follow`."""
        position = None if after is None else str(after) or "0-0"
        if position is not None:
            _order(position)  # a position of another log is an error now, not later
        connection = Connection(self._address, self._reactor, BLOCK + self._patience)
        follower = _Follower(deliver, on_reset, connection)
        self._followers.append(follower)
        Deferred.fromCoroutine(self._serve(follower, position)).addErrback(
            lambda failure: self._complaints.failure("a follower ended", failure)
        )

        def stop() -> None:
            Deferred.fromCoroutine(self._stop(follower))

        return stop

    async def _stop(self, follower: _Follower) -> None:
        if not follower.stopped:
            follower.stopped = True
            self._followers.remove(follower)
            await follower.connection.close()

    async def _serve(self, follower: _Follower, position: str | None) -> None:
        while not follower.stopped:
            try:
                if position is None:
                    # By the connection of the appends: whatever is appended from now on comes later.
                    keys = self._keys("last", "open")
                    answer = await self._ask_until_answered(redis_scripts.OPEN_STREAMS, keys)
                    position, _ = _decode_open(answer)
                redis = await follower.connection.ready()
                position, any_more = await self._serve_page(redis, follower, position)
                if not any_more and not follower.stopped:
                    await self._wait_for_more(redis, position)
            except txredisapi.ConnectionError:
                continue
            except txredisapi.RedisError as error:
                self._complaints.warn("a follower waits: {error}", error=error)
                follower.connection.drop()
                await follower.connection.ready()

    async def _serve_page(self, redis: Any, follower: _Follower, position: str) -> tuple[str, bool]:
        """Deliver some of what comes after *position*; returns the last delivered and whether there was any."""
        keys = self._keys("log", "last", "identity")
        page = await redis.eval(redis_scripts.PAGE, keys, [position, str(PAGE)])
        identity, last, entries = _decode_page(page)
        why = self._lost(identity, last, position)
        for entry in entries:
            recorded, previous = _recorded(entry)
            if follower.stopped or why:
                break
            if _order(previous) < _order(position):
                # Nothing was between the two when this one was written, so what was delivered is gone.
                why = f"{position} is gone, {recorded.position} came in its place"
            else:
                position = str(recorded.position)
                hand_over(follower.deliver, recorded)
        if why and not follower.stopped:
            await self._stop(follower)
            follower.on_reset(f"{self._address.shown}: {why}")
        return position, bool(entries)

    def _lost(self, identity: str, last: str, position: str) -> str:
        """Why the log is not the one that *position* was delivered from; empty if it is."""
        if identity != self._identity:
            return f"the log {self._prefix!r} was made anew"
        if _order(last) < _order(position):
            return f"the log ends at {last}, before {position}"
        return ""

    async def _wait_for_more(self, redis: Any, position: str) -> None:
        """Return when there may be something after *position*; the next page tells what."""
        block, log = str(int(BLOCK * 1000)), *self._keys("log")
        await redis.execute_command("XREAD", "COUNT", "1", "BLOCK", block, "STREAMS", log, position)

    # -- reading -----------------------------------------------------------------------------------

    def read(self, stream: str, after_version: int = 0) -> Deferred[Sequence[Recorded]]:
        """See `plivotx.log.interface.Log.read`."""
        return Deferred.fromCoroutine(self._read([stream], max(0, after_version)))

    def read_several(self, streams: Sequence[str]) -> Deferred[Mapping[str, Sequence[Event]]]:
        """See `plivotx.log.interface.Log.read_several`."""

        async def read_several() -> Mapping[str, Sequence[Event]]:
            found: dict[str, list[Event]] = {}
            for each in await self._read(streams, 0):
                found.setdefault(each.stream, []).append(each.event)
            return found

        return Deferred.fromCoroutine(read_several())

    async def _read(self, streams: Sequence[str], after_version: int) -> Sequence[Recorded]:
        keys = (*self._keys("log"), *(key for each in streams for key in self._keys_of(each, "ids")))
        entries = await self._ask(Unreadable, redis_scripts.READ, keys, [str(after_version)])
        return [_recorded(entry)[0] for entry in _decode_entries(entries)]

    def open_streams(self) -> Deferred[tuple[Position, Sequence[str]]]:
        """See `plivotx.log.interface.Log.open_streams`."""

        async def open_streams() -> tuple[Position, Sequence[str]]:
            last, streams = _decode_open(
                await self._ask(Unreadable, redis_scripts.OPEN_STREAMS, self._keys("last", "open"))
            )
            return Position(last), streams

        return Deferred.fromCoroutine(open_streams())

    def call(self, stream: str) -> Deferred[Row | None]:
        """See `plivotx.log.interface.Log.call`."""

        async def call() -> Row | None:
            rows = await self._ask(Unreadable, redis_scripts.ROW, self._keys_of(stream, "row"), [stream])
            return next(_rows(_decode_entries(rows)), None)

        return Deferred.fromCoroutine(call())

    def calls(self, wanted: Wanted = ALL, limit: int = 100) -> Deferred[Sequence[Row]]:
        """See `plivotx.log.interface.Log.calls`.  Rows are gone through one by one, the newest first."""
        check_wanted(wanted)

        async def calls() -> Sequence[Row]:
            found: dict[str, Row] = {}  # by stream: a page begins with those that are as old as the last
            keys = self._keys("open" if wanted.open_only else "calls")
            ends = [
                each for each in (wanted.opened_until, wanted.after and wanted.after[0]) if each is not None
            ]
            begin = repr(min(ends)) if ends else "+inf"
            end = "-inf" if wanted.opened_from is None else repr(wanted.opened_from)
            skip = 0
            while True:
                arguments = [*self._keys_of("", "row"), begin, end, str(skip), str(PAGE)]
                page = _decode_entries(await self._ask(Unreadable, redis_scripts.ROWS, keys, arguments))
                for row in _rows(page):
                    if len(found) < limit and fits(row, wanted):
                        found.setdefault(row.stream, row)
                if len(found) == limit or len(page) < PAGE:
                    return list(found.values())
                oldest = _fields(page[-1])["opened"]
                begin, skip = (begin, skip + PAGE) if oldest == begin else (oldest, 0)

        return Deferred.fromCoroutine(calls())

    # -- asking ------------------------------------------------------------------------------------

    async def _ask(
        self, error: type[Exception], script: str, keys: Sequence[str], arguments: Sequence[str] = ()
    ) -> Any:
        """What *script* answers; raises *error* if there is no answer in time.

        It may be run more than once.
        """
        where = self._address.shown
        if self._closing:
            raise error(f"{where}: the log is closed")

        def too_late(_: object, limit: float) -> None:
            raise error(f"{where}: no answer within {limit:g} s: {self._connection.why}")

        asking = Deferred.fromCoroutine(self._ask_until_answered(script, keys, arguments))
        try:
            return await asking.addTimeout(self._limit, self._reactor, too_late)
        except txredisapi.RedisError as why:
            raise error(f"{where}: {why}")

    async def _ask_until_answered(
        self, script: str, keys: Sequence[str], arguments: Sequence[str] = ()
    ) -> Any:
        while True:
            redis = await self._connection.ready()
            try:
                return await redis.eval(script, keys, arguments)
            except txredisapi.ConnectionError:
                continue  # the connection knows of it before we do, so this waits for a new one

    def _keys(self, *names: str) -> tuple[str, ...]:
        return tuple(f"{self._prefix}:{name}" for name in names)

    def _keys_of(self, stream: str, *names: str) -> tuple[str, ...]:
        return tuple(f"{self._prefix}:{name}:{stream}" for name in names)

    async def _warn_of_losses(self) -> None:
        """Say in our own log whether this server may lose what it acknowledged."""
        wanted = {"appendonly": ("yes",), "appendfsync": ("always",), "maxmemory-policy": KEEPING_POLICIES}
        redis = await self._connection.ready()
        for name, good in wanted.items():
            try:
                _, value = await redis.execute_command("CONFIG", "GET", name)
            except (txredisapi.RedisError, ValueError) as why:
                self._complaints.warn(
                    "{where}: it can't be found out whether acknowledged events are durable: {why}",
                    where=self._address.shown,
                    why=why,
                )
                return
            if value.decode() not in good:
                self._complaints.warn(
                    "{where}: acknowledged events may be lost: {name} is {value}, should be {good}",
                    where=self._address.shown,
                    name=name,
                    value=value.decode(),
                    good=good[0],
                )


# -- what is sent and received -----------------------------------------------------------------------


def _opens(events: Sequence[Event]) -> str:
    """Whether the stream is open after *events*: ``1``, ``0``, or empty if they leave that as it was."""
    for event in reversed(events):
        if event.closes or event.opens:
            return "0" if event.closes else "1"
    return ""


def _steps(events: Sequence[Event]) -> bytes:
    """What *events* would set in the row, each with its rank; the script takes what outranks the row."""
    return msgspec.msgpack.encode(
        [
            (
                event.rank,
                [
                    (name, None if value is None else str(value))
                    for name, value in event.columns().items()
                    if name in COLUMNS
                ],
            )
            for event in events
            if event.rank
        ]
    )


def _fields(entry: _Entry) -> dict[str, str]:
    """Names and values of an entry."""
    _, flat = entry
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _recorded(entry: _Entry) -> tuple[Recorded, str]:
    """An entry of the stream, and the position of the entry before it."""
    position, fields = entry[0], _fields(entry)
    version, data = int(fields["version"]), fields["data"].encode()
    recorded = Recorded(
        position=Position(position),
        stream=fields["stream"],
        version=version,
        at=float(fields["at"]),
        event=understood(fields["stream"], version, data),
        data=data,
    )
    return recorded, fields["previous"]


def _rows(entries: Iterable[_Entry]) -> Iterator[Row]:
    """The rows of calls; a stream that is no call has none."""
    for entry in entries:
        fields = _fields(entry)
        if int(fields.get("rank", 0)):
            yield Row(
                stream=entry[0],
                rank=int(fields["rank"]),
                open=fields["open"] == "1",
                opened=float(fields["opened"]),
                changed=float(fields["changed"]),
                columns={
                    name: _FROM_TEXT[kind](fields[name]) if name in fields else None
                    for name, kind in COLUMNS.items()
                },
            )


def _order(position: str) -> tuple[int, int]:
    """What positions are compared by; raises ValueError if it is none of ours."""
    milliseconds, _, number = position.partition("-")
    return int(milliseconds), int(number)
