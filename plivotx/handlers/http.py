"""Talk to the application: callbacks, and requests for documents."""

import codecs
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, succeed
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from plivotx.commands import FetchDocument, PostCallback
from plivotx.config import Config
from plivotx.engine import Ticket
from plivotx.events import CallbackDelivered, CallbackFailed, DocumentFailed, DocumentFetched, Event, Pairs
from plivotx.handlers.signature import prepare, sign
from plivotx.waiting import sleep, within

USER_AGENT = b"plivotx"
AT_ONCE = 64
"""Requests to one host at the same time; further ones wait, so that a slow host delays only itself."""
IGNORED_BYTES = 16_384
"""How much is read of an answer whose status says it all, so that its connection can be used again."""
LONGEST_WHY = 500
"""Characters of a reason: it goes into the log with each try, and may quote what was answered."""
_ENCODING = re.compile(rb"^\s*<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")
_NO_ENCODING = {"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "utf-7"}
"""What Python has among its text encodings and nobody writes a document in."""


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


class _Reader(Protocol):
    """Reads an answer; lets go of the connection once there is too much, or nobody wants it any more."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.data = bytearray()
        self.complete: Deferred[bool] = Deferred(lambda _: self._let_go())
        """Fires with whether that was all; fails if the connection broke before."""

    def dataReceived(self, data: bytes) -> None:
        if self.complete.called:
            return
        self.data += data
        if len(self.data) > self._limit:
            self._let_go()
            self.complete.callback(False)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.complete.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.complete.callback(True)
        else:
            self.complete.errback(reason)

    def _let_go(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


class _Answer(NamedTuple):
    status: int
    body: bytes
    complete: bool
    """Whether the body is all there; one that is too long is cut."""


class Web:
    """Does `PostCallback` and `FetchDocument`.

    Whatever a request raises is the failure of this one try: a name that does not resolve, a refused or
    broken connection, TLS, too many redirects, time.

    It stands on the bare agent, not on a client with cookies: what one call's application sets must not go
    along with another call, and the URL goes out as it was given, for its text is what is signed.
    """

    def __init__(self, agent: IAgent, clock: IReactorTime, config: Config) -> None:
        self._agent = agent
        self._clock = clock
        self._config = config
        self._too_late = f"no whole answer within {config.http_timeout:g} s (HTTP_TIMEOUT)"
        self._gates: dict[str, DeferredSemaphore] = {}

    async def post_callback(self, command: PostCallback, ticket: Ticket) -> Sequence[Event]:
        """One try to deliver a callback; only the status of the answer counts."""
        try:
            answer = await self._request(command, ticket, f"{command.stream}/{command.delivery}")
        except CancelledError:
            raise  # forgotten before it was sent: no try was made
        except Exception as error:
            return (CallbackFailed(key=command.delivery, attempt=command.attempt, why=_why(error)),)
        if 200 <= answer.status <= 299:
            return (CallbackDelivered(key=command.delivery, attempt=command.attempt, status=answer.status),)
        why = f"status {answer.status}"
        return (CallbackFailed(key=command.delivery, attempt=command.attempt, why=why),)

    async def fetch_document(self, command: FetchDocument, ticket: Ticket) -> Sequence[Event]:
        """One try to fetch a document."""

        def failed(why: str, *, final: bool = False) -> Sequence[Event]:
            why = f"{command.method} {command.url}: {why}"
            return (DocumentFailed(number=command.number, attempt=command.attempt, why=why, final=final),)

        try:
            answer = await self._request(command, ticket, f"{command.stream}/document-{command.number}")
        except CancelledError:
            raise
        except Exception as error:
            return failed(_why(error))
        if not 200 <= answer.status <= 299:
            return failed(f"status {answer.status}")
        if not answer.complete:
            limit = self._config.max_document_bytes
            return failed(f"the answer is longer than {limit} bytes", final=True)
        try:
            return (DocumentFetched(number=command.number, body=decode_document(answer.body)),)
        except ValueError as error:
            return failed(str(error), final=True)

    async def _request(self, command: PostCallback | FetchDocument, ticket: Ticket, delivery: str) -> _Answer:
        if command.delay:
            await sleep(self._clock, command.delay)
        # Callbacks to a host that hangs must not keep answered callers waiting for their documents.
        host = f"{type(command).__name__} {urlsplit(command.url).netloc}"
        gate = self._gates.setdefault(host, DeferredSemaphore(AT_ONCE))
        await gate.acquire()
        try:
            with ticket.sent(last=True):
                work = Deferred.fromCoroutine(self._converse(command, delivery))
                return await within(self._clock, self._config.http_timeout, work, self._too_late)
        finally:
            gate.release()
            if gate.tokens == AT_ONCE and not gate.waiting:
                self._gates.pop(host, None)

    async def _converse(self, command: PostCallback | FetchDocument, delivery: str) -> _Answer:
        """Request, and follow redirects as v0.1 did: a POST becomes a GET without parameters.

        But not so where the application says (307, 308) that the request is to be made anew as it was.
        """
        method, url, params = command.method, command.url, command.params
        most = self._config.max_redirects
        for _ in range(most + 1):
            response = await self._send(method, url, params, delivery, command.attempt)
            redirect = response.code in _REDIRECTS
            location = response.headers.getRawHeaders(b"location") if redirect else None
            if not location:
                return await self._read(response, wanted=isinstance(command, FetchDocument))
            reader = _Reader(IGNORED_BYTES)
            response.deliverBody(reader)
            await reader.complete
            url = redirected(url, location[0])
            if response.code not in _AS_IT_WAS:
                method, params = "GET", ()
        raise ValueError(f"more than {most} redirects (MAX_REDIRECTS), the last one to {url}")

    def _send(
        self, method: str, url: str, params: Pairs, delivery: str, attempt: int
    ) -> "Deferred[IResponse]":
        prepared = prepare(method, url, params)
        headers = Headers()
        headers.addRawHeader(b"User-Agent", USER_AGENT)
        headers.addRawHeader(b"X-PLIVOTX-DELIVERY", delivery)
        headers.addRawHeader(b"X-PLIVOTX-ATTEMPT", str(attempt))
        if prepared.body is not None:
            headers.addRawHeader(b"Content-Type", b"application/x-www-form-urlencoded")
        if self._config.auth_id and self._config.auth_token:
            signature = sign(self._config.auth_token, prepared.url, prepared.params)
            headers.addRawHeader(b"X-PLIVO-SIGNATURE", signature)
        return self._agent.request(
            method.encode("ascii"),
            _with_path(prepared.url).encode("ascii"),
            headers,
            None if prepared.body is None else _Body(prepared.body),
        )

    async def _read(self, response: IResponse, *, wanted: bool) -> _Answer:
        """The answer; of one that says all with its status, only a little, if that much comes at all."""
        wanted = wanted and 200 <= response.code <= 299
        reader = _Reader(self._config.max_document_bytes if wanted else IGNORED_BYTES)
        response.deliverBody(reader)
        try:
            complete = await reader.complete
        except Exception:
            if wanted:
                raise
            complete = False
        return _Answer(response.code, bytes(reader.data), complete)


def redirected(url: str, location: bytes) -> str:
    """Where a redirect from *url* leads; raises ValueError if nobody is to go there."""
    scheme, colon, rest = urljoin(url, quote(location.strip(), safe=_VISIBLE)).partition("://")
    scheme = scheme.lower()
    target = scheme + colon + rest
    if scheme not in ("http", "https"):
        raise ValueError(f"redirect to {target}, which is neither http nor https")
    if url.startswith("https:") and scheme == "http":
        raise ValueError(f"redirect from https to http ({target}) is not followed")
    if not re.match(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?($|[/?#])", rest):
        raise ValueError(f"redirect to {target}, which does not name a host")
    return target


_VISIBLE = "".join(map(chr, range(33, 127)))
_AS_IT_WAS = (307, 308)
_REDIRECTS = (301, 302, 303, *_AS_IT_WAS)


_NO_HTTP = (ValueError, LookupError, AttributeError, TypeError)
"""What Twisted's parser raises besides exceptions of its own: that a header has no colon is told by nothing better."""


def _why(error: BaseException) -> str:
    """Why a try has failed, in words that are not long, whatever was answered."""
    reasons = getattr(error, "reasons", None)  # ResponseFailed hides what happened
    if reasons:
        error = reasons[0].value
    why = str(error) or type(error).__name__
    if reasons and (isinstance(error, _NO_HTTP) or type(error).__module__.startswith("twisted.web.")):
        why = f"the answer is no HTTP: {why}"
    return why if len(why) <= LONGEST_WHY else why[: LONGEST_WHY - 3] + "..."


@lru_cache(maxsize=128)  # an application has few URLs
def _with_path(url: str) -> str:
    """The URL with a path, which a request cannot do without: ``http://host?a=b`` has none."""
    return re.sub(r"^([a-z]+://[^/?#]*)(?![^?#])", r"\1/", url)


def decode_document(body: bytes) -> str:
    """The text of a document: in the encoding its XML declaration or byte order mark names, else UTF-8.

    Raises ValueError if it is not text in that encoding.
    """
    declared = _ENCODING.match(body)
    encoding = declared[1].decode("ascii") if declared else "utf-8-sig"
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        codec = codecs.lookup(encoding)
        if not codec._is_text_encoding or codec.name in _NO_ENCODING:  # noqa: SLF001 - what bytes.decode asks
            raise LookupError
        return body.decode(codec.name)
    except LookupError:
        raise ValueError(f"the answer is in the encoding {encoding}, which is not known")
    except UnicodeError as error:
        raise ValueError(f"the answer is no text: {error}")
