"""The command-line client: what it asks, what it prints, and its exit codes."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import ClassVar
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from plivotx.cli import checks, client, following, main, text
from plivotx.cli.client import DEFAULT_URL, Http, Settings, Unreachable
from plivotx.cli.completion import commands
from plivotx.cli.main import CALL, CALLS, Place, make_parser
from plivotx.config import Config
from plivotx.events import AttemptStarted, CallClosed, ChannelRang, HangupRequested
from plivotx.rest.forms import call_requested
from plivotx.rest.queries import _COLUMNS, _OTHERS
from plivotx.testing import ANSWER_URL, HANGUP_URL, SELF, Answer, EmulatedWorld

ROOT = Path(__file__).resolve().parent.parent
UUID = "7b1d6a52-3c1b-4f0e-8f3e-1de0b7a1c0aa"


def now(coroutine):
    """The result of a coroutine of the emulated world, which never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


class Case(SynchronousTestCase):
    """Runs command lines; *transport* answers what they ask."""

    columns = None
    environ: ClassVar = {}

    def transport(self, method, path, body, headers):
        raise AssertionError("nothing was to be asked")

    def sleep(self, seconds):
        raise AssertionError("nothing was to be waited for")

    def run_it(self, *arguments, code=0):
        """Run a command line; gives what it prints, and what it remarks."""
        out, err = io.StringIO(), io.StringIO()
        self.settings = []

        def transport(settings):
            self.settings.append(settings)
            return self.transport

        place = Place(self.environ, out, err, self.columns, transport, self.sleep, lambda: 1_800_000_000.0)
        try:
            with redirect_stdout(out), redirect_stderr(err):
                given = main.run(arguments, place)
        except SystemExit as stop:
            given = stop.code
        self.assertEqual(given, code, out.getvalue() + err.getvalue())
        return out.getvalue(), err.getvalue()


def answer(success=True, message="", status=200, **more):
    return status, json.dumps({"Success": success, "Message": message, **more}).encode()


class Asking(Case):
    """One question, one answer."""

    def setUp(self):
        self.asked = []
        self.answer = answer(RequestUUID=UUID, Calls=[], Next=None)

    def transport(self, method, path, body, headers):
        self.asked.append((method, path, body, dict(headers)))
        return self.answer

    def test_a_call_posts_every_parameter_it_was_given_and_prints_the_request_uuid(self):
        given = {option: f"value of {parameter}" for option, parameter, metavar, _ in CALL if metavar}
        words = [word for option, value in given.items() for word in (option, value)]
        said = self.run_it("call", *words, "--send-on-preanswer", "--idempotency-key", "order 7")
        self.assertEqual(said, (f"{UUID}\n", ""))
        ((method, path, body, headers),) = self.asked
        self.assertEqual((method, path), ("POST", "/v0.1/Call/"))
        self.assertEqual(headers["Idempotency-Key"], "order 7")
        sent = dict(pair.split("=") for pair in body.decode().replace("+", " ").split("&"))
        wanted = {parameter: f"value of {parameter}" for _, parameter, metavar, _ in CALL if metavar}
        self.assertEqual(sent, {**wanted, "SendOnPreanswer": "true"})

    def test_there_is_an_option_for_each_parameter_of_the_api(self):
        class Asked(dict):
            def get(self, name, default=None):
                names.add(name)
                return {"From": "1", "To": "1", "Gateways": "a/", "AnswerUrl": ANSWER_URL}.get(name, default)

        names = set()
        call_requested(Asked(), UUID, lambda event: None)
        self.assertEqual({each[1] for each in CALL}, names)
        self.assertEqual({each[1] for each in CALLS}, {*_COLUMNS, *_OTHERS})

    def test_calls_asks_with_every_filter_and_takes_ages_for_times(self):
        self.run_it(
            *("calls", "--state", "in-progress", "--from", "+1", "--to", "2", "--account-sid", "a b"),
            *("--gateway", "g/", "--hangup-cause", "USER_BUSY", "--call-uuid", "c", "--since", "2h"),
            *("--until", "2027-01-01T00:00:00Z", "--undelivered", "--limit", "7", "--after", "x"),
        )
        ((method, path, body, _),) = self.asked
        self.assertEqual((method, body), ("GET", None))
        self.assertEqual(
            path,
            "/v0.1/Calls/?State=in-progress&From=%2B1&To=2&AccountSID=a+b&Gateway=g%2F&HangupCause=USER_BUSY"
            "&CallUUID=c&Since=1799992800.0&Until=2027-01-01T00%3A00%3A00Z&Undelivered=true&Limit=7&After=x",
        )

    def test_what_is_neither_a_time_nor_an_age_is_refused_with_both(self):
        for name, value in (
            ("--since", "now"),
            ("--until", "2 hours"),
            ("--since", "1.5h"),
            ("--since", "4w"),
        ):
            said = self.run_it("calls", name, value, code=2)[1]
            self.assertEqual(
                said, f"plivotx: '{value}' is no time: ISO 8601, or so long ago (90s, 15m, 2h, 3d)\n"
            )
        self.assertEqual(self.asked, [])

    def test_all_pages_are_asked_for_and_shown_as_one(self):
        pages = [
            answer(Calls=[{"RequestUUID": "a"}], Next="n1"),
            answer(Calls=[{"RequestUUID": "b"}], Next=None),
        ]
        self.transport = lambda *asked: (self.asked.append(asked), pages.pop(0))[1]
        out, err = self.run_it("calls", "--all", "--json")
        self.assertEqual(json.loads(out)["Calls"], [{"RequestUUID": "a"}, {"RequestUUID": "b"}])
        self.assertEqual(
            [each[1] for each in self.asked], ["/v0.1/Calls/?Limit=1000", "/v0.1/Calls/?Limit=1000&After=n1"]
        )
        self.assertEqual(err, "")

    def test_what_is_left_and_what_is_nothing_is_remarked_beside_the_result(self):
        self.assertEqual(self.run_it("calls"), ("", "plivotx: no call fits\n"))
        self.answer = answer(Calls=[{"RequestUUID": UUID}], Next="abc")
        out, err = self.run_it("calls")
        self.assertIn(UUID, out)
        self.assertEqual(err, "plivotx: there are more: --after abc, or --all\n")

    def test_hangup_and_resend_say_what_the_server_says(self):
        self.answer = answer(message="Hangup Call Executed")
        self.assertEqual(self.run_it("hangup", UUID)[0], "Hangup Call Executed\n")
        self.run_it("hangup", "--call-uuid", "c")
        self.answer = answer(message="Resend Executed", Callbacks=["ring", "hangup"])
        self.assertEqual(self.run_it("resend", "a/b")[0], "Resend Executed: ring, hangup\n")
        out, _ = self.run_it("resend", UUID, "--key", "ring", "--json")
        self.assertEqual(json.loads(out)["Callbacks"], ["ring", "hangup"])
        self.assertEqual(
            [each[:3] for each in self.asked],
            [
                ("POST", "/v0.1/HangupCall/", f"RequestUUID={UUID}".encode()),
                ("POST", "/v0.1/HangupCall/", b"CallUUID=c"),
                ("POST", "/v0.1/Calls/a%2Fb/Resend/", b""),
                ("POST", f"/v0.1/Calls/{UUID}/Resend/", b"Key=ring"),
            ],
        )

    def test_what_is_refused_ends_with_1_and_says_why(self):
        self.answer = answer(False, "To is not Valid: 'x\x1b'", RequestUUID="")
        said = self.run_it("hangup", UUID, code=1)
        self.assertEqual(said, ("", "plivotx: To is not Valid: 'x\\x1b'\n"))
        self.answer = answer(False, "There is no call 'x' on record", 404, RequestUUID="")
        out, err = self.run_it("show", "x", "--json", code=1)
        self.assertEqual((json.loads(out)["Message"], err), ("There is no call 'x' on record", ""))

    def test_a_hangup_that_failed_is_told_as_such_even_if_nobody_can_say_why(self):
        self.answer = answer(False, "Hangup Call Failed")
        for then in (answer(False, "The event log cannot be read now", 503), (200, b""), answer(Call=1)):
            with self.subTest(then=then):
                answers = iter((answer(False, "Hangup Call Failed"), then))
                self.transport = lambda *_, answers=answers: next(answers)
                self.assertEqual(self.run_it("hangup", UUID, code=1)[1], "plivotx: Hangup Call Failed\n")

    def test_wrong_credentials_end_with_4(self):
        self.answer = answer(False, "HTTP Auth Failed", 401)
        _, err = self.run_it("calls", code=4)
        self.assertEqual(err, f"plivotx: {DEFAULT_URL} does not let you in: HTTP Auth Failed\n")

    def test_a_server_that_cannot_answer_or_is_none_ends_with_3(self):
        self.answer = answer(False, "The event log cannot be read now", 503)
        self.assertIn("cannot answer now: The event log", self.run_it("calls", code=3)[1])
        for content in (b"", b"<html>\n\x1b[2J", b"[]", b'{"Success": 1}', b"\xff", b"[" * 100_000):
            for status in (200, 404, 502):
                with self.subTest(content=content[:20], status=status):
                    self.answer = status, content
                    _, err = self.run_it("calls", code=3)
                    self.assertIn(f"is no plivotx: status {status}", err)
                    self.assertNotIn("\x1b", err)
        for shape in ({"Calls": 1}, {"Calls": [None]}, {"Calls": {"a": 1}}):
            self.answer = answer(**shape)
            for command in (("calls",), ("calls", "--all")):
                self.assertIn("answers as no plivotx does", self.run_it(*command, code=3)[1])
        for events in (1, None, [1]):
            self.answer = answer(Call={"Timeline": events})
            for command in (("show", UUID), ("show", UUID, "--json")):
                self.assertIn("answers as no plivotx does", "".join(self.run_it(*command, code=3)))
        self.answer = answer(Call=None)
        self.assertIn("answers without a call", self.run_it("show", UUID, code=3)[1])
        out, _ = self.run_it("show", UUID, "--json", code=3)
        self.assertIs(json.loads(out)["Success"], False)

    def test_what_cannot_be_understood_ends_with_2_and_asks_nothing(self):
        for words in (
            (),
            ("fly",),
            ("call", "--from", "1"),
            ("calls", "--state", "flying"),
            ("calls", "--stat", "closed"),
            ("hangup",),
            ("hangup", UUID, "--call-uuid", "c"),
            ("calls", "--timeout", "0"),
            ("calls", "--timeout", "soon"),
            ("show",),
            ("completion", "tcsh"),
            ("call", "--idempotency-key", "a\nb"),
            ("calls", "--config", "/nowhere/plivotx.conf"),
            ("lint", "-", "--param", "novalue"),
        ):
            with self.subTest(words=words):
                _, err = self.run_it(*words, code=2)
                self.assertTrue(err)
        self.assertEqual(self.asked, [])


class WhoAndWhere(Case):
    def transport(self, method, path, body, headers):
        self.headers = headers
        return answer(Calls=[], Next=None)

    def config(self, text):
        path = Path(self.mktemp())
        path.write_text(f"[plivotx]\n{text}", encoding="utf-8")
        return str(path)

    def settled(self, *words, **environ):
        self.environ = environ
        self.run_it("calls", *words)
        (settings,) = self.settings
        return settings.url, settings.user, settings.token

    def test_options_go_before_the_environment_and_that_before_a_configuration(self):
        config = self.config("HTTP_ADDRESS = 0.0.0.0:9000\nAUTH_ID = of file\nAUTH_TOKEN = secret\n")
        self.assertEqual(self.settled(), (DEFAULT_URL, "", ""))
        self.assertEqual(self.settled("--config", config), ("http://127.0.0.1:9000", "of file", "secret"))
        environ = {"PLIVOTX_URL": "http://e", "PLIVOTX_AUTH_ID": "of env", "PLIVOTX_AUTH_TOKEN": "t"}
        self.assertEqual(self.settled("--config", config, **environ), ("http://e", "of env", "t"))
        given = ("--url", "https://o", "--user", "of option", "--token", "")
        self.assertEqual(self.settled(*given, **environ), ("https://o", "of option", ""))

    def test_a_configuration_says_where_its_server_is(self):
        for address, ssl, url in (
            ("127.0.0.1:8088", False, "http://127.0.0.1:8088"),
            ("[::]:80", False, "http://[::1]:80"),
            ("10.0.0.1:443", True, "https://10.0.0.1:443"),
        ):
            self.assertEqual(client.of_config(Config(http_address=address, ssl=ssl))[0], url)

    def test_credentials_are_sent_as_basic_ones_and_none_if_there_are_none(self):
        self.settled()
        self.assertNotIn("Authorization", self.headers)
        self.settled("--user", "id", "--token", "to:kén")
        self.assertEqual(self.headers["Authorization"], "Basic aWQ6dG86a8Opbg==")

    def test_the_url_of_the_client_is_no_unknown_key_to_the_server(self):
        found = checks.check(None, {"PLIVOTX_URL": "http://x"})[1]
        self.assertEqual(found["Warnings"], [])


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.command, self.path, dict(self.headers)))
        self.server.asked[-1][2]["body"] = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.reply(self)

    do_POST = do_GET

    def log_message(self, *_):
        pass


class OverTheNetwork(Case):
    def setUp(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.asked = []
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        thread = Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(self.server.shutdown)
        self.replies(200, answer(Calls=[], Next=None)[1])

    def replies(self, status, body, headers=()):
        def reply(handler):
            handler.send_response(status)
            for name, value in (*headers, ("Content-Length", str(len(body)))):
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(body)

        self.server.reply = reply

    def ask(self, path="/v0.1/Calls/", url=None, **more):
        return Http(Settings(url=url or self.url, **more))("GET", path, None, {"X-Test": "1"})

    def test_a_request_arrives_and_its_answer_comes_back(self):
        self.assertEqual(self.ask("/a?b=c"), answer(Calls=[], Next=None))
        ((method, path, headers),) = self.server.asked
        self.assertEqual((method, path, headers["X-Test"]), ("GET", "/a?b=c", "1"))

    def test_a_path_before_that_of_the_api_is_kept_and_its_own_left_out(self):
        for base in ("/tel", "/tel/", "/tel/v0.1", "/tel/v0.1/"):
            self.ask("/v0.1/Calls/", self.url + base)
        self.assertEqual({each[1] for each in self.server.asked}, {"/tel/v0.1/Calls/"})

    def test_no_redirect_is_followed_and_no_proxy_asked(self):
        self.replies(302, b"", [("Location", f"{self.url}/elsewhere")])
        with mock.patch.dict(
            "os.environ", {"http_proxy": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
        ):
            self.assertEqual(self.ask()[0], 302)
        self.assertEqual(len(self.server.asked), 1)

    def test_what_hinders_is_named(self):
        with self.assertRaisesRegex(Unreachable, "127.0.0.1:1 cannot be reached: .*refused"):
            self.ask(url="http://127.0.0.1:1")
        with self.assertRaisesRegex(Unreachable, "cannot be reached"):
            self.ask(url=self.url.replace("http:", "https:"))
        self.server.reply = lambda handler: handler.wfile.write(b"HTTP/9 nonsense\r\n\r\n")
        with self.assertRaisesRegex(Unreachable, "cannot be reached"):
            self.ask()
        self.server.reply = lambda handler: None
        with self.assertRaisesRegex(Unreachable, "cannot be reached"):
            self.ask()
        self.replies(200, b"x" * 2000)
        with (
            mock.patch.object(client, "MAX_ANSWER", 1999),
            self.assertRaisesRegex(Unreachable, "more than 1999"),
        ):
            self.ask()

    def test_a_server_that_says_nothing_is_given_up(self):
        going = mock.Mock(side_effect=TimeoutError)
        self.server.reply = lambda handler: None
        with (
            mock.patch("http.client.HTTPConnection.getresponse", going),
            self.assertRaisesRegex(Unreachable, "did not answer in time"),
        ):
            self.ask()

    def test_an_answer_that_goes_on_and_on_is_given_up(self):
        for beginning, more in (
            (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
            (b"HTTP/1.1 200 OK\r\n\r\n", b" "),
        ):

            def reply(handler, beginning=beginning, more=more):
                handler.wfile.write(beginning)
                with contextlib.suppress(OSError):
                    while True:
                        handler.wfile.write(more)
                        Event().wait(0.01)

            self.server.reply = reply
            with self.subTest(more=more), self.assertRaisesRegex(Unreachable, "did not answer in time"):
                self.ask(timeout=0.1)

    def test_a_body_that_is_long_or_breaks_off(self):
        self.replies(200, b"x" * 200_000)
        self.assertEqual(len(self.ask()[1]), 200_000)

        def short(handler):
            handler.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\nabc")

        self.server.reply = short
        with self.assertRaisesRegex(Unreachable, "cannot be reached: IncompleteRead"):
            self.ask()

    def test_what_is_no_url_of_a_server_is_a_mistake(self):
        for url in (
            "",
            "plivotx",
            "ftp://x",
            "http://",
            "http://a:b",
            "http://[::1",
            "http://a:b@c",
            "http://a/?b",
            "http://a#b",
        ):
            with self.subTest(url=url), self.assertRaises(client.Misused) as caught:
                Http(Settings(url=url))
            self.assertNotIn("b@", str(caught.exception))
        with self.assertRaises(client.Misused):
            self.ask(url="https://127.0.0.1:1", cafile="/nowhere.pem")

    # -- documents from a URL

    def test_lint_fetches_a_document_as_the_server_would(self):
        self.replies(200, b"<Response><Wait/></Response>")
        out, _ = self.run_it("lint", f"{self.url}/answer?x=1", "--param", "CallUUID=c d", "--param", "To=")
        self.assertEqual(out, f"{self.url}/answer?x=1: good, 1 verb: Wait\n")
        self.run_it("lint", f"{self.url}/answer?x=1", "--method", "GET", "--param", "To=1")
        (first, second) = self.server.asked
        self.assertEqual((first[0], first[1], first[2]["body"]), ("POST", "/answer?x=1", b"CallUUID=c+d&To="))
        self.assertEqual((second[0], second[1]), ("GET", "/answer?x=1&To=1"))

    def test_lint_says_what_keeps_it_from_the_document(self):
        self.replies(404, b"")
        self.assertIn("status 404", self.run_it("lint", f"{self.url}/x", code=1)[1])
        self.assertIn("cannot be reached", self.run_it("lint", "http://127.0.0.1:1/", code=3)[1])
        self.assertIn("percent-encode", self.run_it("lint", f"{self.url}/a b", code=2)[1])
        self.replies(200, b" " * (Config().max_document_bytes + 1))
        self.assertIn("MAX_DOCUMENT_BYTES", self.run_it("lint", f"{self.url}/x", code=1)[1])

    def test_lint_gives_up_a_document_that_goes_on_and_on(self):
        over = Event()

        def trickle(handler):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            with contextlib.suppress(OSError):
                while not over.wait(0.01):
                    handler.wfile.write(b" ")

        self.server.reply = trickle
        _, err = self.run_it("lint", f"{self.url}/x", "--timeout", "0.2", code=3)
        over.set()
        self.assertIn("cannot be reached: no whole answer within 0.2 s", err)


class Lint(Case):
    def document(self, text):
        path = Path(self.mktemp())
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    def test_a_good_document(self):
        path = self.document("<Response><Wait length='2'/><Hangup/></Response>")
        self.assertEqual(self.run_it("lint", path)[0], f"{path}: good, 2 verbs: Wait, Hangup\n")
        out, _ = self.run_it("lint", path, "--json")
        self.assertEqual(json.loads(out)["Verbs"], ["Wait", "Hangup"])
        for blank in ("", " \n"):
            self.assertIn("good, and empty", self.run_it("lint", self.document(blank))[0])
        self.assertIn("good, 0 verbs", self.run_it("lint", self.document("<Response/>"))[0])

    def test_a_bad_one_is_told_with_line_and_column_as_by_a_compiler(self):
        for content, place, why in (
            ("<Response>\n  <Wait length='x'/>\n</Response>", "2:3", "Wait: attribute length='x' is wrong"),
            ("<Response>\n<Walk/></Response>", "2:1", "unknown verb Walk"),
            ("<Response><Wait></Response>", "1:", "not well-formed"),
            ("<!DOCTYPE x [<!ENTITY a 'b'>]><Response/>", "1:", "a DTD or entities are not allowed"),
            (b"<Response>\xff</Response>", "1:1", "the answer is no text: 'utf-8' codec"),
        ):
            path = self.document(content)
            _, err = self.run_it("lint", path, code=1)
            self.assertTrue(err.startswith(f"{path}:{place}"), err)
            self.assertIn(why, err)
            out, _ = self.run_it("lint", path, "--json", code=1)
            found = json.loads(out)
            self.assertTrue(f"{found['Line']}:{found['Column']}".startswith(place))

    def test_verbs_of_ones_own_are_known_by_their_folder_or_the_configuration(self):
        folder = Path(self.mktemp())
        folder.mkdir()
        howto = (ROOT / "docs" / "verbs-howto.md").read_text(encoding="utf-8")
        (folder / "beep.py").write_text(
            re.search(r"```python\n(.*?)```", howto, re.DOTALL)[1], encoding="utf-8"
        )
        path = self.document("<Response><Beep times='2'/></Response>")
        self.assertIn("unknown verb Beep", self.run_it("lint", path, code=1)[1])
        self.assertIn("good, 1 verb: Beep", self.run_it("lint", path, "--plugin-path", str(folder))[0])
        config = Path(self.mktemp())
        config.write_text(f"[plivotx]\nPLUGIN_PATH = {folder.absolute()}\n", encoding="utf-8")
        self.assertIn("good", self.run_it("lint", path, "--config", str(config))[0])
        self.assertIn("no such folder", self.run_it("lint", path, "--plugin-path", "/nowhere", code=1)[1])

    def test_standard_input(self):
        stdin = mock.Mock(buffer=io.BytesIO(b"<Response><Walk/></Response>"))
        with mock.patch.object(sys, "stdin", stdin):
            _, err = self.run_it("lint", "-", code=1)
        self.assertIn("standard input:1:11: unknown verb Walk", err)

    def test_what_is_not_there_is_a_mistake(self):
        self.assertIn("/nowhere cannot be read: No such file", self.run_it("lint", "/nowhere", code=2)[1])


class Check(Case):
    def test_is_that_of_the_server(self):
        path = ROOT / "conf" / "plivotx.conf"
        out, _ = self.run_it("check", "--config", str(path))
        self.assertIn(f"configuration: {path}\n", out)
        self.assertTrue(out.endswith("the configuration is good\n"))
        found = json.loads(self.run_it("check", "--config", str(path), "--json")[0])
        self.assertEqual(
            (found["Success"], found["Message"], found["Warnings"]), (True, "the configuration is good", [])
        )

    def test_says_all_that_is_wrong_and_ends_with_1(self):
        self.environ = {"PLIVOTX_HTTP_ADDRESS": "nowhere", "PLIVOTX_MAX_REDIRECTS": "x"}
        _, err = self.run_it("check", code=1)
        self.assertEqual(len(err.splitlines()), 2)
        found = json.loads(self.run_it("check", "--json", code=1)[0])
        self.assertEqual(len(found["Complaints"]), 2)
        garbage = Path(self.mktemp())
        blocks = [
            f"-----BEGIN {kind}-----\nx\n-----END {kind}-----\n" for kind in ("CERTIFICATE", "PRIVATE KEY")
        ]
        garbage.write_text("".join(blocks), encoding="utf-8")
        self.environ = {
            "PLIVOTX_HTTP_CA_FILE": str(garbage),
            "PLIVOTX_SSL": "true",
            "PLIVOTX_SSL_CERT": str(garbage),
        }
        self.assertEqual(len(json.loads(self.run_it("check", "--json", code=1)[0])["Complaints"]), 2)


# -- whole stories ---------------------------------------------------------------------------------


class InAWorld(Case):
    """Against a server in the emulated world, over its real API."""

    def setUp(self):
        self.world = EmulatedWorld()
        self.world.start()
        self.addCleanup(self.world.end)
        self.slept = []
        self.at = {}
        """What happens once so many seconds were slept."""

    def transport(self, method, path, body, headers):
        process = self.world.process
        if process is None:
            raise Unreachable("http://plivotx.test cannot be reached: refused")

        async def exchange():
            response = await process.web.request(
                method, f"http://plivotx.test{path}", data=body, headers=headers
            )
            return response.code, await process.web.content(response)

        asked = Deferred.fromCoroutine(exchange())
        now(self.world.until(lambda: asked.called, what="an answer"))
        return self.successResultOf(asked)

    def sleep(self, seconds):
        self.slept.append(seconds)
        now(self.world.passes(seconds))
        for when in [each for each in self.at if each <= sum(self.slept)]:
            self.at.pop(when)()

    def call(self, to="3", *more, **named):
        words = (
            "--from",
            "1000",
            "--to",
            to,
            "--gateways",
            SELF,
            "--answer-url",
            ANSWER_URL,
            "--hangup-url",
            HANGUP_URL,
        )
        return self.run_it("call", *words, *more, **named)

    def uuid(self, *words):
        return self.call(*words)[0].strip()

    def recorded(self, uuid, kind):
        return now(self.world.recorded(uuid, kind))

    def test_a_call_is_made_shown_listed_and_hung_up(self):
        uuid = self.uuid("3", "--account-sid", "customer 7")
        self.recorded(uuid, ChannelRang)
        out, _ = self.run_it("calls", "--state", "ringing", "--account-sid", "customer 7")
        self.assertEqual(len(out.splitlines()), 2)
        self.assertRegex(out.splitlines()[1], rf"^2027-01-15 08:00:00  ringing +1000 +3 +{SELF} +{uuid}$")
        self.assertEqual(self.run_it("hangup", uuid)[0], "Hangup Call Executed\n")
        self.recorded(uuid, CallClosed)
        record = json.loads(self.run_it("show", uuid, "--json")[0])
        when = record["EndTime"].replace("T", " ").replace("Z", " UTC")
        for words in ((uuid,), ("--call-uuid", record["CallUUID"])):
            self.assertEqual(
                self.run_it("hangup", *words, code=1)[1],
                f"plivotx: Hangup Call Failed: call {uuid} has ended already, with NORMAL_CLEARING at {when}\n",
            )
        out, _ = self.run_it("show", uuid)
        self.assertTrue(out.startswith(f"Call {uuid} is closed\n"))
        self.assertIn("A client asks for the end of the call (NORMAL_CLEARING).", out)
        shown = json.loads(self.run_it("show", uuid, "--json")[0])
        self.assertEqual((shown["RequestUUID"], shown["HangupCause"]), (uuid, "NORMAL_CLEARING"))

    def test_waiting_for_a_call_tells_its_story_and_whether_it_was_answered(self):
        out, err = self.call("701", "--wait")
        uuid, *lines = out.splitlines()
        self.assertEqual(len(uuid), 36)
        self.assertIn("The far end answers", out)
        times = [each[:12] for each in lines]
        self.assertEqual(times, sorted(times))
        self.assertEqual(len(lines), len(set(lines)))
        self.assertTrue(any(each.endswith("The call has ended: NORMAL_CLEARING.") for each in lines))
        self.assertEqual(err, "")
        out, _ = self.call("486", "--wait", "--json", code=1)
        self.assertEqual(json.loads(out)["HangupCause"], "USER_BUSY")

    def test_a_key_makes_one_call_however_often_it_is_said(self):
        first, second = (self.uuid("3", "--idempotency-key", "order 7") for _ in range(2))
        self.assertEqual(first, second)

    def test_interrupted_while_waiting_says_how_to_end_the_call(self):
        def interrupt():
            raise KeyboardInterrupt

        self.at[2.0] = interrupt
        err = io.StringIO()
        place = Place({}, io.StringIO(), err, None, lambda _: self.transport, self.sleep)
        words = ["call", "--from", "1", "--to", "3", "--gateways", SELF, "--answer-url", ANSWER_URL, "--wait"]
        with self.assertRaises(KeyboardInterrupt):
            main.run(words, place)
        self.assertRegex(err.getvalue(), r"the call goes on; plivotx hangup [0-9a-f-]{36} ends it")

    def test_watching_one_call_tells_each_event_once_until_it_is_closed(self):
        uuid = self.uuid("104", "--time-limit", "2")
        out, err = self.run_it("watch", uuid)
        shown = json.loads(self.run_it("show", uuid, "--json")[0])["Timeline"]
        self.assertEqual([line[14:] for line in out.splitlines()], [each["Text"] for each in shown])
        self.assertEqual(err, "")
        lines = self.run_it("watch", uuid, "--json")[0].splitlines()
        self.assertEqual([json.loads(line) for line in lines], shown)

    def test_only_what_is_new_of_a_watched_call_is_asked_for(self):
        asked, answered = [], []
        ask = self.transport

        def transport(method, path, body, headers):
            answer = ask(method, path, body, headers)
            asked.append(path)
            answered.append(json.loads(answer[1]))
            return answer

        self.transport = transport
        uuid = self.uuid("104", "--time-limit", "2")
        asked.clear()
        answered.clear()
        self.run_it("watch", uuid)
        known = 0
        for path, answer in zip(asked, answered, strict=True):
            self.assertEqual(path, f"/v0.1/Calls/{uuid}/?After={known}")
            versions = [each["Version"] for each in answer["Call"]["Timeline"]]
            self.assertEqual(versions, [*range(known + 1, known + 1 + len(versions))])
            known += len(versions)
        self.assertGreater(len(asked), 3)
        self.assertEqual(answered[-1]["Call"]["State"], "closed")

    def test_the_pauses_grow_while_nothing_happens_and_shrink_when_something_does(self):
        uuid = self.uuid("3", "--hangup-on-ring", "60")
        self.run_it("watch", uuid)
        self.assertEqual(self.slept[0], following.FIRST_PAUSE)
        self.assertEqual(max(self.slept), following.LONGEST_PAUSE)
        self.assertLess(len(self.slept), 40)

    def test_watching_goes_on_over_a_restart_of_the_server(self):
        uuid = self.uuid("3", "--hangup-on-ring", "30")
        self.at = {3.0: self.world.kill, 20.0: self.world.start}
        out, err = self.run_it("watch", uuid)
        self.assertTrue(out.rstrip().endswith("the call is closed."))
        self.assertEqual(
            err.splitlines(),
            [
                "plivotx: http://plivotx.test cannot be reached: refused; trying again for 60 s",
                "plivotx: it answers again",
            ],
        )

    def test_a_server_that_does_not_come_back_is_given_up(self):
        uuid = self.uuid("3")
        self.at = {3.0: self.world.kill}
        _, err = self.run_it("watch", uuid, code=3)
        self.assertEqual(err.splitlines()[-1], "plivotx: http://plivotx.test cannot be reached: refused")
        self.assertTrue(60 < sum(self.slept) < 75, sum(self.slept))
        self.assertLess(len(self.slept), 40)  # the pauses grow
        self.world.start()

    def test_watching_a_call_that_is_not_there_says_so(self):
        self.assertIn("There is no call", self.run_it("watch", "nobody", code=1)[1])

    def watched(self, *words):
        """What watching all calls prints until it is interrupted."""

        class Stop(Exception):
            pass

        def stop():
            raise Stop

        self.at[25.0] = stop
        out = io.StringIO()
        place = Place({}, out, io.StringIO(), None, lambda _: self.transport, self.sleep)
        with self.assertRaises(Stop):
            main.run(["watch", *words], place)
        return out.getvalue().splitlines()

    def test_watching_all_tells_of_each_call_what_it_comes_to(self):
        before = self.uuid("486")
        self.recorded(before, CallClosed)
        ringing = self.uuid("3", "--hangup-on-ring", "8")
        self.recorded(ringing, ChannelRang)
        later = []
        self.at[4.0] = lambda: later.append(self.uuid("486"))  # it begins and ends between two questions
        self.at[12.0] = lambda: later.append(self.uuid("101", "--time-limit", "4"))
        lines = self.watched()
        stories = {}
        for line in lines:
            _, uuid, _, state, *_ = line.split("  ")
            stories.setdefault(uuid, []).append(state)
        self.assertNotIn(before, stories)
        self.assertEqual(stories[ringing][0], "ringing")
        self.assertEqual(stories[ringing][-1], "closed ORIGINATOR_CANCEL")
        self.assertEqual(len(stories[ringing]), 2)
        self.assertEqual(stories[later[0]][-1], "closed USER_BUSY")
        self.assertEqual(stories[later[1]][-2:], ["in-progress", "closed ALLOTTED_TIMEOUT"])

    def test_watching_all_finds_the_end_of_a_call_that_is_not_among_the_newest_any_more(self):
        old = self.uuid("3", "--hangup-on-ring", "6")
        self.recorded(old, ChannelRang)
        self.patch(following, "NEWEST", "1")
        self.patch(following, "PAGE", "1")
        newer = self.uuid("3")
        self.recorded(newer, ChannelRang)
        rows = [json.loads(each) for each in self.watched("--json")]
        self.assertEqual(
            [(each["State"], each.get("HangupCause")) for each in rows if each["RequestUUID"] == old],
            [("ringing", None), ("closed", "ORIGINATOR_CANCEL")],
        )
        self.assertEqual(len([each for each in rows if each["RequestUUID"] == newer]), 1)

    def test_what_was_given_up_is_listed_and_sent_again(self):
        self.world.application.answers["hangup"] = Answer(status=500)
        uuid = self.uuid("486")
        now(self.world.until(lambda: self.world.disk.standings[uuid].columns.get("undelivered"), 2000))
        out, _ = self.run_it("calls", "--undelivered")
        self.assertIn("LOST", out)
        shown, _ = self.run_it("show", uuid)
        self.assertIn("hangup  given up, 8 tries: POST http://application.test/hangup/", shown)
        self.assertIn("status 500", shown)
        self.world.application.answers["hangup"] = Answer()
        self.assertEqual(self.run_it("resend", uuid)[0], "Resend Executed: hangup\n")
        self.assertIn("no callback of the call was given up", self.run_it("resend", uuid, code=1)[1])

    def test_a_hangup_by_channel(self):
        uuid = self.uuid("3")
        channel = self.recorded(uuid, ChannelRang).channel
        self.run_it("hangup", "--call-uuid", channel)
        self.assertTrue(self.recorded(uuid, HangupRequested))
        self.assertTrue(self.recorded(uuid, AttemptStarted))

    def test_a_hangup_of_what_is_not_there_says_so(self):
        _, err = self.run_it("hangup", UUID, code=1)
        self.assertEqual(err, f"plivotx: Hangup Call Failed: There is no call '{UUID}' on record\n")
        _, err = self.run_it("hangup", "--call-uuid", "a\x1bb", code=1)
        why = r"no call on record rang or was answered as channel 'a\x1bb'"
        self.assertEqual(err, f"plivotx: Hangup Call Failed: {why}\n")
        out, err = self.run_it("hangup", UUID, "--json", code=1)
        self.assertEqual((json.loads(out), err), ({"Success": False, "Message": "Hangup Call Failed"}, ""))


# -- what is printed -------------------------------------------------------------------------------

ROWS = [
    {
        "RequestUUID": UUID,
        "State": "in-progress",
        "From": "+15551234567",
        "To": "+4930123456789",
        "Gateway": "sofia/gateway/carrier-one/",
        "Created": "2027-01-15T08:00:00.001Z",
        "BillDuration": None,
        "HangupCause": None,
    },
    {
        "RequestUUID": "2ff2577e-b8e2-4e1b-8a63-01a36e3ba3f5",
        "State": "closed",
        "From": "1000",
        "To": "101",
        "Gateway": "user/",
        "Created": "2027-01-15T07:59:00.001Z",
        "BillDuration": 61.4,
        "HangupCause": "NORMAL_CLEARING",
        "Undelivered": 2,
    },
]
WIDE = """\
CREATED (UTC)        STATE        FROM          TO              GATEWAY                     CAUSE            BILLED  LOST  REQUEST UUID
2027-01-15 08:00:00  in-progress  +15551234567  +4930123456789  sofia/gateway/carrier-one/                                 7b1d6a52-3c1b-4f0e-8f3e-1de0b7a1c0aa
2027-01-15 07:59:00  closed       1000          101             user/                       NORMAL_CLEARING  61 s    2     2ff2577e-b8e2-4e1b-8a63-01a36e3ba3f5
"""
NARROW = """\
STATE        TO            CAUSE            REQUEST UUID
in-progress  +4930123456…                   7b1d6a52-3c1b-4f0e-8f3e-1de0b7a1c0aa
closed       101           NORMAL_CLEARING  2ff2577e-b8e2-4e1b-8a63-01a36e3ba3f5
"""


class Tables(SynchronousTestCase):
    def shown(self, columns, rows=ROWS):
        return "\n".join(text.table(rows, columns)) + "\n"

    def test_are_as_wide_as_they_need_where_there_is_no_terminal(self):
        self.assertEqual(self.shown(None), WIDE)

    def test_fit_a_terminal_and_leave_out_what_matters_least(self):
        self.assertEqual(self.shown(80), NARROW)

    def test_hold_the_request_uuid_whole_in_the_narrowest_terminal(self):
        for columns in (36, 20, 1):
            lines = self.shown(columns).splitlines()
            self.assertEqual(lines[1:], [each["RequestUUID"] for each in ROWS])

    @given(
        st.lists(
            st.fixed_dictionaries({name: st.none() | st.text(max_size=60) for name in ROWS[0]}), max_size=4
        ),
        st.integers(36, 250),
    )
    def test_fit_whatever_is_in_them(self, rows, columns):
        for line in text.table([{**each, "RequestUUID": UUID} for each in rows], columns):
            self.assertLessEqual(text.width(line), columns)
            self.assertTrue(line.isprintable() or line == "", ascii(line))

    @given(st.text(), st.integers(1, 40))
    def test_cut_at_the_width_that_a_terminal_shows(self, value, columns):
        self.assertLessEqual(text.width(text.cut(value, columns)), columns)
        if text.width(value) <= columns:
            self.assertEqual(text.cut(value, columns), value)

    def test_characters_that_take_two_columns_or_none_are_counted_so(self):
        self.assertEqual([text.width(each) for each in ("abc", "电话", "e\u0301", "…")], [3, 4, 1, 1])

    @given(st.text())
    def test_nothing_steers_a_terminal(self, value):
        shown = text.clean(value)
        self.assertFalse([each for each in shown if each in "\x1b\r\n\x9b\u202e\u2028"], ascii(shown))


RECORD = {
    "RequestUUID": UUID,
    "State": "closed",
    "From": "1000",
    "To": "+4930123",
    "AccountSID": "customer 7",
    "CallUUID": "505b5d92-583d-5ac7-98fc-df694c5a27a8",
    "Created": "2027-01-15T08:00:00.001Z",
    "RingTime": "2027-01-15T08:00:02.100Z",
    "AnswerTime": "2027-01-15T08:00:04.000Z",
    "EndTime": "2027-01-15T08:00:24.500Z",
    "Duration": 23.4,
    "BillDuration": 20.5,
    "HangupCause": "ALLOTTED_TIMEOUT",
    "HangupOnRing": None,
    "TimeLimit": 20,
    "Attempts": [
        {
            "Number": 1,
            "Gateway": "sofia/gateway/one/",
            "Switch": "east",
            "Cause": "USER_BUSY",
            "SipCode": "486",
            "Q850": 17,
            "HungUpBy": "far end",
            "Why": "it ended with USER_BUSY (SIP 486) before it rang; sofia/gateway/two/ is tried next",
        },
        {
            "Number": 2,
            "Gateway": "sofia/gateway/two/",
            "Switch": "east",
            "RingDelay": 1.0,
            "AnswerDelay": 2.9,
            "EarlyMedia": True,
            "Cause": "ALLOTTED_TIMEOUT",
            "Q850": 16,
            "HungUpBy": "plivotx",
        },
    ],
    "Callbacks": [
        {
            "Key": "ring",
            "State": "delivered",
            "Method": "POST",
            "Url": "http://app/ring?token=1",
            "Tries": [{"Try": 1, "Status": 200}],
        },
        {
            "Key": "hangup",
            "State": "given-up",
            "Method": "POST",
            "Url": "http://app/hangup/",
            "Tries": [{"Try": 1, "Time": "2027-01-15T08:00:25.000Z", "Why": "status 500"}],
        },
    ],
    "Script": {
        "Documents": [{"Number": 1, "Characters": 120}],
        "Verbs": [
            {"Name": "Wait", "Ended": "2027-01-15T08:00:05.000Z"},
            {"Name": None, "Ended": "2027-01-15T08:00:24.600Z"},
        ],
        "Errors": [],
        "Ended": "2027-01-15T08:00:24.600Z",
        "Why": "the channel is gone",
    },
    "Timeline": [
        {
            "Version": 1,
            "Time": "2027-01-15T08:00:00.001Z",
            "Text": "A call from 1000 to +4930123 was accepted, by way of sofia/gateway/one/, sofia/gateway/two/.",
        },
        {"Version": 2, "Time": "2027-01-15T08:00:00.002Z", "Text": "Attempt 1 is dialled."},
    ],
}
SHOWN = """\
Call 7b1d6a52-3c1b-4f0e-8f3e-1de0b7a1c0aa is closed

  From      1000
  To        +4930123
  Account   customer 7
  Channel   505b5d92-583d-5ac7-98fc-df694c5a27a8
  Created   2027-01-15 08:00:00.001 UTC
  Rang      2027-01-15 08:00:02.100 UTC
  Answered  2027-01-15 08:00:04.000 UTC
  Ended     2027-01-15 08:00:24.500 UTC
  Lasted    23.4 s from the making of its channel, 20.5 s from the answer
  Limits    20 s from the answer
  Cause     ALLOTTED_TIMEOUT

Attempts
  1  sofia/gateway/one/ on east
     USER_BUSY, SIP 486, Q.850 17, hung up by the far end
     it ended with USER_BUSY (SIP 486) before it rang; sofia/gateway/two/ is
     tried next
  2  sofia/gateway/two/ on east
     rang after 1.0 s, answered after 2.9 s, with early media
     ALLOTTED_TIMEOUT, Q.850 16, hung up by plivotx

Callbacks
  ring    delivered, 1 try: POST http://app/ring?...
  hangup  given up, 1 try: POST http://app/hangup/
          try 1, 08:00:25.000: status 500

Script
  document 1, 120 characters
  verbs: Wait, (one that was left)
  over: the channel is gone

Timeline
  08:00:00.001  A call from 1000 to +4930123 was accepted, by way of
                sofia/gateway/one/, sofia/gateway/two/.
  08:00:00.002  Attempt 1 is dialled.
"""


class Records(SynchronousTestCase):
    def test_are_shown_whole(self):
        self.assertEqual("\n".join(text.record(RECORD, 80)) + "\n", SHOWN)

    def test_of_which_little_is_known_are_shown_as_well(self):
        self.assertEqual(text.record({}, 80), ["Call  is of no known state", ""])
        lines = text.record(
            {"RequestUUID": UUID, "State": "dialling", "Attempts": [{"Number": 1, "Gateway": "g/"}]}, None
        )
        self.assertEqual(lines[-3:], ["Attempts", "  1  g/", "     is under way"])

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(sorted({*RECORD, *RECORD["Attempts"][0], *RECORD["Callbacks"][1]})),
                    inner,
                    max_size=5,
                )
            ),
            max_leaves=20,
        ),
        st.none() | st.integers(10, 120),
    )
    def test_of_any_shape_are_shown_without_failing(self, thing, columns):
        record = (
            {**RECORD, **thing}
            if isinstance(thing, dict)
            else {**RECORD, "Attempts": thing, "Script": thing, "Timeline": thing, "Callbacks": thing}
        )
        for line in text.record(record, columns):
            self.assertNotIn("\n", line)

    def test_news_are_one_line(self):
        row = {**ROWS[0], "Changed": "2027-01-15T08:00:04.000Z"}
        wanted = f"08:00:04.000  {UUID}  +15551234567 to +4930123456789  in-progress  by sofia/gateway/carrier-one/"
        self.assertEqual(text.news(row, None), wanted)
        self.assertEqual(len(text.news(row, 70)), 70)


# -- shells ----------------------------------------------------------------------------------------


class NotHungUp(SynchronousTestCase):
    def test_is_a_call_that_has_ended_with_its_cause_and_the_moment_as_far_as_it_is_known(self):
        call = {
            "RequestUUID": UUID,
            "State": "closed",
            "HangupCause": "NETWORK_OUT_OF_ORDER",
            "EndTime": None,
        }
        said = f"call {UUID} has ended already, with NETWORK_OUT_OF_ORDER"
        self.assertEqual(text.not_hung_up(call), said)
        timeline = [
            {"Event": event, "Time": f"2027-01-15T08:00:0{second}.001Z"}
            for second, event in enumerate(("CallRequested", "CallEnded", "CallClosed"))
        ]
        known = f"{said} at 2027-01-15 08:00:01.001 UTC"
        self.assertEqual(text.not_hung_up({**call, "Timeline": timeline}), known)
        hung_up = {**call, "State": "completed", "EndTime": "2027-01-15T08:00:01.001Z", "Timeline": timeline}
        self.assertEqual(text.not_hung_up(hung_up), known)

    def test_is_a_channel_that_is_not_up(self):
        call = {"RequestUUID": UUID, "State": "dialling"}
        self.assertEqual(text.not_hung_up(call, "c"), f"call {UUID} is dialling, but channel c is not up")
        self.assertEqual(text.not_hung_up(call), "")


class Completion(Case):
    def offered(self, *words):
        """What bash would offer for the last of *words*."""
        script, _ = self.run_it("completion", "bash")
        line = " ".join(f"'{each}'" for each in ("plivotx", *words))
        ask = f"COMP_WORDS=({line}); COMP_CWORD={len(words)}; _plivotx; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        ran = subprocess.run(
            ["bash", "--norc", "-eu", "-c", f"{script}\n{ask}"],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        self.assertEqual(ran.stderr, "")
        return ran.stdout.split()

    def test_bash_is_offered_commands_options_values_and_files(self):
        self.assertEqual(self.offered("ca"), ["call", "calls"])
        self.assertIn("hangup", self.offered(""))
        self.assertEqual(self.offered("call", "--gateway-t"), ["--gateway-timeouts"])
        self.assertEqual(self.offered("calls", "--state", "c"), ["completed", "closed"])
        self.assertEqual(self.offered("calls", "--limit", ""), [])
        self.assertEqual(self.offered("completion", "z"), ["zsh"])
        self.assertEqual(self.offered("check", "--config", "setup"), ["setup.cfg"])
        self.assertEqual(self.offered("lint", "setup"), ["setup.cfg"])
        self.assertEqual(self.offered("lint", "--plugin-path", "plug"), ["plugins"])
        self.assertEqual(self.offered("lint", "--meth"), ["--method"])
        self.assertEqual(self.offered("call", "--from", "--"), [])

    def test_every_option_of_every_command_is_in_both_scripts(self):
        for shell in ("bash", "zsh"):
            script, _ = self.run_it("completion", shell)
            for command in commands(make_parser()):
                self.assertIn(command.name, script)
                for option in command.options:
                    for name in option.names:
                        if name.startswith("--"):
                            self.assertIn(name, script)

    def test_the_script_for_zsh_quotes_what_it_says(self):
        script, _ = self.run_it("completion", "zsh")
        self.assertTrue(script.startswith("#compdef plivotx\n"))
        self.assertIn("'--from[the caller'\\''s number, shown to the far end]:NUMBER:'", script)
        self.assertIn(
            "'--state[where the call stands]:value:(accepted dialling ringing in-progress completed closed)'",
            script,
        )

    def test_the_script_for_zsh_is_understood(self):
        if not shutil.which("zsh"):
            raise SkipTest("there is no zsh here")
        script, _ = self.run_it("completion", "zsh")
        ran = subprocess.run(["zsh", "-n"], input=script, capture_output=True, text=True, check=False)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))


class TheProgram(SynchronousTestCase):
    def ran(self, *words, **more):
        return subprocess.run(
            [sys.executable, "-m", "plivotx.cli", *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=ROOT,
            **more,
        )

    def test_says_so_where_it_can_say_nothing_or_hear_nothing(self):
        for closed, words, code, why in (
            (1, ("check",), 1, "standard output is closed"),
            (1, ("call", "--from", "1"), 1, "standard output is closed"),
            (0, ("lint", "-"), 2, "standard input is closed"),
        ):
            ran = self.ran(*words, preexec_fn=lambda closed=closed: os.close(closed))
            self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (code, "", f"plivotx: {why}\n"))
        ran = self.ran("lint", "-", input="no document", preexec_fn=lambda: os.close(2))
        self.assertEqual(ran.returncode, 1)
        with Path("/dev/full").open("w", encoding="utf-8") as full:
            ran = subprocess.run(
                [sys.executable, "-m", "plivotx.cli", "completion", "bash"],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=60,
                check=False,
                cwd=ROOT,
            )
        why = "plivotx: standard output cannot be written: No space left on device\n"
        self.assertEqual((ran.returncode, ran.stderr), (1, why))

    def test_is_light_to_start(self):
        loaded = subprocess.run(
            [sys.executable, "-c", "import sys, plivotx.cli.main; print(*sys.modules)"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            cwd=ROOT,
        ).stdout.split()
        self.assertIn("plivotx.states", loaded)
        heavy = ("twisted", "klein", "plivotx.events", "plivotx.rest", "plivotx.projections", "plivotx.esl")
        self.assertEqual([each for each in loaded if each in heavy], [])

    def test_says_what_it_can_do_and_its_version(self):
        shown = self.ran("--help")
        self.assertEqual((shown.returncode, shown.stderr), (0, ""))
        for name in (
            "call",
            "calls",
            "show",
            "hangup",
            "resend",
            "watch",
            "lint",
            "check",
            "completion",
            "exit codes",
        ):
            self.assertIn(name, shown.stdout)
        self.assertRegex(self.ran("--version").stdout, r"^plivotx \d+\.\d+")

    def test_shows_what_the_terminal_has_no_characters_for(self):
        ran = self.ran("lint", "/nowhere/电", env={**os.environ, "PYTHONIOENCODING": "latin-1"})
        self.assertEqual(ran.returncode, 2)
        self.assertIn("/nowhere/\\u7535 cannot be read", ran.stderr)

    def test_ends_quietly_where_nobody_reads_on(self):
        ran = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {sys.executable} -m plivotx.cli completion bash | head -0"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=ROOT,
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))

    def test_every_option_says_what_it_is_for(self):
        for command in commands(make_parser()):
            self.assertGreater(len(command.meaning), 10, command.name)
            for option in command.options:
                self.assertGreater(len(option.meaning), 7, (command.name, option))
