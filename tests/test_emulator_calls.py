"""The emulator's originate for the calls page: early media, hooks, digits, time-outs, codecs, gateways that follow a script."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial import unittest

from plivotx.emulator import digits, farends
from plivotx.emulator.channel import codecs
from tests.test_emulator import World


def _job(world):
    return [event["_body"] for event in world.events() if event["Event-Name"] == "BACKGROUND_JOB"]


class EarlyMedia(unittest.TestCase):
    """driving-calls.md, section 5."""

    def names(self, more):
        world = World()
        world.call("202", more=more, seconds=0.3)
        early = world.names("U")
        self.assertEqual(world.events("U")[-1]["Answer-State"], "early")
        world.run(3)
        self.assertEqual(world.events("U")[-1]["Answer-State"], "answered")
        return early, world.names("U"), world

    def test_not_ignored_parks_before_the_answer(self):
        early, later, world = self.names("ignore_early_media=false")
        self.assertEqual(early, ["PROGRESS_MEDIA", "EXECUTE park", "PARK"])
        self.assertEqual(later, [*early, "ANSWER"])
        self.assertEqual(_job(world), ["+OK U\n"])

    def test_ignored_parks_behind_the_answer(self):
        early, later, _ = self.names("ignore_early_media=true")
        self.assertEqual(early, ["PROGRESS_MEDIA"])
        self.assertEqual(later, [*early, "ANSWER", "EXECUTE park", "PARK"])

    def test_the_time_out_ends_with_early_media_only_if_it_is_not_ignored(self):
        for ignore, ended in (("false", []), ("true", ["NO_ANSWER"])):
            world = World()
            world.call("205", more=f"ignore_early_media={ignore},originate_timeout=2")
            world.run(10)
            self.assertEqual([end.cause for end in world.switch.ended], ended, ignore)

    def test_times(self):
        world = World()
        world.call("202", more="ignore_early_media=false")
        world.run(3)
        event = world.events("U")[-1]
        self.assertEqual(event["Caller-Channel-Progress-Time"], "0")
        self.assertLess(
            int(event["Caller-Channel-Created-Time"]), int(event["Caller-Channel-Progress-Media-Time"])
        )
        self.assertLess(
            int(event["Caller-Channel-Progress-Media-Time"]), int(event["Caller-Channel-Answered-Time"])
        )


class Hooks(unittest.TestCase):
    """execute_on_* and api_on_*."""

    def ran(self, number, more, seconds=4):
        world = World()
        world.call(number, more=more + ",ignore_early_media=true")
        world.run(seconds)
        return [(app, argument) for _, app, argument, _ in world.switch.executed if app != "park"]

    def test_each_runs_at_its_moment(self):
        moments = ("ring", "pre_answer", "media", "answer")
        more = ",".join(f"execute_on_{moment}_1='set did_{moment}=1'" for moment in moments)
        rings = self.ran("101", more)
        self.assertEqual([argument for _, argument in rings], ["did_ring=1", "did_answer=1", "did_media=1"])
        early = self.ran("201", more)
        self.assertEqual(
            [argument for _, argument in early], ["did_pre_answer=1", "did_media=1", "did_answer=1"]
        )

    def test_api_hooks(self):
        moments = ("ring", "pre_answer", "media", "answer")
        more = ",".join(f"api_on_{moment}_2='uuid_setvar U did_{moment} yes'" for moment in moments)
        for number, wanted in (
            ("101", {"ring", "media", "answer"}),
            ("201", {"pre_answer", "media", "answer"}),
        ):
            world = World()
            world.call(number, more=more)
            world.run(2)
            found = {moment for moment in moments if world.api(f"uuid_getvar U did_{moment}") == "yes"}
            self.assertEqual(found, wanted)

    def test_hang_up_some_seconds_after_the_first_sign_of_life(self):
        for number, variable in (("3", "execute_on_ring"), ("209", "execute_on_media_1")):
            world = World()
            world.call(number, more=f"{variable}='sched_hangup +2 ORIGINATOR_CANCEL'")
            world.run(4)
            self.assertEqual([end.cause for end in world.switch.ended], ["ORIGINATOR_CANCEL"], number)
            self.assertTrue(1 <= world.switch.ended[0].at <= 2.6)

    def test_hang_up_at_once(self):
        for number, variable in (("3", "execute_on_ring"), ("209", "execute_on_media")):
            world = World()
            world.call(
                number, more=f"{variable}='hangup ORIGINATOR_CANCEL',ignore_early_media=true", seconds=1
            )
            self.assertEqual([end.cause for end in world.switch.ended], ["ORIGINATOR_CANCEL"], number)
            self.assertEqual(_job(world), ["-ERR ORIGINATOR_CANCEL\n"])
            names = world.names("U", "HANGUP|DESTROY")
            self.assertEqual(names, ["HANGUP", "HANGUP_COMPLETE", "DESTROY"])

    def test_a_limit_from_the_answer_that_is_cancelled(self):
        for cancel, ended in ((True, []), (False, ["ALLOTTED_TIMEOUT"])):
            world = World()
            world.call("101", more="api_on_answer_1='sched_api +3 plx-U uuid_kill U ALLOTTED_TIMEOUT'")
            world.run(2)
            if cancel:
                self.assertEqual(world.api("sched_del plx-U"), "+OK Deleted: 1\n")
            world.run(5)
            self.assertEqual([end.cause for end in world.switch.ended], ended)


class Digits(unittest.TestCase):
    """What the far end hears, and when."""

    def heard(self, text, number="6", seconds=10):
        world = World()
        world.call(number)
        start = world.clock.seconds()
        answer = world.api(f"uuid_send_dtmf U {text}")
        world.run(seconds)
        return answer, [(each.digit, round(each.at - start, 2)) for each in world.switch.digits], world

    def test_lengths_and_pauses(self):
        _, plain, world = self.heard("12")
        self.assertEqual([digit for digit, _ in plain], ["1", "2"])
        self.assertEqual([each.seconds for each in world.switch.digits], [0.26, 0.26])
        between = {text: self.heard(text)[1] for text in ("12", "1w2", "1W2", "12@1000", "12@50", "12@60")}
        gaps = {text: round(found[1][1] - found[0][1], 2) for text, found in between.items()}
        self.assertEqual(round(gaps["1w2"] - gaps["12"], 1), 0.5)
        self.assertEqual(round(gaps["1W2"] - gaps["12"], 1), 1.0)
        self.assertEqual((gaps["12"], gaps["12@1000"]), (0.66, 1.4))
        self.assertEqual(self.heard("w1")[1], [("1", 0.8)])
        self.assertEqual([digit for digit, _ in self.heard("1@2000+2")[1]], ["1", "2"])
        self.assertEqual(gaps["12@50"], gaps["12"])  # up to 50 ms it is not taken
        self.assertLess(gaps["12@60"], gaps["12"])

    def test_what_is_too_long(self):
        self.assertEqual(digits.read("1@99999")[0].seconds, 24)
        self.assertEqual(len(digits.read("1" * 99)), 99)
        answer, heard, _ = self.heard("1" * 100)
        self.assertEqual((answer, heard), ("-ERR Operation failed\n", []))

    def test_on_answer(self):
        world = World()
        world.call("101", more="execute_on_answer='send_dtmf 4w2@100'")
        world.run(4)
        self.assertEqual(world.switch.heard["U"], "42")
        self.assertTrue(all(each.answered for each in world.switch.digits))

    def test_in_early_media(self):
        world = World()
        world.call("205", more="ignore_early_media=false")
        world.api("uuid_send_dtmf U 42")
        world.run(3)
        self.assertEqual(world.switch.heard["U"], "42")
        self.assertFalse(any(each.answered for each in world.switch.digits))

    def test_early_media_that_is_ignored_keeps_them_back(self):
        world = World()
        world.call("203", more="ignore_early_media=true")
        world.api("uuid_send_dtmf U 42")
        world.run(2)
        self.assertEqual(world.switch.digits, [])
        world.run(3)
        self.assertEqual(world.switch.heard["U"], "42")  # they waited for the answer

    def test_sent_while_it_rings_they_make_early_media_and_go_as_info(self):
        _, heard, world = self.heard("42", number="102", seconds=0.5)
        self.assertEqual([digit for digit, _ in heard], ["4", "2"])
        self.assertTrue(all(each.info for each in world.switch.digits))
        self.assertEqual(world.switch.heard, {})
        self.assertEqual(world.names("U"), ["PROGRESS", "PROGRESS_MEDIA", "EXECUTE park", "PARK"])

    def test_hooks_that_send_them(self):
        for hook, number, info in (
            ("execute_on_media_2='send_dtmf 42'", "202", True),
            ("execute_on_pre_answer_2='send_dtmf 42'", "202", True),
            ("execute_on_media_2='send_dtmf 42'", "101", False),
            ("execute_on_media_2='send_dtmf::42'", "202", False),
            ("execute_on_media_2='send_dtmf::42'", "101", False),
            ("execute_on_answer_2='send_dtmf 42'", "202", False),
        ):
            world = World()
            world.call(number, more=f"ignore_early_media=false,{hook}")
            world.run(5)
            self.assertEqual("".join(each.digit for each in world.switch.digits), "42", hook)
            self.assertEqual({each.info for each in world.switch.digits}, {info}, hook)
            self.assertEqual(world.switch.heard.get("U"), None if info else "42")

    def test_an_inline_application_sends_them_in_early_media_or_at_the_answer(self):
        for number, ignore, answered in (
            ("202", "false", False),
            ("202", "true", True),
            ("102", "false", True),
        ):
            world = World()
            world.say(
                f"bgapi originate {{origination_uuid=U,ignore_early_media={ignore}}}sofia/gateway/gw/{number} "
                "'send_dtmf:42,park' inline",
                5,
            )
            self.assertEqual(world.switch.heard["U"], "42")
            self.assertEqual(world.switch.digits[0].answered, answered)

    @given(st.text("0123456789*#ABCDwW@+~x "))
    def test_any_text_is_read(self, text):
        found = digits.read(text)
        self.assertTrue(all(each.seconds > 0 for each in found))
        self.assertEqual(bool(found), any(not each.pause for each in found))


class Limits(unittest.TestCase):
    """Time-outs of the dialling, and codecs."""

    def test_progress_timeout(self):
        for variable, number, via, cause in (
            ("leg_progress_timeout", "1", "sofia/gateway/silent/", ["PROGRESS_TIMEOUT"]),
            ("leg_progress_timeout", "1", "sofia/gateway/trying/", ["PROGRESS_TIMEOUT"]),
            ("leg_progress_timeout", "3", "sofia/gateway/gw/", []),
            ("leg_progress_timeout", "209", "sofia/gateway/gw/", []),
            ("progress_timeout", "1", "sofia/gateway/trying/", ["PROGRESS_TIMEOUT"]),
            (
                "progress_timeout",
                "3",
                "sofia/gateway/gw/",
                ["PROGRESS_TIMEOUT"],
            ),  # it does not mind that it rings
            ("progress_timeout", "209", "sofia/gateway/gw/", []),
            ("progress_timeout", "101", "sofia/gateway/gw/", []),
        ):
            world = World()
            world.call(number, more=f"{variable}=2,ignore_early_media=true", via=via)
            world.run(5)
            self.assertEqual([end.cause for end in world.switch.ended], cause, variable + via + number)
            failed = [answer for answer in _job(world) if answer.startswith("-ERR")]
            self.assertEqual(failed, [f"-ERR {each}\n" for each in cause])
            if cause:
                self.assertTrue(2 <= world.switch.ended[0].at <= 3.1, world.switch.ended)
                end = next(e for e in world.events("U") if e["Event-Name"] == "CHANNEL_HANGUP_COMPLETE")
                status = None if "silent" in via else "487"
                self.assertEqual(end.get("variable_sip_invite_failure_status"), status)
                self.assertEqual(end["variable_hangup_cause_q850"], "16")

    def test_leg_timeout(self):
        world = World()
        world.call("3", more="leg_timeout=2")
        world.run(5)
        self.assertEqual([end.cause for end in world.switch.ended], ["ALLOTTED_TIMEOUT"])

    def test_codecs(self):
        self.assertEqual(codecs("^^:PCMA@8000h:pcmu"), ["PCMA", "PCMU"])
        self.assertEqual(codecs("G729, PCMU"), ["G729", "PCMU"])
        for text, kept, codec in (
            ("PCMA", "PCMA", "PCMA"),
            ("^^:PCMA:PCMU", "^^:PCMA:PCMU", "PCMA"),
            ("^^:G729:PCMU", "^^:G729:PCMU", "PCMU"),
        ):
            world = World()
            world.call(more=f"absolute_codec_string={text}")
            self.assertEqual(world.api("uuid_getvar U absolute_codec_string"), kept)
            self.assertEqual(world.api("uuid_getvar U read_codec"), codec)

    def test_unknown_codec(self):
        world = World()
        world.call(more="absolute_codec_string=^^:NOSUCH:NEITHER")
        self.assertEqual(_job(world), ["-ERR INCOMPATIBLE_DESTINATION\n"])
        end = next(e for e in world.events("U") if e["Event-Name"] == "CHANNEL_HANGUP_COMPLETE")
        self.assertEqual(end["variable_sip_term_status"], "488")


class Gateways(unittest.TestCase):
    """Gateways of a test's own."""

    def test_by_name_number_and_attempt(self):
        busy = (farends.Step(0, "refuse", "USER_BUSY"),)
        tries = iter([farends.TRYING, busy])
        world = World()
        world.switch.gateways["busy1"] = busy
        world.switch.gateways["picky"] = lambda number: busy if number == "1" else farends.script("100")
        world.switch.gateways["moody"] = lambda _: next(tries)
        outcomes = {}
        for job, dial in (
            ("a", "sofia/gateway/busy1/100"),
            ("b", "sofia/gateway/picky/1"),
            ("c", "sofia/gateway/picky/2"),
            ("d", "sofia/gateway/moody/2"),
            ("e", "sofia/gateway/moody/2"),
        ):
            world.say(
                f"bgapi originate {{origination_uuid={job},originate_timeout=2}}{dial} &park()\nJob-UUID: {job}",
                3,
            )
            outcomes = {
                event["Job-UUID"]: event["_body"]
                for event in world.events()
                if event["Event-Name"] == "BACKGROUND_JOB"
            }
        self.assertEqual(
            outcomes,
            {
                "a": "-ERR USER_BUSY\n",
                "b": "-ERR USER_BUSY\n",
                "c": "+OK c\n",
                "d": "-ERR NO_ANSWER\n",
                "e": "-ERR USER_BUSY\n",
            },
        )

    def test_variables_and_caller_id_are_shown(self):
        world = World()
        world.call("486", more="plx_call=1,Spaced='a\\sb',origination_caller_id_name=Bob")
        end = next(e for e in world.events("U") if e["Event-Name"] == "CHANNEL_HANGUP_COMPLETE")
        shown = {name: end.get(name) for name in end if name.startswith("variable_")}
        self.assertEqual(shown["variable_plx_call"], "1")
        self.assertEqual(shown["variable_Spaced"], "a b")
        self.assertEqual(shown["variable_hangup_cause_q850"], "17")
        self.assertEqual(shown["variable_sip_term_status"], "486")
        self.assertEqual(shown["variable_sip_hangup_disposition"], "recv_refuse")
        self.assertEqual(end["Caller-Caller-ID-Name"], "Bob")
        self.assertGreater(int(end["Caller-Channel-Created-Time"]), 0)
