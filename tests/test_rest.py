"""The API over HTTP: who may ask, what is read of a request, and what is answered."""

import json
from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st
from treq.client import HTTPClient
from treq.testing import StubTreq
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, HTTPConnectionPool

from plivotx.config import Config
from plivotx.log.interface import Conflict, Unwritable
from plivotx.log.memory import MemoryLog
from plivotx.rest import app
from plivotx.rest.app import MAX_BODY, MAX_DISCARDED, MAX_FIELDS, PATIENCE, Api, site

UUID = "7b1d6a52-3c1b-4f0e-8f3e-1de0b7a1c0aa"
FORM = {
    "From": "+15551234",
    "To": "+4930123",
    "Gateways": "sofia/gateway/self/",
    "AnswerUrl": "http://application.test/answer/",
}
BODY = (
    b"From=%2B15551234&To=%2B4930123&Gateways=sofia/gateway/self/&AnswerUrl=http://application.test/answer/"
)
URLENCODED = ("Content-Type", "application/x-www-form-urlencoded")
EXECUTED = {"Success": True, "Message": "Call Request Executed", "RequestUUID": UUID}
LOCAL = IPv4Address("TCP", "127.0.0.1", 5000)
SAFE = Config(auth_id="id", auth_token="to:ken")


def basic(text):
    return ("Authorization", "Basic " + b64encode(text.encode()).decode())


class Recorder:
    """Stands in for the engine."""

    def __init__(self):
        self.accepted = []
        self.answer = lambda: succeed(1)

    def __call__(self, event):
        self.accepted.append(event)
        return self.answer()


def api(config=None, accept=None, check=lambda event: None):
    return Api(
        config or Config(),
        accept or Recorder(),
        check,
        new_uuid=lambda: UUID,
        log=MemoryLog(),
        renew=fail,
        hang_up=fail,
    )


class OverBytes(SynchronousTestCase):
    """One connection: bytes in, bytes out."""

    def setUp(self):
        self.accept = Recorder()
        self.connect()

    def connect(self, config=None, peer=LOCAL, **more):
        factory = site(api(config, self.accept, **more))
        self.clock = factory.reactor = Clock()
        self.protocol = factory.buildProtocol(peer)
        self.transport = StringTransportWithDisconnection(peerAddress=peer)
        self.transport.protocol = self.protocol
        self.protocol.makeConnection(self.transport)

    def send(self, *pieces):
        for each in pieces:
            if self.transport.connected:
                self.protocol.dataReceived(each)

    def answers(self):
        """What was answered so far, as (status, headers, body)."""
        data, found = self.transport.value(), []
        self.transport.clear()
        while data:
            head, _, data = data.partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in lines)}
            if headers.get("transfer-encoding") == "chunked":
                body = b""
                while True:
                    size, _, data = data.partition(b"\r\n")
                    body, data = body + data[: int(size, 16)], data[int(size, 16) + 2 :]
                    if not int(size, 16):
                        break
            else:
                length = int(headers.get("content-length", len(data)))
                body, data = data[:length], data[length:]
            found.append((int(first.split()[1]), headers, body))
        return found

    def post(self, body=BODY, *headers, path=b"/v0.1/Call/", method=b"POST"):
        lines = [method + b" " + path + b" HTTP/1.1"]
        for name, value in headers or (URLENCODED,):
            lines.append(name.encode() + b": " + (value if isinstance(value, bytes) else value.encode()))
        lines += [b"Content-Length: %d" % len(body), b"", b""]
        self.send(b"\r\n".join(lines), body)
        ((status, self.headers, answer),) = self.answers()
        self.assertEqual(self.headers["content-type"], "application/json")
        self.assertEqual(answer[-2:], b"}\n")
        answer = json.loads(answer)
        self.assertEqual(sorted(answer), ["Message", "RequestUUID", "Success"])
        return status, answer

    def assertAccepted(self, answer):
        self.assertEqual(answer, (200, EXECUTED))

    def assertRefused(self, answer, why):
        status, said = answer
        self.assertEqual((status, said["Success"], said["RequestUUID"]), (200, False, ""))
        self.assertIn(why, said["Message"])
        self.assertEqual(self.accept.accepted, [])


class Accepting(OverBytes):
    def test_a_call_is_answered_with_its_request_uuid(self):
        self.assertAccepted(self.post())
        (event,) = self.accept.accepted
        self.assertEqual((event.request_uuid, event.to_number), (UUID, "+4930123"))

    def test_the_answer_waits_until_the_request_is_on_disk(self):
        written = Deferred()
        self.accept.answer = lambda: written
        self.send(b"POST /v0.1/Call/ HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(BODY), BODY)
        self.assertEqual(self.transport.value(), b"")
        written.callback(1)
        ((status, _, _),) = self.answers()
        self.assertEqual(status, 200)

    def test_a_log_that_cannot_be_written_is_answered_503_and_may_be_tried_again(self):
        for error in (Unwritable("disk full"), Conflict("there already")):
            self.accept.answer = lambda error=error: fail(error)
            status, answer = self.post()
            self.assertEqual((status, answer["Success"], answer["RequestUUID"]), (503, False, ""))
            self.assertEqual(self.headers["retry-after"], "5")
            self.assertNotIn("disk full", answer["Message"])

    def test_a_refused_parameter_is_answered_with_status_200(self):
        self.assertRefused(self.post(BODY.replace(b"To=", b"Too=")), "Mandatory Parameters Missing: To")

    def test_a_client_that_leaves_while_the_log_writes_disturbs_nothing(self):
        written = Deferred()
        self.accept.answer = lambda: written
        self.send(b"POST /v0.1/Call/ HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(BODY), BODY)
        self.transport.loseConnection()
        if not written.called:
            written.callback(1)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_handler_that_raises_is_answered_500_without_its_trace_and_logged(self):
        def broken(event):
            raise RuntimeError("the secret reason")

        self.connect(check=broken)
        status, answer = self.post()
        self.assertEqual((status, answer["Message"]), (500, "Internal Server Error"))
        self.assertNotIn("secret", str(answer) + str(self.headers))
        (logged,) = self.flushLoggedErrors(RuntimeError)
        self.assertIn("the secret reason", logged.getErrorMessage())
        self.accept.answer = lambda: fail(RuntimeError("another"))
        self.connect()
        self.assertEqual(self.post()[0], 500)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class WhoMayAsk(OverBytes):
    def test_anybody_without_credentials_in_the_configuration(self):
        self.assertAccepted(self.post())

    def test_nobody_with_wrong_ones(self):
        self.connect(SAFE)
        for header in (
            URLENCODED,
            basic("id:to:kem"),
            basic("id:to"),
            basic("id:"),
            basic("id"),
            basic(""),
            basic("di:to:ken"),
            basic("id:to:ken "),
            basic("id:to:kenß"),
            ("Authorization", "Basic"),
            ("Authorization", "Basic !!!"),
            ("Authorization", "Basic aWQ6dG86a2V"),
            ("Authorization", "Basic aWQ6dG86a2Vu aWQ6dG86a2Vu"),
            ("Authorization", "Basic é"),
            ("Authorization", b"Basic \xff\xfe"),
            ("Authorization", b"\xff"),
            ("Authorization", "Bearer aWQ6dG86a2Vu"),
            ("Authorization", "aWQ6dG86a2Vu"),
            ("X-Authorization", basic("id:to:ken")[1]),
        ):
            with self.subTest(header=header):
                status, answer = self.post(BODY, header, ("Content-Type", URLENCODED[1]))
                self.assertEqual((status, answer["Message"]), (401, "HTTP Auth Failed"))
                self.assertEqual(self.headers["www-authenticate"], 'Basic realm="plivotx"')
                self.assertNotIn("to:ken", str(answer) + str(self.headers))
        self.assertEqual(self.accept.accepted, [])

    def test_who_knows_them_may(self):
        self.connect(SAFE)
        self.assertAccepted(self.post(BODY, basic("id:to:ken")))
        self.assertAccepted(self.post(BODY, ("Authorization", "basic " + basic("id:to:ken")[1][6:])))

    def test_they_may_be_in_any_script(self):
        self.connect(Config(auth_id="Zoë", auth_token="تجربة:密码"))
        self.assertAccepted(self.post(BODY, basic("Zoë:تجربة:密码")))
        self.assertEqual(self.post(BODY, basic("Zoë:تجربة:密"))[0], 401)

    def test_they_are_compared_in_constant_time(self):
        compared = []

        class Watched:
            @staticmethod
            def compare_digest(one, other):
                compared.append((one, other))
                return one == other

        self.patch(app, "hmac", Watched)
        self.connect(SAFE)
        self.post(BODY, basic("id:x"))
        self.post(BODY, basic("id:to:ken"))
        self.assertEqual(compared, [(b"id:x", b"id:to:ken"), (b"id:to:ken", b"id:to:ken")])

    def test_paths_that_do_not_exist_are_told_to_nobody_else(self):
        self.connect(SAFE)
        self.assertEqual(self.post(path=b"/nothing")[0], 401)
        self.assertEqual(self.post(BODY, basic("id:to:ken"), path=b"/nothing")[0], 404)

    def test_only_addresses_that_are_allowed(self):
        config = Config(allowed_ips=("127.0.0.1", "::1"))
        for peer, status in (
            (IPv4Address("TCP", "127.0.0.1", 1), 200),
            (IPv6Address("TCP", "::1", 1), 200),
            (IPv6Address("TCP", "::ffff:127.0.0.1", 1), 200),
            (IPv4Address("TCP", "127.0.0.2", 1), 401),
            (IPv6Address("TCP", "::2", 1), 401),
            (IPv6Address("TCP", "::ffff:10.0.0.1", 1), 401),
        ):
            self.connect(config, peer)
            got, answer = self.post(BODY, ("X-Forwarded-For", "127.0.0.1"))
            self.assertEqual(got, status, peer)
            if status == 401:
                self.assertEqual(answer["Message"], "IP Auth Failed")

    def test_or_whose_network_is(self):
        config = Config(allowed_ips=("10.1.0.0/16", "2001:db8::/32"))
        for peer, status in (
            (IPv4Address("TCP", "10.1.255.255", 1), 200),
            (IPv6Address("TCP", "::ffff:10.1.0.1", 1), 200),
            (IPv6Address("TCP", "2001:db8::7", 1), 200),
            (IPv4Address("TCP", "10.2.0.0", 1), 401),
            (IPv6Address("TCP", "2001:db9::7", 1), 401),
            (UNIXAddress(b"/run/plivotx"), 401),
        ):
            self.connect(config, peer)
            self.assertEqual(self.post()[0], status, peer)

    def test_with_both_the_credentials_are_asked_for_first(self):
        self.connect(Config(auth_id="a", auth_token="b", allowed_ips=("10.0.0.1",)))
        self.assertEqual(self.post()[1]["Message"], "HTTP Auth Failed")
        self.assertEqual(self.post(BODY, basic("a:b"))[1]["Message"], "IP Auth Failed")


class WhatIsRead(OverBytes):
    def test_fields_of_the_query_do_not_count(self):
        self.assertRefused(self.post(b"", path=b"/v0.1/Call/?" + BODY), "From, To, Gateways, AnswerUrl")
        self.assertAccepted(self.post(path=b"/v0.1/Call/?To=1"))
        self.assertEqual(self.accept.accepted[0].to_number, "+4930123")

    def test_of_a_repeated_field_the_first_counts(self):
        self.post(b"To=1&To=2&" + BODY)
        self.assertEqual(self.accept.accepted[0].to_number, "1")

    def test_the_first_counts_even_if_it_is_empty(self):
        self.assertRefused(self.post(b"To=&" + BODY), "Missing: To")

    def test_without_a_content_type_it_is_a_form(self):
        self.assertAccepted(self.post(BODY, ("X", "y")))

    def test_blanks_and_escapes_are_decoded_and_nothing_is_trimmed(self):
        self.post(BODY + b"&AccountSID=+a%20b%26%3D%2b%0D%0A%E4%BD%A0+&&x&=y&\xc3\xa9=1")
        self.assertEqual(self.accept.accepted[0].account_sid, " a b&=+\r\n你 ")

    def test_text_that_is_not_utf8_is_refused_with_the_name_of_its_field(self):
        self.assertRefused(self.post(BODY + b"&AccountSID=%FF"), "'AccountSID' is not UTF-8")
        self.assertRefused(self.post(BODY + b"&AccountSID=\xff"), "'AccountSID' is not UTF-8")
        self.assertRefused(self.post(BODY + b"&AccountSID=%ED%A0%80"), "'AccountSID' is not UTF-8")
        self.assertRefused(self.post(BODY + b"&%FF=1"), "The name of a field is not UTF-8")

    def test_too_many_fields_are_refused(self):
        self.assertAccepted(self.post(BODY + b"&a" * (MAX_FIELDS - 4)))
        self.accept.accepted.clear()
        self.assertRefused(self.post(BODY + b"&a" * (MAX_FIELDS - 3)), f"more than {MAX_FIELDS} fields")
        self.assertRefused(self.post(b"&" * 1_000_000), f"more than {MAX_FIELDS} fields")

    def test_another_content_type_is_refused_by_name(self):
        for kind in (
            "application/json",
            "text/plain",
            "application/xml; charset=utf-8",
            "é",
            "\\",
            ";",
            "a" * 5000,
        ):
            self.assertRefused(self.post(b"{}", ("Content-Type", kind)), "The body must be")
        self.assertRefused(self.post(BODY, ("Content-Type", b"\xff\xfe")), "The body must be")

    def test_the_content_type_may_have_options_and_any_case(self):
        for kind in (
            "application/x-www-form-urlencoded; charset=UTF-8",
            "Application/X-WWW-Form-Urlencoded;charset=iso-8859-1",
            "application/x-www-form-urlencoded ; ;=",
        ):
            self.assertAccepted(self.post(BODY, ("Content-Type", kind)))

    def multipart(self, *parts, boundary="xx", kind=None):
        body = (
            b"".join(b"--xx\r\n" + head + b"\r\n\r\n" + value + b"\r\n" for head, value in parts)
            + b"--xx--\r\n"
        )
        return self.post(body, ("Content-Type", kind or f'multipart/form-data; boundary="{boundary}"'))

    def parts(self, **more):
        return [
            (f'Content-Disposition: form-data; name="{name}"'.encode(), value.encode())
            for name, value in {**FORM, **more}.items()
        ]

    def test_multipart_forms_are_read(self):
        self.assertAccepted(self.multipart(*self.parts(AccountSID="é\r\n你 ")))
        self.assertEqual(self.accept.accepted[0].account_sid, "é\r\n你 ")

    def test_in_multipart_forms_files_do_not_count_and_the_first_of_several_does(self):
        head = b'Content-Disposition: form-data; name="To"'
        self.multipart((head + b'; filename="a"', b"1"), (head, b"2"), *self.parts())
        self.assertEqual(self.accept.accepted[0].to_number, "2")

    def test_in_multipart_forms_text_is_utf8_whatever_a_part_says(self):
        for charset in ("hex", "klingon", "utf-16", "unicode_escape", "idna"):
            head = b'Content-Disposition: form-data; name="AccountSID"\r\nContent-Type: text/plain; charset='
            self.accept.accepted.clear()
            answer = self.multipart(*self.parts(), (head + charset.encode(), b"\\ud800"))
            if self.accept.accepted:
                self.assertEqual(self.accept.accepted[0].account_sid, "\\ud800")
            else:
                self.assertRefused(answer, "no form")
        head = b'Content-Disposition: form-data; name="AccountSID"'
        self.accept.accepted.clear()
        self.assertRefused(self.multipart(*self.parts(), (head, b"\xff")), "'AccountSID' is not UTF-8")

    def test_multipart_forms_that_are_none_are_refused(self):
        self.assertRefused(self.multipart(*self.parts(), boundary="yy"), "no form")
        self.assertRefused(self.multipart(*self.parts(), boundary=""), "no form")
        self.assertRefused(self.multipart(*self.parts(), kind="multipart/form-data"), "no form")
        self.assertRefused(self.multipart((b"X: y", b"1")), "no form")
        self.assertRefused(self.multipart((b"\xff", b"1")), "no form")
        self.assertRefused(self.post(b"", ("Content-Type", "multipart/form-data; boundary=xx")), "")
        many = self.parts() * (MAX_FIELDS // 4 + 1)
        self.assertRefused(self.multipart(*many), "no form")

    @given(
        st.binary(max_size=60)
        | st.lists(st.sampled_from([b"To", b"=", b"&", b"%", b"4", b"1", b"+", b"\xc3"])).map(b"".join),
        st.sampled_from(["application/x-www-form-urlencoded", "multipart/form-data; boundary=xx", "", "a/b"]),
    )
    def test_no_body_gives_anything_but_an_answer(self, body, kind):
        self.setUp()
        status, answer = self.post(body, ("Content-Type", kind))
        self.assertEqual((status, answer["Success"]), (200, False))


class Paths(OverBytes):
    def test_that_are_not_there_are_answered_404(self):
        for path in (
            b"/nothing",
            b"/v0.1/",
            b"/v0.1/call/",
            b"/v0.2/Call/",
            b"/v0.1/Call/x",
            b"/v0.1/Call/%00",
            b"/%2e%2e/",
        ):
            status, answer = self.post(path=path)
            self.assertEqual((status, answer["Success"], answer["Message"]), (404, False, "Not Found"), path)

    def test_that_are_no_text_are_answered_without_an_error_in_the_log(self):
        self.assertEqual(self.post(path=b"/v0.1/%FF")[0], 400)
        self.assertEqual(self.post(path=b"/v0.1/Call/%ED%A0%80")[0], 400)

    def test_know_their_methods(self):
        for method in (b"GET", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"):
            status, answer = self.post(b"", method=method)
            self.assertEqual((status, answer["Message"]), (405, "Method Not Allowed"))
            self.assertEqual(self.headers["allow"], "POST")
        self.assertEqual(self.post(path=b"/")[0], 405)

    def test_may_lack_their_last_slash_and_no_form_is_lost_by_a_redirect(self):
        self.assertAccepted(self.post(path=b"/v0.1/Call"))

    def test_the_first_one_says_who_answers(self):
        self.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        ((status, _, body),) = self.answers()
        self.assertEqual((status, body), (200, b"plivotx\n"))
        self.connect(SAFE)
        self.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(self.answers()[0][0], 401)

    def test_are_found_whatever_host_is_named(self):
        for host in (b"", b"a..b", b"a" * 300, b"[::1]:8", b"a b", b"a:b:c", b"xn--\xc3\xa9", b"_", b"\xff"):
            self.assertAccepted(self.post(BODY, ("Host", host)))

    def test_are_found_without_a_host(self):
        self.send(b"POST /v0.1/Call/ HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(BODY), BODY)
        self.assertEqual(json.loads(self.answers()[0][2]), EXECUTED)


class Limits(OverBytes):
    def head(self, *lines):
        return b"\r\n".join((b"POST /v0.1/Call/ HTTP/1.1", b"Host: a", *lines, b"", b""))

    def test_a_body_of_one_mib_is_read(self):
        body = BODY + b"&x="
        self.assertAccepted(self.post(body + b"x" * (MAX_BODY - len(body))))

    def test_one_byte_more_is_answered_413_and_the_connection_goes_on(self):
        status, answer = self.post(BODY + b"x" * (MAX_BODY - len(BODY) + 1))
        self.assertEqual((status, answer["Success"]), (413, False))
        self.assertEqual(answer["Message"], f"The body is longer than {MAX_BODY} bytes")
        self.assertAccepted(self.post())

    def test_so_is_a_body_in_chunks(self):
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        self.send(self.head(b"Transfer-Encoding: chunked"), *[chunk] * 17, b"0\r\n\r\n")
        ((status, _, _),) = self.answers()
        self.assertEqual(status, 413)
        self.assertEqual(self.accept.accepted, [])
        self.assertAccepted(self.post())

    def test_chunks_within_the_limit_are_read(self):
        self.send(self.head(b"Transfer-Encoding: chunked"), b"%x\r\n" % len(BODY), BODY, b"\r\n0\r\n\r\n")
        self.assertEqual(json.loads(self.answers()[0][2]), EXECUTED)

    def test_a_body_far_beyond_is_not_even_read(self):
        self.send(self.head(b"Content-Length: 99999999999"))
        ((status, _, _),) = self.answers()
        self.assertEqual(status, 413)
        self.assertFalse(self.transport.connected)

    def test_chunks_without_end_are_cut_off(self):
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        self.send(self.head(b"Transfer-Encoding: chunked"), *[chunk] * (MAX_DISCARDED // 0x10000 + 5))
        ((status, _, _),) = self.answers()
        self.assertEqual(status, 413)
        self.assertFalse(self.transport.connected)

    def test_nothing_of_a_request_that_was_cut_off_is_done(self):
        form = b"%x\r\n" % len(BODY) + BODY + b"\r\n"
        chunks = (b"10000\r\n" + b"x" * 0x10000 + b"\r\n") * (MAX_DISCARDED // 0x10000 + 1)
        self.send(self.head(b"Transfer-Encoding: chunked") + form + chunks + b"0\r\n\r\n")
        ((status, _, _),) = self.answers()
        self.assertEqual((status, self.accept.accepted), (413, []))

    def test_a_client_that_asks_first_is_told_before_it_sends(self):
        self.send(self.head(b"Content-Length: %d" % (MAX_BODY + 1), b"Expect: 100-continue"))
        ((status, _, _),) = self.answers()
        self.assertEqual(status, 413)
        self.connect()
        self.send(self.head(b"Content-Length: %d" % len(BODY), b"Expect: 100-continue"))
        self.assertEqual(self.transport.value(), b"HTTP/1.1 100 Continue\r\n\r\n")
        self.transport.clear()
        self.send(BODY)
        self.assertEqual(json.loads(self.answers()[0][2]), EXECUTED)

    def test_requests_that_come_together_are_answered_in_order(self):
        one = self.head(b"Content-Length: %d" % len(BODY)) + BODY
        self.send(one + one + self.head(b"Content-Length: 0"))
        found = [json.loads(body)["Success"] for _, _, body in self.answers()]
        self.assertEqual(found, [True, True, False])

    def test_a_request_that_trickles_is_cut_off(self):
        head = self.head(b"Content-Length: 100")
        for begin in (b"", head[:-2], head):  # its first line, its headers, its body
            with self.subTest(begin=begin):
                self.connect()
                self.send(begin)
                for _ in range(PATIENCE // 10):
                    self.assertTrue(self.transport.connected)
                    self.send(b"x")
                    self.clock.advance(10)
                self.assertFalse(self.transport.connected)

    def test_each_request_on_a_connection_has_the_time_for_itself(self):
        for _ in range(4):
            self.clock.advance(PATIENCE - 1)
            self.send(self.head(b"Content-Length: %d" % len(BODY), b": ".join(map(str.encode, URLENCODED))))
            self.clock.advance(PATIENCE - 1)
            self.send(BODY)
            self.assertEqual(json.loads(self.answers()[0][2]), EXECUTED)
        self.clock.advance(PATIENCE)
        self.assertFalse(self.transport.connected)

    def test_what_is_no_http_is_refused_by_twisted(self):
        for head in (
            b"Content-Length: -1",
            b"Content-Length: x",
            b"Content-Length: 1\r\nContent-Length: 2",
            b"no colon",
        ):
            self.connect()
            self.send(self.head(head))
            self.assertTrue(self.transport.value().startswith(b"HTTP/1.1 400 "))
            self.assertFalse(self.transport.connected)


class NothingMore(OverBytes):
    """A client closes its own side."""

    REQUEST = b"POST /v0.1/Call/ HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY

    def setUp(self):
        super().setUp()
        self.waiting = []
        self.accept.answer = lambda: self.waiting.append(Deferred()) or self.waiting[-1]

    def test_and_is_answered_all_that_it_has_asked(self):
        self.send(self.REQUEST, self.REQUEST)
        self.protocol.readConnectionLost()
        self.waiting[0].callback(1)
        self.assertTrue(self.transport.connected)
        self.waiting[1].callback(1)
        self.assertFalse(self.transport.connected)
        self.assertEqual([status for status, _, _ in self.answers()], [200, 200])

    def test_and_what_is_not_there_as_a_whole_does_not_count(self):
        for asked in (b"", b"POST /v0.1/", self.REQUEST[:-1]):
            self.connect()
            self.send(asked)
            self.protocol.readConnectionLost()
            self.assertFalse(self.transport.connected)
        self.connect()
        self.send(self.REQUEST, self.REQUEST[:-1])
        self.protocol.readConnectionLost()
        self.waiting[0].callback(1)
        self.assertFalse(self.transport.connected)
        self.assertEqual(len(self.accept.accepted), 1)


class TheAccessLog(OverBytes):
    def test_has_the_date_of_the_wall_clock_whatever_clock_the_reactor_runs_on(self):
        lines = []
        observe = lines.append
        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.protocol.factory.startFactory()
        self.addCleanup(self.protocol.factory.stopFactory)
        self.post()
        (line,) = (text for each in lines if "POST" in (text := formatEvent(each)))
        self.assertIn('"127.0.0.1" - - [', line)
        self.assertIn('"POST /v0.1/Call/ HTTP/1.1" 200 ', line)
        self.assertNotIn("/1970:", line)


class ThroughTreq(SynchronousTestCase):
    def test_a_client_of_the_usual_kind_is_served(self):
        accept = Recorder()
        web = StubTreq(api(SAFE, accept).app.resource())
        response = self.successResultOf(
            web.post("http://plivotx.test/v0.1/Call/", data=FORM, auth=("id", "to:ken"))
        )
        self.assertEqual(response.code, 200)
        self.assertEqual(self.successResultOf(web.json_content(response)), EXECUTED)
        self.assertEqual(accept.accepted[0].from_number, "+15551234")


class OverSockets(TestCase):
    timeout = 10

    async def setUp(self):
        self.recorder = Recorder()
        served = site(api(accept=self.recorder))
        self.port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(served)
        self.number = self.port.getHost().port
        self.pool = HTTPConnectionPool(reactor)
        self.client = HTTPClient(Agent(reactor, pool=self.pool))

    async def tearDown(self):
        await self.pool.closeCachedConnections()
        await self.port.stopListening()

    async def post(self, data, **more):
        response = await self.client.post(f"http://127.0.0.1:{self.number}/v0.1/Call/", data=data, **more)
        return response.code, await response.json()

    async def test_a_body_over_the_limit_is_answered_413_and_the_server_lives_on(self):
        code, answer = await self.post({**FORM, "x": "x" * MAX_BODY})
        self.assertEqual((code, answer["Success"]), (413, False))
        self.assertEqual(await self.post(FORM), (200, EXECUTED))

    async def test_a_body_without_end_is_cut_off_and_the_server_lives_on(self):
        class Endless(Protocol):
            """Sends chunks for as long as it is let."""

            def connectionMade(self):
                self.data, self.gone = b"", Deferred()
                self.transport.write(
                    b"POST /v0.1/Call/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                self.transport.registerProducer(self, False)

            def resumeProducing(self):
                self.transport.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")

            def stopProducing(self):
                pass

            def dataReceived(self, data):
                self.data += data

            def connectionLost(self, reason):
                self.gone.callback(None)

        endless = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.number), Endless())
        await endless.gone
        self.assertEqual(await self.post(FORM), (200, EXECUTED))

    async def test_a_client_that_only_closes_its_own_side_is_answered(self):
        class Closing(Protocol):
            """Sends its request, and that it sends no more."""

            def connectionMade(self):
                self.data, self.gone = b"", Deferred()
                length = (
                    b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n"
                    % len(BODY)
                )
                self.transport.write(b"POST /v0.1/Call/ HTTP/1.1\r\nHost: a\r\n" + length + BODY)
                self.transport.loseWriteConnection()

            def dataReceived(self, data):
                self.data += data

            def connectionLost(self, reason):
                self.gone.callback(None)

        self.recorder.answer = lambda: deferLater(reactor, 0.05, lambda: 1)
        closing = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.number), Closing())
        await closing.gone
        self.assertIn(b"200 OK", closing.data)
        self.assertIn(UUID.encode(), closing.data)

    async def test_a_form_with_files_is_read(self):
        self.assertEqual(await self.post(FORM, files={"a": ("a.txt", b"x")}), (200, EXECUTED))

    async def test_a_connection_is_used_again(self):
        for _ in range(3):
            self.assertEqual(await self.post(FORM), (200, EXECUTED))
        self.assertEqual(sum(map(len, self.pool._connections.values())), 1)
