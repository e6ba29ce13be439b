"""The HTTP API: who may ask, what is asked, and the answer.  docs/api.md tells it to its users.

Refused parameters are answered with status 200 and ``Success: false``, as the clients of this API
expect.  401 stands for wrong credentials or a wrong address, 404 for a call that is not on record, 413 for a
body that is too large, 503 for a log that cannot be written or read now: nothing was accepted, try again.
Every answer is a JSON object, but for that of ``/`` and for a body that is cut off while it comes.
"""

import hmac
import json
import re
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import lru_cache
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes
from uuid import UUID, uuid5

import multipart
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import HTTPChannel, Request, combinedLogFormatter, datetimeToLogString
from twisted.web.iweb import IAccessLogFormatter
from werkzeug.exceptions import HTTPException
from zope.interface import implementer, provider

from plivotx.config import Config, is_within
from plivotx.engine import NoSuchCall, NothingToHangUp, NothingToRenew
from plivotx.events import CallRequested
from plivotx.log.interface import Conflict, Log, Refused, Unreadable, Unwritable
from plivotx.projections.record import news, record
from plivotx.rest.forms import BadForm, Check, bad, call_requested, hangup_wanted, misspelt
from plivotx.rest.queries import calls_wanted, cursor_text, once, record_wanted, shown

log = Logger()

MAX_BODY = 1024 * 1024
MAX_DISCARDED = 8 * MAX_BODY
"""Bytes of a body that is too large which are still read, so that the client gets to hear of it."""
MAX_FIELDS = 200
PATIENCE = 60
"""Seconds for a request to come as a whole, and for the next one to begin."""
MAX_TRIES = 5
"""To record a request whose key is taken and free in turn."""
HANGUP_CAUSE = "NORMAL_CLEARING"
"""Of a call that a client hangs up."""
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
KEYS = UUID("c3a4d1f0-5b7e-4c39-9d0e-6a5f0b1c2d3e")
"""The namespace of the namespaces, one for each AUTH_ID, of the names that clients give their requests."""


class Api:
    """The endpoints.

    *accept* records a request and fires once it is durable; *renew* has callbacks sent again that were given
    up, the one with the key or all, and gives their keys; *hang_up* has a call ended (`plivotx.engine.Engine`).
    """

    app = Klein()

    def __init__(
        self,
        config: Config,
        accept: Callable[[CallRequested], Deferred[int]],
        check: Check,
        new_uuid: Callable[[], str],
        log: Log,
        renew: Callable[[str, str], Awaitable[tuple[str, ...]]],
        hang_up: Callable[..., Awaitable[None]],
    ) -> None:
        self._config = config
        self._accept = accept
        self._check = check
        self._new_uuid = new_uuid
        self._log = log
        self._renew = renew
        self._hang_up = hang_up
        self.busy = 0
        """Requests that wait for the log."""

    @app.route("/v0.1/Call/", methods=["POST"], strict_slashes=False)
    async def call(self, request: Request) -> bytes:
        """Make a call."""
        refusal = self._refusal(request)
        if refusal:
            return _answer(request, False, refusal, status=401)
        self.busy += 1
        try:
            key = _key(request)
            given = fields(request)
            for name, meant in misspelt(given):
                log.warn(
                    "a call was asked for with {name}, which means nothing; {meant} does",
                    name=name,
                    meant=meant,
                )
            if key is None:
                event, replayed = call_requested(given, self._new_uuid(), self._check), False
                await self._accept(event)
            else:
                event, replayed = await self._once(given, self._named(key), key)
            if replayed:
                request.setHeader(b"idempotent-replayed", b"true")
        except BadForm as error:
            return _answer(request, False, str(error))
        except (Unwritable, Unreadable, Refused) as error:
            log.error("a call was not accepted: {error}", error=error)
            message = "The call was not accepted: the event log cannot be written now"
            return _answer(request, False, message, status=503)
        finally:
            self.busy -= 1
        return _answer(request, True, "Call Request Executed", request_uuid=event.request_uuid)

    def _named(self, key: str) -> str:
        """The RequestUUID of what this client calls *key*."""
        return str(uuid5(uuid5(KEYS, self._config.auth_id), key))

    async def _once(self, given: Mapping[str, str], uuid: str, key: str) -> tuple[CallRequested, bool]:
        """Have the request on record; returns it, and whether it was there already under the same key.

        Raises BadForm if it is refused or another one has the key, and what the log raises.
        """
        for _ in range(MAX_TRIES):
            try:
                event = call_requested(given, uuid, self._check)
                await self._accept(event)
            except (BadForm, Conflict) as error:
                recorded = await self._log.read(uuid)
                if recorded:  # whatever may be dialled by now: it was accepted then
                    event = call_requested(given, uuid, _anything)
                    if recorded[0].event == event:
                        return event, True
                    raise bad("Idempotency-Key", key, "came with other parameters before") from None
                if isinstance(error, BadForm):
                    raise
                # else: it was forgotten between the two, and the key is free again
            else:
                return event, False
        raise Conflict(f"call {uuid} comes and goes")

    @app.route("/v0.1/HangupCall/", methods=["POST"], strict_slashes=False)
    async def hangup_call(self, request: Request) -> bytes:
        """End a call, wherever it stands."""
        refusal = self._refusal(request)
        if refusal:
            return _answer(request, False, refusal, status=401)
        self.busy += 1
        try:
            request_uuid, call_uuid = hangup_wanted(fields(request))
            await self._hang_up(HANGUP_CAUSE, stream=request_uuid, channel=call_uuid)
        except BadForm as error:
            return _told(request, False, str(error))
        except (NoSuchCall, NothingToHangUp):
            return _told(request, False, "Hangup Call Failed")
        except (Unwritable, Unreadable, Refused) as error:
            log.error("a call is not hung up: {error}", error=error)
            message = "The call is not hung up: the event log cannot be written now"
            return _told(request, False, message, status=503)
        finally:
            self.busy -= 1
        return _told(request, True, "Hangup Call Executed")

    @app.route("/v0.1/Calls/", methods=["GET"], strict_slashes=False)
    async def calls(self, request: Request) -> bytes:
        """List calls."""
        refusal = self._refusal(request)
        if refusal:
            return _answer(request, False, refusal, status=401)
        try:
            wanted, limit = calls_wanted(query(request))
            rows = await self._log.calls(wanted, limit + 1)
        except BadForm as error:
            return _listed(request, False, str(error), [], None)
        except Unreadable as error:
            return _unreadable(request, error)
        following = cursor_text(rows[limit - 1].cursor) if len(rows) > limit else None
        return _listed(request, True, "Call List Executed", [shown(each) for each in rows[:limit]], following)

    @app.route("/v0.1/Calls/<uuid>/", methods=["GET"], strict_slashes=False)
    async def one_call(self, request: Request, uuid: str) -> bytes:
        """Show what is on record of a call, or what is new of it."""
        refusal = self._refusal(request)
        if refusal:
            return _answer(request, False, refusal, status=401)
        try:
            recorded = await self._log.read(uuid)
            if not recorded:
                return _unknown(request, uuid)
            after = record_wanted(query(request), recorded[-1].version)
        except BadForm as error:
            return _answer(request, False, str(error))
        except Unreadable as error:
            return _unreadable(request, error)
        call = record(uuid, recorded) if after is None else news(recorded, after)
        return _answer(request, True, "Call Record Executed", request_uuid=uuid, Call=call)

    @app.route("/v0.1/Calls/<uuid>/Resend/", methods=["POST"], strict_slashes=False)
    async def resend(self, request: Request, uuid: str) -> bytes:
        """Have callbacks sent again that were given up."""
        refusal = self._refusal(request)
        if refusal:
            return _answer(request, False, refusal, status=401)
        self.busy += 1
        try:
            key = once(fields(request).items(), ("Key",)).get("Key", "")
            keys = await self._renew(uuid, key)
        except (BadForm, NothingToRenew) as error:
            return _answer(request, False, str(error))
        except NoSuchCall:
            return _unknown(request, uuid)
        except (Unwritable, Unreadable, Refused) as error:
            log.error("callbacks of call {uuid!r} are not sent again: {error}", uuid=uuid, error=error)
            message = "Nothing is sent again: the event log cannot be written now"
            return _answer(request, False, message, status=503)
        finally:
            self.busy -= 1
        return _answer(request, True, "Resend Executed", request_uuid=uuid, Callbacks=keys)

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
        if config.allowed_ips and not is_within(_peer(request.getClientAddress()), config.allowed_ips):
            return "IP Auth Failed"
        return ""


def _anything(request: CallRequested) -> None:
    """The check of a request that was accepted before."""


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


def query(request: Request) -> Iterator[tuple[str, str]]:
    """The parameters of the URL, in order.  Raises BadForm: text that is not UTF-8, too many of them."""
    return _urlencoded(request.uri.partition(b"?")[2], "query")


def _key(request: Request) -> str | None:
    """The name that the client gives its request; None if it gives none.  Raises BadForm for a bad one."""
    given = request.requestHeaders.getRawHeaders(b"idempotency-key")
    if given is None:
        return None
    key = b", ".join(given).decode("latin-1")
    if len(given) > 1 or not re.fullmatch(r"[ -~]{1,255}", key):
        raise bad("Idempotency-Key", key, "is not one header of 1 to 255 printable ASCII characters")
    return key


def _urlencoded(text: bytes, what: str = "body") -> Iterator[tuple[str, str]]:
    if text.count(b"&") >= MAX_FIELDS:
        raise BadForm(f"The {what} has more than {MAX_FIELDS} fields")
    for piece in filter(None, text.replace(b"+", b" ").split(b"&")):
        before, _, after = piece.partition(b"=")
        name = _text(_unquoted(before))
        yield name, _text(_unquoted(after), name)


def _unquoted(text: bytes) -> bytes:
    return unquote_to_bytes(text) if b"%" in text else text


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
                yield part.name, _text(part.raw, part.name)
    except multipart.MultipartError as error:
        raise BadForm(f"The body is no form: {error}") from None


def _text(value: bytes, name: str | None = None) -> str:
    """The value of the field with this *name*; without one it is itself the name of a field."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        what = "The name of a field" if name is None else ascii(name)[:80]
        raise BadForm(f"{what} is not UTF-8") from None


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
    request: Request, success: bool, message: str, status: int = 200, request_uuid: str = "", **more: Any
) -> bytes:
    answer = {"Success": success, "Message": message, "RequestUUID": request_uuid, **more}
    return _json(request, answer, status)


def _told(request: Request, success: bool, message: str, status: int = 200) -> bytes:
    return _json(request, {"Success": success, "Message": message}, status)


def _listed(
    request: Request, success: bool, message: str, calls: list[dict[str, Any]], following: str | None
) -> bytes:
    return _json(request, {"Success": success, "Message": message, "Calls": calls, "Next": following})


def _unknown(request: Request, uuid: str) -> bytes:
    return _answer(request, False, f"There is no call {uuid[:80]!a} on record", status=404)


def _unreadable(request: Request, error: Unreadable) -> bytes:
    log.error("the event log cannot be read: {error}", error=error)
    return _answer(request, False, "The event log cannot be read now", status=503)


def _json(request: Request, answer: dict[str, Any], status: int = 200) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json")
    if status == 401:
        request.setHeader(b"www-authenticate", b'Basic realm="plivotx"')
    if status == 503:
        request.setHeader(b"retry-after", b"5")
    return json.dumps(answer).encode() + b"\n"


class _Request(server.Request):
    """Leaves the body alone, which is for `fields` to read, but limits it while it comes in."""

    whole = False
    """Whether all of it has come."""
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
        self.whole = True
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


@implementer(IHalfCloseableProtocol)
class _Channel(HTTPChannel):
    """What a connection needs beyond Twisted's.

    The time-out counts for a whole request: for Twisted it begins anew with each byte, and so never ends.  A client
    that closes its own side alone is answered what it has asked; with TLS there is no such thing.
    """

    _coming = False
    _no_more = False

    def resetTimeout(self) -> None:
        """Something has come."""
        if not self._coming:
            super().resetTimeout()  # type: ignore[no-untyped-call]  # Twisted's
        self._coming = True

    def setTimeout(self, period: float | None) -> Any:
        """A request has come as a whole, or was answered."""
        self._coming = False
        return super().setTimeout(period)  # type: ignore[no-untyped-call]  # Twisted's

    def readConnectionLost(self) -> None:
        """Nothing more will come."""
        self._no_more = True
        self._end()

    def writeConnectionLost(self) -> None:
        """Nothing more can be said."""
        self.loseConnection()  # type: ignore[no-untyped-call]  # Twisted's

    def requestDone(self, request: Request) -> None:
        """An answer is complete; the next request that has come is begun."""
        super().requestDone(request)  # type: ignore[no-untyped-call]  # Twisted's
        self._end()

    def _end(self) -> None:
        """Close, if nothing more comes and nothing that has come is without its answer."""
        if self._no_more and not any(each.whole for each in self.requests):
            self.loseConnection()  # type: ignore[no-untyped-call]  # Twisted's


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
    return str(combinedLogFormatter(_log_time(int(time.time())), request))


@lru_cache(maxsize=1)
def _log_time(second: int) -> str:
    """How a moment of the epoch stands in the access log; the same for all requests of one second."""
    return str(datetimeToLogString(second))


def site(api: Api) -> server.Site:
    """The server side of the API, with its limits."""
    made = server.Site(api.app.resource(), requestFactory=_Request, timeout=PATIENCE, logFormatter=_access)
    made.protocol = _Channel  # type: ignore[assignment]  # Twisted's own is a wrapper for HTTP/2 around the same
    made.displayTracebacks = False
    return made
