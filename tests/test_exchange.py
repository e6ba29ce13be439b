"""HTTP over one connection: what is an answer, how long its body is, and when the connection can be used again."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import error
from twisted.internet.defer import CancelledError, succeed
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import Agent, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse
from zope.interface.verify import verifyObject

from plivotx.config import Config
from plivotx.handlers.exchange import HEAD_BYTES, KEPT, KEPT_FOR, Connection, NoHttp
from tests.test_http import answer

CONTROL = {b"Content-Length", b"Connection", b"Transfer-Encoding"}
"""What Twisted keeps out of the headers of an answer."""


class Wire(StringTransport):
    """A connection whose other side is the test."""

    gone = False

    def setTcpNoDelay(self, enabled):
        """There are no packets."""

    def loseConnection(self):
        self.lose(error.ConnectionDone())

    def abortConnection(self):
        self.lose(error.ConnectionAborted())

    def lose(self, why):
        if not self.gone:
            self.gone = True
            self.protocol.connectionLost(Failure(why))


class Body(Protocol):
    """Collects a body."""

    def __init__(self):
        self.data = b""
        self.ended = None

    def dataReceived(self, data):
        self.data += data

    def connectionLost(self, reason):
        self.ended = reason


class Theirs:
    """One request with Twisted's client, over a wire."""

    def __init__(self):
        self.wire = Wire()
        self.answered = Agent.usingEndpointFactory(Clock(), self).request(b"POST", b"http://h/")

    def endpointForURI(self, uri):
        return self

    def connect(self, factory):
        self.wire.protocol = factory.buildProtocol(None)
        self.wire.protocol.makeConnection(self.wire)
        return succeed(self.wire.protocol)


class Ours:
    """One request of our own."""

    def __init__(self):
        self.clock = Clock()
        self.idle = []
        self.wire = Wire()
        self.connection = self.wire.protocol = Connection(self.clock, Config(), self.idle, "")
        self.connection.makeConnection(self.wire)
        self.ask()

    def ask(self):
        self.answered = self.connection.ask(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", None)


def outcome(side, pieces, *, closed):
    """Status, headers, body and whether that was all of it; None if there is no answer."""
    found = []
    body = Body()
    side.answered.addCallbacks(
        lambda response: (found.append(response), response.deliverBody(body)), lambda _: None
    )
    for piece in pieces:
        if not side.wire.gone:
            side.wire.protocol.dataReceived(piece)
    if closed:
        side.wire.lose(error.ConnectionDone())
    if not found:
        return None
    (response,) = found
    end = body.ended and bool(body.ended.check(ResponseDone, PotentialDataLoss))
    headers = {
        name: [each.split() for each in values]  # how many blanks there are does not matter
        for name, values in response.headers.getAllRawHeaders()
        if name not in CONTROL
    }
    return response.code, response.phrase, headers, body.data, end


BODIES = st.binary(max_size=30)
TOKENS = st.text("abcXYZ019-_!~", min_size=1, max_size=8)
VALUES = st.text(
    st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f\x85\xa0"), max_size=12
)


@st.composite
def answers(draw):
    """Bytes that are an answer, and maybe not all of it or more than that."""
    end = draw(st.sampled_from(["\r\n", "\n"]))
    early = draw(
        st.lists(
            st.sampled_from(["HTTP/1.1 100 Continue", "HTTP/1.1 103 Early Hints" + end + "Link: x"]),
            max_size=2,
        )
    )
    status = draw(
        st.sampled_from(["200 OK", "200", "404 Not Found", "204 No Content", "304 x", "302 Found", "599 ö"])
    )
    lines = [f"HTTP/1.{draw(st.sampled_from('01'))} {status}"]
    for name, value in draw(st.lists(st.tuples(TOKENS, VALUES), max_size=3)):
        lines.append(f"{name}:{draw(st.sampled_from(['', ' ', '  ']))}{value}")
    if lines[1:] and draw(st.booleans()):
        lines.append(" folded")
    body = draw(BODIES)
    match draw(st.sampled_from(["length", "length, twice", "chunked", "closed"])):
        case "length":
            lines.append(f"Content-length: {len(body)}")
        case "length, twice":
            lines.append(f"Content-Length: {len(body)}, {len(body)}")
            lines.append(f"CONTENT-LENGTH: {len(body)}")
        case "chunked":
            lines.append("Transfer-Encoding: Chunked")
            cut = draw(st.integers(0, len(body)))
            chunks = filter(None, (body[:cut], body[cut:]))
            body = b"".join(b"%x;a=b\r\n%b\r\n" % (len(each), each) for each in chunks) + b"0\r\nX: y\r\n\r\n"
    if draw(st.booleans()):
        lines.append(f"Connection: {draw(st.sampled_from(['close', 'Keep-Alive', 'x, close']))}")
    heads = [*early, end.join(lines)]
    return "".join(each + end + end for each in heads).encode("latin-1") + body


@st.composite
def in_pieces(draw, whole):
    data = draw(whole)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return [each for each in pieces if each]


@st.composite
def spoilt(draw):
    """An answer with some bytes that are others, are missing or too many."""
    data = bytearray(draw(answers()))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 2))] = draw(
            st.sampled_from(
                [b"", b"\r", b"\n", b"\r\n", b" ", b":", b"0", b"9", b"a", b"\0", b"\xff", b"\r\n\r\n"]
            )
        )
    return bytes(data)


class AnAnswer(SynchronousTestCase):
    @given(in_pieces(answers()), st.booleans())
    def test_is_what_twisteds_client_makes_of_the_same_bytes(self, pieces, closed):
        ours = outcome(Ours(), pieces, closed=closed)
        self.assertIsNotNone(ours)
        self.assertEqual(ours, outcome(Theirs(), pieces, closed=closed))

    @given(in_pieces(spoilt()), st.booleans())
    def test_that_is_spoilt_is_nothing_that_twisteds_client_has_not_seen_in_it(self, pieces, closed):
        ours = outcome(Ours(), pieces, closed=closed)
        if ours is not None and ours[-1]:
            self.assertEqual(ours, outcome(Theirs(), pieces, closed=closed))

    @given(in_pieces(st.binary(max_size=80) | spoilt()))
    def test_never_makes_it_fail_in_another_way_than_by_closing(self, pieces):
        side = Ours()
        outcome(side, pieces, closed=False)
        self.assertEqual(side.connection.usable, not side.wire.gone)

    def test_is_what_the_interface_says(self):
        side = Ours()
        side.wire.protocol.dataReceived(answer(200, b"x", "A: b"))
        response = self.successResultOf(side.answered)
        self.assertTrue(verifyObject(IResponse, response))
        self.assertEqual((response.version, response.length), ((b"HTTP", 1, 1), 1))
        self.assertEqual(response.headers.getRawHeaders("a"), ["b"])

    def test_waits_for_its_reader(self):
        side = Ours()
        for piece in (answer(200, b"abc")[:-2], b"b", b"c"):
            side.wire.protocol.dataReceived(piece)
        body = Body()
        self.successResultOf(side.answered).deliverBody(body)
        self.assertEqual(body.data, b"abc")
        self.assertTrue(body.ended.check(ResponseDone))

    def test_that_is_none_is_called_so_at_once(self):
        ok = b"HTTP/1.1 200 OK\r\n"
        for said, why in (
            (b"SSH-2.0-OpenSSH\r\n", "it begins with 'SSH-2.0-OpenSSH'"),
            (b"HTTP/1.1 99 x\n", "it begins with 'HTTP/1.1 99 x'"),
            (ok + b"no colon\r\n\r\n", "the header 'no colon'"),
            (ok + b"a b: c\r\n\r\n", "the header 'a b: c'"),
            (ok + b" folded\r\n\r\n", "the header ' folded'"),
            (ok + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "Transfer-Encoding: 'gzip, chunked'"),
            (ok + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "Content-Length: '1,2'"),
            (ok + b"Content-Length: +1\r\n\r\n", "Content-Length: '+1'"),
            (ok + b"Content-Length:\r\n\r\n", "Content-Length: ''"),
        ):
            side = Ours()
            side.wire.protocol.dataReceived(said)
            failure = self.failureResultOf(side.answered, NoHttp)
            self.assertEqual(failure.getErrorMessage(), f"the answer is no HTTP: {why}")
            self.assertTrue(side.wire.gone)

    def test_whose_chunks_are_none_has_a_status_and_a_body_that_breaks_off(self):
        side = Ours()
        side.wire.protocol.dataReceived(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n-1\r\n"
        )
        body = Body()
        self.successResultOf(side.answered).deliverBody(body)
        self.assertEqual(body.data, b"x")
        self.assertTrue(body.ended.check(NoHttp))
        self.assertTrue(side.wire.gone)


class AConnection(SynchronousTestCase):
    def used_again(self, said):
        side = Ours()
        side.wire.protocol.dataReceived(said)
        body = Body()
        self.successResultOf(side.answered).deliverBody(body)
        self.assertEqual(side.idle, [] if side.wire.gone else [side.connection])
        return not side.wire.gone

    def test_is_used_again_after_a_whole_answer(self):
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        for said in (
            answer(200, b"x"),
            answer(200),
            answer(304),
            answer(500, b"x", "Connection: keep-alive"),
            chunked,
        ):
            self.assertTrue(self.used_again(said), said)

    def test_is_closed_if_the_other_side_will_close_it_or_has_said_more_than_it_was_asked(self):
        for said in (
            answer(200, b"x", "Connection: close"),
            answer(200, b"x", "connection: x, Close"),
            answer(200, b"x").replace(b"1.1", b"1.0"),  # where that is the rule
            answer(200, b"x") + b"y",
            answer(200, b"x") + answer(200, b"y"),
            answer(204, b"x"),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\ny",
        ):
            self.assertFalse(self.used_again(said), said)

    def test_on_which_something_comes_unasked_is_closed(self):
        side = Ours()
        side.wire.protocol.dataReceived(answer(200))
        self.assertEqual(side.idle, [side.connection])
        side.wire.protocol.dataReceived(answer(200))
        self.assertTrue(side.wire.gone)
        self.assertEqual(side.idle, [])
        self.assertEqual(side.clock.getDelayedCalls(), [])

    def test_is_closed_if_enough_are_kept(self):
        side = Ours()
        side.idle += [None] * KEPT
        side.wire.protocol.dataReceived(answer(200))
        self.assertTrue(side.wire.gone)
        self.assertEqual(side.idle, [None] * KEPT)

    def test_whose_request_is_given_up_is_aborted(self):
        side = Ours()
        side.answered.cancel()
        self.failureResultOf(side.answered, CancelledError)
        self.assertTrue(side.wire.gone)
        self.assertFalse(side.connection.usable)
        self.assertEqual(side.clock.getDelayedCalls(), [])

    def test_cannot_be_closed_by_the_reader_of_an_answer_that_is_over(self):
        side = Ours()
        side.wire.protocol.dataReceived(answer(200, b"x"))
        body = Body()
        self.successResultOf(side.answered).deliverBody(body)
        side.ask()
        body.transport.loseConnection()
        self.assertFalse(side.wire.gone)

    def test_can_be_closed_by_the_reader_who_has_had_enough(self):
        class Greedy(Body):
            def dataReceived(self, data):
                super().dataReceived(data)
                self.transport.loseConnection()

        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n1\r\ny\r\n0\r\n\r\n"
        for said in (answer(200, b"xy"), chunked, b"HTTP/1.1 200 OK\r\n\r\nxy"):
            side = Ours()
            end = said.index(b"\r\n\r\n") + 4
            side.wire.protocol.dataReceived(said[:end])
            body = Greedy()
            self.successResultOf(side.answered).deliverBody(body)
            side.wire.protocol.dataReceived(said[end:])
            self.assertTrue(side.wire.gone)
            self.assertIsNotNone(body.ended)
            self.assertEqual(side.idle, [])

    def test_needs_one_timer_for_all_that_it_waits_for(self):
        side = Ours()
        for _ in range(5):
            side.wire.protocol.dataReceived(answer(200))
            side.clock.advance(1)
            self.assertEqual(len(side.clock.getDelayedCalls()), 1)
            side.ask()
        side.wire.protocol.dataReceived(answer(200))
        side.clock.pump([1] * (KEPT_FOR - 1))
        self.assertFalse(side.wire.gone)
        side.clock.advance(1)
        self.assertTrue(side.wire.gone)
        self.assertEqual(side.clock.getDelayedCalls(), [])

    def test_takes_headers_of_full_length_at_once_or_byte_by_byte(self):
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: "
        head += b"x" * (HEAD_BYTES - len(head) - 4) + b"\r\n\r\n"
        for size in (1, len(head)):
            side = Ours()
            for at in range(0, len(head), size):
                side.wire.protocol.dataReceived(head[at : at + size])
            self.assertEqual(self.successResultOf(side.answered).code, 200)
