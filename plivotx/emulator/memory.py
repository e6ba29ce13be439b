"""A network in memory: client protocols talk to a switch through delayed, ordered, perhaps broken-up writes.

Everything is driven by the clock and by one Random, so that with the same seed the same bytes arrive at the same times.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import (
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from plivotx.emulator.switch import Switch

Way = Literal["client", "switch"]
"""Where bytes go to."""


def run(clock: Clock, seconds: float) -> None:
    """Let a test's clock run: from one timer exactly to the next.

    `clock.advance` over several timers calls the later ones of a chain late, which adds up.
    """
    until = clock.seconds() + seconds
    while clock.seconds() < until:
        due = clock.calls[0].getTime() if clock.calls else until  # they are sorted
        clock.advance(max(min(due, until) - clock.seconds(), 1e-9))


class Network:
    """The way to a switch."""

    def __init__(self, clock: IReactorTime, switch: Switch, *, seed: int = 0) -> None:
        self.clock = clock
        self.switch = switch
        self.rng = random.Random(seed)  # noqa: S311 - dice of a simulation
        self.latency = 0.0005
        """Seconds that a write needs."""
        self.chunked = False
        """Split writes in random pieces."""
        self.refusing = False
        """Connections are refused."""
        self.links: list[Link] = []
        """Those that are up."""
        self._ports = 40000

    def endpoint(self) -> IStreamClientEndpoint:
        """Where clients connect to."""
        return _Endpoint(self)

    def connect(self, client: Protocol) -> Link:
        """Connect a client protocol at once."""
        self._ports += 1
        link = Link(self, self._ports, client, self.switch.protocol())
        self.links.append(link)
        link.open()
        return link


@implementer(IStreamClientEndpoint)
class _Endpoint:
    def __init__(self, network: Network) -> None:
        self._network = network

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Connect what the factory builds; fails with ConnectionRefusedError while the network refuses."""
        if self._network.refusing:
            return fail(Failure(error.ConnectionRefusedError()))
        client = protocolFactory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 8021))
        if client is None:
            return fail(Failure(error.ConnectionRefusedError()))
        self._network.connect(client)
        return succeed(client)


@dataclass
class _Piece:
    """Bytes on their way, or the end of the stream (None)."""

    due: float
    data: bytearray | None


class Link:
    """One connection: two transports, and what is on its way between them."""

    def __init__(self, network: Network, port: int, client: Protocol, server: Protocol) -> None:
        self._network = network
        here, there = IPv4Address("TCP", "127.0.0.1", port), IPv4Address("TCP", "127.0.0.1", 8021)
        self._ends: dict[Way, _Transport] = {
            "client": _Transport(self, "client", client, here, there),
            "switch": _Transport(self, "switch", server, there, here),
        }
        self._flying: dict[Way, deque[_Piece]] = {"client": deque(), "switch": deque()}
        self._held: set[Way] = set()
        self._up = True

    @property
    def up(self) -> bool:
        """Whether both ends still have it."""
        return self._up

    def open(self) -> None:
        """Give both protocols their transports."""
        for end in self._ends.values():
            end.protocol.makeConnection(end)

    def drop(self, reason: Exception | None = None) -> None:
        """Break the connection: both ends learn of it, and of what was in flight towards the client some may arrive."""
        if not self._up:
            return
        flying = b"".join(piece.data for piece in self._flying["client"] if piece.data is not None)
        if flying and "client" not in self._held:
            # the cut may fall into the middle of a frame
            self._flying["client"].clear()
            self._arrive("client", flying[: self._network.rng.randrange(len(flying) + 1)])
        self._end(reason or error.ConnectionLost(), reason or error.ConnectionLost())

    def close(self) -> None:
        """Close it in an orderly way, as if the switch did: what was written arrives first."""
        self._ends["switch"].loseConnection()

    def stall(self, way: Way = "client") -> None:
        """Hold bytes towards one end back; neither end notices."""
        self._held.add(way)

    def resume(self, way: Way = "client") -> None:
        """Deliver what was held back."""
        self._held.discard(way)
        flying, self._flying[way] = self._flying[way], deque()
        for piece in flying:
            self._arrive(way, piece.data)

    # --- the transports' side

    def carry(self, to: Way, data: bytes) -> None:
        """Take bytes that one end wrote; they arrive in order after the latency."""
        if not self._up or not data:
            return
        if not self._network.chunked:
            self._send(to, data)
            return
        rng = self._network.rng
        cuts = sorted(rng.sample(range(1, len(data)), min(rng.randrange(4), len(data) - 1)))
        for start, end in pairwise([0, *cuts, len(data)]):
            self._send(to, data[start:end])

    def finish(self, to: Way) -> None:
        """The end of the stream towards one end: it comes behind what was written."""
        if self._up:
            self._send(to, None)

    def abort(self, by: Way) -> None:
        """One end throws the connection away."""
        if by == "client":
            self._end(error.ConnectionAborted(), error.ConnectionLost())
        else:
            self._end(error.ConnectionLost(), error.ConnectionAborted())

    def _send(self, to: Way, data: bytes | None) -> None:
        network, flying = self._network, self._flying[to]
        due = network.clock.seconds() + network.latency
        last = flying[-1] if flying else None
        if data is not None and last is not None and last.data is not None:
            if last.due == due and not network.chunked:
                last.data += data  # written in one go, it arrives in one go
                return
        flying.append(_Piece(due, None if data is None else bytearray(data)))
        network.clock.callLater(network.latency, self._due, to)

    def _due(self, to: Way) -> None:
        if to not in self._held and self._flying[to]:
            self._arrive(to, self._flying[to].popleft().data)

    def _arrive(self, to: Way, data: bytes | bytearray | None) -> None:
        if not self._up:
            return
        if data is None:
            self._end(error.ConnectionDone(), error.ConnectionDone())
        elif not self._ends[to].disconnecting:
            self._ends[to].protocol.dataReceived(bytes(data))

    def _end(self, for_client: Exception, for_switch: Exception) -> None:
        if not self._up:
            return
        self._up = False
        for flying in self._flying.values():
            flying.clear()
        if self in self._network.links:
            self._network.links.remove(self)
        for end, reason in zip(self._ends.values(), (for_client, for_switch), strict=True):
            end.connected = False
            end.protocol.connectionLost(Failure(reason))


@implementer(ITCPTransport, IPushProducer)
class _Transport:
    """One end of a link."""

    def __init__(
        self, link: Link, way: Way, protocol: Protocol, host: IPv4Address, peer: IPv4Address
    ) -> None:
        self._link = link
        self._way: Way = way
        self._other: Way = "client" if way == "switch" else "switch"
        self.protocol = protocol
        self._host = host
        self._peer = peer
        self.connected = True
        self.disconnecting = False

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if self.connected and not self.disconnecting:
            self._link.carry(self._other, bytes(data))

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send pieces of bytes."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close when all is written."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self._link.finish(self._other)

    def abortConnection(self) -> None:
        """Close at once."""
        self.disconnecting = True
        self._link.abort(self._way)

    def loseWriteConnection(self) -> None:
        """Half closing does not exist here."""
        self.loseConnection()

    def getPeer(self) -> IPv4Address:
        """The other end's address."""
        return self._peer

    def getHost(self) -> IPv4Address:
        """This end's address."""
        return self._host

    def getTcpNoDelay(self) -> bool:
        """Nothing is delayed."""
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """No-op."""

    def getTcpKeepAlive(self) -> bool:
        """No-op."""
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """No-op."""

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """No-op."""

    def unregisterProducer(self) -> None:
        """No-op."""

    def pauseProducing(self) -> None:
        """No-op."""

    def resumeProducing(self) -> None:
        """No-op."""

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()
