"""The way to the application: connections with limits, TLS that is verified, networks, a proxy.

`make_agent` gives what `plivotx.handlers.http` makes its requests with.  Each connection is made within
HTTP_CONNECT_TIMEOUT, TLS included, and fails if nothing of an answer has come HTTP_FIRST_BYTE_TIMEOUT
after a request.
"""

import ipaddress
import re
import socket
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

from OpenSSL import SSL, crypto
from OpenSSL._util import ffi, lib
from service_identity.exceptions import VerificationError
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, HTTPConnectionPool, ProxyAgent
from twisted.web.error import SchemeNotSupported
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import directlyProvides, implementer, providedBy

from plivotx.config import Config, ConfigError, split_address
from plivotx.config_file import content
from plivotx.waiting import within

KEPT = 64
"""Idle connections kept for each host: as many callbacks as may be out to it at a time."""
KEPT_FOR = 30
"""Seconds for which they are: what lies between us and the application may have forgotten older ones."""
HEAD_BYTES = 65_536
"""Room for the status and the headers of an answer."""
EARLY_BYTES = 4096
"""Room for interim answers (RFC 9110, section 15.2: ``100 Continue`` and its like), which all are passed over."""
_FINAL = re.compile(rb"(?:\A|\n\r?\n)HTTP/\S* [2-9]")
_HEAD_END = re.compile(rb"\n\r?\n")
_LAST = re.compile(
    rb"\s*HTTP/1\.0 (?!.*^connection:[^\n]*keep-alive)", re.DOTALL | re.IGNORECASE | re.MULTILINE
)
"""The head of an answer behind which the connection is closed, without a word of it (RFC 9112, section 9.3)."""
_VISIBLE = re.compile(rb"[!-~]+")
_TUNNEL_BYTES = 16_384
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_TUNNEL_OPEN = re.compile(rb"HTTP/1\.[01] 2[0-9]{2}(?: |\r|$)")


def make_agent(config: Config, reactor: Any) -> IAgent:
    """Everything between a request and the application; raises ConfigError."""
    pool = _Pool(reactor, persistent=True)
    pool.maxPersistentPerHost = KEPT
    pool.cachedConnectionTimeout = KEPT_FOR
    pool.retryAutomatically = False  # each try is counted, named in its headers, and on record
    pool._factory.noisy = False  # noqa: SLF001 - else each connection is two lines in the operator's log
    ways = _Ways(config, reactor)
    agent: _Agent = _Agent.usingEndpointFactory(reactor, ways, pool)
    agent.known = lru_cache(maxsize=128)(ways.known)
    if not config.proxy_url:
        return agent
    return _ByProxy(agent, ProxyAgent(ways.plain(), reactor, pool), config)


class _Pool(HTTPConnectionPool):
    """Twisted's; but it keeps no connection that the other side is about to close: the next request would be lost."""

    def _putConnection(self, key: Any, connection: Any) -> None:  # nothing public is asked
        if connection.transport.last:
            connection.transport.loseConnection()
        else:
            super()._putConnection(key, connection)


class _Agent(Agent):
    """Twisted's; but it takes a URL apart once, which is a tenth of a request: an application has few of them."""

    known: "Callable[[bytes], tuple[URI, IStreamClientEndpoint, bytes]]"

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> "Deferred[IResponse]":
        parsed, endpoint, path = self.known(uri)
        key = (parsed.scheme, parsed.host, parsed.port)
        # Nothing public takes an URI that is parsed already.
        return self._requestWithEndpoint(key, endpoint, method, parsed, headers, bodyProducer, path)


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


@implementer(IAgentEndpointFactory)
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
        self._known = lru_cache(maxsize=128)(self._way)  # else the name is checked anew for each request

    def known(self, url: bytes) -> tuple[URI, IStreamClientEndpoint, bytes]:
        """A URL taken apart, where it leads, and what is asked for there; raises ValueError if it is none."""
        if not _VISIBLE.fullmatch(url):
            raise ValueError(f"no request can be made to {url!r}")
        uri = URI.fromBytes(url)
        return uri, self.endpointForURI(uri), uri.originForm

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return self._known(uri.scheme, uri.host.decode("ascii"), uri.port)

    def _way(self, scheme: bytes, host: str, port: int) -> IStreamClientEndpoint:
        if scheme == b"http":
            return self.plain(host, port)
        if scheme == b"https":
            way = self._tcp(host, port)
            if self._config.proxy_url:
                way = _TunnelEndpoint(way, host, port)
            return _Way(self._config, self._reactor, wrapClientTLS(self._verified(host), way), tls=host)
        raise SchemeNotSupported(f"{scheme.decode('ascii')} is neither http nor https")

    def plain(self, host: str = "", port: int = 0) -> IStreamClientEndpoint:
        """A connection without TLS; to the proxy, if there is one."""
        return _Way(self._config, self._reactor, self._tcp(host, port))

    def _tcp(self, host: str, port: int) -> IStreamClientEndpoint:
        limit = self._config.http_connect_timeout + 1  # `_Way` has the limit for all addresses of the name
        if not self._config.proxy_url:
            return HostnameEndpoint(self._confined, host, port, timeout=limit)
        proxy = self._config.proxy_url.partition("://")[2].rstrip("/")
        return _ProxyEndpoint(HostnameEndpoint(self._reactor, *split_address(proxy), timeout=limit), proxy)


@implementer(IStreamClientEndpoint)
class _Way:
    """Connects, TLS included, within its time."""

    def __init__(self, config: Config, clock: Any, endpoint: IStreamClientEndpoint, *, tls: str = "") -> None:
        self._config = config
        self._clock = clock
        self._endpoint = endpoint
        self._tls = tls

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":
        limit = self._config.http_connect_timeout
        connecting = Deferred.fromCoroutine(self._connect(protocolFactory))
        why = f"no connection within {limit:g} s (HTTP_CONNECT_TIMEOUT)"
        return Deferred.fromCoroutine(within(self._clock, limit, connecting, why))

    async def _connect(self, protocolFactory: IProtocolFactory) -> IProtocol:
        wrapping = _Connections(protocolFactory, self._config, self._clock, self._tls)
        connection: Any = await self._endpoint.connect(wrapping)
        try:
            await connection.ready
        except Exception:
            connection.abortConnection()
            raise
        return cast("IProtocol", connection.wrappedProtocol)


class _Connections(WrappingFactory):
    """Makes the connections of one way."""

    noisy = False

    def __init__(self, factory: IProtocolFactory, config: Config, clock: Any, tls: str) -> None:
        super().__init__(factory)
        self.config = config
        self.clock = clock
        self.tls = tls

    def buildProtocol(self, addr: IAddress | None) -> "_Connection":
        return _Connection(self, self.wrappedFactory.buildProtocol(addr))


class Insecure(Exception):
    """TLS could not be agreed on, or the host has not shown that it is the one that was asked for."""


class TooLong(Exception):
    """More has come than an answer may have."""


@implementer(IHandshakeListener)
class _Connection(ProtocolWrapper):
    """What HTTP is spoken over: knows when it is ready, and when an answer is too slow or too long."""

    factory: _Connections

    def __init__(self, factory: Any, wrapped: IProtocol) -> None:
        super().__init__(factory, wrapped)
        self.ready: Deferred[None] = Deferred()
        """Fires when HTTP may begin."""
        self.last = False
        """Whether no other answer can come."""
        self._waiting: IDelayedCall | None = None
        self._most = HEAD_BYTES + 8 * factory.config.max_document_bytes  # a body may come byte by byte
        self._read = 0
        self._head: bytearray | None = None  # until all of it has come
        self._why: Failure | None = None

    def makeConnection(self, transport: Any) -> None:
        super().makeConnection(transport)
        if not self.factory.tls:
            self.ready.callback(None)

    def handshakeCompleted(self) -> None:
        if not self.ready.called:
            self.ready.callback(None)

    def pauseProducing(self) -> None:
        """An answer is read at once, and is not longer than it may be."""

    def write(self, data: bytes) -> None:
        self._begin()
        super().write(data)

    def writeSequence(self, data: Any) -> None:
        self._begin()
        super().writeSequence(data)

    def _begin(self) -> None:
        if self._waiting is None:
            limit = self.factory.config.http_first_byte_timeout
            why = f"no beginning of an answer within {limit:g} s (HTTP_FIRST_BYTE_TIMEOUT)"
            self._read = 0
            self._head = bytearray()
            self._waiting = self.factory.clock.callLater(limit, self._fail, TimeoutError(why))

    def dataReceived(self, data: bytes) -> None:
        self._wait_no_more()
        self._read += len(data)
        why = self._too_long(data)
        if why:
            self._fail(TooLong(why))
        elif self._why is None:
            super().dataReceived(data)

    def _too_long(self, data: bytes) -> str:
        """What has become too long with *data*; empty if nothing has."""
        if self._read > self._most:
            return f"the answer is longer than {self._most} bytes, headers included"
        if self._head is None:
            return ""
        self._head += data
        final = _FINAL.search(self._head)
        begin = final.start() if final else len(self._head)
        if begin > EARLY_BYTES:
            return f"more than {EARLY_BYTES} bytes have come, and no beginning of a final answer"
        end = _HEAD_END.search(self._head, final.end()) if final else None
        if (end.end() if end else len(self._head)) - begin > HEAD_BYTES:
            return f"the headers of the answer are longer than {HEAD_BYTES} bytes"
        if end:
            self.last = _LAST.match(self._head, begin, end.end()) is not None
            self._head = None
        return ""

    def loseConnection(self) -> None:
        super().loseConnection()
        if self.factory.tls:  # which would wait for the other side to say goodbye
            cast("Any", self.transport).transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._wait_no_more()
        reason = self._why or self._in_words(reason)
        if not self.ready.called:
            self.ready.errback(reason)
        super().connectionLost(reason)

    def _fail(self, error: Exception) -> None:
        self._waiting = None
        self._why = Failure(error)
        self.abortConnection()

    def _in_words(self, reason: Failure) -> Failure:
        """*reason*, in words if TLS has failed."""
        if reason.check(VerificationError):
            return Failure(Insecure(f"certificate verify failed: it is not one for {self.factory.tls}"))
        if not reason.check(SSL.Error):
            return reason
        errors: Any = reason.value
        said = ", ".join(str(each[-1]) for each in errors.args[0]) or "TLS failed"
        # pyOpenSSL has no public name for what was wrong with the certificate.
        result = lib.SSL_get_verify_result(self.getHandle()._ssl)  # noqa: SLF001 - it is shown nowhere else
        if result:
            said += f": {ffi.string(lib.X509_verify_cert_error_string(result)).decode('ascii')}"
        return Failure(Insecure(said))

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


# -- the proxy -------------------------------------------------------------------------------------


class ProxyFailed(Exception):
    """The proxy cannot be reached, or does not do what it is asked."""


@implementer(IAgent)
class _ByProxy:
    """Sends what is for http to the proxy, and what is for https through it."""

    def __init__(self, through: IAgent, to: IAgent, config: Config) -> None:
        self._through = through
        self._to = to
        self._config = config

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> "Deferred[IResponse]":
        parsed = URI.fromBytes(uri)
        try:
            check(self._config, parsed.host.decode("ascii"))
        except Outside:
            return fail()
        agent = self._to if parsed.scheme == b"http" else self._through
        return agent.request(method, uri, headers, bodyProducer)


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
