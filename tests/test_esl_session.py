"""What frames mean and what commands look like, against what a real FreeSWITCH said and was told."""

import json
import re
from collections.abc import Callable, Iterator

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from plivotx.esl.frames import Frame, FrameReader, PeerError
from plivotx.esl.session import (
    BadCommand,
    Closing,
    Greeted,
    Happened,
    Headers,
    Incoming,
    Replied,
    Reply,
    Session,
    from_json,
    from_plain,
)
from tests.test_esl_frames import HEADISH, read, received
from tests.transcripts import load, needs_transcripts, transcripts

UUID = "5a8bd1c0-0000-5000-8000-000000000001"


def commands(sent: bytes) -> Iterator[tuple[str, bytes]]:
    """Return the commands that FreeSWITCH sees in what a client *sent*: their first line, and all their bytes."""
    at = 0
    while True:
        while sent[at : at + 1] in {b"\r", b"\n"}:  # blank lines before a command are skipped
            at += 1
        end = re.compile(rb"\r?\n\r?\n").search(sent, at)
        if end is None:
            return
        head = sent[at : end.start()].decode("latin-1")
        # a value that CR LF ends has none after it; headers behind a body count too, but none was recorded
        length = re.search(r"(?im)^content-length:[ ]*(\d+)", head)
        stop = end.end() + (int(length[1]) if length else 0)
        if len(sent) < stop:
            return
        yield head.split("\n")[0], sent[at:stop]
        at = stop


class Conversation:
    """One connection of a recording, played to a session."""

    def __init__(self, name: str, peer: str) -> None:
        self.session = Session("ClueCon")
        self.asked: list[str] = []
        self.answers: list[tuple[str, Reply]] = []
        self.incoming: list[Incoming] = []
        self.closed = False
        sent, reader = b"", FrameReader()
        for line in load(name):
            if line.peer != peer:
                continue
            if line.dir == "send":
                sent += line.data
                new = list(commands(sent))[len(self.asked) :]
                self.asked += [first for first, _ in new]
                self.session.awaited += len(new)
            else:
                for frame in reader.feed(line.data):
                    self.take(frame)

    def take(self, frame: Frame) -> None:
        if frame.headers["Content-Type"] == "text/event-xml":
            return  # never subscribed to
        for each in self.session.receive(frame):
            assert not self.closed or isinstance(each, Closing), f"{each} after the end"
            self.incoming.append(each)
            if isinstance(each, Replied):
                self.answers.append((self.asked[len(self.answers)], each.reply))
            self.closed = self.closed or isinstance(each, Closing)


EXPECTED: dict[str, Callable[[Reply], bool]] = {
    "auth": lambda reply: reply.text in {"+OK accepted", "-ERR invalid"},
    "event": lambda reply: reply.text.startswith(
        ("+OK event listener enabled ", "-ERR no keywords supplied")
    ),
    "nixevent": lambda reply: reply.text in {"+OK events nixed", "-ERR no keywords supplied"},
    "filter": lambda reply: reply.text.startswith(("+OK filter ", "-ERR invalid syntax")),
    "myevents": lambda reply: reply.text in {"+OK Events Enabled", "-ERR aready enabled."},
    "divert_events": lambda reply: reply.text.startswith(
        ("+OK events ", "-ERR not controlling a session.", "-ERR missing value.")
    ),
    "linger": lambda reply: reply.text.startswith(("+OK will linger", "-ERR not controlling a session")),
    "bgapi": lambda reply: reply.text == f"+OK Job-UUID: {reply.headers.get('Job-UUID')}",
    "api": lambda reply: reply.headers["Content-Type"] == "api/response",
    "sendmsg": lambda reply: reply.text == "+OK" or reply.text.startswith("-ERR invalid session id ["),
    "connect": lambda reply: reply.text == "%2BOK%0A",
    "exit": lambda reply: reply.text == "+OK bye",
}
"""What the answer to a command can look like; so a reply given to another command is seen."""

UNPAIRED = {
    "out_getvar_odd",  # a variable's text makes messages of its own, and one without end
    "out_no_connect",  # a command before `connect` is swallowed without a reply
}
ODD = {
    "priv_reload_words",  # FreeSWITCH runs another command in the place of ours
    "priv_userauth",  # this user may not run it
}


@needs_transcripts
class Recorded(SynchronousTestCase):
    def test_every_reply_finds_its_command(self) -> None:
        for name, peer in received():
            if name in UNPAIRED:
                continue
            talk = Conversation(name, peer)
            self.assertEqual((len(talk.answers), talk.session.awaited), (len(talk.asked), 0), (name, peer))
            for asked, reply in talk.answers:
                word = asked.split()[0].lower()
                known = EXPECTED.get(word, lambda _reply: True)
                if not (known(reply) or reply.text == "-ERR command not found" or name in ODD):
                    self.fail(f"{name} {peer}: {asked!r} was answered {reply.text!r}")

    def test_what_a_session_sends_was_understood(self) -> None:
        """The bytes are those of clients that were recorded."""
        seen = {data for name in transcripts() for data in _sent(name, "inbound")}
        session = Session("ClueCon")
        self.assertIn(session.authenticate(), seen)
        self.assertIn(session.events_json(["CUSTOM", "esl::golden"]), seen)
        self.assertIn(session.filter_("Call-Direction", "outbound"), seen)
        self.assertIn(session.api("status"), seen)
        self.assertEqual(session.awaited, 4)
        jobs = {data for data in seen if data.startswith(b"bgapi ") and b"\nJob-UUID: " in data}
        for data in sorted(jobs)[:20]:
            line, _, job = data.decode().strip("\n").partition("\nJob-UUID: ")
            self.assertEqual(session.bgapi(line.removeprefix("bgapi "), job), data)

    def test_refused_by_the_list_of_addresses(self) -> None:
        talk = Conversation("priv_acl_rude_rejection", "inbound")
        self.assertEqual(
            talk.incoming,
            [
                Closing("Access Denied, go away."),
                Closing("Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/"),
            ],
        )

    def test_wrong_password(self) -> None:
        greeted, replied, closing = Conversation("in_auth_wrong", "inbound").incoming
        self.assertEqual(greeted, Greeted())
        assert isinstance(replied, Replied)
        self.assertEqual((replied.reply.ok, replied.reply.error), (False, "invalid"))
        self.assertIsInstance(closing, Closing)

    def test_reload_ends_the_connection(self) -> None:
        last = Conversation("priv_reload_words", "inbound").incoming[-1]
        self.assertEqual(last, Closing("The system is being shut down."))

    def test_lingering_is_no_end(self) -> None:
        talk = Conversation("out_farend_hangup_linger", "outbound:1")
        self.assertEqual([type(each) for each in talk.incoming].count(Closing), 1)
        self.assertIsInstance(talk.incoming[-1], Closing)

    def test_background_jobs_have_a_body(self) -> None:
        talk = Conversation("orig_486", "inbound")
        (job,) = [e for e in _events(talk) if e.get("Event-Name") == "BACKGROUND_JOB"]
        self.assertEqual(job["_body"], "-ERR USER_BUSY\n")
        self.assertEqual(Reply(str(job["_body"])).error, "USER_BUSY")

    def test_events_without_a_name_are_events(self) -> None:
        events = [
            event for name in ("out_digit_action", "out_bridge_dtmf_event") for event in _all_events(name)
        ]
        nameless = [event for event in events if "Event-Name" not in event]
        self.assertTrue(nameless)
        self.assertIn("7", [event.get("digits") for event in nameless])

    def test_plain_and_json_say_the_same(self) -> None:
        """The same event was sent to two connections in the two forms, and made twice with one content."""
        plain, other = (
            _all_events("in_value_encoding", "inbound"),
            _all_events("in_value_encoding", "inbound:2"),
        )
        compared = 0
        for one in plain:
            for two in other:
                if one.get("Event-Sequence") == two.get("Event-Sequence"):
                    self.assertEqual(*map(_comparable, (one, two)))
                    compared += 1
        self.assertGreater(compared, 0)
        one, two = _all_events("in_event_plain")[0], _all_events("in_event_json")[0]
        changing = {
            "Event-UUID",
            "Event-Date-Local",
            "Event-Date-GMT",
            "Event-Date-Timestamp",
            "Event-Sequence",
        }
        # the two bodies differed by what was sent
        changing |= {"_body", "content-length", "Content-Length"}
        self.assertEqual(
            *({k: v for k, v in _comparable(each).items() if k not in changing} for each in (one, two))
        )
        self.assertEqual(two["_body"], "line one\nline two\n\nend\n")
        self.assertEqual(one["_body"], "line one\nline two\n\nend\n\ufffd")
        self.assertEqual((one["ARR"], one["Dup"], one["Colon"]), (["one", "two", "three"], "2", "a: b: c"))

    def test_the_inner_body_is_as_long_as_it_says(self) -> None:
        for wire in received().values():
            for frame in read(wire):
                if frame.headers.get("Content-Type") == "text/event-plain":
                    head, _, inner = frame.body.partition(b"\n\n")
                    lengths = re.findall(rb"^Content-Length: (\d+)$", head, re.MULTILINE)
                    if inner:
                        self.assertEqual(int(lengths[-1]), len(inner))

    def test_json_agrees_with_the_standard_library(self) -> None:
        for wire in received().values():
            for frame in read(wire):
                if frame.headers.get("Content-Type") == "text/event-json":
                    self.assertEqual(from_json(frame.body), json.loads(frame.body.decode("utf-8", "replace")))


def _sent(name: str, peer: str) -> list[bytes]:
    sent = b"".join(line.data for line in load(name) if (line.peer, line.dir) == (peer, "send"))
    return [data for _, data in commands(sent)]


def _events(talk: Conversation) -> list[Headers]:
    return [each.event for each in talk.incoming if isinstance(each, Happened)]


def _all_events(name: str, only: str = "") -> list[Headers]:
    return [
        event
        for recording, peer in received()
        if recording == name and only in {"", peer}
        for event in _events(Conversation(name, peer))
    ]


def _comparable(event: Headers) -> Headers:
    """Leave out what the plain form cannot tell: arrays of one element, and what looks url-encoded."""
    return {
        name: value[0] if isinstance(value, list) and len(value) == 1 else value
        for name, value in event.items()
        if name not in {"Looks-Encoded", "variable_g_pct2"}
    }


class Events(SynchronousTestCase):
    def test_an_encoded_newline_cannot_forge_a_header(self) -> None:
        event = from_plain(b"Event-Name: CHANNEL_HANGUP\nvariable_x: a%0AHangup-Cause: FORGED%0A%0Abody\n\n")
        self.assertEqual(
            event, {"Event-Name": "CHANNEL_HANGUP", "variable_x": "a\nHangup-Cause: FORGED\n\nbody"}
        )

    def test_values_are_decoded_once(self) -> None:
        self.assertEqual(from_plain(b"X: a%2520b%2f+%zz%\n\n"), {"X": "a%20b/+%zz%"})

    def test_what_is_no_utf8_is_replaced(self) -> None:
        self.assertEqual(from_plain(b"X: %E9%FF\n\n"), {"X": "\ufffd\ufffd"})
        self.assertEqual(from_json(b'{"X": "\xe9\xff\xc3"}'), {"X": "\ufffd\ufffd\ufffd"})

    def test_json_that_is_no_event(self) -> None:
        for body in (
            b"",
            b"[]",
            b"{",
            b"{}x",
            b'{"a": 1}',
            b'{"a": null}',
            b'{"a": {}}',
            b"[" * 100_000,
            b'{"a": "\\ud800"}',
        ):
            self.assertRaises(PeerError, from_json, body)

    @given(st.binary(max_size=200) | HEADISH)
    def test_any_plain_text_is_an_event(self, body: bytes) -> None:
        for value in from_plain(body).values():
            self.assertIsInstance(value, str | list)

    @given(st.binary(max_size=60) | st.text('{}[]":,\\u0d8ab1 ', max_size=30).map(str.encode))
    def test_any_json_is_an_event_or_a_peer_error(self, body: bytes) -> None:
        try:
            event = from_json(body)
        except PeerError:
            return
        self.assertIsInstance(event, dict)
        "".join(event).encode()  # nothing that cannot be written to disk

    @given(
        st.dictionaries(st.from_regex(r"[A-Za-z-]{1,9}", fullmatch=True), st.text(max_size=30), max_size=5)
    )
    def test_both_forms_carry_any_text(self, values: dict[str, str]) -> None:
        values = {name: value for name, value in values.items() if not value.startswith("ARRAY::")}
        plain = "".join(
            f"{name}: {''.join(f'%{byte:02X}' for byte in value.encode())}\n"
            for name, value in values.items()
        )
        self.assertEqual(from_plain(plain.encode() + b"\n"), values)
        self.assertEqual(from_json(json.dumps(values).encode()), values)


class Replies(SynchronousTestCase):
    def test_ok_and_error(self) -> None:
        for text, ok, error in (
            ("+OK", True, ""),
            ("+OK accepted", True, ""),
            ("-ERR invalid", False, "invalid"),
            ("-ERR USER_BUSY\n", False, "USER_BUSY"),
            ("-ERR CMD Command not found!\n", False, "CMD Command not found!"),
            ("-USAGE: <uuid>\n", False, "-USAGE: <uuid>"),
            ("-ERR", False, "-ERR"),
            ("true", False, ""),
            ("", False, ""),
        ):
            self.assertEqual((Reply(text).ok, Reply(text).error), (ok, error), text)

    def test_in_the_order_of_the_commands_with_events_in_between(self) -> None:
        session = Session("x")
        session.api("uuid_exists a")
        session.command("noevents")
        first = session.receive(Frame({"Content-Type": "api/response"}, "tr\xfce".encode("latin-1")))
        between = session.receive(Frame({"Content-Type": "text/event-json"}, b"{}"))
        second = session.receive(
            Frame({"Content-Type": "command/reply", "Reply-Text": "+OK", "Job-UUID": "j"})
        )
        self.assertEqual(first, (Replied(Reply("tr\ufffde", {"Content-Type": "api/response"})),))
        self.assertEqual(between, (Happened({}),))
        (replied,) = second
        assert isinstance(replied, Replied)
        self.assertEqual((replied.reply.text, replied.reply.headers["Job-UUID"]), ("+OK", "j"))
        self.assertEqual(session.awaited, 0)

    def test_one_that_nobody_asked_for(self) -> None:
        session = Session("x")
        self.assertRaises(
            PeerError, session.receive, Frame({"Content-Type": "command/reply", "Reply-Text": "+OK"})
        )
        self.assertRaises(PeerError, session.receive, Frame({"Content-Type": "api/response"}, b"+OK"))

    def test_lost_events(self) -> None:
        notice = Frame(
            {"Content-Type": "text/disconnect-notice"}, b"killed listener because of lost events\n"
        )
        (closing,) = Session("x").receive(notice)
        self.assertEqual(closing, Closing("killed listener because of lost events"))

    def test_log_lines_are_of_no_concern(self) -> None:
        self.assertEqual(Session("x").receive(Frame({"Content-Type": "log/data"}, b"x")), ())

    def test_unknown_messages(self) -> None:
        for kind in ("text/event-xml", "text/html", "Command/Reply", ""):
            self.assertRaises(PeerError, Session("x").receive, Frame({"Content-Type": kind}))
        self.assertRaises(PeerError, Session("x").receive, Frame({}))

    @given(
        st.integers(0, 3),
        HEADISH | st.binary(max_size=200),
        st.sampled_from(["command/reply", "text/event-json", ""]),
    )
    def test_only_peer_errors(self, awaited: int, wire: bytes, kind: str) -> None:
        session = Session("x")
        session.awaited = awaited
        try:
            for frame in read(f"Content-Type: {kind}\n".encode() + wire + b"\n\n"):
                for each in session.receive(frame):
                    self.assertIsInstance(each, Incoming)
        except PeerError:
            pass

    @needs_transcripts
    @given(st.data())
    def test_only_peer_errors_of_mutated_recordings(self, data: st.DataObject) -> None:
        wire = bytearray(received()[data.draw(st.sampled_from(sorted(received())))][:20_000])
        for at, junk in data.draw(
            st.lists(
                st.tuples(st.integers(0, len(wire)), st.binary(max_size=4) | st.just(b"\n\n")), max_size=6
            )
        ):
            wire[at : at + len(junk)] = junk
        session = Session("x")
        session.awaited = 1000
        try:
            for frame in FrameReader().feed(bytes(wire)):
                session.receive(frame)
        except PeerError:
            pass


class Commands(SynchronousTestCase):
    def setUp(self) -> None:
        self.session = Session("ClueCon")

    def test_plain(self) -> None:
        self.assertEqual(self.session.command("noevents"), b"noevents\n\n")
        self.assertEqual(
            self.session.command("sendevent X", [("A", "b: c")], "é".encode()),
            b"sendevent X\nA: b: c\ncontent-type: text/plain\ncontent-length: 2\n\n\xc3\xa9",
        )

    def test_subscribing(self) -> None:
        self.assertEqual(self.session.events_json(["DTMF", "HEARTBEAT"]), b"event json DTMF HEARTBEAT\n\n")

    def test_a_step_stands_between_its_marks(self) -> None:
        data = self.session.step(UUID, "1/2/3", "speak", "flite|slt|reload the mod_event_socket\n\nthing")
        head = f"sendmsg {UUID}\ncall-command: execute\nexecute-app-name: "
        body = "content-type: text/plain\ncontent-length: "
        mark = f"{head}set\nevent-lock: true\nEvent-UUID: plivotx\n{body}18\n\n"
        text = "flite|slt|reload the mod_event_socket\n\nthing"
        expected = [
            f"{mark}plivotx_step=1/2/3",
            f"{head}speak\nevent-lock: true\nEvent-UUID: 1/2/3\n{body}44\n\n{text}",
            f"{mark}plivotx_done=1/2/3",
        ]
        self.assertEqual([each.decode() for _, each in commands(data)], expected)
        self.assertEqual(self.session.awaited, 3)

    def test_a_step_whose_end_is_not_heard_has_it_told_by_its_mark(self) -> None:
        for app, told in (
            ("sched_hangup", "1/2/3"),
            ("PARK", "1/2/3"),
            ("speak", "plivotx"),
            ("set", "plivotx"),
        ):
            sent = [each.decode() for _, each in commands(self.session.step(UUID, "1/2/3", app, "x"))]
            marks = [re.findall("Event-UUID: (.*)", each)[0] for each in sent]
            self.assertEqual(marks, ["plivotx", "1/2/3", told], app)

    def test_commands_before_a_step_go_with_it(self) -> None:
        sent = self.session.step(UUID, "1/2/3", "speak", "x", ["uuid_setvar a b c", "uuid_setvar a d "])
        heads = [head for head, _ in commands(sent)]
        self.assertEqual(heads, ["api uuid_setvar a b c", "api uuid_setvar a d ", *3 * [f"sendmsg {UUID}"]])
        self.assertEqual(self.session.awaited, 5)
        self.assertRaises(BadCommand, self.session.step, UUID, "k", "speak", "", ["uuid_setvar a b c\nexit"])
        self.assertEqual(self.session.awaited, 5)

    def test_a_step_without_an_argument_has_no_body(self) -> None:
        _, (_, data), _ = commands(self.session.step(UUID, "k/1", "answer"))
        self.assertEqual(
            data.decode(),
            f"sendmsg {UUID}\ncall-command: execute\nexecute-app-name: answer\nevent-lock: true\n"
            "Event-UUID: k/1\n\n",
        )

    def test_keys_of_steps(self) -> None:
        for key in ("", "a b", "a\n", "${x}", "a=b", "é", "a'b", "a\\"):
            self.assertRaises(BadCommand, self.session.step, UUID, key, "answer")
        self.assertEqual(self.session.awaited, 0)

    def test_refused_and_not_counted(self) -> None:
        s = self.session
        for call in (
            lambda: s.api("originate a\n\napi system x"),
            lambda: s.api("a\rb"),
            lambda: s.api("a\0b"),
            lambda: s.command("sendmsg x", [("A", "b\nc: d")]),
            lambda: s.command("sendmsg x", [("A\n", "b")]),
            lambda: s.command(""),
            lambda: s.command("  "),
            lambda: s.bgapi("status", "a b"),
            lambda: s.bgapi("status", "a\nb"),
            lambda: s.filter_("Unique ID", "x"),
            lambda: s.events_json(["DTMF\n"]),
            lambda: s.step("a b", "k", "answer"),
            lambda: s.step("", "k", "answer"),
            lambda: s.step(UUID, "k", "", "x"),
            lambda: s.step(UUID, "k", "speak", "\ud800"),
            lambda: s.step(UUID, "k", "speak", "a\0b"),
            lambda: s.api("\udcff"),
            lambda: s.api("originate {x=please UNLOAD it}a Mod_Event_Socket"),
            lambda: s.bgapi("reload mod_event_socket", "j"),
            lambda: Session("x\n\napi y").authenticate(),
        ):
            self.assertRaises(BadCommand, call)
        self.assertEqual(s.awaited, 0)
        s.api("mod_event_socket")
        s.api("reload")
        self.assertEqual(s.awaited, 2)

    @given(st.text(max_size=60), st.lists(st.tuples(st.text(max_size=10), st.text(max_size=30)), max_size=3))
    def test_what_is_sent_is_one_command(self, line: str, headers: list[tuple[str, str]]) -> None:
        try:
            data = Session("x").command(line, headers)
        except BadCommand:
            return
        self.assertEqual(data.count(b"\n\n"), 1)
        self.assertEqual(data.count(b"\n"), len(headers) + 2)
        self.assertEqual(data[-2:], b"\n\n")

    @given(st.text(max_size=80), st.text(max_size=20), st.text(max_size=10), st.text(max_size=10))
    def test_an_argument_cannot_leave_its_body(self, arg: str, uuid: str, app: str, key: str) -> None:
        try:
            data = Session("x").step(uuid or UUID, key or "k", app or "speak", arg)
        except BadCommand:
            return
        heads = [head for head, _ in commands(data)]
        self.assertEqual(heads, [f"sendmsg {uuid or UUID}"] * 3)
        self.assertEqual(b"".join(each for _, each in commands(data)), data)
