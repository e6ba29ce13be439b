"""What scripts need of the emulator: digits, records, sounds and what interrupts them, where no recording looks."""

from twisted.trial import unittest

from plivotx.emulator.farends import Step
from tests.test_emulator import World

GET = "1 3 2 1000 # silence_stream://500 silence_stream://150 pagd_input ^(1|2|3)+ 1000"


class _Case(unittest.TestCase):
    def up(self, number="100", **more):
        self.world = World(**more)
        self.world.call(number)
        self.world.take()
        self.switch = self.world.switch

    def var(self, name):
        return self.world.api(f"uuid_getvar U {name}")

    def ended(self, key="K"):
        """The applications with this key that have ended."""
        return [
            event
            for event in self.world.events("U")
            if event["Event-Name"] == "CHANNEL_EXECUTE_COMPLETE" and event["Application-UUID"] == key
        ]


class GetDigits(_Case):
    """play_and_get_digits."""

    def get(self, argument, keys, seconds=9.0):
        """Press keys at these seconds."""
        self.up()
        self.world.send("play_and_get_digits", argument)
        for wait, key in keys:
            self.world.run(wait)
            self.world.api(f"uuid_recv_dtmf U {key}")
        self.world.run(seconds)
        self.assertEqual(len(self.ended()), 1)
        return [self.var(name) for name in ("pagd_input", "read_result", "read_terminator_used")]

    def test_ends(self):
        self.assertEqual(self.get(GET, [(0.2, "12#")]), ["12", "success", "#"])
        self.assertEqual(self.get(GET, [(0.2, "123")]), ["123", "success", "_undef_"])
        self.assertEqual(self.get(GET, [(0.2, "12")]), ["12", "timeout", "_undef_"])
        self.assertEqual(self.get(GET, []), ["_undef_", "failure", "_undef_"])

    def test_a_second_try_after_a_wrong_key(self):
        self.assertEqual(self.get(GET, [(0.2, "999"), (1, "2#")]), ["2", "success", "#"])
        self.assertEqual(self.var("pagd_input_invalid"), "999")

    def test_quoted_words_and_escapes(self):
        argument = "1 2 1 1000 '' 'say:it\\'s me~silence_stream://100' silence_stream://150 pagd_input ^(1|\\*|#)+ 1000"
        self.up()
        for name, value in (("tts_engine", "flite"), ("tts_voice", "slt"), ("playback_delimiter", "~")):
            self.world.api(f"uuid_setvar U {name} {value}")
        self.world.send("play_and_get_digits", argument)
        self.world.run(0.2)
        self.world.api("uuid_recv_dtmf U *#")
        self.world.run(1)
        self.assertEqual(self.var("pagd_input"), "*#")

    def test_keys_before_it_starts_are_lost(self):
        self.up()
        self.world.send("sleep", "500", key="S")
        self.world.send("play_and_get_digits", GET)
        self.world.run(0.2)
        self.world.api("uuid_recv_dtmf U 12")
        self.world.run(4)
        self.assertEqual(self.var("pagd_input"), "_undef_")

    def test_a_break_ends_the_prompt_only(self):
        self.up()
        self.world.send(
            "play_and_get_digits", "1 1 1 3000 # silence_stream://9000 silence_stream://10 pagd_input ."
        )
        self.world.run(1)
        self.world.api("uuid_break U")
        self.world.run(1)
        self.assertEqual(self.ended(), [])
        self.world.api("uuid_break U")
        self.world.run(1)
        self.assertEqual(self.ended(), [])
        self.world.run(2)
        self.assertEqual(len(self.ended()), 1)

    def test_a_transfer_ends_it(self):
        self.up()
        self.world.send("play_and_get_digits", GET)
        self.world.run(0.1)
        self.assertEqual(self.world.api("uuid_transfer U park inline"), "+OK\n")
        self.world.run(0.1)
        self.assertEqual(
            self.world.names("U", "EXECUTE|PARK")[-6:],
            [
                "EXECUTE play_and_get_digits",
                "EXECUTE_COMPLETE play_and_get_digits",
                "UNPARK",
                "EXECUTE_COMPLETE park",
                "EXECUTE park",
                "PARK",
            ],
        )

    def test_too_few_words(self):
        self.assertEqual(self.get("1 2", [], 0.1)[0], "_undef_")


class Record(_Case):
    """The application, and recordings of the session."""

    def record(self, number, argument, seconds=10.0):
        self.up(number)
        self.world.send("record", argument)
        self.world.run(seconds)
        return self.switch.recordings[-1]

    def test_limit(self):
        recording = self.record("9", "/tmp/a.wav 3 500 5")
        self.assertEqual(recording.why, "time")
        self.assertTrue(3 <= recording.ended - recording.started <= 4)
        self.assertEqual(self.var("record_ms"), str(recording.milliseconds))
        self.assertEqual(self.var("record_seconds"), str(recording.milliseconds // 1000))
        self.assertEqual(self.var("record_file_size"), str(44 + 16 * recording.milliseconds))

    def test_silence_after_talk(self):
        self.up()
        self.switch.numbers["talker"] = (Step(0, "answer"), Step(1, "talk"), Step(2, "hush"))
        self.world.call("talker", uuid="V")
        self.world.send("record", "/tmp/a.wav 60 500 3", uuid="V")
        self.world.run(8)
        recording = self.switch.recordings[-1]
        self.assertEqual(recording.why, "silence")
        self.assertAlmostEqual(recording.ended, 6.2, 0)
        self.assertAlmostEqual(recording.milliseconds / 1000, 5.0, 0)

    def test_a_far_end_without_audio(self):
        recording = self.record("100", "/tmp/a.wav 60 500 2")
        self.assertEqual((recording.why, recording.milliseconds), ("silence", 0))

    def test_key_and_break(self):
        for command, why in (("uuid_recv_dtmf U 5", "5"), ("uuid_break U", "break")):
            self.up("9")
            self.world.api("uuid_setvar U playback_terminators 5#")
            self.world.send("record", "/tmp/a.wav 60 500 3")
            self.world.send("set", "plx_done=K", key="K.done")
            self.world.run(1)
            self.world.api(command)
            self.world.run(0.1)
            self.assertEqual(self.switch.recordings[-1].why, why)
            self.assertEqual(self.var("plx_done"), "K")
            self.assertEqual(self.var("playback_terminator_used"), "5" if why == "5" else "_undef_")

    def test_what_hangs_up(self):
        for argument, transfer in (("/tmp/a.odd 5", False), ("/no/a.wav 5", False), ("/tmp/a.wav 5", True)):
            self.up("9")
            self.switch.unwritable.add("/no/")
            self.world.send("record", argument)
            self.world.run(0.5)
            if transfer:
                self.world.api("uuid_transfer U park inline")
                self.world.run(0.1)
                self.assertEqual(self.switch.recordings[-1].why, "transfer")
            self.assertEqual([end.cause for end in self.switch.ended], ["DESTINATION_OUT_OF_ORDER"], argument)
            self.assertFalse(self.switch.channels)

    def test_the_session(self):
        self.up("9")
        self.assertEqual(self.world.api("uuid_record U start /tmp/a.wav 2"), "+OK Success\n")
        self.assertIn("<target>/tmp/a.wav</target>", self.world.api("uuid_buglist U"))
        self.world.run(3)
        self.assertEqual(self.world.api("uuid_buglist U"), "<media-bugs>\n</media-bugs>\n")
        self.world.api("uuid_record U start /tmp/b.wav")
        self.world.run(1)
        self.world.api("uuid_kill U")
        self.world.run(0.1)
        self.assertEqual([each.why for each in self.switch.recordings], ["time", "hangup"])
        self.assertEqual(
            self.world.names("U", "RECORD|HANGUP_COMPLETE"),
            ["RECORD_START", "RECORD_STOP", "RECORD_START", "RECORD_STOP", "HANGUP_COMPLETE"],
        )


class Sounds(_Case):
    """playback and speak."""

    def play(self, argument, seconds=20.0, app="playback"):
        self.world.send(app, argument)
        started = self.world.clock.seconds()
        self.world.run(seconds)
        event = self.ended()[-1]
        return event["Application-Response"], int(
            event["Event-Date-Timestamp"]
        ) / 1e6 - 1_800_000_000.3 - started

    def test_files_and_addresses(self):
        self.up()
        self.switch.sounds.update({"/a.wav": 1.0, "http://x/a.mp3": 2.0, "shout://x/b.mp3": 3.0})
        for argument, response, seconds in (
            ("/a.wav", "FILE PLAYED", 1),
            ("http://x/a.mp3", "FILE PLAYED", 2),
            ("shout://x/b.mp3", "FILE PLAYED", 3),
            ("http://x/none.mp3", "FILE NOT FOUND", 0),
            ("file_string:///a.wav!silence_stream://500", "FILE PLAYED", 1.5),
            ("file_string:///no.wav!/neither.wav", "FILE NOT FOUND", 0),
            ("tone_stream://%(300,200,440);loops=4", "FILE PLAYED", 2),
            ("say:hello", "FILE NOT FOUND", 0),
        ):
            answer, took = self.play(argument)
            self.assertEqual((answer, round(took, 0)), (response, round(seconds, 0)), argument)

    def test_keys(self):
        for keys, pressed, used in (("none", "*", "_undef_"), ("#", "#", "#"), ("", "*", "*")):
            self.up()
            self.world.api(f"uuid_setvar U playback_terminators {keys}")
            self.world.send("playback", "silence_stream://2000")
            self.world.run(1)
            self.world.api(f"uuid_recv_dtmf U {pressed}")
            self.world.run(0.1)
            self.assertEqual(self.var("playback_terminator_used"), used)
            self.assertEqual(len(self.ended()), 0 if used == "_undef_" else 1)

    def test_voices(self):
        self.up()
        self.assertGreater(self.play("flite|slt|hello there", app="speak")[1], 0.5)
        for argument in ("nosuch|slt|hello", "flite|nosuch|hello", "flite|slt|"):
            response, took = self.play(argument, app="speak")
            self.assertEqual(response, "_none_")
            self.assertLess(took, 0.1)

    def test_strftime(self):
        self.up(wall=1_800_000_000.3)
        self.assertEqual(self.world.api("strftime %Y-%m-%d %H:%M:%S"), "2027-01-15 08:00:00")
        self.assertEqual(self.world.api("strepoch 2027-01-15 08:00:00"), "1800000000")

    def test_answer_and_pre_answer_do_nothing_on_a_call_made(self):
        self.up()
        before = self.world.names("U", "ANSWER|PROGRESS|HANGUP")
        self.play("", 0.2, app="answer")
        self.play("", 0.2, app="pre_answer")
        self.assertEqual(self.world.names("U", "ANSWER|PROGRESS|HANGUP"), before)
