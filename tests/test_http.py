"""Callbacks and requests for documents, as the application gets them, and what becomes of its answers."""

import codecs
import encodings.aliases
from contextlib import contextmanager

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, HTTPConnectionPool

from plivotx.commands import FetchDocument, PostCallback
from plivotx.config import Config
from plivotx.events import CallbackDelivered, CallbackFailed, DocumentFailed, DocumentFetched
from plivotx.handlers.http import AT_ONCE, IGNORED_BYTES, Web, decode_document, redirected
from plivotx.handlers.signature import sign
from plivotx.testing import ANSWER_URL, RING_URL, Answer, Application, MemoryAgent

STREAM = "7b1d6a52-3c1b-4f0e-8f3e-1de0b7a1c0aa"
PARAMS = (("To", "4930123"), ("CallStatus", "ringing"))
SAFE = Config(auth_id="id", auth_token="the-token")


class Ticket:
    """The engine's side of a command: counts what is being sent."""

    def __init__(self):
        self.sending = 0
        self.unwanted = False

    @contextmanager
    def sent(self, *, last=False):
        self.sending += 1
        try:
            yield
        finally:
            self.sending -= 1
        if self.unwanted and not last:
            raise CancelledError


def callback(**more):
    wanted = {
        "stream": STREAM,
        "delivery": "ring",
        "attempt": 1,
        "delay": 0.0,
        "url": RING_URL,
        "method": "POST",
        "params": PARAMS,
    }
    return PostCallback(**{**wanted, **more})


def fetch(**more):
    wanted = {
        "stream": STREAM,
        "number": 1,
        "attempt": 1,
        "delay": 0.0,
        "url": ANSWER_URL,
        "method": "POST",
        "params": PARAMS,
    }
    return FetchDocument(**{**wanted, **more})


class InMemory(SynchronousTestCase):
    def setUp(self):
        self.use(Config())

    def use(self, config):
        self.clock = Clock()
        self.application = Application(self.clock)
        self.web = Web(MemoryAgent(self.application, self.clock), self.clock, config)

    def begin(self, command, ticket=None):
        ticket = ticket or Ticket()
        do = self.web.post_callback if isinstance(command, PostCallback) else self.web.fetch_document
        return Deferred.fromCoroutine(do(command, ticket))

    def outcome(self, command):
        """What becomes of a command that waits for nothing."""
        work = self.begin(command)
        self.clock.advance(0)
        self.clock.advance(0)
        (event,) = self.successResultOf(work)
        return event

    def headers(self, number=0):
        return {
            name.decode(): [each.decode() for each in values]
            for name, values in self.application.received[number].headers.getAllRawHeaders()
        }


class Callbacks(InMemory):
    def test_are_delivered_with_exactly_their_parameters(self):
        self.assertEqual(self.outcome(callback()), CallbackDelivered(key="ring", attempt=1, status=200))
        (received,) = self.application.received
        self.assertEqual((received.method, received.url), ("POST", RING_URL))
        self.assertEqual(received.params, dict(PARAMS))

    def test_can_be_sent_by_get(self):
        self.outcome(callback(method="GET", url=RING_URL + "?a=b"))
        (received,) = self.application.received
        self.assertEqual(received.method, "GET")
        self.assertEqual(received.params, {**dict(PARAMS), "a": "b"})
        self.assertNotIn("Content-Type", self.headers())

    def test_any_status_from_200_to_299_will_do(self):
        for status in (200, 201, 204, 299):
            self.application.answers["ring"] = Answer(status=status)
            self.assertEqual(
                self.outcome(callback()), CallbackDelivered(key="ring", attempt=1, status=status)
            )

    def test_any_other_status_is_a_failure_that_names_it(self):
        for status in (199, 300, 304, 404, 500, 503):
            self.application.answers["ring"] = Answer(status=status)
            self.assertEqual(
                self.outcome(callback(attempt=3)),
                CallbackFailed(key="ring", attempt=3, why=f"status {status}"),
            )

    def test_a_long_answer_is_no_failure_for_nobody_reads_it(self):
        self.application.answers["ring"] = Answer(body=b"x" * 1_000_000)
        self.assertIsInstance(self.outcome(callback()), CallbackDelivered)

    def test_an_empty_value_is_sent_as_empty_where_v01_sent_the_word_none(self):
        """Its defect 28."""
        for method in ("POST", "GET"):
            self.outcome(callback(method=method, params=(("CallerName", ""), ("To", "1"))))
            self.assertEqual(self.application.received.pop().params, {"CallerName": "", "To": "1"})

    def test_a_broken_connection_is_a_failure(self):
        self.application.answers["ring"] = Answer(broken=True)
        event = self.outcome(callback())
        self.assertIsInstance(event, CallbackFailed)
        self.assertIn("the connection was broken", event.why)

    def test_no_answer_is_a_failure_at_the_time_limit_and_not_before(self):
        self.application.answers["ring"] = Answer(never=True)
        work = self.begin(callback())
        self.clock.advance(0)
        self.clock.advance(14.9)
        self.assertNoResult(work)
        self.clock.advance(0.1)
        self.assertEqual(
            self.successResultOf(work),
            (CallbackFailed(key="ring", attempt=1, why="no whole answer within 15 s (HTTP_TIMEOUT)"),),
        )

    def test_an_answer_just_in_time_is_taken_and_no_timer_is_left(self):
        self.application.answers["ring"] = Answer(delay=14.9)
        work = self.begin(callback())
        self.clock.advance(0)
        self.clock.advance(14.9)
        self.assertIsInstance(self.successResultOf(work)[0], CallbackDelivered)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_wait_before_a_retry(self):
        work = self.begin(callback(delay=2.5, attempt=2))
        self.clock.advance(2.4)
        self.assertEqual(self.application.received, [])
        self.clock.advance(0.2)
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(work), (CallbackDelivered(key="ring", attempt=2, status=200),))

    def test_that_wait_can_be_forgotten(self):
        work = self.begin(callback(delay=2.5))
        work.cancel()
        self.failureResultOf(work, CancelledError)
        self.clock.advance(10)
        self.assertEqual(self.application.received, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_hold_their_ticket_only_while_the_request_is_out(self):
        ticket = Ticket()
        work = self.begin(callback(delay=1), ticket)
        self.assertEqual(ticket.sending, 0)
        self.application.answers["ring"] = Answer(delay=1)
        self.clock.advance(1)
        self.assertEqual(ticket.sending, 1)
        self.clock.advance(1)
        self.assertEqual(ticket.sending, 0)
        self.successResultOf(work)

    def test_whatever_a_request_raises_is_the_failure_of_this_try(self):
        class Broken:
            def request(self, *args):
                raise RuntimeError("no such thing")

        self.web = Web(Broken(), self.clock, Config())
        self.assertEqual(self.outcome(callback()), CallbackFailed(key="ring", attempt=1, why="no such thing"))

    def test_text_of_every_script_arrives_where_v01_lost_the_callback(self):
        """Its defect 27."""
        params = (("N", "Zoë مرحبا 你好 😀 +&=%\r\n\0"), ("E", ""))
        self.outcome(callback(params=params))
        self.assertEqual(self.application.received[0].params, dict(params))


class Headers(InMemory):
    def test_name_the_delivery_which_is_the_same_on_every_try_and_the_attempt(self):
        self.application.answers["ring"] = Answer(status=500)
        for attempt in (1, 2):
            self.outcome(callback(attempt=attempt))
        first, second = self.headers(0), self.headers(1)
        self.assertEqual(first["X-Plivotx-Delivery"], [f"{STREAM}/ring"])
        self.assertEqual(second["X-Plivotx-Delivery"], [f"{STREAM}/ring"])
        self.assertEqual(first["X-Plivotx-Attempt"], ["1"])
        self.assertEqual(second["X-Plivotx-Attempt"], ["2"])

    def test_of_a_document_name_its_number(self):
        self.outcome(fetch(number=3))
        self.assertEqual(self.headers()["X-Plivotx-Delivery"], [f"{STREAM}/document-3"])

    def test_hold_no_signature_without_credentials(self):
        for config in (Config(), Config(auth_id="id"), Config(auth_token="token")):
            self.use(config)
            self.outcome(callback())
            self.assertNotIn("X-Plivo-Signature", self.headers())

    def test_hold_the_signature_of_what_was_sent(self):
        for method in ("POST", "GET"):
            self.use(SAFE)
            self.outcome(callback(method=method, url=RING_URL + "?a=b"))
            (received,) = self.application.received
            self.assertEqual(
                self.headers()["X-Plivo-Signature"],
                [sign("the-token", received.url, {**dict(PARAMS), "a": "b"})],
            )

    def test_and_everything_else_are_free_of_secrets(self):
        self.use(SAFE)
        self.outcome(callback())
        self.outcome(fetch())
        self.assertEqual(len(self.application.received), 2)
        for number, received in enumerate(self.application.received):
            everything = f"{received.url} {received.params} {self.headers(number)}"
            self.assertNotIn("the-token", everything)
            self.assertNotIn("Authorization", everything)

    def test_say_what_a_body_is_made_of(self):
        self.outcome(callback())
        self.assertEqual(self.headers()["Content-Type"], ["application/x-www-form-urlencoded"])
        self.assertEqual(self.headers()["User-Agent"], ["plivotx"])


class TheUrl(InMemory):
    def test_goes_out_as_it_was_given_for_its_text_is_what_is_signed(self):
        for url in (
            "http://application.test:80/ring/",
            "http://Application.Test/ring/?a=%7eb&&c=&[x]={y}|z",
            "http://application.test/ring/?",
            "http://application.test//ring/../ring/;p=1",
            "http://[2001:db8::1]:8080/ring/",
            "http://application.test/a,b/?c=d,e&f='g'&h=\"i\"",  # v0.1 cut it at the comma: its defect 35
        ):
            self.application.received.clear()
            self.outcome(callback(url=url))
            self.assertEqual([each.url for each in self.application.received], [url])

    def test_gets_the_path_without_which_no_request_can_be_made(self):
        for url, sent in (
            ("http://h", "http://h/"),
            ("http://h?a=b/c", "http://h/?a=b/c"),
            ("http://h#f", "http://h/#f"),
            ("http://h:8/", "http://h:8/"),
        ):
            self.application.received.clear()
            self.outcome(callback(url=url))
            self.assertEqual([each.url for each in self.application.received], [sent])


class OneHost(InMemory):
    def test_that_hangs_delays_only_itself(self):
        self.application.answers["ring"] = Answer(never=True)
        hanging = [self.begin(callback(delivery=str(n))) for n in range(AT_ONCE + 1)]
        self.clock.advance(0)
        self.assertEqual(len(self.application.received), AT_ONCE)
        other = self.begin(fetch(url="http://other.test/answer/"))
        self.clock.advance(0)
        self.clock.advance(0)
        self.assertIsInstance(self.successResultOf(other)[0], DocumentFetched)
        self.assertTrue(all(not each.called for each in hanging))

    def test_takes_the_next_request_when_one_is_over(self):
        self.application.answers["ring"] = Answer(never=True)
        for n in range(AT_ONCE):
            self.begin(callback(delivery=str(n)))
        self.clock.advance(1)
        waiting = self.begin(callback(delivery="late"))
        self.clock.advance(1)
        self.assertEqual(len(self.application.received), AT_ONCE)
        self.application.answers["ring"] = Answer()
        self.clock.advance(15)
        self.clock.advance(0)
        self.assertIsInstance(self.successResultOf(waiting)[0], CallbackDelivered)

    def test_does_not_count_a_request_that_was_forgotten_while_it_waited(self):
        self.application.answers["ring"] = Answer(never=True)
        for n in range(AT_ONCE):
            self.begin(callback(delivery=str(n)))
        self.clock.advance(1)
        ticket = Ticket()
        waiting = self.begin(callback(delivery="late"), ticket)
        self.clock.advance(0)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(ticket.sending, 0)
        self.clock.advance(15)
        self.assertEqual(len(self.application.received), AT_ONCE)
        self.assertEqual(self.web._gates, {})

    def test_is_forgotten_when_nothing_is_asked_of_it(self):
        self.outcome(callback())
        self.assertEqual(self.web._gates, {})


class Documents(InMemory):
    def answer(self, **more):
        self.application.answers["answer"] = Answer(**more)
        return self.outcome(fetch(attempt=2))

    def test_are_taken_with_status_200(self):
        self.assertEqual(
            self.answer(body="<Response>é</Response>".encode()),
            DocumentFetched(number=1, body="<Response>é</Response>"),
        )
        self.assertEqual(self.application.received[0].params, dict(PARAMS))

    def test_another_status_or_a_broken_connection_may_be_tried_again_and_names_the_url(self):
        for answer, why in (
            ({"status": 500, "body": b"x" * 1_000_000}, "status 500"),
            ({"status": 404}, "status 404"),
            ({"broken": True}, "An error occurred while connecting: the connection was broken."),
        ):
            self.assertEqual(
                self.answer(**answer),
                DocumentFailed(number=1, attempt=2, why=f"POST {ANSWER_URL}: {why}", final=False),
            )

    def test_that_never_come_may_be_asked_for_again_and_hold_up_no_call_as_in_v01(self):
        """Its defect 22."""
        self.application.answers["answer"] = Answer(never=True)
        work = self.begin(fetch())
        self.clock.advance(0)
        self.clock.advance(15)
        (event,) = self.successResultOf(work)
        self.assertEqual(
            (event.final, event.why),
            (False, f"POST {ANSWER_URL}: no whole answer within 15 s (HTTP_TIMEOUT)"),
        )

    def test_that_are_too_large_are_not_asked_for_again(self):
        limit = Config().max_document_bytes
        self.assertIsInstance(self.answer(body=b" " * limit), DocumentFetched)
        event = self.answer(body=b" " * (limit + 1))
        self.assertTrue(event.final)
        self.assertIn(f"longer than {limit} bytes", event.why)

    def test_that_are_no_text_are_not_asked_for_again(self):
        for body in (
            b"\xff\xfa\x00\x01",
            b"<Response>\xe9</Response>",
            b'<?xml version="1.0" encoding="base64"?>',
        ):
            event = self.answer(body=body)
            self.assertIsInstance(event, DocumentFailed)
            self.assertTrue(event.final)

    def test_are_read_in_the_encoding_they_declare(self):
        for name in ("iso-8859-1", "latin-1", "LATIN1", "windows-1252", "utf-8", "UTF8"):
            text = f"<?xml version='1.0' encoding='{name}' ?><Response>é</Response>"
            self.assertEqual(self.answer(body=text.encode(name)), DocumentFetched(number=1, body=text))
        text = '\n<?xml version="1.0" encoding="shift_jis"?><Response>日本</Response>'
        self.assertEqual(self.answer(body=text.encode("shift_jis")).body, text)

    def test_in_an_unknown_encoding_say_which(self):
        for name in ("klingon", "utf-7", "idna", "punycode", "unicode_escape", "hex", "rot13"):
            event = self.answer(body=f"<?xml version='1.0' encoding='{name}'?><Response/>".encode())
            self.assertTrue(event.final)
            self.assertIn(f"encoding {name}, which is not known", event.why)

    def test_may_begin_with_a_byte_order_mark(self):
        text = "<Response>é</Response>"
        self.assertEqual(self.answer(body=codecs.BOM_UTF8 + text.encode()).body, text)
        self.assertEqual(self.answer(body=text.encode("utf-16")).body, text)
        self.assertEqual(self.answer(body=codecs.BOM_UTF16_BE + text.encode("utf-16-be")).body, text)

    def test_may_be_empty_which_the_script_judges(self):
        self.assertEqual(self.answer(status=204), DocumentFetched(number=1, body=""))

    @given(
        st.sampled_from(sorted(set(encodings.aliases.aliases.values())))
        | st.text(st.sampled_from("abutf-816_."), max_size=12),
        st.binary(max_size=60),
    )
    def test_become_text_that_can_be_recorded_or_a_value_error(self, name, rest):
        body = f"<?xml encoding='{name}'?>".encode() + rest
        try:
            text = decode_document(body)
        except ValueError as error:
            self.assertIn("the answer is", str(error))
        else:
            text.encode()


class Redirects(SynchronousTestCase):
    def test_lead_to_what_the_location_says(self):
        for url, location, target in (
            ("http://a.test/b/c?d", b"/e", "http://a.test/e"),
            ("http://a.test/b/c?d", b"e?f", "http://a.test/b/e?f"),
            ("http://a.test/b", b"https://c.test:8/", "https://c.test:8/"),
            ("https://a.test/b", b"//c.test/", "https://c.test/"),
            ("https://a.test/b", b"HTTPS://[::1]:8/", "https://[::1]:8/"),
            ("https://a.test/b", b" https://c.test?d ", "https://c.test?d"),
            ("http://a.test/b", "/Zoë b\r\n%41".encode(), "http://a.test/Zo%C3%AB%20b%0D%0A%41"),
        ):
            self.assertEqual(redirected(url, location), target)

    def test_do_not_lead_out_of_https(self):
        for location in (b"http://a.test/", b"HTTP://a.test/b"):
            error = self.assertRaises(ValueError, redirected, "https://a.test/", location)
            self.assertIn("redirect from https to http (http://a.test/", str(error))
            self.assertIn("is not followed", str(error))

    def test_do_not_lead_to_anything_but_a_host_on_the_web(self):
        for location in (
            b"file:///etc/passwd",
            b"ftp://a.test/",
            b"data:text/xml,x",
            b"javascript:1",
            b"http://user:word@a.test/",
            b"http://10.0.0.1\\@a.test/",
            b"http://a.test:99999999/",
            b"http://\xff/",
            b"http://[::1",
        ):
            self.assertRaises(ValueError, redirected, "http://a.test/", location)

    @given(st.sampled_from(["http://a.test/b?c", "https://a.test"]), st.binary())
    def test_lead_to_a_url_that_can_be_requested_or_nowhere(self, url, location):
        try:
            target = redirected(url, location)
        except ValueError as error:
            self.assertTrue(str(error))
        else:
            self.assertRegex(target, r"\Ahttps?://[!-~]+\Z")


# -- with sockets ----------------------------------------------------------------------------------


class Canned(Protocol):
    """A web server that answers each request with bytes chosen by its path."""

    def connectionMade(self):
        self.buffer = b""
        self.factory.open += 1
        if self.factory.all_gone.called:
            self.factory.all_gone = Deferred()

    def dataReceived(self, data):
        self.buffer += data
        head, separator, body = self.buffer.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        wanted = next(
            (int(each.split()[1]) for each in lines if each.lower().startswith(b"content-length:")), 0
        )
        if separator and len(body) >= wanted:
            self.buffer = b""
            method, path, _ = lines[0].decode().split()
            if not self.factory.asked.called:
                self.factory.asked.callback(None)
            self.factory.received.append((method, path, head.decode(), body.decode()))
            self.transport.write(self.factory.answers[path.partition("?")[0]])
            if self.factory.breaks:
                self.transport.loseConnection()

    def connectionLost(self, reason=None):
        self.factory.open -= 1
        if not self.factory.open:
            self.factory.all_gone.callback(None)


def answer(status, body=b"", *headers, length=None):
    head = "".join(f"{each}\r\n" for each in headers)
    return f"HTTP/1.1 {status} X\r\n{head}Content-Length: {length or len(body)}\r\n\r\n".encode() + body


class Watched:
    """An agent that says when there is an answer."""

    def __init__(self, agent):
        self.agent = agent
        self.answered = Deferred()

    def request(self, *args):
        def seen(response):
            if not self.answered.called:
                reactor.callLater(0, self.answered.callback, None)  # not before its body is asked for
            return response

        return self.agent.request(*args).addCallback(seen)


class OverSockets(TestCase):
    timeout = 10

    async def setUp(self):
        self.server = Factory.forProtocol(Canned)
        self.server.received, self.server.open, self.server.answers = [], 0, {}
        self.server.breaks = False
        self.server.all_gone, self.server.asked = Deferred(), Deferred()
        self.port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self.server)
        self.base = f"http://127.0.0.1:{self.port.getHost().port}"
        self.pool = HTTPConnectionPool(reactor, persistent=True)
        self.clock = Clock()
        self.agent = Watched(Agent(reactor, pool=self.pool))
        self.web = Web(self.agent, self.clock, SAFE)

    async def tearDown(self):
        await self.pool.closeCachedConnections()
        if self.server.received:
            await self.server.all_gone  # or a connection was forgotten
        await self.port.stopListening()

    async def fetch(self, path, **more):
        work = Deferred.fromCoroutine(self.web.fetch_document(fetch(url=self.base + path, **more), Ticket()))
        self.clock.advance(0)
        (event,) = await work
        return event

    async def test_a_document_comes_and_the_connection_is_used_again(self):
        self.server.answers["/a"] = answer(200, b"<Response/>")
        for _ in range(2):
            self.assertEqual(await self.fetch("/a"), DocumentFetched(number=1, body="<Response/>"))
        self.assertEqual(self.server.open, 1)

    async def test_nothing_of_one_request_goes_along_with_the_next(self):
        self.server.answers["/a"] = answer(200, b"<Response/>", "Set-Cookie: customer=1; Path=/")
        for _ in range(2):
            await self.fetch("/a")
        self.assertNotIn("customer=1", str(self.server.received))

    async def test_an_answer_that_is_too_large_is_not_read_to_its_end(self):
        self.server.answers["/a"] = answer(200, b"x" * 300_000, length=10**12)
        event = await self.fetch("/a")
        self.assertTrue(event.final, event)
        await self.server.all_gone

    async def test_an_answer_that_never_ends_is_let_go_at_the_time_limit(self):
        self.server.answers["/a"] = answer(200, b"<Resp", length=100)
        work = Deferred.fromCoroutine(self.web.fetch_document(fetch(url=self.base + "/a"), Ticket()))
        self.clock.advance(0)
        await self.agent.answered
        self.clock.advance(15)
        (event,) = await work
        self.assertIn("no whole answer within 15 s (HTTP_TIMEOUT)", event.why)
        self.assertFalse(event.final)
        await self.server.all_gone

    async def test_a_request_that_is_never_answered_is_let_go_at_the_time_limit(self):
        self.server.answers["/a"] = b"HTTP/1.1 200 OK\r\nContent-Le"
        work = Deferred.fromCoroutine(self.web.fetch_document(fetch(url=self.base + "/a"), Ticket()))
        self.clock.advance(0)
        await self.server.asked
        self.clock.advance(15)
        (event,) = await work
        self.assertIn("no whole answer within 15 s (HTTP_TIMEOUT)", event.why)
        await self.server.all_gone

    async def test_an_answer_that_breaks_off_may_be_asked_for_again(self):
        self.server.breaks = True
        for broken in (b"", b"HTTP/1.1 200 OK\r\nContent-Le", answer(200, b"<Resp", length=100)):
            self.server.answers["/a"] = broken
            event = await self.fetch("/a")
            self.assertIsInstance(event, DocumentFailed)
            self.assertFalse(event.final)
            await self.server.all_gone

    async def test_an_answer_that_is_no_http_is_called_so_in_few_words(self):
        ok = b"HTTP/1.1 200 OK\r\n"
        for said, why in (
            (ok + b"no colon\r\n\r\n", ""),
            (ok + b" folded\r\n\r\n", ""),
            (ok + b"Transfer-Encoding: gzip\r\n\r\n", "gzip"),
            (ok + b"Content-Length: -1\r\n\r\n", "-1"),
            (ok + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "conflicting Content-Length"),
            (ok + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\n", "Chunk-size must be"),
            (b"HTTP/1.1 %s OK\r\n\r\n" % (b"\xff" * 10_000), "..."),
            (answer(302, b"", f"Location: ftp://{'x' * 10_000}/"), "..."),
        ):
            self.server.answers["/a"] = said
            event = await self.fetch("/a")
            self.assertIsInstance(event, DocumentFailed)
            self.assertIn(why, event.why)
            self.assertLessEqual(len(event.why), 600)
            if b"302" not in said:
                self.assertIn("/a: the answer is no HTTP: ", event.why)

    async def test_a_redirected_post_becomes_a_get_without_parameters_as_in_v01(self):
        for status in (301, 302, 303):
            self.server.received.clear()
            self.server.answers["/a"] = answer(status, b"moved", "Location: /b?x=1")
            self.server.answers["/b"] = answer(200, b"<Response/>")
            self.assertIsInstance(await self.fetch("/a"), DocumentFetched)
            first, second = self.server.received
            self.assertEqual(first[:2], ("POST", "/a"))
            self.assertEqual((*second[:2], second[3]), ("GET", "/b?x=1", ""))
            self.assertIn(sign("the-token", f"{self.base}/b?x=1", {"x": "1"}), second[2])

    async def test_a_redirect_that_keeps_the_method_keeps_the_parameters(self):
        for status in (307, 308):
            self.server.received.clear()
            self.server.answers["/a"] = answer(status, b"", f"Location: {self.base}/b")
            self.server.answers["/b"] = answer(200, b"<Response/>")
            self.assertIsInstance(await self.fetch("/a"), DocumentFetched)
            first, second = self.server.received
            self.assertEqual((second[0], second[1], second[3]), ("POST", "/b", first[3]))
            self.assertIn(sign("the-token", f"{self.base}/b", dict(PARAMS)), second[2])

    async def test_redirects_that_go_round_in_a_circle_are_a_failure(self):
        self.server.answers["/a"] = answer(302, b"", "Location: /a")
        event = await self.fetch("/a")
        self.assertIn(f"more than 5 redirects (MAX_REDIRECTS), the last one to {self.base}/a", event.why)
        self.assertEqual(len(self.server.received), 6)

    async def test_as_many_redirects_are_followed_as_the_operator_says(self):
        self.server.answers["/a"] = answer(302, b"", "Location: /b")
        self.server.answers["/b"] = answer(200, b"<Response/>")
        for most, asked in ((0, ["/a"]), (1, ["/a", "/b"])):
            self.server.received.clear()
            self.web = Web(self.agent, self.clock, Config(max_redirects=most))
            event = await self.fetch("/a")
            self.assertIsInstance(event, DocumentFetched if most else DocumentFailed)
            self.assertEqual([each[1] for each in self.server.received], asked)

    async def test_of_what_comes_with_a_redirect_little_is_read(self):
        self.server.answers["/a"] = answer(302, b"x" * (IGNORED_BYTES + 1), "Location: /b", length=10**12)
        self.server.answers["/b"] = answer(200, b"<Response/>")
        self.assertIsInstance(await self.fetch("/a"), DocumentFetched)

    async def post(self, *, seconds=0):
        url = self.base + "/a"
        work = Deferred.fromCoroutine(self.web.post_callback(callback(url=url), Ticket()))
        self.clock.advance(0)
        if seconds:
            await self.agent.answered
            self.clock.advance(seconds)
        (event,) = await work
        return event

    async def test_of_what_comes_with_the_status_of_a_callback_little_is_read(self):
        self.server.answers["/a"] = answer(200, b"x" * (IGNORED_BYTES + 1), length=10**12)
        self.assertEqual(await self.post(), CallbackDelivered(key="ring", attempt=1, status=200))
        await self.server.all_gone
        self.server.answers["/a"] = answer(500, b"x" * (IGNORED_BYTES + 1), length=10**12)
        self.assertEqual(await self.post(), CallbackFailed(key="ring", attempt=1, why="status 500"))
        await self.server.all_gone

    async def test_the_status_of_a_callback_decides_even_if_the_rest_breaks_off(self):
        self.server.breaks = True
        self.server.answers["/a"] = answer(200, b"x", length=100)
        self.assertEqual(await self.post(), CallbackDelivered(key="ring", attempt=1, status=200))

    async def test_the_status_of_a_callback_decides_even_if_the_rest_never_comes(self):
        self.server.answers["/a"] = answer(201, b"x", length=100)
        event = await self.post(seconds=15)
        self.assertEqual(event, CallbackDelivered(key="ring", attempt=1, status=201))
        await self.server.all_gone

    async def test_a_short_answer_to_a_callback_leaves_the_connection_in_use(self):
        self.server.answers["/a"] = answer(200, b"x" * IGNORED_BYTES)
        for _ in range(2):
            await self.post()
        self.assertEqual((self.server.open, len(self.server.received)), (1, 2))

    async def test_a_redirect_to_nowhere_is_a_failure(self):
        self.server.answers["/a"] = answer(302)
        self.assertIn("status 302", (await self.fetch("/a")).why)
        self.server.answers["/a"] = answer(302, b"", "Location: file:///etc/passwd")
        self.assertIn("redirect to file:///etc/passwd, which is neither", (await self.fetch("/a")).why)

    async def test_a_request_to_a_query_without_a_path_can_be_made(self):
        self.server.answers["/"] = answer(200, b"<Response/>")
        await self.fetch("?a=b")
        self.assertEqual(self.server.received[0][1], "/?a=b")
