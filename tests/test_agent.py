"""The way to the application: limits, networks, TLS, the proxy."""

import datetime as dt
import ipaddress
import os
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import error, reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import URI
from zope.interface import implementer

from plivotx.config import Config, ConfigError
from plivotx.events import CallbackDelivered, DocumentFailed, DocumentFetched
from plivotx.handlers.agent import EARLY_BYTES, HEAD_BYTES, KEPT_FOR, make_agent, trusted
from plivotx.handlers.http import Web
from tests.test_http import Canned, Ticket, answer, callback, fetch

LIMITS = Config(http_connect_timeout=5, http_first_byte_timeout=10, http_timeout=15)
URL = "http://192.0.2.1:8000/answer/"
OK = answer(200, b"<Response/>")


# -- in memory -------------------------------------------------------------------------------------


@implementer(IHostnameResolver)
class Names:
    """Knows some names, and never answers for ``slow.test``."""

    def __init__(self, **names):
        self.names = names

    def resolveHostName(self, receiver, hostName, portNumber=0, *args, **more):
        receiver.resolutionBegan(None)
        if hostName == "slow.test":
            return
        found = self.names.get(hostName.partition(".")[0], () if hostName[-1].isalpha() else (hostName,))
        for each in found:
            kind = IPv6Address if ":" in each else IPv4Address
            receiver.addressResolved(kind("TCP", each, portNumber))
        receiver.resolutionComplete()


class Wire(StringTransport):
    """A connection whose other side is the test."""

    def __init__(self, factory, host):
        super().__init__(peerAddress=IPv4Address("TCP", host, 1))
        self.gone = False
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self)

    def setTcpNoDelay(self, enabled):
        """There are no packets."""

    def write(self, data):
        if not self.gone:
            super().write(data)

    def loseConnection(self):
        self.lose(error.ConnectionDone())

    def abortConnection(self):
        self.lose(error.ConnectionAborted())

    def lose(self, why):
        if not self.gone:
            self.gone = True
            self.protocol.connectionLost(Failure(why))

    def say(self, data):
        self.protocol.dataReceived(data)

    def heard(self):
        """What was written since the last time."""
        data = self.value()
        self.clear()
        return data


class InMemory(SynchronousTestCase):
    def setUp(self):
        self.use(LIMITS)

    def use(self, config, **names):
        self.reactor = MemoryReactorClock()
        self.reactor.installNameResolver(Names(**names))
        self.web = Web(make_agent(config, self.reactor), self.reactor, config)

    def begin(self, url=URL, **more):
        work = Deferred.fromCoroutine(self.web.fetch_document(fetch(url=url, **more), Ticket()))
        self.reactor.advance(0)
        return work

    @property
    def asked(self):
        """Where connections were asked for."""
        return [client[:2] for client in self.reactor.tcpClients]

    def connect(self, number=-1):
        host, _, factory, *_ = self.reactor.tcpClients[number]
        return Wire(factory, host)

    def refuse(self, number=-1):
        factory = self.reactor.tcpClients[number][2]
        factory.clientConnectionFailed(None, Failure(error.ConnectionRefusedError()))

    def why(self, work):
        """Why it has failed; without the method and the URL."""
        self.reactor.advance(0.5)  # a name's next address would be tried by then
        (event,) = self.successResultOf(work)
        self.assertIsInstance(event, DocumentFailed)
        self.assertFalse(event.final)
        return event.why.partition(": ")[2]

    def assertFetched(self, work):
        self.assertEqual(self.successResultOf(work), (DocumentFetched(number=1, body="<Response/>"),))

    def assertNothingLeft(self):
        self.assertEqual([each for each in self.reactor.getDelayedCalls() if each.active()], [])


class Times(InMemory):
    """v0.1 had no limit of time at all: one dead application kept a call for hours (its defect 22)."""

    def test_to_connect_has_a_limit(self):
        work = self.begin()
        self.assertEqual(self.asked, [("192.0.2.1", 8000)])
        self.reactor.advance(4.9)
        self.assertNoResult(work)
        self.reactor.advance(0.1)
        self.assertEqual(self.why(work), "no connection within 5 s (HTTP_CONNECT_TIMEOUT)")
        self.assertTrue(self.reactor.connectors[0].stoppedConnecting)
        self.assertNothingLeft()

    def test_to_find_an_address_belongs_to_it(self):
        work = self.begin("http://slow.test/")
        self.reactor.advance(5)
        self.assertEqual(self.why(work), "no connection within 5 s (HTTP_CONNECT_TIMEOUT)")

    def test_to_agree_on_tls_belongs_to_it(self):
        work = self.begin("https://192.0.2.1/")
        wire = self.connect()
        self.assertTrue(wire.heard().startswith(b"\x16\x03"))  # a handshake record
        self.reactor.advance(5)
        self.assertEqual(self.why(work), "no connection within 5 s (HTTP_CONNECT_TIMEOUT)")
        self.assertTrue(wire.gone)
        self.assertNothingLeft()

    def test_to_the_first_byte_has_a_limit_that_begins_with_the_request(self):
        work = self.begin()
        self.reactor.advance(4)
        wire = self.connect()
        self.assertTrue(wire.heard().startswith(b"POST /answer/ HTTP/1.1\r\n"))
        self.reactor.advance(9.9)
        self.assertNoResult(work)
        self.reactor.advance(0.1)
        why = self.why(work)
        self.assertEqual(why, "no beginning of an answer within 10 s (HTTP_FIRST_BYTE_TIMEOUT)")
        self.assertTrue(wire.gone)
        self.assertNothingLeft()

    def test_to_the_last_byte_has_a_limit_that_begins_with_the_connection(self):
        for beginning in (b"H", OK[:-3]):
            self.use(LIMITS)
            work = self.begin()
            self.reactor.advance(4)
            wire = self.connect()
            self.reactor.advance(9.9)
            wire.say(beginning)
            self.reactor.advance(1)
            self.assertNoResult(work)
            self.reactor.advance(0.1)
            self.assertEqual(self.why(work), "no whole answer within 15 s (HTTP_TIMEOUT)")
            self.assertTrue(wire.gone)
            self.assertNothingLeft()

    def test_are_those_of_the_configuration(self):
        self.use(Config(http_connect_timeout=0.5, http_first_byte_timeout=1.5, http_timeout=60))
        work = self.begin()
        self.reactor.advance(0.5)
        self.assertIn("within 0.5 s", self.why(work))
        work = self.begin()
        self.connect()
        self.reactor.advance(1.5)
        self.assertIn("within 1.5 s", self.why(work))

    def test_that_are_kept_are_no_failure(self):
        work = self.begin()
        self.reactor.advance(4.9)
        wire = self.connect()
        self.reactor.advance(9.9)
        wire.say(OK)
        self.assertFetched(work)

    def test_of_a_callback_are_the_same(self):
        work = Deferred.fromCoroutine(self.web.post_callback(callback(url=URL), Ticket()))
        self.reactor.advance(0)
        self.reactor.advance(5)
        (event,) = self.successResultOf(work)
        self.assertEqual(event.why, "no connection within 5 s (HTTP_CONNECT_TIMEOUT)")


class Requests(InMemory):
    def test_have_a_path_and_no_fragment(self):
        for url, target in (
            ("http://h.test", "/"),
            ("http://h.test?a=b/c", "/?a=b/c"),
            ("http://h.test#f", "/"),
            ("http://h.test/a?b#f", "/a?b"),
            ("http://h.test//a/../b;c?d&&=[]{}|", "//a/../b;c?d&&=[]{}|"),
        ):
            self.use(LIMITS, h=["192.0.2.1"])
            self.begin(url)
            self.assertTrue(self.connect().heard().startswith(f"POST {target} HTTP/1.1\r\n".encode()), url)

    def test_name_the_host_and_the_port_unless_it_is_the_usual_one(self):
        for url, asked, host in (
            ("http://192.0.2.1/", ("192.0.2.1", 80), "192.0.2.1"),
            ("http://192.0.2.1:80/", ("192.0.2.1", 80), "192.0.2.1"),
            ("http://192.0.2.1:443/", ("192.0.2.1", 443), "192.0.2.1:443"),
            ("http://[2001:db8::80]/", ("2001:db8::80", 80), "[2001:db8::80]"),
            ("http://[2001:db8::1]:8080/", ("2001:db8::1", 8080), "[2001:db8::1]:8080"),
        ):
            self.use(LIMITS)
            self.begin(url)
            self.assertEqual(self.asked, [asked])
            self.assertIn(f"\r\nHost: {host}\r\n".encode(), self.connect().heard())

    def test_take_the_same_url_apart_once(self):
        taken = []
        apart = URI.fromBytes
        self.patch(URI, "fromBytes", lambda url: (taken.append(url), apart(url))[1])
        wire = None
        for url in (URL, URL, URL + "?a=b", URL):
            work = self.begin(url)
            wire = wire or self.connect()
            target = url.removeprefix("http://192.0.2.1:8000")
            self.assertTrue(wire.heard().startswith(f"POST {target} HTTP/1.1\r\n".encode()), url)
            wire.say(OK)
            self.assertFetched(work)
        self.assertEqual(taken, [URL.encode(), (URL + "?a=b").encode()])
        self.assertEqual(len(self.asked), 1)

    def test_that_cannot_be_made_are_failures_of_this_try(self):
        for url, why in (
            ("http://192.0.2.1/ HTTP/1.1\r\nX: y", "no request can be made to b'http://192.0.2.1/ HTTP"),
            ("ftp://192.0.2.1/", "ftp is neither http nor https"),
        ):
            for _ in range(2):
                self.assertIn(why, self.why(self.begin(url)))
        self.assertEqual(self.asked, [])


class Connections(InMemory):
    def test_are_used_only_for_the_host_they_lead_to(self):
        work = self.begin("http://192.0.2.1/")
        self.connect().say(OK)
        self.assertFetched(work)
        for url in ("http://192.0.2.1:81/", "http://192.0.2.2/", "https://192.0.2.1/"):
            self.begin(url)
        self.assertEqual(len(self.asked), 4)

    def test_are_read_without_a_pause_which_costs_more_than_the_answer(self):
        paused = []
        self.patch(Wire, "pauseProducing", paused.append)
        work = self.begin()
        wire = self.connect()
        for piece in (OK[:-3], OK[-3:-1], OK[-1:]):
            wire.say(piece)
        self.assertFetched(work)
        self.assertEqual(paused, [])

    def test_are_used_again_with_limits_of_their_own_for_each_request(self):
        work = self.begin()
        wire = self.connect()
        wire.say(OK)
        self.assertFetched(work)
        self.reactor.advance(20)
        self.assertFalse(wire.gone)
        wire.clear()
        work = self.begin()
        self.assertEqual(len(self.asked), 1)
        self.assertIn(b"POST /answer/", wire.heard())
        self.reactor.advance(10)
        self.assertIn("HTTP_FIRST_BYTE_TIMEOUT", self.why(work))

    def test_are_not_used_again_behind_an_answer_of_http_1_0_for_the_other_side_closes_them(self):
        work = self.begin()
        wire = self.connect()
        wire.say(OK.replace(b"HTTP/1.1", b"HTTP/1.0"))
        self.assertFetched(work)
        self.assertTrue(wire.gone)
        self.begin()
        self.assertEqual(len(self.asked), 2)

    def test_are_used_again_if_http_1_0_says_that_they_are_kept(self):
        work = self.begin()
        wire = self.connect()
        wire.say(OK.replace(b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive"))
        self.assertFetched(work)
        self.assertFalse(wire.gone)
        self.begin()
        self.assertEqual(len(self.asked), 1)

    def test_are_closed_when_nobody_has_needed_them_for_a_while(self):
        work = self.begin()
        wire = self.connect()
        wire.say(OK)
        self.assertFetched(work)
        self.reactor.advance(KEPT_FOR)
        self.assertTrue(wire.gone)
        self.assertNothingLeft()

    def test_that_break_fail_one_try_and_nothing_is_sent_again_behind_its_back(self):
        for method in ("GET", "POST"):
            self.use(LIMITS)
            work = self.begin(method=method)
            wire = self.connect()
            wire.say(OK)
            self.assertFetched(work)
            work = self.begin(method=method)
            wire.lose(error.ConnectionDone())
            self.assertEqual(self.why(work), "Connection was closed cleanly.")
            self.assertEqual(len(self.asked), 1)

    def test_that_are_refused_say_so(self):
        work = self.begin()
        self.refuse()
        self.assertIn("refused", self.why(work))

    def test_to_a_name_that_is_none_say_so(self):
        self.assertIn("nowhere.test", self.why(self.begin("http://nowhere.test/")))

    def test_are_let_go_if_the_headers_never_end(self):
        work = self.begin()
        wire = self.connect()
        wire.say(b"HTTP/1.1 200 OK\r\n")
        line = b"X: " + b"x" * 1000 + b"\r\n"
        for _ in range(HEAD_BYTES // len(line)):
            wire.say(line)
        self.assertFalse(wire.gone)
        wire.say(line)
        self.assertTrue(wire.gone)
        self.assertEqual(self.why(work), f"the headers of the answer are longer than {HEAD_BYTES} bytes")

    def test_are_let_go_if_the_body_never_ends(self):
        work = self.begin()
        wire = self.connect()
        wire.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        most = HEAD_BYTES + 8 * LIMITS.max_document_bytes
        chunk = b"1;" + b"x" * 1000 + b"\r\n \r\n"
        for _ in range(most // len(chunk) + 1):
            wire.say(chunk)
        self.assertTrue(wire.gone)
        self.assertEqual(self.why(work), f"the answer is longer than {most} bytes, headers included")

    def test_take_a_few_interim_answers_and_then_an_answer_in_whatever_pieces(self):
        early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        for size in (1, 7, 10_000):
            self.use(LIMITS)
            work = self.begin()
            wire = self.connect()
            sent = early + answer(200, b"<Response/>")
            for at in range(0, len(sent), size):
                wire.say(sent[at : at + size])
            self.assertFetched(work)

    def test_are_let_go_if_nothing_but_interim_answers_comes(self):
        head = b"HTTP/1.1 100 Continue\r\n\r\n"
        for size in (1, 1000):
            self.use(LIMITS)
            work = self.begin()
            wire = self.connect()
            for _ in range(EARLY_BYTES // len(head * size) + 1):
                self.assertFalse(wire.gone)
                wire.say(head * size)
            self.assertTrue(wire.gone)
            why = f"more than {EARLY_BYTES} bytes have come, and no beginning of a final answer"
            self.assertEqual(self.why(work), why)

    def test_take_a_document_of_full_length_that_comes_byte_by_byte(self):
        work = self.begin()
        wire = self.connect()
        wire.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(LIMITS.max_document_bytes // 1024):
            wire.say(b"1\r\n \r\n" * 1024)
        wire.say(b"0\r\n\r\n")
        (event,) = self.successResultOf(work)
        self.assertEqual(len(event.body), LIMITS.max_document_bytes)


class Confined(InMemory):
    def setUp(self):
        config = Config(application_networks=("10.0.0.0/8", "fd00::/8"))
        self.use(
            config,
            inside=["10.1.2.3"],
            outside=["192.0.2.1"],
            outside6=["2001:db8::1"],
            mapped=["::ffff:192.0.2.1"],
            mixed=["192.0.2.1", "10.1.2.3"],
        )

    def test_requests_reach_what_is_inside(self):
        for url, host in (
            ("http://10.0.0.1/", "10.0.0.1"),
            ("http://inside.test/", "10.1.2.3"),
            ("http://[fd00::1]/", "fd00::1"),
            ("http://[::ffff:10.0.0.1]/", "::ffff:10.0.0.1"),
        ):
            self.reactor.tcpClients.clear()
            work = self.begin(url)
            self.assertEqual(self.asked, [(host, 80)])
            self.connect().say(OK)
            self.assertFetched(work)

    def test_requests_to_what_is_outside_are_not_even_connected(self):
        for url, address in (
            ("http://192.0.2.1/", "192.0.2.1"),
            ("https://192.0.2.1/", "192.0.2.1"),
            ("http://127.0.0.1/", "127.0.0.1"),
            ("http://[::1]/", "::1"),
            ("http://[::ffff:192.0.2.1]/", "::ffff:c000:201"),
        ):
            why = self.why(self.begin(url))
            self.assertEqual(why, f"{address} is in none of APPLICATION_NETWORKS")
        self.assertEqual(self.asked, [])

    def test_a_name_cannot_point_elsewhere(self):
        for name, address in (
            ("outside", "192.0.2.1"),
            ("outside6", "2001:db8::1"),
            ("mapped", "::ffff:c000:201"),
        ):
            self.assertIn(
                f"{address} is in none of APPLICATION_NETWORKS", self.why(self.begin(f"http://{name}.test/"))
            )
        self.assertEqual(self.asked, [])

    def test_of_several_addresses_of_a_name_only_those_inside_are_tried(self):
        work = self.begin("http://mixed.test/")
        self.reactor.advance(0.5)
        self.assertEqual(self.asked, [("10.1.2.3", 80)])
        self.connect().say(OK)
        self.assertFetched(work)

    def test_a_redirect_cannot_lead_elsewhere(self):
        work = self.begin("http://inside.test/")
        self.connect().say(answer(302, b"", "Location: http://outside.test/secret"))
        self.assertIn("192.0.2.1 is in none of APPLICATION_NETWORKS", self.why(work))
        self.assertEqual(self.asked, [("10.1.2.3", 80)])

    def test_nothing_is_refused_where_no_network_is_named(self):
        self.use(Config())
        self.begin("http://127.0.0.1/")
        self.assertEqual(self.asked, [("127.0.0.1", 80)])


class ByProxy(InMemory):
    def setUp(self):
        self.config = Config(proxy_url="http://192.0.2.9:3128/")
        self.use(self.config)

    def tunnel(self):
        work = self.begin("https://application.test/answer/")
        wire = self.connect()
        self.assertEqual(
            wire.heard(), b"CONNECT application.test:443 HTTP/1.1\r\nHost: application.test:443\r\n\r\n"
        )
        return work, wire

    def test_what_is_for_http_is_asked_of_the_proxy_with_the_whole_url(self):
        work = self.begin("http://application.test/answer/?a=b", method="GET", params=())
        self.assertEqual(self.asked, [("192.0.2.9", 3128)])
        wire = self.connect()
        head = wire.heard().decode()
        self.assertTrue(head.startswith("GET http://application.test/answer/?a=b HTTP/1.1\r\n"), head)
        self.assertIn("\r\nHost: application.test\r\n", head)
        wire.say(OK)
        self.assertFetched(work)

    def test_what_is_for_https_goes_through_a_tunnel_which_v01_did_not_make(self):
        """Its defect 38: PROXY_URL had no effect on https."""
        _, wire = self.tunnel()
        self.assertEqual(self.asked, [("192.0.2.9", 3128)])
        wire.say(b"HTTP/1.1 200 Connection ")
        self.assertEqual(wire.heard(), b"")
        wire.say(b"established\r\nVia: x\r\n\r\n")
        self.assertTrue(wire.heard().startswith(b"\x16\x03"))

    def test_the_tunnel_to_an_ipv6_address_has_it_in_brackets(self):
        self.begin("https://[2001:db8::1]:8443/")
        self.assertTrue(self.connect().heard().startswith(b"CONNECT [2001:db8::1]:8443 HTTP/1.1\r\n"))

    def test_a_proxy_that_opens_no_tunnel_is_quoted(self):
        for said, why in (
            (b"HTTP/1.1 403 Forbidden\r\n\r\n", "'HTTP/1.1 403 Forbidden'"),
            (b"HTTP/1.0 407 \x1b[0m\xff\r\nX: y\r\n\r\n", "'HTTP/1.0 407 \\x1b[0m\\xff'"),
            (b"SSH-2.0-OpenSSH\r\n\r\n", "'SSH-2.0-OpenSSH'"),
            (b"HTTP/1.1 2000\r\n\r\n", "'HTTP/1.1 2000'"),
            (b"HTTP/1.1 200 OK\r\n" + b"x" * 20_000, "its answer is longer than 16384 bytes"),
        ):
            work, wire = self.tunnel()
            wire.say(said)
            self.assertEqual(self.why(work), f"the proxy opens no tunnel to application.test:443: {why}")
            self.assertTrue(wire.gone)

    def test_a_proxy_that_hangs_up_or_says_nothing_is_a_failure_of_this_try(self):
        work, wire = self.tunnel()
        wire.lose(error.ConnectionDone())
        self.assertIn("the proxy opens no tunnel to application.test:443: Connection was", self.why(work))
        work, wire = self.tunnel()
        self.reactor.advance(5)
        self.assertEqual(self.why(work), "no connection within 5 s (HTTP_CONNECT_TIMEOUT)")
        self.assertTrue(wire.gone)
        self.assertNothingLeft()

    def test_a_proxy_that_is_not_there_is_named(self):
        for url in ("http://application.test/", "https://application.test/"):
            work = self.begin(url)
            self.refuse()
            self.assertIn("the proxy 192.0.2.9:3128: Connection was refused", self.why(work))

    def test_of_the_networks_only_an_address_in_the_url_is_checked(self):
        self.use(Config(proxy_url="http://192.0.2.9:3128", application_networks=("10.0.0.0/8",)))
        for host in (
            "192.0.2.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "127.1",
            "0x7f000001",
            "2130706433",
            "192.0.2.1.",
        ):
            for scheme in ("http", "https"):
                self.assertIn(
                    "is in none of APPLICATION_NETWORKS", self.why(self.begin(f"{scheme}://{host}/"))
                )
        self.assertEqual(self.asked, [])
        for host in ("10.0.0.1", "application.test"):
            self.begin(f"http://{host}/")
        self.assertEqual(self.asked, [("192.0.2.9", 3128)] * 2)


# -- with sockets and TLS --------------------------------------------------------------------------


def certificate(*names, days=1, issuer=None):
    """A certificate for these names, with its key; signed by itself or by *issuer*."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"plivotx {names}")])
    begin = dt.datetime.now(dt.UTC) - dt.timedelta(days=2)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer[0].subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + dt.timedelta(days=2 + days))
        .add_extension(x509.BasicConstraints(ca=not issuer, path_length=None), critical=True)
    )
    if names:
        alternatives = [
            x509.IPAddress(ipaddress.ip_address(each)) if each[0].isdigit() else x509.DNSName(each)
            for each in names
        ]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def pem(made):
    return made[0].public_bytes(serialization.Encoding.PEM)


def served(made):
    """What a server needs of it."""
    key = made[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return PrivateCertificate.loadPEM(pem(made) + key).options()


AUTHORITY = certificate()
OURS = certificate("localhost", "127.0.0.1", issuer=AUTHORITY)


class Proxy(Protocol):
    """A tiny HTTP proxy: passes everything on to where its first line says."""

    def connectionMade(self):
        self.buffer = b""
        self.other = None
        self.factory.open.add(self)

    def dataReceived(self, data):
        if self.other:
            self.other.transport.write(data)
            return
        self.buffer += data
        if b"\r\n\r\n" in self.buffer:
            first, _, _ = self.buffer.partition(b"\r\n")
            self.factory.asked.append(first.decode())
            method, target, _ = first.decode().split()
            where = urlsplit(f"//{target}" if method == "CONNECT" else target)
            endpoint = TCP4ClientEndpoint(reactor, where.hostname, where.port)
            connectProtocol(endpoint, Other(self)).addCallback(self.joined, method)

    def joined(self, other, method):
        self.other = other
        if method == "CONNECT":
            self.transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            other.transport.write(self.buffer)

    def connectionLost(self, reason=None):
        self.factory.open.discard(self)
        if self.other:
            self.other.transport.loseConnection()


class Other(Protocol):
    """The proxy's connection to a server."""

    def __init__(self, client):
        self.client = client

    def dataReceived(self, data):
        self.client.transport.write(data)

    def connectionLost(self, reason=None):
        self.client.transport.loseConnection()


class OverSockets(TestCase):
    timeout = 20

    def setUp(self):
        self.server = Factory.forProtocol(Canned)
        self.server.received, self.server.open, self.server.breaks = [], 0, False
        self.server.answers = {"/": OK}
        self.server.all_gone, self.server.asked = Deferred(), Deferred()

    async def listen(self, made=OURS, factory=None):
        factory = factory or (TLSMemoryBIOFactory(served(made), False, self.server) if made else self.server)
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        self.addCleanup(port.stopListening)
        return port.getHost().port

    def trusting(self, *made, **more):
        """A configuration that trusts these."""
        path = Path(self.mktemp())
        path.write_bytes(b"a comment\n" + b"".join(map(pem, made)))
        return Config(http_ca_file=str(path), **more)

    async def ask(self, config, url, *, times=1, what=fetch):
        """What becomes of a request; everything is closed afterwards."""
        agent = make_agent(config, reactor)
        web = Web(agent, reactor, config)
        try:
            for _ in range(times):
                do = web.fetch_document if what is fetch else web.post_callback
                (event,) = await Deferred.fromCoroutine(do(what(url=url), Ticket()))
        finally:
            await getattr(agent, "_through", agent)._pool.closeCachedConnections()
            if self.server.open:
                await self.server.all_gone
        return event

    async def refused(self, config, url):
        event = await self.ask(config, url)
        self.assertIsInstance(event, DocumentFailed)
        self.assertEqual(self.server.received, [])
        return event.why.removeprefix(f"POST {url}: ")


class Https(OverSockets):
    async def test_is_spoken_with_a_host_that_one_of_the_trusted_has_vouched_for(self):
        port = await self.listen()
        for host in ("localhost", "127.0.0.1"):
            self.server.received.clear()
            event = await self.ask(
                self.trusting(certificate("other.test"), AUTHORITY), f"https://{host}:{port}/", times=2
            )
            self.assertEqual(event, DocumentFetched(number=1, body="<Response/>"))
            self.assertEqual(len(self.server.received), 2)

    async def test_uses_one_connection_for_several_requests(self):
        port = await self.listen()
        made = []
        connected = Canned.connectionMade
        self.patch(Canned, "connectionMade", lambda canned: (made.append(canned), connected(canned)))
        await self.ask(self.trusting(AUTHORITY), f"https://localhost:{port}/", times=3)
        self.assertEqual((len(made), len(self.server.received)), (1, 3))

    async def test_trusts_the_systems_certificates_where_no_others_are_named(self):
        port = await self.listen()
        why = await self.refused(Config(), f"https://localhost:{port}/")
        self.assertEqual(why, "certificate verify failed: unable to get local issuer certificate")
        self.patch(os, "environ", {**os.environ})
        os.environ["SSL_CERT_FILE"] = self.trusting(AUTHORITY).http_ca_file
        os.putenv("SSL_CERT_FILE", os.environ["SSL_CERT_FILE"])
        self.addCleanup(os.unsetenv, "SSL_CERT_FILE")
        event = await self.ask(Config(), f"https://localhost:{port}/")
        self.assertIsInstance(event, DocumentFetched, str(event))

    async def test_is_not_spoken_with_a_certificate_that_nobody_vouches_for(self):
        port = await self.listen(certificate("localhost"))
        for config in (Config(), self.trusting(AUTHORITY)):
            why = await self.refused(config, f"https://localhost:{port}/")
            self.assertEqual(why, "certificate verify failed: self-signed certificate")

    async def test_is_not_spoken_with_another_host(self):
        port = await self.listen(certificate("other.test", issuer=AUTHORITY))
        for host in ("localhost", "127.0.0.1"):
            why = await self.refused(self.trusting(AUTHORITY), f"https://{host}:{port}/")
            self.assertEqual(why, f"certificate verify failed: it is not one for {host}")

    async def test_is_not_spoken_with_a_certificate_that_has_run_out(self):
        port = await self.listen(certificate("localhost", days=-1, issuer=AUTHORITY))
        why = await self.refused(self.trusting(AUTHORITY), f"https://localhost:{port}/")
        self.assertEqual(why, "certificate verify failed: certificate has expired")

    async def test_is_not_spoken_with_a_server_that_cannot(self):
        class Plain(Protocol):
            def dataReceived(self, data):
                self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        port = await self.listen(factory=Factory.forProtocol(Plain))
        why = await self.refused(self.trusting(AUTHORITY), f"https://localhost:{port}/")
        self.assertRegex(why, "wrong version number|record layer failure|packet length too long")

    async def test_lets_go_of_an_answer_that_is_too_long(self):
        port = await self.listen()
        self.server.answers["/"] = answer(200, b"x" * 300_000, length=10**12)
        event = await self.ask(self.trusting(AUTHORITY), f"https://localhost:{port}/")
        self.assertTrue(event.final, str(event))  # and `ask` has waited for the connection to be closed


class AFileOfCertificates(TestCase):
    def test_that_holds_none_stops_the_start(self):
        path = Path(self.mktemp())
        for text, why in (
            (b"", "holds no certificate"),
            (b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n", ""),
        ):
            path.write_bytes(text)
            raised = self.assertRaises(ConfigError, trusted, Config(http_ca_file=str(path)))
            self.assertIn(f"HTTP_CA_FILE = '{path}': {why}", str(raised))
        raised = self.assertRaises(ConfigError, make_agent, Config(http_ca_file="/nowhere.pem"), reactor)
        self.assertEqual(str(raised), "HTTP_CA_FILE = '/nowhere.pem': No such file or directory")

    def test_may_hold_several(self):
        path = Path(self.mktemp())
        path.write_bytes(pem(AUTHORITY) + b"\n" + pem(certificate()))
        options = CertificateOptions(trustRoot=trusted(Config(http_ca_file=str(path))))
        self.assertTrue(options.verify)


class ThroughAProxy(OverSockets):
    async def setUp(self):
        super().setUp()
        self.proxy = Factory.forProtocol(Proxy)
        self.proxy.asked, self.proxy.open = [], set()
        self.proxy_url = f"http://127.0.0.1:{await self.listen(factory=self.proxy)}"

    async def test_http_is_asked_with_the_whole_url(self):
        url = f"http://127.0.0.1:{await self.listen(made=None)}/"
        self.server.answers[url] = OK
        event = await self.ask(Config(proxy_url=self.proxy_url), url)
        self.assertIsInstance(event, DocumentFetched, str(event))
        self.assertEqual(self.proxy.asked, [f"POST {url} HTTP/1.1"])

    async def test_https_is_verified_with_the_host_behind_it(self):
        port = await self.listen()
        event = await self.ask(
            self.trusting(AUTHORITY, proxy_url=self.proxy_url), f"https://localhost:{port}/", times=2
        )
        self.assertIsInstance(event, DocumentFetched, str(event))
        self.assertEqual(self.proxy.asked, [f"CONNECT localhost:{port} HTTP/1.1"])
        self.assertEqual([each[:2] for each in self.server.received], [("POST", "/")] * 2)

    async def test_https_with_a_host_that_is_not_trusted_fails_as_without_one(self):
        port = await self.listen(certificate("localhost"))
        why = await self.refused(
            self.trusting(AUTHORITY, proxy_url=self.proxy_url), f"https://localhost:{port}/"
        )
        self.assertEqual(why, "certificate verify failed: self-signed certificate")

    async def test_a_callback_is_delivered(self):
        port = await self.listen()
        config = self.trusting(AUTHORITY, proxy_url=self.proxy_url)
        event = await self.ask(config, f"https://localhost:{port}/", what=callback)
        self.assertIsInstance(event, CallbackDelivered)
