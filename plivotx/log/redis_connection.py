"""One connection to Redis, made again whenever it is lost."""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
import txredisapi
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater

from plivotx.log.interface import Unopenable

FIRST_BACKOFF = 0.05
LONGEST_BACKOFF = 5.0
"""Seconds before a lost connection is made again."""


class Address(msgspec.Struct, frozen=True):
    """Where the server is."""

    shown: str
    """For messages: without the password."""
    endpoint: IStreamClientEndpoint
    user: str | None
    password: str | None
    database: int


def understand(url: str, reactor: Any) -> Address:
    """Understand ``redis://[USER:PASSWORD@]HOST[:PORT][/DB]`` or ``unix:///PATH[?db=DB]``."""
    parts = urlsplit(url)
    endpoint: IStreamClientEndpoint
    try:
        if parts.scheme == "redis":
            host, port, database = parts.hostname or "localhost", parts.port or 6379, parts.path[1:]
            endpoint, shown = HostnameEndpoint(reactor, host, port), f"redis://{host}:{port}/{database}"
        elif parts.scheme == "unix" and parts.path:
            endpoint, shown = UNIXClientEndpoint(reactor, parts.path), f"unix://{parts.path}"
            database = parse_qs(parts.query).get("db", [""])[-1]
        else:
            raise ValueError("it begins with neither redis:// nor unix:///")
        return Address(
            shown=shown,
            endpoint=endpoint,
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            database=int(database or 0),
        )
    except ValueError as why:
        raise Unopenable(f"a log's address can't be {url.rpartition('@')[2]!r}: {why}")


class Connection:
    """A connection to the server, made again whenever it is lost."""

    def __init__(
        self,
        address: Address,
        reactor: Any,
        patience: float,
        on_ready: Callable[[Any], None] = lambda _: None,
    ) -> None:
        """*patience*: seconds for an answer, else the connection counts as lost."""
        self.redis: Any = None
        """The protocol while the connection is up, else None."""
        self.why = "not connected yet"
        """Why it is not up."""
        self._address = address
        self._reactor = reactor
        self._patience = patience
        self._on_ready = on_ready
        self._waiting: list[Deferred[None]] = []
        self._closed = False
        self._keeping = Deferred.fromCoroutine(self._keep())
        self._keeping.addErrback(lambda _: None)  # cancelled by close

    async def ready(self) -> Any:
        """The protocol, as soon as the connection is up."""
        while self.redis is None:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting
        return self.redis

    def drop(self) -> None:
        """Have it made anew: what is at the other end is of no use now."""
        redis, self.redis = self.redis, None
        if redis is not None:
            redis.transport.abortConnection()

    async def close(self) -> None:
        """End it for good; returns when it is gone."""
        self._closed = True
        self._keeping.cancel()
        await self._keeping
        await deferLater(self._reactor, 0)  # for what the protocol had put off to the next turn

    async def _keep(self) -> None:
        failures = 0
        while not self._closed:
            try:
                await self._connect_once()
                failures = 0
            except Exception as error:  # whatever is wrong, it may be right the next time
                self.why = str(error)
                failures += 1
            if self._closed:
                return
            await deferLater(self._reactor, min(LONGEST_BACKOFF, FIRST_BACKOFF * 2**failures))

    async def _connect_once(self) -> None:
        """Returns when a connection was up and is lost; raises if it did not come up."""
        protocol = Factory.forProtocol(self._protocol)
        redis: Any = await self._address.endpoint.connect(protocol)
        lost = redis.whenDisconnected()
        try:
            if self._address.password is not None:
                user = [self._address.user] if self._address.user else []
                await redis.execute_command("AUTH", *user, self._address.password)
            await redis.select(self._address.database)
            await redis.ping()  # refused while the server still loads its data
            self.redis = redis
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)
            self._on_ready(redis)
            await lost
        finally:
            self.redis, self.why = None, "the connection was lost"
            if redis.connected:
                redis.transport.abortConnection()
                await redis.whenDisconnected()

    def _protocol(self) -> Any:
        return _Protocol(charset=None, convertNumbers=False, replyTimeout=self._patience)


class _Protocol(txredisapi.RedisProtocol):  # type: ignore[misc]  # txredisapi has no types
    """txredisapi's protocol, but that a lost connection is not parsed to its end, one turn for each value."""

    def setLineMode(self, extra: bytes = b"") -> None:
        if self.connected:
            super().setLineMode(extra)
