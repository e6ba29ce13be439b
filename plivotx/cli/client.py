"""How the command-line client asks a server: where it is, who asks, and what the answer means.

One connection for each request, straight to the server: no proxy, and no redirect is followed, so the
credentials reach nobody else.
"""

import http.client
import json
import re
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from plivotx.config import Config, split_address

DEFAULT_URL = "http://127.0.0.1:8088"
MAX_ANSWER = 64 * 1024 * 1024
"""Bytes; a page of a thousand calls has less than one million."""
PATIENCE = 4
"""An answer must have come as a whole within so many times the time-out of a step."""
FORM = "application/x-www-form-urlencoded"


class Trouble(Exception):
    """A command did not do what was asked; *answer* is what ``--json`` prints, *code* the exit code."""

    code = 1

    prefix = "plivotx: "
    """Of what is said about it; empty where the message begins with a place, as editors look for it."""

    def __init__(self, message: str, answer: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.answer = answer or {"Success": False, "Message": message}


class Failed(Trouble):
    """The server refused what was asked, or could not do it."""


class Wrong(Failed):
    """Something is wrong at a place in a file."""

    prefix = ""


class Misused(Trouble):
    """The command line cannot be understood."""

    code = 2


class Unreachable(Trouble):
    """No server answers there, or it cannot answer now."""

    code = 3


class Denied(Trouble):
    """The server does not take these credentials, or not from this address."""

    code = 4


class Settings(msgspec.Struct, frozen=True):
    """Where the server is, and who asks."""

    url: str = DEFAULT_URL
    user: str = ""
    token: str = ""
    cafile: str = ""
    timeout: float = 30.0
    """Seconds for each step of a request."""


Transport: TypeAlias = Callable[[str, str, bytes | None, Mapping[str, str]], tuple[int, bytes]]
"""Makes one request (method, path with query, body, headers); gives status and body, or raises Unreachable."""


def of_config(config: Config) -> tuple[str, str, str]:
    """URL, user and token by which the server with this configuration is asked from its own host."""
    host, port = split_address(config.http_address)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - nothing is bound here
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if config.ssl else 'http'}://{host}:{port}", config.auth_id, config.auth_token


class Http:
    """The transport over the network."""

    def __init__(self, settings: Settings) -> None:
        """Take note of where the server is.  Raises Misused for what is no URL of a server."""
        self._settings = settings
        try:
            parts = urlsplit(settings.url)
            port = parts.port
        except ValueError as error:
            raise Misused(f"{settings.url!a} is no URL: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Misused(f"{settings.url!a} is no URL of a server: http://host:port or https://host:port")
        if parts.username is not None or parts.query or parts.fragment:
            raise Misused(
                f"{parts.scheme}://{parts.hostname}: no credentials, query or fragment belong there"
            )
        self._host, self._port, self._tls = parts.hostname, port, parts.scheme == "https"
        self._base = parts.path.rstrip("/").removesuffix("/v0.1")

    def __call__(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        connection = self._connection()
        limit = _Limit(PATIENCE * self._settings.timeout)
        try:
            with limit:
                connection.connect()
                limit.connected = connection.sock
                connection.request(method, self._base + path, body, dict(headers))
                response = connection.getresponse()
                content = _whole(response)
        except (OSError, http.client.HTTPException) as error:
            why = _reason(TimeoutError() if limit.reached else error)
            raise Unreachable(f"{self._settings.url} cannot be reached: {why}") from None
        finally:
            connection.close()
        if len(content) > MAX_ANSWER:
            raise Unreachable(f"{self._settings.url} answers with more than {MAX_ANSWER} bytes")
        return response.status, content

    def _connection(self) -> http.client.HTTPConnection:
        timeout = self._settings.timeout
        if not self._tls:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        try:
            context = ssl.create_default_context(cafile=self._settings.cafile or None)
        except (OSError, ssl.SSLError) as error:
            raise Misused(f"--cafile {self._settings.cafile} holds no certificates: {error}") from None
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=context)


class _Limit:
    """Cuts a connection off that has not answered in so many *seconds*.

    The time-out of a socket begins anew with each byte, and http.client reads status lines (100) and
    headers for as long as any come.
    """

    def __init__(self, seconds: float) -> None:
        self.connected: socket.socket | None = None
        self.reached = False
        self._timer = threading.Timer(seconds, self._cut_off)
        self._timer.daemon = True

    def _cut_off(self) -> None:
        self.reached = True
        if self.connected is not None:
            with suppress(OSError):  # it was lost in this moment
                # Below TLS, whose reader may be at work.
                socket.socket.shutdown(self.connected, socket.SHUT_RDWR)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        if self.reached:
            raise TimeoutError


def _whole(response: http.client.HTTPResponse) -> bytes:
    """The body, at most one byte more than `MAX_ANSWER`."""
    content = bytearray()
    while len(content) <= MAX_ANSWER and (piece := response.read1(64 * 1024)):
        content += piece
    if response.length:
        raise http.client.IncompleteRead(bytes(content[:80]), response.length)
    return bytes(content)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError | socket.timeout):
        return "it did not answer in time"
    return str(error) or type(error).__name__


class Client:
    """Asks one server."""

    def __init__(self, settings: Settings, transport: Transport | None = None) -> None:
        self._settings = settings
        self._transport = transport or Http(settings)

    def get(self, path: str, params: Mapping[str, str] = {}) -> dict[str, Any]:
        """The answer to a GET.  Raises what `_meaning` does."""
        query = f"?{urlencode(params)}" if params else ""
        return self._ask("GET", path + query, None, {})

    def post(self, path: str, params: Mapping[str, str], **headers: str) -> dict[str, Any]:
        """The answer to a POST; in the names of *headers* ``_`` stands for ``-``."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._ask("POST", path, urlencode(params).encode(), {"Content-Type": FORM, **more})

    def record(self, request_uuid: str) -> dict[str, Any]:
        """What is on record of one call."""
        return self._one(request_uuid, {})

    def news(self, request_uuid: str, after: int) -> dict[str, Any]:
        """Where one call stands (``State``), and its ``Timeline`` after version *after*."""
        return self._one(request_uuid, {"After": str(after)})

    def _one(self, request_uuid: str, params: Mapping[str, str]) -> dict[str, Any]:
        answer = self.get(f"/v0.1/Calls/{quote(request_uuid, safe='')}/", params)
        if not isinstance(answer.get("Call"), dict):
            raise Unreachable(f"{self._settings.url} answers without a call; is it a plivotx?")
        call: dict[str, Any] = answer["Call"]
        return call

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> dict[str, Any]:
        sent = {"Accept": "application/json", "User-Agent": "plivotx-cli", **headers}
        if self._settings.user or self._settings.token:
            pair = f"{self._settings.user}:{self._settings.token}".encode()
            sent["Authorization"] = f"Basic {b64encode(pair).decode()}"
        status, content = self._transport(method, path, body, sent)
        return self._meaning(status, content)

    def _meaning(self, status: int, content: bytes) -> dict[str, Any]:
        """The answer, if it is one that says yes.  Raises Failed, Denied or Unreachable."""
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict) or not isinstance(answer.get("Success"), bool):
            said = ascii(re.sub(r"\s+", " ", content[:80].decode("utf-8", "replace")))
            raise Unreachable(f"{self._settings.url} is no plivotx: status {status}, {said}")
        message = str(answer.get("Message", ""))
        if status == 401:
            raise Denied(f"{self._settings.url} does not let you in: {message}", answer)
        if status >= 500:
            raise Unreachable(f"{self._settings.url} cannot answer now: {message}", answer)
        if not answer["Success"]:
            raise Failed(message, answer)
        if not _is_shaped(answer):
            raise Unreachable(f"{self._settings.url} answers as no plivotx does")
        return answer


def _is_shaped(answer: Mapping[str, Any]) -> bool:
    """Whether the calls and events in an answer are lists of objects, as far as there are any."""
    call = answer.get("Call")
    lists = [answer.get("Calls", []), call.get("Timeline", []) if isinstance(call, dict) else []]
    return all(isinstance(each, list) and all(isinstance(one, dict) for one in each) for each in lists)
