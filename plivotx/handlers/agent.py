"""The way to the application: connections with limits, TLS that is verified, networks, a proxy.

`make_agent` gives what `plivotx.handlers.http` makes its requests with.  Each connection is made within
HTTP_CONNECT_TIMEOUT, TLS included, and fails if nothing of an answer has come HTTP_FIRST_BYTE_TIMEOUT
after a request.
"""

import ipaddress
import re
import socket
from functools import lru_cache
from typing import Any, cast
from urllib.parse import urlsplit

from OpenSSL import crypto
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import directlyProvides, implementer, providedBy

from plivotx.config import Config, ConfigError, split_address
from plivotx.config_file import content
from plivotx.handlers.exchange import Connection
from plivotx.waiting import within

_URL = re.compile(rb"(https?)://([!\"$-.0->@-~]+)([!\"$-~]*)(?:#[!-~]*)?")
"""Scheme, host with port, and path with query."""
_TUNNEL_BYTES = 16_384
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_TUNNEL_OPEN = re.compile(rb"HTTP/1\.[01] 2[0-9]{2}(?: |\r|$)")


def make_agent(config: Config, reactor: Any) -> IAgent:
    """Everything between a request and the application; raises ConfigError."""
    return _Agent(_Ways(config, reactor))


@implementer(IAgent)
class _Agent:
    """Makes requests over connections that are kept; each goes out once, for each try is on record."""

    def __init__(self, ways: "_Ways") -> None:
        self._ways = ways

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> "Deferred[IResponse]":
        found = _URL.fullmatch(uri)
        if found is None:
            return fail(ValueError(f"no request can be made to {uri.decode('latin-1')!a}"))
        scheme, netloc, target = found.groups()
        try:
            way, before, host = self._ways.to(scheme, netloc)
        except (Outside, ValueError):
            return fail()
        if not target.startswith(b"/"):
            target = b"/" + target
        lines = [b"%b %b%b HTTP/1.1\r\nHost: %b\r\n" % (method, before, target, host)]
        if headers is not None:
            lines += [
                b"%b: %b\r\n" % (name, each) for name, all_ in headers.getAllRawHeaders() for each in all_
            ]
        if bodyProducer is not None or method == b"POST":
            lines.append(b"Content-Length: %d\r\n" % (bodyProducer.length if bodyProducer else 0))
        lines.append(b"\r\n")
        head = b"".join(lines)
        connection = way.kept()
        if connection is not None:
            return connection.ask(head, bodyProducer)
        return way.connection().addCallback(lambda made: made.ask(head, bodyProducer))


def trusted(config: Config) -> Any:
    """The certificates that https is verified with; raises ConfigError."""
    if not config.http_ca_file:
        return platformTrust()
    why = "holds no certificate (PEM)"
    try:
        found = _CERTIFICATE.findall(content(config.http_ca_file))
        if found:
            return trustRootFromCertificates([Certificate.loadPEM(each) for each in found])
    except OSError as error:
        why = error.strerror or str(error)
    except ValueError as error:
        why = str(error)
    except crypto.Error:
        why = "holds a certificate that cannot be read"
    raise ConfigError(f"HTTP_CA_FILE = {config.http_ca_file!r}: {why}")


# -- networks --------------------------------------------------------------------------------------


class Outside(Exception):
    """An address to which no request may go."""


def check(config: Config, host: str) -> None:
    """Raise Outside if *host* is an address to which nothing may go; a name is not looked up."""
    host = host.rstrip(".")  # 127.0.0.1. is one too, for some who look names up
    try:
        address = str(ipaddress.ip_address(host))
    except ValueError:
        try:  # 127.1, 0x7f000001 and 2130706433 are the same one for whoever looks a name up
            address = socket.inet_ntoa(socket.inet_aton(host))
        except (OSError, UnicodeError):
            return
    why = config.may_ask(address)
    if why:
        raise Outside(why)


class _Confined:
    """A reactor that connects within networks only.

    It is asked when a name has been resolved, for the very address, so no name can lead elsewhere.
    """

    def __init__(self, reactor: Any, config: Config) -> None:
        self._reactor = reactor
        self._config = config
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def connectTCP(self, host: str, *args: Any, **more: Any) -> Any:
        """Connect, if that is allowed."""
        check(self._config, host)
        return self._reactor.connectTCP(host, *args, **more)


# -- connections -----------------------------------------------------------------------------------


class _Ways:
    """How each URL's host is reached."""

    def __init__(self, config: Config, reactor: Any) -> None:
        self._config = config
        self._reactor = reactor
        self._confined = _Confined(reactor, config)
        trust = trusted(config)

        @lru_cache(maxsize=128)  # reading the system's certificates takes a while
        def verified(host: str) -> IOpenSSLClientConnectionCreator:
            return optionsForClientTLS(host, trustRoot=trust)

        self._verified = verified
        self._proxy = self._way(self._tcp("", 0)) if config.proxy_url else None
        self.to = lru_cache(maxsize=128)(
            self._to
        )  # with its connections; and a name is not checked each time

    def _to(self, scheme: bytes, netloc: bytes) -> "tuple[_Way, bytes, bytes]":
        """The way, what stands before the path in the first line of a request, and the Host header.

        Raises Outside, and ValueError if there is no such port.
        """
        parts = urlsplit(f"//{netloc.decode('ascii')}")
        usual = 80 if scheme == b"http" else 443
        host, port = parts.hostname or "", parts.port or usual
        named = netloc.removesuffix(b":%d" % usual)
        if self._config.proxy_url:
            check(self._config, host)
        if self._proxy is not None and scheme == b"http":
            return self._proxy, b"http://" + netloc, named
        tcp = self._tcp(host, port)
        if scheme == b"http":
            return self._way(tcp), b"", named
        if self._config.proxy_url:
            tcp = _TunnelEndpoint(tcp, host, port)
        return self._way(wrapClientTLS(self._verified(host), tcp), tls=host), b"", named

    def _way(self, endpoint: IStreamClientEndpoint, *, tls: str = "") -> "_Way":
        return _Way(self._config, self._reactor, endpoint, tls)

    def _tcp(self, host: str, port: int) -> IStreamClientEndpoint:
        limit = self._config.http_connect_timeout + 1  # `_Way` has the limit for all addresses of the name
        if not self._config.proxy_url:
            return HostnameEndpoint(self._confined, host, port, timeout=limit)
        proxy = self._config.proxy_url.partition("://")[2].rstrip("/")
        return _ProxyEndpoint(HostnameEndpoint(self._reactor, *split_address(proxy), timeout=limit), proxy)


class _Way(Factory):
    """Connects, TLS included, within its time; has the connections that nobody uses now."""

    noisy = False

    def __init__(self, config: Config, clock: Any, endpoint: IStreamClientEndpoint, tls: str) -> None:
        self._config = config
        self._clock = clock
        self._endpoint = endpoint
        self._tls = tls
        self._idle: list[Connection] = []

    def kept(self) -> Connection | None:
        """A connection that can be used again, if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    def connection(self) -> "Deferred[Connection]":
        """A new connection."""
        limit = self._config.http_connect_timeout
        connecting = Deferred.fromCoroutine(self._connect())
        why = f"no connection within {limit:g} s (HTTP_CONNECT_TIMEOUT)"
        return Deferred.fromCoroutine(within(self._clock, limit, connecting, why))

    async def _connect(self) -> Connection:
        protocol: Any = await self._endpoint.connect(self)
        made = cast("Connection", protocol)
        try:
            await made.ready
        except Exception:
            protocol.transport.abortConnection()
            raise
        return made

    def buildProtocol(self, addr: IAddress | None) -> Connection:
        del addr
        return Connection(self._clock, self._config, self._idle, self._tls)


# -- the proxy -------------------------------------------------------------------------------------


class ProxyFailed(Exception):
    """The proxy cannot be reached, or does not do what it is asked."""


@implementer(IStreamClientEndpoint)
class _ProxyEndpoint:
    """Connects to the proxy, and says so if that fails."""

    def __init__(self, endpoint: IStreamClientEndpoint, name: str) -> None:
        self._endpoint = endpoint
        self._name = name

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":
        def failed(failure: Failure) -> IProtocol:
            raise ProxyFailed(f"the proxy {self._name}: {failure.getErrorMessage()}")

        return self._endpoint.connect(protocolFactory).addErrback(failed)


@implementer(IStreamClientEndpoint)
class _TunnelEndpoint:
    """Connects to a host through the proxy."""

    def __init__(self, proxy: IStreamClientEndpoint, host: str, port: int) -> None:
        self._proxy = proxy
        self._target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, protocolFactory: IProtocolFactory) -> IProtocol:
        tunnel: Any = await self._proxy.connect(_Tunnels(protocolFactory, self._target))
        try:
            await tunnel.opened
        except Exception:
            tunnel.abortConnection()
            raise
        return cast("IProtocol", tunnel.wrappedProtocol)


class _Tunnels(WrappingFactory):
    """Makes the tunnels to one host."""

    noisy = False

    def __init__(self, factory: IProtocolFactory, target: str) -> None:
        super().__init__(factory)
        self.target = target

    def buildProtocol(self, addr: IAddress | None) -> "_Tunnel":
        return _Tunnel(self, self.wrappedFactory.buildProtocol(addr))


class _Tunnel(ProtocolWrapper):
    """A connection to the proxy that becomes one to the host (RFC 9110, section 9.3.6)."""

    factory: _Tunnels

    def __init__(self, factory: Any, wrapped: IProtocol) -> None:
        super().__init__(factory, wrapped)
        self.opened: Deferred[None] = Deferred()
        self._open = False
        self._head = b""

    def makeConnection(self, transport: Any) -> None:
        directlyProvides(self, providedBy(transport))
        Protocol.makeConnection(self, transport)
        self.factory.registerProtocol(self)
        target = self.factory.target
        transport.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode("ascii"))

    def dataReceived(self, data: bytes) -> None:
        if self._open:
            super().dataReceived(data)
            return
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if len(head) > _TUNNEL_BYTES:
            self._refuse(f"its answer is longer than {_TUNNEL_BYTES} bytes")
        elif end and not _TUNNEL_OPEN.match(head):
            self._refuse(ascii(head.partition(b"\r\n")[0][:200].decode("latin-1")))
        elif end and not self.opened.called:
            self._open = True
            self.wrappedProtocol.makeConnection(cast("ITransport", self))
            self.opened.callback(None)
            if rest:
                super().dataReceived(rest)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._open:
            super().connectionLost(reason)
            return
        self.factory.unregisterProtocol(self)
        self._refuse(reason.getErrorMessage())

    def _refuse(self, why: str) -> None:
        if not self.opened.called:
            said = f"the proxy opens no tunnel to {self.factory.target}: {why}"
            self.opened.errback(ProxyFailed(said))
