"""The HTTP API: who may ask, what is asked, and the answer.

Refused parameters are answered with status 200 and ``Success: false``, as the clients of this API
expect.  401 stands for wrong credentials or a wrong address, 413 for a body that is too large, 503 for
a log that cannot be written now: nothing was accepted, try again.
"""

import hmac
import json
from base64 import b64decode
from collections.abc import Callable
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

import multipart
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.web import server
from twisted.web.http import Request

from plivotx.config import Config
from plivotx.events import CallRequested
from plivotx.log.interface import Refused, Unwritable
from plivotx.rest.forms import BadForm, Check, call_requested

log = Logger()

MAX_BODY = 1024 * 1024
MAX_FIELDS = 200
FORM = "application/x-www-form-urlencoded"


class Api:
    """The endpoints.  *accept* records a request and fires once it is durable."""

    app = Klein()

    def __init__(
        self,
        config: Config,
        accept: Callable[[CallRequested], Deferred[int]],
        check: Check,
        new_uuid: Callable[[], str] = lambda: str(uuid4()),
    ) -> None:
        self._config = config
        self._accept = accept
        self._check = check
        self._new_uuid = new_uuid

    @app.route("/v0.1/Call/", methods=["POST"])
    async def call(self, request: Request) -> bytes:
        """Make a call."""
        refusal = self._refusal(request)
        if refusal:
            return _answer(request, False, refusal, status=401)
        try:
            event = call_requested(fields(request), self._new_uuid(), self._check)
        except BadForm as error:
            return _answer(request, False, str(error), RequestUUID="")
        try:
            await self._accept(event)
        except (Unwritable, Refused) as error:
            log.error("a call was not accepted: {error}", error=error)
            message = "The call was not accepted: the event log cannot be written now"
            return _answer(request, False, message, status=503, RequestUUID="")
        return _answer(request, True, "Call Request Executed", RequestUUID=event.request_uuid)

    @app.route("/", methods=["GET"])
    def index(self, request: Request) -> bytes:
        """Say who answers."""
        refusal = self._refusal(request)
        if refusal:
            return _answer(request, False, refusal, status=401)
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        return b"plivotx\n"

    def _refusal(self, request: Request) -> str:
        """Why this client may not ask; empty if it may."""
        config = self._config
        if config.auth_id and config.auth_token:
            given = _basic(request.getHeader("authorization") or "")
            wanted = f"{config.auth_id}:{config.auth_token}".encode()
            if not hmac.compare_digest(given, wanted):
                return "HTTP Auth Failed"
        if config.allowed_ips and _peer(request.getClientAddress()) not in config.allowed_ips:
            return "IP Auth Failed"
        return ""


def fields(request: Request) -> dict[str, str]:
    """The fields of the body; of a repeated one the first.  The query of the URL does not count.

    Raises BadForm: another content type, text that is not UTF-8, too many fields.
    """
    kind, options = multipart.parse_options_header(request.getHeader("content-type") or FORM)
    assert request.content is not None
    body = request.content.read()
    found: dict[str, str] = {}
    try:
        if kind == FORM:
            pairs = parse_qsl(
                body.decode("utf-8"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=MAX_FIELDS,
            )
        elif kind == "multipart/form-data":
            parser = multipart.MultipartParser(
                BytesIO(body), options.get("boundary", ""), charset="utf-8", strict=True
            )
            pairs = [(part.name, part.value) for part in parser if not part.filename]
        else:
            raise BadForm(f"The body must be {FORM} or multipart/form-data, not {kind[:80]}")
    except UnicodeDecodeError as error:
        raise BadForm(f"The body is not UTF-8: {_culprit(body)}{error.reason}") from None
    except (multipart.MultipartError, ValueError) as error:
        raise BadForm(f"The body is no form: {error}") from None
    for name, value in pairs:
        found.setdefault(name, value)
    return found


def _culprit(body: bytes) -> str:
    """The name of the first field that is not UTF-8, as far as it can be told."""
    for piece in body.split(b"&"):
        name, _, _ = piece.partition(b"=")
        try:
            parse_qsl(piece.decode("utf-8"), keep_blank_values=True, errors="strict")
        except UnicodeDecodeError:
            return name[:80].decode("ascii", "replace") + ": "
    return ""


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
    return str(getattr(address, "host", "")).removeprefix("::ffff:")


def _answer(request: Request, success: bool, message: str, status: int = 200, **more: Any) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json")
    if status == 401:
        request.setHeader(b"www-authenticate", b'Basic realm="plivotx"')
    if status == 503:
        request.setHeader(b"retry-after", b"5")
    return json.dumps({"Success": success, "Message": message, **more}).encode()


class _Request(server.Request):
    """Refuses a body that is too large while it comes in."""

    _refused = False

    def gotLength(self, length: int | None) -> None:
        wanted = min(length, MAX_BODY) if length is not None else None
        super().gotLength(wanted)  # type: ignore[no-untyped-call]  # Twisted's
        if length is not None and length > MAX_BODY:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        if not self._refused and self.content and self.content.tell() + len(data) > MAX_BODY:
            self._refuse()  # chunked: nobody had said how much would come
        if not self._refused:
            super().handleContentChunk(data)  # type: ignore[no-untyped-call]  # Twisted's

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if not self._refused:
            super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]  # Twisted's

    def _refuse(self) -> None:
        self._refused = True
        assert self.channel.transport is not None
        self.channel.transport.write(
            b"HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        self.channel.loseConnection()


def site(api: Api) -> server.Site:
    """The server side of the API, with its limits."""
    made = server.Site(api.app.resource(), requestFactory=_Request, timeout=60)
    made.displayTracebacks = False
    return made
