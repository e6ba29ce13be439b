"""Talk to the application: callbacks, and requests for documents."""

import codecs
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

import treq
from hyperlink import EncodedURL
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, succeed
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

from plivotx.commands import FetchDocument, PostCallback
from plivotx.config import Config
from plivotx.engine import Ticket
from plivotx.events import CallbackDelivered, CallbackFailed, DocumentFailed, DocumentFetched, Event
from plivotx.handlers.signature import prepare, sign
from plivotx.handlers.timers import sleep

USER_AGENT = "plivotx"
AT_ONCE = 64
"""Requests to one host at the same time; further ones wait, so that a slow host delays only itself."""
_ENCODING = re.compile(rb"^\s*<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")


class _TooLarge(Exception):
    """The answer is longer than the configuration allows."""


@implementer(IBodyProducer)
class _Body:
    """A short body, written at once."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length: int | str = len(data)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        """There is nothing to pause."""

    def resumeProducing(self) -> None:
        """There is nothing to resume."""

    def stopProducing(self) -> None:
        """There is nothing to stop."""


class Web:
    """Does `PostCallback` and `FetchDocument`."""

    def __init__(self, client: HTTPClient, clock: IReactorTime, config: Config) -> None:
        self._client = client
        self._clock = clock
        self._config = config
        self._gates: dict[str, DeferredSemaphore] = {}

    async def post_callback(self, command: PostCallback, ticket: Ticket) -> Sequence[Event]:
        """One try to deliver a callback."""
        await sleep(self._clock, command.delay)
        try:
            status, _ = await self._request(command, ticket, f"{command.stream}/{command.delivery}")
        except _FAILURES as error:
            return (CallbackFailed(key=command.delivery, attempt=command.attempt, why=_why(error)),)
        if 200 <= status <= 299:
            return (CallbackDelivered(key=command.delivery, attempt=command.attempt, status=status),)
        return (CallbackFailed(key=command.delivery, attempt=command.attempt, why=f"status {status}"),)

    async def fetch_document(self, command: FetchDocument, ticket: Ticket) -> Sequence[Event]:
        """One try to fetch a document."""
        await sleep(self._clock, command.delay)

        def failed(why: str, *, final: bool = False) -> Sequence[Event]:
            why = f"{command.method} {command.url}: {why}"
            return (DocumentFailed(number=command.number, attempt=command.attempt, why=why, final=final),)

        try:
            status, body = await self._request(command, ticket, f"{command.stream}/document-{command.number}")
        except _TooLarge as error:
            return failed(str(error), final=True)
        except _FAILURES as error:
            return failed(_why(error))
        if not 200 <= status <= 299:
            return failed(f"status {status}")
        try:
            return (DocumentFetched(number=command.number, body=decode_document(body)),)
        except ValueError as error:
            return failed(str(error), final=True)

    async def _request(
        self, command: PostCallback | FetchDocument, ticket: Ticket, delivery: str
    ) -> tuple[int, bytes]:
        prepared = prepare(command.method, command.url, command.params)
        headers = Headers(
            {
                "User-Agent": [USER_AGENT],
                "X-PLIVOTX-DELIVERY": [delivery],
                "X-PLIVOTX-ATTEMPT": [str(command.attempt)],
            }
        )
        if prepared.body is not None:
            headers.setRawHeaders("Content-Type", ["application/x-www-form-urlencoded"])
        if self._config.auth_id and self._config.auth_token:
            signature = sign(self._config.auth_token, prepared.url, prepared.params)
            headers.setRawHeaders("X-PLIVO-SIGNATURE", [signature])
        host = urlsplit(command.url).netloc
        gate = self._gates.setdefault(host, DeferredSemaphore(AT_ONCE))
        await gate.acquire()
        try:
            with ticket.sent():
                return await self._exchange(command.method, prepared.url, headers, prepared.body)
        finally:
            gate.release()
            if gate.tokens == AT_ONCE and not gate.waiting:
                self._gates.pop(host, None)

    async def _exchange(
        self, method: str, url: str, headers: Headers, body: bytes | None
    ) -> tuple[int, bytes]:
        work = Deferred.fromCoroutine(self._converse(method, url, headers, body))
        timer = self._clock.callLater(self._config.http_timeout, work.cancel)
        try:
            return await work
        except CancelledError:
            raise TimeoutError(f"no answer within {self._config.http_timeout:g} s")
        finally:
            if timer.active():
                timer.cancel()

    async def _converse(
        self, method: str, url: str, headers: Headers, body: bytes | None
    ) -> tuple[int, bytes]:
        # The URL goes out as it was given: its text is what is signed.
        response: IResponse = await self._client.request(
            method,
            EncodedURL.from_text(url),
            headers=headers,
            data=None if body is None else _Body(body),
            unbuffered=True,
        )
        received = bytearray()
        limit = self._config.max_document_bytes

        def take(data: bytes) -> None:
            received.extend(data)
            if len(received) > limit:
                raise _TooLarge(f"the answer is longer than {limit} bytes")

        await treq.collect(response, take)
        return response.code, bytes(received)


_FAILURES = (Exception,)
"""Whatever a request may raise is the failure of this one try: a name that does not resolve, a refused
or broken connection, TLS, too many redirects, time."""


def _why(error: BaseException) -> str:
    reasons = getattr(error, "reasons", None)  # ResponseFailed hides what happened
    if reasons:
        error = reasons[0].value
    return str(error) or type(error).__name__


def decode_document(body: bytes) -> str:
    """The text of a document: in the encoding its XML declaration names, else UTF-8.

    Raises ValueError if it is not text in that encoding.
    """
    declared = _ENCODING.match(body)
    encoding = declared[1].decode("ascii") if declared else "utf-8-sig"
    try:
        codec = codecs.lookup(encoding)
        if not codec._is_text_encoding:  # noqa: SLF001 - what bytes.decode itself asks
            raise LookupError
        return body.decode(codec.name)
    except LookupError:
        raise ValueError(f"the answer is in the encoding {encoding}, which is not known")
    except UnicodeError as error:
        raise ValueError(f"the answer is no text: {error}")
