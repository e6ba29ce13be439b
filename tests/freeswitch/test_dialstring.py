"""What a real FreeSWITCH makes of the dial strings of esl/dialstring: hostile texts arrive byte for byte, or are refused.

Each test prints how many texts were exact, wrong and refused.  At least 2,000 are tried, more with PLIVOTX_HYPOTHESIS.
"""

import itertools
import re
import socket
import sys
import time
import uuid
from collections import Counter

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from plivotx.config import split_address
from plivotx.emulator.dialstring import DialStringError, parse
from plivotx.esl import dialstring
from plivotx.esl.dialstring import Unsafe
from plivotx.esl.frames import FrameReader
from plivotx.esl.session import Closing, Greeted, Happened, Replied, Session
from tests.freeswitch.world import ADDRESS, PASSWORD, SKIP
from tests.test_esl_dialstring import CALL, TEXT, WORDS

MANY = settings(max_examples=max(250, settings.default.max_examples // 10))
TEXTS = st.lists(TEXT, min_size=8, max_size=20)
"""What one channel is given, a variable each."""
HARMLESS = st.text("ab01 ,'.:_=-é(){}[]|&;^!", max_size=20)
NAMES = {
    "gateway": "Gateways",
    "to": "To",
    "caller_id_number": "From",
    "caller_id_name": "CallerName",
    "codecs": "GatewayCodecs",
}
SHOWN = {
    "caller_id_number": "Caller-Caller-ID-Number",
    "caller_id_name": "Caller-Caller-ID-Name",
    "to": "Caller-Destination-Number",
}
CLIENTS_NAMES = (
    *("a", "sip_h_X-Account", "Some.Name-1", "origination_caller_id_name", "bridge_early_media"),
    *("hangup_after_bridge", "a b", "a=b", "a,b", "a}", "^^;", "a[0]", "execute_on_answer", "api_on_answer"),
    *("origination_uuid", "origination_nested_vars", "plivo_app", "execute_on_answer_1", "EXECUTE_ON_RING"),
)
PIECES = (
    *(
        "\\",
        "'",
        '"',
        ",",
        "=",
        "{",
        "}",
        "[",
        "]",
        "<",
        ">",
        "|",
        " ",
        "^^;",
        "^^:",
        "n",
        "s",
        "t",
        "r",
        "x=",
        "y=",
    ),
    *(
        "a",
        "b",
        "1",
        "${uuid}",
        "$",
        "|:",
        "\\,",
        "\\'",
        "\\s",
        "'a b'",
        "x='",
        "',y=",
        "\1",
        "\2",
        "é",
        ":_",
        "%",
        "&",
        ";",
    ),
)
RAW = st.builds(
    "{0[0]}x={1},y={2}{0[1]}{3}".format,
    st.sampled_from(("{}", "[]", "<>")),
    st.lists(st.sampled_from(PIECES), max_size=6).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=5).map("".join),
    st.just("") | st.lists(st.sampled_from(PIECES), max_size=5).map("".join).map("[x={},z=1]".format),
)
DIALLED = CALL | {"gateway": "null/", "to": "100"}
SECONDS = 30


def as_text(value):
    """An array as it was written."""
    return "ARRAY::" + "|:".join(value) if isinstance(value, list) else value


class Line:
    """A connection that waits for each answer."""

    def __init__(self):
        self.socket = socket.create_connection(split_address(ADDRESS), SECONDS)
        self.session = Session(PASSWORD)
        self.reader = FrameReader()
        self.events = []
        self.replies = []
        self.greeted = False
        while not self.greeted:
            self.read()
        assert self.ask(self.session.authenticate())[0].ok

    def read(self):
        data = self.socket.recv(1 << 16)
        assert data, "FreeSWITCH closed the connection"
        for frame in self.reader.feed(data):
            for incoming in self.session.receive(frame):
                match incoming:
                    case Greeted():
                        self.greeted = True
                    case Replied(reply):
                        self.replies.append(reply)
                    case Happened(event):
                        self.events.append(event)
                    case Closing(reason):
                        raise AssertionError(f"FreeSWITCH closes the connection: {reason}")

    def ask(self, data):
        """Write commands at once, and return their replies."""
        self.socket.sendall(data)
        while self.session.awaited:
            self.read()
        replies, self.replies = self.replies, []
        return replies

    def api(self, *commands):
        return [reply.text for reply in self.ask(b"".join(map(self.session.api, commands)))]

    def dump(self, channel):
        """All variables of a channel."""
        (text,) = self.api(f"uuid_dump {channel} json")
        event = msgspec.json.decode(text)
        return {
            name.removeprefix("variable_"): value
            for name, value in event.items()
            if name.startswith("variable_")
        }


class DialStrings(SynchronousTestCase):
    skip = SKIP or None
    timeout = 600

    def setUp(self):
        self.counts = Counter()
        run, numbers = uuid.uuid4(), itertools.count()
        self.channels = (str(uuid.uuid5(run, str(number))) for number in numbers)
        self.asked = set()
        self.line = Line()
        self.watcher = Line()
        names = ("CHANNEL_CREATE", "CHANNEL_EXECUTE", "CHANNEL_DESTROY")
        self.watcher.ask(self.watcher.session.events_json(names))
        self.addCleanup(self.leave)

    def leave(self):
        self.line.api("hupall NORMAL_CLEARING plivo_app true")
        self.line.socket.close()
        self.watcher.socket.close()

    def new(self):
        channel = next(self.channels)
        self.asked.add(channel)
        return channel

    def originate(self, line, channel):
        (answer,) = self.line.api(line)
        self.assertEqual(answer, f"+OK {channel}\n", line)

    def end(self, channel):
        self.line.api(f"uuid_kill {channel}", dialstring.forget(channel))

    def compare(self, wanted, found, told):
        for name, text in wanted.items():
            if found.get(name, "") == text:
                self.counts["exact"] += 1
            else:
                self.counts["wrong"] += 1
        self.assertEqual({name: found.get(name, "") for name in wanted}, wanted, told)

    def told(self, what, least=2000):
        exact, wrong, refused = (self.counts[each] for each in ("exact", "wrong", "refused"))
        sys.__stderr__.write(f"\n{what}: {exact} exact, {wrong} wrong, {refused} refused\n")
        self.assertEqual(wrong, 0)
        self.assertGreaterEqual(exact + refused, least)
        self.assertGreater(exact, least // 4)

    def only_what_was_asked(self, applications):
        """One channel for each that was asked for, and on them no other application."""
        ended = set()
        limit = time.monotonic() + SECONDS
        while not self.asked <= ended:
            self.assertLess(time.monotonic(), limit, f"{len(self.asked - ended)} channels did not end")
            self.watcher.ask(self.watcher.session.api("uuid_exists 0"))
            ended = {
                each["Unique-ID"] for each in self.watcher.events if each["Event-Name"] == "CHANNEL_DESTROY"
            }
            time.sleep(0.02)
        events = self.watcher.events
        made = Counter(each["Unique-ID"] for each in events if each["Event-Name"] == "CHANNEL_CREATE")
        self.assertEqual(made, Counter(self.asked))
        ran = {
            (each["Application"], each.get("Application-Data", ""))
            for each in events
            if each["Event-Name"] == "CHANNEL_EXECUTE"
        }
        self.assertEqual(ran, applications)

    def test_variables_of_a_dial_string(self):
        @MANY
        @given(TEXTS)
        def check(texts):
            wanted = {}
            for number, text in enumerate(texts):
                try:
                    dialstring.variables([(f"x{number}", text)])
                except Unsafe as why:
                    self.assertEqual(why.name, f"x{number}")
                    self.counts["refused"] += 1
                else:
                    wanted[f"x{number}"] = text
            channel = self.new()
            block = dialstring.variables(
                [("origination_uuid", channel), ("plivo_app", "true"), *wanted.items(), ("last", "1")]
            )
            self.originate(f"originate {block}null/x &park()", channel)
            found = self.line.dump(channel)
            self.end(channel)
            self.compare(wanted | {"last": "1"}, found, block)
            self.assertEqual(
                {name for name in found if name.startswith("x")}, {name for name in wanted if wanted[name]}
            )

        check()
        self.told("variables()")
        self.only_what_was_asked({("park", "")})

    def test_variables_that_are_set_later(self):
        channel = self.new()
        self.originate(f"originate {{origination_uuid={channel},plivo_app=true}}null/x &park()", channel)

        @MANY
        @given(TEXTS)
        def check(texts):
            wanted, commands = {}, []
            for number, text in enumerate(texts):
                try:
                    commands.append(dialstring.setvar(channel, f"x{number}", text))
                except Unsafe as why:
                    self.assertEqual(why.name, f"x{number}")
                    self.counts["refused"] += 1
                else:
                    wanted[f"x{number}"] = text
            answers = self.line.api(*commands) if commands else []
            self.assertEqual(set(answers) - {"+OK\n"}, set(), commands)
            self.compare(wanted, self.line.dump(channel), commands)

        check()
        self.end(channel)
        self.told("setvar()")
        self.only_what_was_asked({("park", "")})

    def variables_after(self, channel, line):
        """What a line sets on its channel, with U for the channel itself."""
        self.originate(line, channel)
        found = self.line.dump(channel)
        self.end(channel)
        return {name: str(value).replace(channel, "U") for name, value in found.items()}

    def test_whole_lines(self):
        one, two = (
            self.variables_after(channel, dialstring.originate(**DIALLED | {"channel": channel}))
            for channel in (self.new(), self.new())
        )
        varies = {name for name in one | two if one.get(name) != two.get(name)}  # times and the like
        # whether it is parked yet, and the caller as the switch itself writes it (0000000000 where there is none)
        varies |= {"current_application", "current_application_data"}
        varies |= {"pre_transfer_caller_id_number", "pre_transfer_caller_id_name"}
        harmless = {name: value for name, value in one.items() if name not in varies}
        self.assertIn("origination_caller_id_name", harmless)
        self.assertLessEqual(len(varies), 12, varies)
        shows = {
            "gateway": "channel_name",
            "to": "channel_name",
            "caller_id_number": "origination_caller_id_number",
            "caller_id_name": "origination_caller_id_name",
            "codecs": "absolute_codec_string",
        }

        @MANY
        @given(st.lists(st.tuples(st.sampled_from(sorted(NAMES)), TEXT | HARMLESS), min_size=8, max_size=16))
        def check(changes):
            for parameter, tried in changes:
                # another endpoint makes another channel, or none
                text = f"null/{tried}" if parameter == "gateway" else tried
                channel = self.new()
                try:
                    line = dialstring.originate(**DIALLED | {"channel": channel, parameter: text})
                except Unsafe as why:
                    self.asked.discard(channel)
                    self.assertEqual(why.name, NAMES[parameter])
                    self.counts["refused"] += 1
                    continue
                found = self.variables_after(channel, line)
                wanted = dict(harmless)
                wanted[shows[parameter]] = {
                    "gateway": f"{text}100",
                    "to": f"null/{text}",
                    "codecs": dialstring.codec_string(text) if parameter == "codecs" else "",
                }.get(parameter, text)
                self.compare(wanted, found, line)
                self.assertLessEqual({name for name, value in found.items() if value} - varies, set(wanted))
                self.counts["exact"] -= len(wanted) - 1  # the line counts once

        check()
        self.told("originate()")
        self.only_what_was_asked({("park", ""), ("sched_hangup", "+14405 ALLOTTED_TIMEOUT")})

    def test_what_the_far_end_is_told(self):
        """The caller and the number as they come in at the other end of a SIP call."""

        @settings(max_examples=40)
        @given(st.lists(st.tuples(st.sampled_from(sorted(SHOWN)), TEXT | HARMLESS), min_size=8, max_size=16))
        def check(changes):
            for parameter, tried in changes:
                text = f"404{tried}" if parameter == "to" else tried  # no such number: it ends at once
                channel = self.new()
                call = CALL | {"to": "404", "channel": channel, parameter: text}
                try:
                    line = dialstring.originate(**call)
                except Unsafe as why:
                    self.asked.discard(channel)
                    self.assertEqual(why.name, NAMES[parameter])
                    self.counts["refused"] += 1
                    continue
                (answer,) = self.line.api(line)
                self.line.api(dialstring.forget(channel))
                self.assertTrue(answer.startswith("-ERR "), answer)  # nobody is there
                number = call["caller_id_number"] or "0000000000"  # FreeSWITCH's own
                name = call["caller_id_name"] or number  # there at the other end is the same FreeSWITCH
                wanted[channel] = (number, name, call["to"])

        wanted = {}
        check()
        self.assertEqual(self.asked, set(wanted))
        limit = time.monotonic() + SECONDS
        while len(self.made("CHANNEL_DESTROY")) < 2 * len(wanted):
            self.assertLess(time.monotonic(), limit, "not every channel ended")
            self.watcher.api("uuid_exists 0")
            time.sleep(0.02)
        made = self.made("CHANNEL_CREATE")
        self.assertEqual(len(made), 2 * len(wanted))
        ours = [each["Unique-ID"] for each in made if each["Call-Direction"] == "outbound"]
        self.assertEqual(sorted(ours), sorted(wanted))
        came = [each for each in made if each["Call-Direction"] == "inbound"]
        asked = Counter(wanted.values())
        heard = Counter(tuple(each.get(header, "") for header in SHOWN.values()) for each in came)
        self.counts["wrong"] += (asked - heard).total()
        self.counts["exact"] += (asked & heard).total()
        self.assertEqual((asked - heard, heard - asked), (Counter(), Counter()))
        self.told("far end", least=300)

    def made(self, name):
        return [each for each in self.watcher.events if each["Event-Name"] == name]

    def test_what_a_client_adds(self):
        """The variables of ExtraDialString are set as they were given, or refused, and nothing else is."""
        names = st.sampled_from(CLIENTS_NAMES) | st.sampled_from(CLIENTS_NAMES[:4]) | TEXT

        @MANY
        @given(st.lists(st.tuples(names, TEXT | HARMLESS), min_size=8, max_size=16))
        def check(given_ones):
            for name, text in given_ones:
                channel = self.new()
                call = DIALLED | {"channel": channel}
                try:
                    line = dialstring.originate(**call, variables=[("before", "1"), (name, text)])
                except Unsafe as why:
                    self.asked.discard(channel)
                    self.assertEqual(why.name, "ExtraDialString")
                    self.counts["refused"] += 1
                    continue
                found = self.variables_after(channel, line)
                self.compare({name: text}, found, line)
                self.assertEqual(found.get("before"), "1")
                self.assertLessEqual(set(found) - {"before", name}, usual)

        channel = self.new()
        usual = set(self.variables_after(channel, dialstring.originate(**DIALLED | {"channel": channel})))
        usual |= {"current_application_data", "pre_transfer_caller_id_name"}
        check()
        self.told("ExtraDialString")
        self.only_what_was_asked({("park", ""), ("sched_hangup", "+14405 ALLOTTED_TIMEOUT")})

    def test_what_would_lead_a_call_past_its_gateway(self):
        """404 is nobody's number; with these variables the switch calls another number, or another host."""
        channel = str(uuid.uuid4())
        plain = f"originate_timeout=5,ignore_early_media=true,origination_uuid={channel}"
        dialled = "sofia/gateway/self/404 &park()"
        self.assertEqual(self.line.api(f"originate {{{plain}}}{dialled}"), ["-ERR UNALLOCATED_NUMBER\n"])
        (status,) = self.line.api("sofia status")
        (address,) = re.findall(r"::self\s+gateway\s+sip:[^@]+@([0-9.:]+)", status)
        host = address.partition(":")[0]
        nowhere = f"sip:{host}:9"
        for variable in (
            f"sip_invite_req_uri=sip:9@{address}",
            f"sip_route_uri={nowhere}",
            f"sip_invite_route_uri=<{nowhere};lr>",
            f"sip_h_Route=<{nowhere};lr>",
            "sip_invite_params=maddr=127.0.0.9",
            "sip_invite_tel_params=a",
        ):
            name, _, value = variable.partition("=")
            with self.assertRaises(Unsafe):
                dialstring.extra([(name, value)])
            (answer,) = self.line.api(f"originate {{{variable},{plain}}}{dialled}")
            self.line.api(f"uuid_kill {channel}")
            self.assertNotEqual(answer, "-ERR UNALLOCATED_NUMBER\n", variable)

    def test_raw_dial_strings_mean_the_same_to_the_emulator(self):
        """Blocks that nobody made safe: what the emulator's parser finds in them is what FreeSWITCH sets."""

        @MANY
        @given(st.lists(RAW, min_size=6, max_size=12))
        def check(blocks):
            for block in blocks:
                channel = self.new()
                ours = f"{{origination_uuid={channel},plivo_app=true}}"
                dial = f"{block}{ours}null/q" if block.startswith("<") else f"{ours}{block}null/q"
                (answer,) = self.line.api(f"originate {dial} &park()")
                found = None
                if answer.startswith("+OK "):
                    found = {name: as_text(text) for name, text in self.line.dump(answer[4:].strip()).items()}
                    self.line.api(f"uuid_kill {answer[4:].strip()}")
                expected = self.emulated(f"{dial} &park()")
                same = found is None if expected is None else found is not None
                for name in "xyz" if found and expected else ():
                    same = same and found.get(name) == expected.get(name)
                self.counts["exact" if same else "wrong"] += 1
                self.assertTrue(same, f"{dial!r}: {answer!r} {found}, the emulator: {expected}")

        check()
        self.told("raw")

    def emulated(self, line):
        """The variables of the one leg that the emulator would dial; None if there is none."""
        try:
            (branch,) = parse(line).branches
        except DialStringError:
            return None
        if branch.broken or any(group.broken for group in branch.groups):
            return None
        dialled = [leg for group in branch.groups for leg in group.legs if leg.endpoint == "null"]
        return dict(dialled[0].variables) if dialled else None

    def test_words_that_are_looked_for_in_the_raw_text(self):
        """Each word twice, with a blank between, as the value of one variable."""
        for word in WORDS:
            for text in (word, f"{word} {word}", f"'{word}", f"{word}\\"):
                try:
                    block = dialstring.variables([("x", text), ("y", text)])
                except Unsafe:
                    self.counts["refused"] += 1
                    continue
                channel = self.new()
                line = f"originate {{origination_uuid={channel},plivo_app=true}}{block}null/x &park()"
                self.originate(line, channel)
                found = self.line.dump(channel)
                self.end(channel)
                self.compare({"x": text, "y": text}, found, line)
        self.told("words", least=200)
        self.only_what_was_asked({("park", "")})
