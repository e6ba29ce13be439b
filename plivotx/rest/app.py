"""The HTTP API: who may ask, what is asked, and the answer.

Refused parameters are answered with status 200 and ``Success: false``, as the clients of this API
expect.  401 stands for wrong credentials or a wrong address, 413 for a body that is too large, 503 for
a log that cannot be written now: nothing was accepted, try again.  Every answer is a JSON object.
"""

import hmac
import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from io import BytesIO
from urllib.parse import unquote_to_bytes

import multipart
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import Request, combinedLogFormatter, datetimeToLogString
from twisted.web.iweb import IAccessLogFormatter
from werkzeug.exceptions import HTTPException
from zope.interface import provider

from plivotx.config import Config, within
from plivotx.events import CallRequested
from plivotx.log.interface import Refused, Unwritable
from plivotx.rest.forms import BadForm, Check, call_requested

log = Logger()

MAX_BODY = 1024 * 1024
MAX_DISCARDED = 8 * MAX_BODY
"""Bytes of a body that is too large which are still read, so that the client gets to hear of it."""
MAX_FIELDS = 200
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"


class Api:
    """The endpoints.  *accept* records a request and fires once it is durable."""

    app = Klein()

    def __init__(
        self,
        config: Config,
        accept: Callable[[CallRequested], Deferred[int]],
        check: Check,
        new_uuid: Callable[[], str],
    ) -> None:
        self._config = config
        self._accept = accept
        self._check = check
        self._new_uuid = new_uuid
        self.busy = 0
        """Requests that wait for the log."""

    @app.route("/v0.1/Call/", methods=["POST"], strict_slashes=False)
    async def call(self, request: Request) -> bytes:
        """Make a call."""
        refusal = self._refusal(request)
        if refusal:
            return _answer(request, False, refusal, status=401)
        try:
            event = call_requested(fields(request), self._new_uuid(), self._check)
        except BadForm as error:
            return _answer(request, False, str(error))
        self.busy += 1
        try:
            await self._accept(event)
        except (Unwritable, Refused) as error:
            log.error("a call was not accepted: {error}", error=error)
            message = "The call was not accepted: the event log cannot be written now"
            return _answer(request, False, message, status=503)
        finally:
            self.busy -= 1
        return _answer(request, True, "Call Request Executed", request_uuid=event.request_uuid)

    @app.route("/", methods=["GET"])
    def index(self, request: Request) -> bytes:
        """Say who answers."""
        refusal = self._refusal(request)
        if refusal:
            return _answer(request, False, refusal, status=401)
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        return b"plivotx\n"

    @app.handle_errors(HTTPException)  # type: ignore[arg-type]  # Klein means an interface of Request
    def no_such_thing(self, request: Request, failure: Failure) -> bytes:
        """Say that there is no such path, or no such method for it."""
        refusal = self._refusal(request)
        if refusal:
            return _answer(request, False, refusal, status=401)
        error = failure.value
        assert isinstance(error, HTTPException)
        for name, value in error.get_headers():
            if name == "Allow":
                request.setHeader(b"allow", value.encode("ascii"))
        return _answer(request, False, error.name, status=error.code or 500)

    def _refusal(self, request: Request) -> str:
        """Why this client may not ask; empty if it may."""
        config = self._config
        if config.auth_id and config.auth_token:
            given = _basic(_header(request, b"authorization"))
            wanted = f"{config.auth_id}:{config.auth_token}".encode()
            if not hmac.compare_digest(given, wanted):
                return "HTTP Auth Failed"
        if config.allowed_ips and not within(_peer(request.getClientAddress()), config.allowed_ips):
            return "IP Auth Failed"
        return ""


def fields(request: Request) -> dict[str, str]:
    """The fields of the body; of a repeated one the first.  The query of the URL does not count.

    Raises BadForm: another content type, text that is not UTF-8, too many fields.
    """
    kind, options = multipart.parse_options_header(_header(request, b"content-type") or FORM)
    assert request.content is not None
    body = request.content.read()
    if kind == FORM:
        pairs = _urlencoded(body)
    elif kind == MULTIPART:
        pairs = _multipart(body, options.get("boundary", ""))
    else:
        raise BadForm(f"The body must be {FORM} or {MULTIPART}, not {kind[:80]!a}")
    found: dict[str, str] = {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found


def _urlencoded(body: bytes) -> Iterator[tuple[str, str]]:
    if body.count(b"&") >= MAX_FIELDS:
        raise BadForm(f"The body has more than {MAX_FIELDS} fields")
    for piece in filter(None, body.replace(b"+", b" ").split(b"&")):
        name, _, value = (unquote_to_bytes(each) for each in piece.partition(b"="))
        yield _text("The name of a field", name), _text(ascii(name.decode("utf-8", "replace")), value)


def _multipart(body: bytes, boundary: str) -> Iterator[tuple[str, str]]:
    parser = multipart.MultipartParser(
        BytesIO(body),
        boundary,
        charset="utf-8",
        strict=True,
        part_limit=MAX_FIELDS,
        spool_limit=MAX_BODY,  # more is not there, and nothing goes into files
        memory_limit=MAX_BODY,
    )
    try:
        for part in parser:
            if not part.filename:
                yield part.name, _text(ascii(part.name), part.raw)
    except multipart.MultipartError as error:
        raise BadForm(f"The body is no form: {error}") from None


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise BadForm(f"{name[:80]} is not UTF-8") from None


def _header(request: Request, name: bytes) -> str:
    """The value of a header; whatever bytes it holds, for Twisted fails with those that are not UTF-8."""
    return (request.getHeader(name) or b"").decode("latin-1")


def _basic(header: str) -> bytes:
    """``id:token`` out of an Authorization header; empty if it is none of the kind."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return b64decode(encoded.strip(), validate=True)
    except ValueError:
        return b""


def _peer(address: IAddress) -> str:
    return str(getattr(address, "host", ""))


def _answer(
    request: Request, success: bool, message: str, status: int = 200, request_uuid: str = ""
) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json")
    if status == 401:
        request.setHeader(b"www-authenticate", b'Basic realm="plivotx"')
    if status == 503:
        request.setHeader(b"retry-after", b"5")
    return json.dumps({"Success": success, "Message": message, "RequestUUID": request_uuid}).encode()


class _Request(server.Request):
    """Leaves the body alone, which is for `fields` to read, but limits it while it comes in."""

    _size = 0
    _cut_off = False

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()
        waits = self.requestHeaders.hasHeader(b"expect")  # for leave to send: then it reads what we say
        if length is not None and length > (MAX_BODY if waits else MAX_DISCARDED):
            self.requestHeaders.removeHeader(b"expect")
            self._cut()

    def handleContentChunk(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= MAX_BODY:
            assert self.content is not None
            self.content.write(data)
        elif self._size > MAX_DISCARDED and not self._cut_off:
            self._cut()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if self._cut_off:
            return
        assert self.content is not None
        self.content.seek(0)
        self.method, self.uri, self.clientproto = command, path, version
        self.path = path.partition(b"?")[0]
        self.args = {}
        if self._size > MAX_BODY:
            self._end(413, f"The body is longer than {MAX_BODY} bytes")
        elif not _is_utf8(unquote_to_bytes(self.path)):
            self._end(400, "The path is not UTF-8")
        else:
            self.process()  # type: ignore[no-untyped-call]  # Twisted's

    def getRequestHostname(self) -> bytes:
        """Any name will do: no path depends on it, and Klein fails with a Host header that holds none."""
        return b"plivotx"

    def processingFailed(self, reason: Failure) -> Failure:
        """Log what a handler raised, and keep it out of the answer."""
        log.failure("answering {method} {path} failed", reason, method=self.method, path=self.path)
        self._end(500, "Internal Server Error")
        return reason

    def _end(self, status: int, message: str) -> None:
        body = _answer(self, False, message, status)
        self.responseHeaders.setRawHeaders(b"content-length", [str(len(body)).encode()])
        self.write(body)  # type: ignore[no-untyped-call]  # Twisted's
        self.finish()  # type: ignore[no-untyped-call]  # Twisted's

    def _cut(self) -> None:
        """Answer and close at once; what the client still sends may make it miss the answer."""
        self._cut_off = True
        assert self.channel.transport is not None
        self.channel.transport.write(
            b"HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        self.channel.loseConnection()


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


@provider(IAccessLogFormatter)
def _access(timestamp: str, request: Request) -> str:
    """A line of the access log; the *timestamp* is of the reactor's clock, which may be no wall clock."""
    del timestamp
    return str(combinedLogFormatter(datetimeToLogString(), request))


def site(api: Api) -> server.Site:
    """The server side of the API, with its limits."""
    made = server.Site(api.app.resource(), requestFactory=_Request, timeout=60, logFormatter=_access)
    made.displayTracebacks = False
    return made
