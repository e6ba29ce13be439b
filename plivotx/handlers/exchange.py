"""HTTP/1.1 over one connection, as a client speaks it: a request, its answer, the next request (RFC 9112).

Twisted's own client can do more, and takes three times as long for it: a call makes at least three requests.
What is here is what those need: a request that is written at once, and an answer with limits of time and length.
"""

import re
from collections.abc import Mapping
from typing import Any

from OpenSSL import SSL
from OpenSSL._util import ffi, lib
from service_identity.exceptions import VerificationError
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IHandshakeListener,
    IProtocol,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

# Twisted has no public name for either, and a second reader of chunks would be a second set of mistakes.
from twisted.web.http import PotentialDataLoss, _ChunkedTransferDecoder, _MalformedChunkedDataError
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer, IClientRequest, IResponse
from zope.interface import implementer

from plivotx.config import Config

KEPT = 64
"""Idle connections kept for each host: as many callbacks as may be out to it at a time."""
KEPT_FOR = 30
"""Seconds for which they are: what lies between us and the application may have forgotten older ones."""
HEAD_BYTES = 65_536
"""Room for the status and the headers of an answer."""
EARLY_BYTES = 4096
"""Room for interim answers (RFC 9110, section 15.2: ``100 Continue`` and its like), which all are passed over."""
_STATUS = re.compile(rb"HTTP/([0-9])\.([0-9]) ([1-9][0-9]{2})(?: ([^\r\n]*))?")
_FINAL = re.compile(rb"HTTP/[0-9]\.[0-9] [2-9]")
_HEAD_END = re.compile(rb"\n\r?\n")
_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""What the name of a header is made of (RFC 9110, section 5.6.2)."""
_DONE = Failure(ResponseDone())


class Insecure(Exception):
    """TLS could not be agreed on, or the host has not shown that it is the one that was asked for."""


class NoHttp(Exception):
    """What has come is no answer."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the answer is no HTTP: {why}")


class TooLong(Exception):
    """More has come than an answer may have."""


@implementer(IResponse)
class Response:
    """An answer, once its headers are there."""

    request: IClientRequest | None = None
    previousResponse: IResponse | None = None
    length: Any = UNKNOWN_LENGTH

    def __init__(
        self, connection: "Connection", status: re.Match[bytes], fields: Mapping[bytes, list[bytes]]
    ) -> None:
        self.version = (b"HTTP", int(status[1]), int(status[2]))
        self.code = int(status[3])
        self.phrase = status[4] or b""
        self.fields = fields
        """The headers by name, in lower case."""
        self._connection = connection
        self._reader: IProtocol | None = None
        self._come = b""
        self._end: Failure | None = None

    @property
    def headers(self) -> Headers:
        """The same as Twisted has them."""
        return Headers(self.fields)

    def setPreviousResponse(self, response: IResponse) -> None:
        """Keep what has led here."""
        self.previousResponse = response

    def deliverBody(self, protocol: IProtocol) -> None:
        """Give *protocol* what has come of the body, and all that comes; it can let go of the connection."""
        self._reader = protocol
        protocol.makeConnection(self)  # type: ignore[arg-type]  # all of a transport that is left to it
        if self._come:
            protocol.dataReceived(self._come)
        if self._end is not None:
            protocol.connectionLost(self._end)

    def loseConnection(self) -> None:
        """Let go of the connection, unless it serves another request by now."""
        if self._end is None:
            self._connection.let_go()

    def came(self, data: bytes) -> None:
        """Take a piece of the body."""
        if self._reader is None:
            self._come += data
        else:
            self._reader.dataReceived(data)

    def ended(self, reason: Failure) -> None:
        """Nothing more will come."""
        self._end = reason
        if self._reader is not None:
            self._reader.connectionLost(reason)


@implementer(IHandshakeListener)
class Connection(Protocol):
    """Knows when it is ready for a request, and when an answer is too slow or too long.

    It is with TLS if *tls* names the host.  While it could be used it is among the *idle* ones.
    """

    def __init__(self, clock: IReactorTime, config: Config, idle: list["Connection"], tls: str) -> None:
        self.ready: Deferred[None] = Deferred()
        """Fires when HTTP may begin."""
        self.usable = True
        """Whether it is neither closed nor about to be."""
        self._clock = clock
        self._config = config
        self._idle = idle
        self._tls = tls
        self._most = HEAD_BYTES + 8 * config.max_document_bytes  # a body may come byte by byte
        self._answered: Deferred[IResponse] | None = None
        self._response: Response | None = None  # whose body is coming
        self._why: Failure | None = None
        self._timer: IDelayedCall | None = None
        self._deadline: float | None = None
        self._read = 0
        self._early = 0
        self._head = b""
        self._left: int | None = None  # of the body; without a number it ends with the connection
        self._chunks: _ChunkedTransferDecoder | None = None
        self._again = False

    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        if not self._tls:
            self.ready.callback(None)

    def handshakeCompleted(self) -> None:
        if not self.ready.called:
            self.ready.callback(None)

    def ask(self, head: bytes, body: IBodyProducer | None) -> Deferred[IResponse]:
        """Make a request; one that is cancelled is not answered any more."""
        transport: Any = self.transport
        answered: Deferred[IResponse] = Deferred(self._forget)
        self._answered = answered
        self._read = self._early = 0
        self._watch(self._config.http_first_byte_timeout)
        transport.write(head)
        if body is not None:
            consumer: IConsumer = transport
            body.startProducing(consumer)
        return answered

    def _forget(self, answered: Deferred[IResponse]) -> None:
        del answered
        self._answered = None
        self._abort()

    def dataReceived(self, data: bytes) -> None:
        if not self.usable:
            return
        self._deadline = None
        self._read += len(data)
        try:
            if self._read > self._most:
                raise TooLong(f"the answer is longer than {self._most} bytes, headers included")
            if self._response is not None:
                self._body(self._response, data)
            elif self._answered is not None:
                self._begin(self._answered, data)
            else:
                self.let_go()  # nothing was asked
        except (NoHttp, TooLong) as error:
            self._fail(error)

    def _begin(self, answered: Deferred[IResponse], data: bytes) -> None:
        """The status and the headers, or a piece of them."""
        start = max(0, len(self._head) - 3)
        head = self._head + data
        while (end := _HEAD_END.search(head, start)) and not _FINAL.match(head):
            _parsed(head[: end.start()])
            self._early += end.end()
            head = head[end.end() :]
            start = 0
        final = _FINAL.match(head)
        if self._early + (0 if final else len(head)) > EARLY_BYTES:
            raise TooLong(f"more than {EARLY_BYTES} bytes have come, and no beginning of a final answer")
        if (end.end() if end else len(head)) > HEAD_BYTES:
            raise TooLong(f"the headers of the answer are longer than {HEAD_BYTES} bytes")
        if end is None:
            self._head = head
            line, newline, _ = head.partition(b"\n")
            if newline:
                _status(line.removesuffix(b"\r"))
            return
        self._head = b""
        status, fields = _parsed(head[: end.start()])
        response = Response(self, status, fields)
        self._expect(response)
        self._answered = None
        self._response = response
        try:
            self._body(response, head[end.end() :])
        except (NoHttp, TooLong) as error:
            self._fail(error)
        answered.callback(response)

    def _expect(self, response: Response) -> None:
        """Find out how long the body is, and whether another answer may follow (RFC 9112, sections 6.3 and 9.3)."""
        fields = response.fields
        self._again = response.version >= (b"HTTP", 1, 1) and not (
            b"connection" in fields and b"close" in b",".join(fields[b"connection"]).lower()
        )
        self._chunks = None
        if response.code in (204, 304):
            self._left = 0
        elif b"transfer-encoding" in fields:
            encoding = b",".join(fields[b"transfer-encoding"])
            if encoding.lower() != b"chunked":
                raise NoHttp(f"Transfer-Encoding: {_shown(encoding)}")
            self._chunks = _ChunkedTransferDecoder(response.came, self._done)
        elif b"content-length" in fields:
            self._left = response.length = _length(fields[b"content-length"])
        else:
            self._left = None
            self._again = False

    def _body(self, response: Response, data: bytes) -> None:
        if self._chunks is not None:
            try:
                self._chunks.dataReceived(data)
            except _MalformedChunkedDataError as error:
                raise NoHttp(str(error))
        elif self._left is None:
            response.came(data)
        else:
            piece = data[: self._left]
            self._left -= len(piece)
            if piece:
                response.came(piece)
            if not self._left:
                self._done(data[len(piece) :])

    def _done(self, more: bytes) -> None:
        """The answer is whole; *more* than that nobody has asked for."""
        response = self._response
        if response is None:  # its reader has let go of the connection
            return
        self._response = None
        if self._again and self.usable and not more and len(self._idle) < KEPT:
            self._idle.append(self)
            self._watch(KEPT_FOR)
        else:
            self.let_go()
        response.ended(_DONE)

    def let_go(self) -> None:
        """Close."""
        self.usable = False
        transport: Any = self.transport
        transport.loseConnection()
        if self._tls:  # which would wait for the other side to say goodbye
            transport.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.usable = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self in self._idle:
            self._idle.remove(self)
        reason = self._why or self._in_words(reason)
        answered, self._answered = self._answered, None
        response, self._response = self._response, None
        if not self.ready.called:
            self.ready.errback(reason)
        if answered is not None:
            answered.errback(reason)
        if response is not None:
            whole = self._why is None and self._chunks is None and self._left is None
            response.ended(Failure(PotentialDataLoss()) if whole else reason)

    def _fail(self, error: Exception) -> None:
        self._why = Failure(error)
        self._abort()

    def _abort(self) -> None:
        self.usable = False
        transport: Any = self.transport
        transport.abortConnection()

    # Most deadlines are put off or met long before they come, so one timer is enough, and is seldom set.

    def _watch(self, seconds: float) -> None:
        """Have a look after so many *seconds*, unless something happens."""
        self._deadline = self._clock.seconds() + seconds
        if self._timer is None:
            self._timer = self._clock.callLater(seconds, self._look)
        elif self._timer.getTime() > self._deadline:
            self._timer.reset(seconds)

    def _look(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        left = self._deadline - self._clock.seconds()
        if left > 0:
            self._timer = self._clock.callLater(left, self._look)
        elif self._answered is None:
            self.let_go()
        else:
            limit = self._config.http_first_byte_timeout
            why = f"no beginning of an answer within {limit:g} s (HTTP_FIRST_BYTE_TIMEOUT)"
            self._fail(TimeoutError(why))

    def _in_words(self, reason: Failure) -> Failure:
        """*reason*, in words if TLS has failed."""
        if reason.check(VerificationError):
            return Failure(Insecure(f"certificate verify failed: it is not one for {self._tls}"))
        if not reason.check(SSL.Error):
            return reason
        errors: Any = reason.value
        said = ", ".join(str(each[-1]) for each in errors.args[0]) or "TLS failed"
        # pyOpenSSL has no public name for what was wrong with the certificate.
        transport: Any = self.transport
        result = lib.SSL_get_verify_result(transport.getHandle()._ssl)  # noqa: SLF001 - it is shown nowhere else
        if result:
            said += f": {ffi.string(lib.X509_verify_cert_error_string(result)).decode('ascii')}"
        return Failure(Insecure(said))


def _parsed(head: bytes) -> tuple[re.Match[bytes], dict[bytes, list[bytes]]]:
    """The first line, and the headers by name in lower case; raises NoHttp."""
    first, *lines = head.removesuffix(b"\r").replace(b"\r\n", b"\n").split(b"\n")
    status = _status(first)
    fields: dict[bytes, list[bytes]] = {}
    values: list[bytes] = []
    for line in lines:
        if line[0] in b" \t" and values:
            values[-1] = b" ".join(
                (values[-1], line.strip())
            ).strip()  # as it was written long ago (RFC 9112, section 5.2)
            continue
        name, colon, value = line.partition(b":")
        if not colon or not name or name.translate(None, _TOKEN):
            raise NoHttp(f"the header {_shown(line)}")
        values = fields.setdefault(name.lower(), [])
        values.append(value.strip())
    return status, fields


def _status(line: bytes) -> re.Match[bytes]:
    found = _STATUS.fullmatch(line)
    if found is None:
        raise NoHttp(f"it begins with {_shown(line)}")
    return found


def _length(values: list[bytes]) -> int:
    """What Content-Length says, maybe several times the same (RFC 9110, section 8.6)."""
    said = b",".join(values)
    found = {each.strip() for each in said.split(b",")}
    (one, *others) = found
    if others or not re.fullmatch(rb"[0-9]{1,18}", one):
        raise NoHttp(f"Content-Length: {_shown(said)}")
    return int(one)


def _shown(text: bytes) -> str:
    return ascii(text[:200].decode("latin-1"))
