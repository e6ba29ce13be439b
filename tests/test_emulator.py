"""The emulator where no recording looks: interruptions, restarts, faults, hostile bytes, the memory network, real TCP."""

import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import defer, error, reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python import usage
from twisted.trial import unittest

from plivotx.emulator import farends
from plivotx.emulator.events import Event, url_encode
from plivotx.emulator.memory import Network, run
from plivotx.emulator.service import Options, makeService
from plivotx.emulator.switch import Factory as SwitchFactory
from plivotx.emulator.switch import Switch
from plivotx.emulator.variables import Variables

GOODBYE = "Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n"


def _notice(text):
    return f"Content-Type: text/disconnect-notice\nContent-Length: {len(text)}\n\n{text}".encode()


class Client(Protocol):
    """Collects bytes and knows how its connection ended."""

    def __init__(self):
        self.data = b""
        self.lost = None

    def dataReceived(self, data):
        self.data += data

    def connectionLost(self, reason):
        self.lost = reason.type


class World:
    """A switch on a clock, and one authenticated connection that hears all channel events as JSON."""

    def __init__(self, *, seed=0, events="json ALL", wall=1_800_000_000.3):
        self.clock = Clock()
        self.switch = Switch(self.clock, seed=seed, wall=wall)
        self.network = Network(self.clock, self.switch, seed=seed)
        self.client = self.connect()
        self.all = b""
        if events:
            self.say(f"event {events}")

    def connect(self):
        client = Client()
        self.link = self.network.connect(client)
        client.transport.write(b"auth ClueCon\n\n")
        self.run(0.01)
        assert b"+OK accepted" in client.data
        client.data = b""
        return client

    def run(self, seconds):
        run(self.clock, seconds)

    def take(self):
        data, self.client.data = self.client.data, b""
        self.all += data
        return data

    def say(self, text, seconds=0.01):
        """Send a command; return the replies."""
        self.take()
        self.client.transport.write(text.encode() + b"\n\n")
        self.run(seconds)
        return self.client.data.decode("utf-8", "replace")

    def api(self, text, seconds=0.01):
        answer = re.search(
            r"Content-Type: api/response\nContent-Length: (\d+)\n\n", self.say(f"api {text}", seconds)
        )
        assert answer, text
        return answer.string[answer.end() : answer.end() + int(answer[1])]

    def events(self, uuid=None):
        """All events so far, or those of one channel."""
        self.take()
        found = [
            json.loads(text)
            for text in re.findall(rb"text/event-json\n\n(\{.*?\})(?=Content-|$)", self.all, re.DOTALL)
        ]
        return [event for event in found if uuid is None or event.get("Unique-ID") == uuid]

    def names(self, uuid, wanted=r"EXECUTE|PARK|PLAYBACK|HANGUP|DESTROY|ANSWER|PROGRESS"):
        names = []
        for event in self.events(uuid):
            if re.search(wanted, event["Event-Name"]):
                response = event.get("Application-Response", "")
                names.append(
                    " ".join(filter(None, [event["Event-Name"], event.get("Application"), response]))
                )
        return [name.removeprefix("CHANNEL_").replace(" _none_", "") for name in names]

    def call(self, number="100", uuid="U", more="", via="sofia/gateway/gw/", seconds=0.2):
        return self.say(
            f"bgapi originate {{origination_uuid={uuid},{more}}}{via}{number} &park()\nJob-UUID: {uuid}",
            seconds,
        )

    def send(self, app, argument="", uuid="U", key="K", *, lock=True, more=""):
        """Queue a message, its argument in the body; do not wait."""
        head = f"sendmsg {uuid}\ncall-command: execute\nexecute-app-name: {app}\nEvent-UUID: {key}\n{more}"
        if lock:
            head += "event-lock: true\n"
        if argument:
            head += f"content-type: text/plain\ncontent-length: {len(argument)}\n"
        self.client.transport.write(f"{head}\n{argument}".encode())


class Messages(unittest.TestCase):
    """The queue of sendmsg (driving-calls.md, section 1)."""

    def setUp(self):
        self.world = World()
        self.world.call()
        self.world.names("U")
        self.world.all = b""

    def test_verb_and_marker(self):
        world = self.world
        world.send("playback", "silence_stream://1000", key="K1")
        world.send("set", "plx_done=K1", key="K1.done")
        world.run(0.5)
        self.assertEqual(world.names("U"), ["EXECUTE playback", "PLAYBACK_START"])
        world.run(1)
        self.assertEqual(
            world.names("U")[2:],
            ["PLAYBACK_STOP", "EXECUTE_COMPLETE playback FILE PLAYED", "EXECUTE set", "EXECUTE_COMPLETE set"],
        )
        self.assertEqual(world.api("uuid_getvar U plx_done"), "K1")
        keys = [event["Application-UUID"] for event in world.events("U") if "Application-UUID" in event]
        self.assertEqual(keys, ["K1", "K1", "K1.done", "K1.done"])

    def test_locked_one_after_the_other_and_unlocked_nested(self):
        """out_event_lock: locked ones wait, unlocked ones start inside and complete in reverse order."""
        world = self.world
        for key in "abc":
            world.send("playback", "silence_stream://300", key=key, lock=False)
        world.run(1)
        order = [event["Application-UUID"] for event in world.events("U") if "Application-UUID" in event]
        self.assertEqual(order, ["a", "b", "c", "c", "b", "a"])
        world.all = b""
        for key in "abc":
            world.send("playback", "silence_stream://300", key=key)
        world.run(1)
        order = [event["Application-UUID"] for event in world.events("U") if "Application-UUID" in event]
        self.assertEqual(order, ["a", "a", "b", "b", "c", "c"])

    def test_a_lock_holds_even_hangup_and_unlocked_messages(self):
        world = self.world
        world.send("playback", "silence_stream://1000")
        world.run(0.1)
        world.say("sendmsg U\ncall-command: hangup\nhangup-cause: USER_BUSY")
        world.run(0.5)
        self.assertIn("U", world.switch.channels)
        world.run(1)
        self.assertEqual(world.switch.ended[-1].cause, "USER_BUSY")

    def test_uuid_kill_cuts_through(self):
        world = self.world
        world.send("playback", "silence_stream://9000")
        world.send("set", "x=1")
        world.run(0.1)
        self.assertEqual(world.api("uuid_kill U CALL_REJECTED"), "+OK\n")
        self.assertEqual(world.api("uuid_exists U"), "false")
        world.run(0.1)
        self.assertEqual(
            world.names("U")[2:],
            [
                "HANGUP",
                "PLAYBACK_STOP",
                "EXECUTE_COMPLETE playback PLAYBACK ERROR",
                "UNPARK",
                "EXECUTE_COMPLETE park PLAYBACK ERROR",
                "HANGUP_COMPLETE",
                "DESTROY",
            ],
        )
        self.assertEqual(world.switch.channels, {})

    def test_plain_break_lets_the_marker_run_and_all_drops_it(self):
        for form, marked in (("", "K1"), (" all", "_undef_")):
            world = World()
            world.call()
            world.send("playback", "silence_stream://9000", key="K1")
            world.send("set", "plx_done=K1", key="K1.done")
            world.run(0.1)
            self.assertEqual(world.api(f"uuid_break U{form}"), "+OK\n")
            world.run(0.1)
            self.assertIn("EXECUTE_COMPLETE playback FILE PLAYED", world.names("U"))
            self.assertEqual(world.api("uuid_getvar U plx_done"), marked)

    def test_transfer_runs_the_queue_broken_and_parks_again(self):
        world = self.world
        world.send("playback", "silence_stream://9000", key="K1")
        world.send("set", "plx_done=K1", key="K1.done")
        world.run(0.1)
        world.take()
        world.all = b""
        self.assertEqual(world.api("uuid_transfer U park inline"), "+OK\n")
        world.send("playback", "silence_stream://9000", key="K2")
        world.run(0.1)
        self.assertEqual(
            world.names("U"),
            [
                "PLAYBACK_STOP",
                "EXECUTE_COMPLETE playback PLAYBACK ERROR",
                "EXECUTE set",
                "EXECUTE_COMPLETE set",
                "EXECUTE playback",
                "PLAYBACK_START",
                "PLAYBACK_STOP",
                "EXECUTE_COMPLETE playback PLAYBACK ERROR",
                "UNPARK",
                "EXECUTE_COMPLETE park PLAYBACK ERROR",
                "EXECUTE park",
                "PARK",
            ],
        )

    def test_loops(self):
        world = self.world
        world.send("playback", "silence_stream://600", more="loops: 3\n")
        world.run(2)
        self.assertEqual(world.names("U").count("EXECUTE playback"), 3)
        world.send("set", "x=1", more="loops: 3\n")
        world.run(1)
        self.assertEqual(world.names("U").count("EXECUTE set"), 1)  # a round was too short

    def test_a_long_queue(self):
        world = self.world
        for i in range(2000):
            world.client.transport.write(
                b"sendmsg U\ncall-command: execute\nexecute-app-name: set\nevent-lock: true\nexecute-app-arg: n=%d\n\n"
                % i
            )
        world.run(0.1)
        self.assertEqual(world.api("uuid_getvar U n"), "1999")

    def test_unknown_application_hangs_up(self):
        self.world.send("nosuch", "x")
        self.world.run(0.1)
        self.assertEqual(self.world.switch.ended[-1].cause, "DESTINATION_OUT_OF_ORDER")
        self.assertNotIn("EXECUTE nosuch", self.world.names("U"))

    def test_missing_file_and_speech(self):
        world = self.world
        world.send("playback", "nosuch.wav")
        world.run(0.1)
        self.assertEqual(world.names("U"), ["EXECUTE playback", "EXECUTE_COMPLETE playback FILE NOT FOUND"])
        world.all = b""
        world.send("speak", "flite|slt|0123456789")
        world.run(0.3)
        self.assertEqual(world.names("U"), ["EXECUTE speak"])
        world.run(0.3)
        self.assertEqual(world.names("U"), ["EXECUTE speak", "EXECUTE_COMPLETE speak"])

    def test_keys_end_playback(self):
        world = self.world
        world.send("playback", "silence_stream://9000")
        world.run(0.1)
        world.switch.press("U", "1*@100")
        world.run(1)
        self.assertIn("EXECUTE_COMPLETE playback FILE PLAYED", world.names("U"))
        self.assertEqual(world.api("uuid_getvar U playback_terminator_used"), "*")
        digits = [
            (event["DTMF-Digit"], event["DTMF-Source"])
            for event in world.events("U")
            if "DTMF-Digit" in event
        ]
        self.assertEqual(digits, [("1", "RTP"), ("*", "RTP")])

    def test_messages_before_the_answer_wait(self):
        world = World()
        world.call("101", seconds=0.5)
        world.send("set", "x=1")
        world.run(0.3)
        self.assertNotIn("EXECUTE set", world.names("U"))
        world.run(1)
        self.assertIn("EXECUTE set", world.names("U"))

    def test_expansion_of_arguments(self):
        world = self.world
        world.api("uuid_setvar U who ${uuid}${system(id)}")
        world.send("log", "hello ${who}")
        world.run(0.1)
        self.assertIn(
            ("U", "log", "hello U<API Execute Permission Denied>", world.switch.executed[-1][3]),
            world.switch.executed,
        )
        world.api("uuid_setvar U app_disable_expand_variables true")
        world.send("log", "hello ${who}")
        world.send("set", "copy=${uuid}")
        world.run(0.1)
        self.assertEqual(world.switch.executed[-2][2], "hello ${who}")
        self.assertEqual(world.api("uuid_getvar U copy"), "U")

    def test_a_variable_that_holds_itself_ends(self):
        self.world.api("uuid_setvar U a ${a}${a}")
        self.world.send("log", "${a}")
        self.world.run(0.1)
        self.assertEqual(self.world.switch.executed[-1][1], "log")


class Dialling(unittest.TestCase):
    def causes(self, world):
        return [ended.cause for ended in world.switch.ended]

    def test_far_ends(self):
        for number, at, cause in (
            ("404", 0, "UNALLOCATED_NUMBER"),
            ("4861234", 0, "USER_BUSY"),
            ("503", 0, "NORMAL_TEMPORARY_FAILURE"),
            ("603", 0, "CALL_REJECTED"),
            ("0000", 0, "NO_ROUTE_DESTINATION"),
            ("702", 2, "NORMAL_CLEARING"),
            ("9", 60, "NORMAL_CLEARING"),
        ):
            world = World(events="")
            world.call(number, seconds=at + 0.5)
            self.assertEqual(self.causes(world), [cause], number)
            self.assertTrue(at <= world.switch.ended[0].at <= at + 0.1, number)
        for number in ("100", "201", "6", "51"):
            world = World(events="")
            world.call(number, seconds=3.5)
            self.assertTrue(world.switch.channels["U"].answered, number)

    def test_dialled(self):
        world = World()
        world.call("101", more="x=a\\,b")
        [leg] = world.switch.dialled
        self.assertEqual((leg.uuid, leg.prefix, leg.destination), ("U", "sofia/gateway/gw/", "101"))
        self.assertEqual(leg.variables["x"], "a,b")

    def test_silent_gateway(self):
        world = World()
        world.call(via="sofia/gateway/silent/", more="originate_timeout=5", seconds=6)
        self.assertEqual(self.causes(world), ["NO_ANSWER"])
        self.assertNotIn("PROGRESS", world.names("U"))
        self.assertTrue(4 <= world.switch.ended[0].at <= 5.1)

    def test_a_far_end_of_ones_own(self):
        world = World()
        world.switch.numbers["77"] = (farends.Step(0.5, "ring"), farends.Step(0.5, "refuse", "USER_BUSY"))
        world.call("77", seconds=2)
        self.assertEqual(world.names("U"), ["PROGRESS", "HANGUP", "HANGUP_COMPLETE", "DESTROY"])

    def test_hang_up(self):
        world = World()
        world.call()
        world.switch.hang_up("U", "USER_BUSY")
        world.run(0.1)
        end = next(event for event in world.events("U") if event["Event-Name"] == "CHANNEL_HANGUP_COMPLETE")
        self.assertEqual(end["variable_sip_hangup_disposition"], "recv_bye")
        self.assertEqual(end["Hangup-Cause"], "USER_BUSY")
        with self.assertRaises(KeyError):
            world.switch.hang_up("U")

    def test_reporting_hook(self):
        hook = "hash\\\\\\\\sinsert/plx/U/${hangup_cause}|${answer_uepoch}|${sip_hangup_disposition}|${sip_term_status}"
        for number, line in (
            ("486", r"USER_BUSY\|0\|recv_refuse\|486"),
            ("700", r"NORMAL_CLEARING\|\d{16}\|recv_bye\|200"),
        ):
            world = World()
            world.call(number, more=f"origination_nested_vars=true,api_reporting_hook={hook}", seconds=1)
            self.assertRegex(world.api("hash select/plx/U"), f"^{line}$")
            self.assertRegex(world.api("hash_dump db plx"), f"^D/plx_U/{line}\n$")
            self.assertEqual(world.api("hash delete/plx/U"), "+OK\n")
            self.assertEqual(world.api("hash select/plx/U"), "-ERR no reply\n")

    def test_backstops(self):
        for number, name, at in (
            ("3", "execute_on_ring_1", 0.02),
            ("205", "execute_on_media_1", 0.02),
            ("101", "execute_on_media_1", 1.02),
            ("101", "execute_on_answer_1", 1.02),
        ):
            world = World()
            more = f"ignore_early_media=true,{name}='sched_hangup +3 ALLOTTED_TIMEOUT'"
            world.call(number, more=more, seconds=10)
            self.assertEqual(self.causes(world), ["ALLOTTED_TIMEOUT"], name)
            self.assertTrue(at + 2 <= world.switch.ended[0].at <= at + 3.5, name)

    def test_sched_del_by_group(self):
        world = World()
        world.call(more="execute_on_answer='sched_hangup +3 ALLOTTED_TIMEOUT'")
        self.assertEqual(world.api("sched_api +2 plx-U-limit uuid_kill U NO_ANSWER"), "+OK Added: 2\n")
        self.assertEqual(world.api("sched_del plx-U-limit"), "+OK Deleted: 1\n")
        self.assertEqual(world.api("sched_del U"), "+OK Deleted: 1\n")
        world.run(9)
        self.assertEqual(self.causes(world), [])

    def test_digits_are_heard(self):
        world = World()
        world.call("6")
        self.assertEqual(world.api("uuid_send_dtmf U 12w#@100"), "+OK U sent DTMF 12w#@100.\n")
        world.run(0.3)
        self.assertEqual(world.switch.heard["U"], "1")
        world.run(2)
        self.assertEqual(world.switch.heard["U"], "12#")

    def test_early_media_hears_no_digits_while_it_is_ignored(self):
        for ignore, heard in (("true", None), ("false", "1")):
            world = World()
            world.call("205", more=f"ignore_early_media={ignore}")
            world.api("uuid_send_dtmf U 1")
            world.run(1)
            self.assertEqual(world.switch.heard.get("U"), heard)

    def test_api_originate_blocks_its_connection(self):
        world = World()
        world.client.transport.write(b"api originate sofia/gateway/gw/101 &park\n\napi uuid_exists x\n\n")
        world.run(0.5)
        self.assertNotIn(b"api/response", world.client.data)
        world.run(1)
        self.assertRegex(world.client.data.decode(), r"(?s)\+OK [0-9a-f-]{36}\n.*false.*CHANNEL_CREATE")

    def test_transfer_while_it_rings(self):
        world = World()
        world.call("101", seconds=0.5)
        world.api("uuid_transfer U 'set:x=1,park' inline")
        world.run(1)
        self.assertEqual(world.api("uuid_getvar U x"), "1")

    def test_broken_later_leg(self):
        world = World()
        self.assertEqual(world.api("originate null/1,[a &park", 1), "-ERR DESTINATION_OUT_OF_ORDER\n")
        self.assertEqual(world.switch.channels, {})


class Restarts(unittest.TestCase):
    def test_everything_is_forgotten_without_an_event(self):
        world = World()
        world.call()
        world.api("hash insert/r/k/v")
        before, core = len(world.events()), world.switch.core_uuid
        world.switch.restart()
        self.assertEqual(world.client.lost, error.ConnectionLost)
        self.assertEqual((world.switch.channels, world.switch.hash, world.switch.sessions), ({}, {}, []))
        self.assertNotEqual(world.switch.core_uuid, core)
        self.assertLess(world.switch.sequence, 600)
        self.assertEqual(len(world.events()), before)
        world.run(5)
        world.client = world.connect()
        self.assertEqual(world.api("uuid_exists U"), "false")

    def test_recovered_calls(self):
        world = World()
        world.call("705", more="mark=1,execute_on_answer='sched_hangup +2 ALLOTTED_TIMEOUT'")
        world.call("101", uuid="V")
        world.send("playback", "silence_stream://9000")
        world.run(0.1)
        world.switch.restart(revive=["U", "V", "nosuch"])
        world.client = world.connect()
        self.assertEqual(list(world.switch.channels), ["U"])  # V was not answered
        self.assertEqual(world.api("uuid_getvar U mark"), "1")
        self.assertEqual(world.api("uuid_getvar U current_application"), "park")
        world.run(3)
        self.assertIn("U", world.switch.channels)  # its backstop is gone
        world.send("set", "x=1")
        world.run(0.1)
        self.assertEqual(world.api("uuid_getvar U x"), "1")
        world.run(3)
        self.assertEqual(world.switch.channels, {})  # the far end's own time is not

    def test_the_rest_of_a_dialling_does_nothing(self):
        world = World()
        world.call("101", seconds=0.5)
        world.switch.restart()
        world.run(5)
        self.assertEqual(world.switch.channels, {})


class FaultsTests(unittest.TestCase):
    def test_events_are_lost_and_doubled(self):
        world = World()
        world.switch.faults.lose = {"BACKGROUND_JOB": 1.0}
        world.switch.faults.twice = {"CHANNEL_ANSWER": 1.0}
        world.call()
        names = [event["Event-Name"] for event in world.events()]
        self.assertEqual((names.count("BACKGROUND_JOB"), names.count("CHANNEL_ANSWER")), (0, 2))

    def test_both_orders_of_job_and_end(self):
        for number, seconds in (("486", 1), ("3", 4)):
            orders = set()
            for swap in (0.0, 1.0):
                world = World()
                world.switch.faults.swap = swap
                world.call(number, more="originate_timeout=2", seconds=seconds)
                names = [event["Event-Name"] for event in world.events()]
                order = [name for name in names if name in {"BACKGROUND_JOB", "CHANNEL_HANGUP_COMPLETE"}]
                self.assertEqual(len(order), 2)
                orders.add(tuple(order))
            self.assertEqual(len(orders), 2, number)

    def test_late_jobs_and_jitter(self):
        world = World()
        world.switch.faults.job_delay = 2.0
        world.switch.faults.jitter = 0.5
        world.call("101", seconds=0.02)
        world.run(6)
        stamps = {event["Event-Name"]: int(event["Event-Date-Timestamp"]) for event in world.events()}
        self.assertGreater(stamps["BACKGROUND_JOB"], stamps["CHANNEL_ANSWER"] + 100_000)

    def test_show_channels_lags(self):
        world = World()
        world.switch.faults.show_lag = 0.3
        world.call(seconds=0.1)
        self.assertEqual(world.api("show channels as json"), '{"row_count": 0}\n')
        world.run(0.3)
        self.assertEqual(json.loads(world.api("show channels as json"))["rows"][0]["uuid"], "U")


class Sessions(unittest.TestCase):
    """What the socket does with odd bytes (NOTES.md, section 1)."""

    def setUp(self):
        self.world = World(events="")

    def test_lf_lf_starts_a_new_command(self):
        self.assertIn("Reply-Text: +OK bye", self.world.say("api echo x\nA: b\n\nexit"))
        self.assertIn(GOODBYE, self.world.client.data.decode())
        self.assertEqual(self.world.client.lost, error.ConnectionDone)

    def test_a_lone_cr_swallows_what_is_before_it(self):
        """out_header_traps: +OK, and nothing happens."""
        self.world.call()
        reply = self.world.say(
            "sendmsg U\ncall-command: execute\nexecute-app-name: set\nexecute-app-arg: a=1\rx"
        )
        self.assertIn("Reply-Text: -ERR invalid session id", reply)
        self.world.run(0.1)
        self.assertEqual(self.world.api("uuid_getvar U a"), "_undef_")

    def test_nul_cuts_the_rest(self):
        self.assertIn("a\n\n", self.world.say("api echo a").replace("\n\na", "a\n\n"))
        self.assertEqual(self.world.api("echo a\0b"), "a")

    def test_the_words_reload_and_mod_event_socket_cut_everybody(self):
        other = self.world.connect()
        self.world.say("sendmsg x\ntext: ReLoad ... MOD_event_socket")
        self.assertIn(b"The system is being shut down.\n", self.world.client.data)
        self.assertEqual((self.world.client.lost, other.lost), (error.ConnectionDone, error.ConnectionDone))

    def test_but_not_before_the_password(self):
        stranger = Client()
        self.world.network.connect(stranger)
        stranger.transport.write(b"api reload mod_event_socket\n\nauth wrong\n\n")
        self.world.run(0.1)
        self.assertIn(b"-ERR command not found", stranger.data)
        self.assertTrue(stranger.data.endswith(b"-ERR invalid\n\n" + _notice(GOODBYE)))
        self.assertIsNone(self.world.client.lost)

    def test_in_a_body_they_are_harmless(self):
        self.world.call()
        self.world.send("log", "reload mod_event_socket")
        self.world.run(0.1)
        self.assertEqual(self.world.switch.executed[-1][2], "reload mod_event_socket")

    def test_half_a_command_stops_the_events(self):
        self.world.say("event plain CHANNEL_CREATE")
        self.world.client.transport.write(b"api uuid_ex")
        self.world.run(0.01)
        self.world.switch.api("originate", "null/x &park", lambda _: None)
        self.world.run(0.2)
        self.assertNotIn(b"CHANNEL_CREATE", self.world.client.data)
        self.assertRegex(self.world.say("ists x"), "(?s)false.*CHANNEL_CREATE")

    def test_an_event_that_waits_stays_as_it_was(self):
        for kind in ("plain", "json", "xml"):
            world = World(events=f"{kind} CHANNEL_PARK CHANNEL_HANGUP_COMPLETE")
            world.client.transport.write(b"api uuid_ex")
            world.run(0.01)
            world.switch.api("originate", "{origination_uuid=U,mark=before}null/x &park", lambda _: None)
            world.run(0.2)
            world.switch.api("uuid_setvar", "U mark after", lambda _: None)
            world.switch.api("uuid_kill", "U", lambda _: None)
            world.run(0.2)
            parked, ended = re.findall(
                "(?s)CHANNEL_(?:PARK|HANGUP_COMPLETE)\\b.*?variable_mark.*?(before|after)",
                world.say("ists x"),
            )
            self.assertEqual((parked, ended), ("before", "after"), kind)

    def test_filters_by_what_the_channel_knows(self):
        for filter_, passes in (
            ("variable_mark yes", True),
            ("VARIABLE_MARK no", False),
            ("Caller-Destination-Number 100", True),
            ("caller-destination-number 101", False),
            ("answer-state ringing", True),
            ("Application x", False),
        ):
            world = World(events="json CHANNEL_CREATE")
            world.say(f"filter {filter_}")
            world.call("100", more="mark=yes")
            self.assertEqual(bool(world.events("U")), passes, filter_)
            world = World(events="json CHANNEL_CREATE")
            world.say("filter Unique-ID U")
            world.say("filter " + filter_.replace(" ", " -", 1))
            world.call("100", more="mark=yes")
            self.assertEqual(bool(world.events("U")), not passes, f"not {filter_}")

    def test_filters(self):
        world = self.world
        world.say("event plain ALL")
        for filter_ in ("Unique-ID /^.{14}5/", "Job-UUID /^.{14}5/", "Event-Name HEARTBEAT"):
            self.assertIn("+OK filter added", world.say(f"filter {filter_}"))
        ours = "00000000-0000-5000-8000-000000000001"
        world.call(uuid=ours)
        world.call(uuid="00000000-0000-4000-8000-000000000001")
        world.run(20)
        data = world.client.data.decode() + world.all.decode()
        self.assertIn(f"Unique-ID: {ours}", data)
        self.assertIn(f"Job-UUID: {ours}", data)
        self.assertIn("Event-Name: HEARTBEAT", data)
        self.assertNotIn("Unique-ID: 00000000-0000-4000", data)
        self.assertIn("+OK filter added. [X]=[/(/]", world.say("filter X /(/"))

    def test_a_filter_that_keeps_out_is_compared_as_a_whole(self):
        world = self.world
        world.say("event plain CHANNEL_CREATE CHANNEL_ANSWER CHANNEL_PARK")
        for filter_ in ("Unique-ID /^.{14}5/", "event-name -channel_answer", "Event-Name -/PARK/"):
            self.assertIn("+OK filter added", world.say(f"filter {filter_}"))
        world.call(uuid="00000000-0000-5000-8000-000000000001")
        world.run(20)
        data = world.client.data.decode() + world.all.decode()
        for name, passes in (("CREATE", True), ("ANSWER", False), ("PARK", True)):
            self.assertEqual(f"Event-Name: CHANNEL_{name}" in data, passes, name)

    def test_heartbeats_every_20_seconds(self):
        self.world.say("event plain HEARTBEAT")
        self.world.run(61)
        self.assertEqual(self.world.client.data.count(b"Event-Name: HEARTBEAT"), 3)

    def test_probes(self):
        self.assertEqual(self.world.api("eval ${hostname}"), "emulator")
        self.assertEqual(self.world.api("eval ${system(true)}"), "<API Execute Permission Denied>")
        self.assertIn("emulator", self.world.api("version"))
        self.assertRegex(
            self.world.api("status"), r"^UP 0 years, 0 days.*\nFreeSWITCH \(Version 1\.10\.12-emulator"
        )

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.binary(max_size=40),
                st.sampled_from(
                    [
                        b"\n\n",
                        b"\r\n",
                        b"sendmsg U\n",
                        b"call-command: execute\nexecute-app-name: ",
                        b"content-length: 5\n",
                        b"content-length: -1\n",
                        b"content-length: 99999999999999999999\n",
                        b"api originate {a=",
                        b"null/x &park\n\n",
                        b"bgapi ",
                        b"event json ALL\n\n",
                        b"event xml ALL\n\n",
                        b"filter a /(/\n\n",
                        b"sendevent CUSTOM\nEvent-Subclass: \xe9\n\xe9: \xff\n\n",
                        b"api uuid_setvar U a ${a}${a}[1]\n\n",
                        b"api sched_hangup +9999999999999999999 U\n\n",
                        b"playback\nexecute-app-arg: tone_stream://%(" + b"9" * 5000 + b",0,1)\n\n",
                        b"execute-app-arg: ${a}\nloops: 9\n\n",
                        b"api uuid_transfer U m:^:a:b^c inline\n\n",
                        b"api hash insert/a/b/c\n\n",
                        b"api uuid_dump U xml\n\n",
                        b"api uuid_send_dtmf U 1w#@0\n\n",
                        b"myevents U\n\n",
                        b"log 9\n\n",
                    ]
                ),
            ),
            max_size=12,
        )
    )
    def test_no_bytes_raise(self, pieces):
        world = World(events="json ALL")
        world.call()
        world.client.transport.write(b"".join(pieces) + b"\n\n")
        world.run(0.3)
        world.switch.stop()


class NetworkTests(unittest.TestCase):
    def test_refusing(self):
        world = World()
        world.network.refusing = True
        self.failureResultOf(
            world.network.endpoint().connect(Factory.forProtocol(Client)), error.ConnectionRefusedError
        )

    def test_latency_and_order(self):
        world = World(events="")
        world.network.latency = 0.1
        world.client.transport.write(b"api echo 1\n\napi echo 2\n\n")
        world.run(0.19)
        self.assertEqual(world.client.data, b"")
        world.run(0.02)
        self.assertRegex(world.client.data, b"(?s)1.*2$")

    def test_chunked_bytes_are_the_same_bytes(self):
        def talk(chunked):
            world = World(seed=7)
            world.network.chunked = chunked
            world.call("101", seconds=3)
            world.api("uuid_kill U")
            world.run(1)
            world.take()
            return re.sub(rb'"Event-Date-Timestamp":"\d+"', b"", world.all)

        self.assertEqual(len(talk(True)), len(talk(False)))

    def test_drop_may_cut_a_frame(self):
        cut = set()
        for seed in range(8):
            world = World(seed=seed, events="plain ALL")
            world.network.latency = 0.05
            world.call()
            world.client.transport.write(b"api uuid_dump U\n\n")
            world.run(0.06)
            data = world.client.data
            world.link.drop()
            self.assertEqual(world.client.lost, error.ConnectionLost)
            self.assertEqual((world.network.links, world.switch.sessions), ([], []))
            cut.add(len(world.client.data) - len(data))
            world.run(1)
            self.assertIn("U", world.switch.channels)  # the call does not notice
        self.assertGreater(len(cut), 3)

    def test_stall(self):
        world = World(events="")
        world.link.stall()
        world.client.transport.write(b"api echo 1\n\n")
        world.run(5)
        self.assertEqual(world.client.data, b"")
        self.assertIsNone(world.client.lost)
        world.link.resume()
        self.assertTrue(world.client.data.endswith(b"1"))
        world.link.stall("switch")
        world.client.transport.write(b"api hash insert/a/b/c\n\n")
        world.run(1)
        self.assertEqual(world.switch.hash, {})
        world.link.resume("switch")
        self.assertEqual(world.switch.hash, {"a_b": "c"})

    def test_close_delivers_what_was_written(self):
        world = World(events="")
        world.client.transport.write(b"api echo 1\n\n")
        world.run(0.0006)
        world.link.close()
        world.run(0.1)
        self.assertTrue(world.client.data.endswith(b"1"))
        self.assertEqual(world.client.lost, error.ConnectionDone)

    def test_the_client_closes(self):
        world = World(events="")
        world.client.transport.loseConnection()
        world.run(0.1)
        self.assertEqual((world.client.lost, world.switch.sessions), (error.ConnectionDone, []))
        world = World(events="")
        world.client.transport.abortConnection()
        self.assertEqual((world.client.lost, world.switch.sessions), (error.ConnectionAborted, []))

    def test_the_same_seed_gives_the_same_bytes(self):
        def story(seed):
            world = World(seed=seed)
            world.network.chunked = True
            faults = world.switch.faults
            faults.lose, faults.twice, faults.swap, faults.jitter = {"*": 0.05}, {"*": 0.05}, 0.5, 0.3
            for i, number in enumerate(("101", "486", "3", "201", "702")):
                world.call(number, uuid=f"U{i}", more="originate_timeout=3", seconds=0.3)
            world.send("playback", "silence_stream://500", uuid="U0")
            world.run(5)
            world.take()
            return world.all

        self.assertEqual(story(3), story(3))
        self.assertNotEqual(story(3), story(4))


_VARIABLES = st.lists(
    st.tuples(
        st.sampled_from(["a", "A", "b", "c", "C[1]", "c[0]", "", "["]),
        st.sampled_from(["x", "", "ARRAY::p", "ARRAY::p|:q", "ARRAY::"]),
    ),
    max_size=8,
)


class VariablesTests(unittest.TestCase):
    @settings(max_examples=300, deadline=None)
    @given(_VARIABLES, _VARIABLES)
    def test_to_take_many_is_to_set_each(self, first, second):
        taken, others, each = Variables(), Variables(), Variables()
        for name, value in first:
            taken[name] = each[name] = value
        for name, value in second:
            others[name] = value
        taken.take(others)
        for name, value in others.items():
            each[name] = value
        self.assertEqual(list(taken.items()), list(each.items()))
        for name in ("a", "B", "c[0]", "C[1]", "c[9]", "d"):
            self.assertEqual(taken.get(name), each.get(name))


class Rendering(unittest.TestCase):
    @settings(max_examples=200, deadline=None)
    @given(st.text(max_size=30))
    def test_json_is_json(self, value):
        event = Event("X", [("a", value)])
        if not value.startswith("ARRAY::"):
            self.assertEqual(json.loads(event.json().decode("utf-8", "replace")).keys(), {"a"})

    def test_url_encoding(self):
        """in_event_plain: what is encoded and what is not."""
        self.assertEqual(
            url_encode("!*'();:@&=+$,/?#[]{}|^~`\"<>\\-_."),
            "!*'()%3B%3A%40%26%3D%2B$,/%3F%23%5B%5D%7B%7D%7C%5E~%60%22%3C%3E%5C-_.",
        )
        self.assertEqual(url_encode("a%20b%2fc%zz 100%"), "a%20b%252fc%25zz%20100%25")
        self.assertEqual(url_encode("h\u00e9\udcff"), "h%C3%A9%FF")


class Tcp(unittest.TestCase):
    """The same over real sockets."""

    timeout = 20

    @inlineCallbacks
    def test_a_call(self):
        switch = Switch(reactor)
        port = yield TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(SwitchFactory(switch))
        done = defer.Deferred()

        class Caller(Client):
            def dataReceived(self, data):
                super().dataReceived(data)
                if b"CHANNEL_DESTROY" in self.data:
                    self.transport.loseConnection()
                elif b"CHANNEL_PARK" in self.data:
                    self.transport.write(b"api hupall USER_BUSY\n\n")

            def connectionLost(self, reason):
                done.callback(self.data)

        caller = yield TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port).connect(
            Factory.forProtocol(Caller)
        )
        caller.transport.write(b"auth ClueCon\n\nevent plain ALL\n\nbgapi originate null/x &park\n\n")
        data = yield done
        for name in (
            b"CHANNEL_CREATE",
            b"CHANNEL_ANSWER",
            b"CHANNEL_PARK",
            b"BACKGROUND_JOB",
            b"CHANNEL_HANGUP_COMPLETE",
        ):
            self.assertIn(b"Event-Name: " + name, data)
        switch.stop()
        yield port.stopListening()


class Program(unittest.TestCase):
    """`twistd plivotx-emulator`, which tests/test_wheel.py starts as well."""

    def make(self, *arguments):
        options = Options()
        options.parseOptions(arguments)
        return makeService(options)

    @inlineCallbacks
    def test_serves_until_it_is_stopped(self):
        said = []
        globalLogPublisher.addObserver(said.append)
        self.addCleanup(globalLogPublisher.removeObserver, said.append)
        service = self.make("--port", "0", "--password", "secret")
        service.startService()
        (where,) = [each for each in map(formatEvent, said) if each.startswith("plivotx-emulator listens on")]
        port = int(re.fullmatch(r"plivotx-emulator listens on 127\.0\.0\.1:(\d+)", where)[1])
        client = yield TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(Factory.forProtocol(Client))
        client.transport.write(b"auth secret\n\nexit\n\n")
        while client.lost is None:
            yield defer.ensureDeferred(_tick())
        self.assertIn(b"+OK bye", client.data)
        yield service.stopService()
        refused = TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(Factory.forProtocol(Client))
        yield self.assertFailure(refused, error.ConnectionRefusedError)

    def test_says_where_it_cannot_listen(self):
        taken = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        self.addCleanup(taken.stopListening)
        service = self.make("--port", str(taken.getHost().port))
        refused = self.assertRaises(SystemExit, service.startService)
        self.assertIn(
            f"plivotx-emulator cannot start: Couldn't listen on 127.0.0.1:{taken.getHost().port}",
            str(refused),
        )

    def test_is_another_freeswitch_at_each_start_unless_a_seed_is_given(self):
        cores = [
            self.make(*options)._switch.core_uuid for options in ((), (), ("--seed", "7"), ("--seed", "7"))
        ]
        self.assertEqual(len(set(cores)), 3)
        self.assertEqual(cores[2], cores[3])

    def test_names_the_option_that_is_wrong_and_its_value(self):
        for name, value, why in (
            ("--port", "70000", "0 to 65535"),
            ("--port", "-1", "0 to 65535"),
            ("--port", "abc", "0 to 65535"),
            ("--seed", "one", "a whole number"),
        ):
            wrong = self.assertRaises(usage.UsageError, Options().parseOptions, [name, value])
            self.assertIn(f"{name} {value!r} is wrong: it must be {why}", str(wrong))


async def _tick():
    done = defer.Deferred()
    reactor.callLater(0.01, done.callback, None)
    await done
