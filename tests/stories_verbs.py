"""The stories of the verbs: each attribute of each, and a death of the server in the middle.

Played on the emulator (tests/test_verbs.py) and on a real FreeSWITCH (tests/freeswitch/).
"""

from pathlib import Path

from plivotx.config import Config
from plivotx.events import (
    CallbackFailed,
    CallEnded,
    ChannelAnswered,
    ChannelEnded,
    Event,
    Redirected,
    ScriptEnded,
    StepEnded,
    StepStarted,
    VerbEnded,
    VerbRound,
)
from plivotx.testing import APPLICATION, Answer, World

TONE = "tone_stream://%(400,0,440)"
NEXT = f"{APPLICATION}/next/"

CONFIG = Config(plugin_path=(str(Path(__file__).parent / "verbs"),))


class VerbStories:
    """To be mixed into a TestCase that makes ``self.world``."""

    world: World

    def ran(self) -> list[tuple[str, str]]:
        """The applications that ran on channels of ours, and their arguments, in order."""
        raise NotImplementedError

    async def press(self, keys: str) -> None:
        """The caller presses keys, one right after the other."""
        raise NotImplementedError

    def answers(self, document: str, path: str = "answer", **more: object) -> None:
        """The application answers requests for *path* with a document that has this content."""
        body = f"<Response>{document}</Response>".encode()
        self.world.application.answers[path] = Answer(body=body, **more)

    async def play(self, document: str, to: str = "100", **params: str) -> list[Event]:
        """A whole call with this document; everything that is on record of it."""
        self.answers(document)
        call = await self.world.call(to, **params)
        return await self.world.closed(call, 100)

    def of(self, events: list[Event], *kinds: type[Event]) -> list[Event]:
        return [each for each in events if isinstance(each, kinds)]

    def ends(self, events: list[Event]) -> list[str]:
        return [each.name for each in self.of(events, VerbEnded)]

    def lasted(self, events: list[Event]) -> float:
        """Seconds from the answer to the end."""
        (answered,) = self.of(events, ChannelAnswered)
        (ended,) = self.of(events, ChannelEnded)
        return (ended.at - answered.at) / 1e6

    def about(self, seconds: float, wanted: float, within: float = 0.4) -> None:
        self.assertTrue(abs(seconds - wanted) <= within, f"{seconds} s, not {wanted} s")

    # -- steps

    async def test_an_application_that_each_call_runs_ends_as_others_do(self):
        events = await self.play("<Runs app='SCHED_hangup' arg='+60'/><Runs app='sleep' arg='100'/>")
        self.assertEqual(self.ends(events), ["Runs", "Runs"])
        self.assertEqual([each.stopped for each in self.of(events, StepEnded)], [False, False])
        self.about(self.lasted(events), 0.3, 0.4)

    async def test_what_a_verb_left_running_is_broken_off_before_the_next_one(self):
        self.answers("", path="notice", delay=1.0)
        for stop in ("true", "false"):
            events = await self.play(f"<Breaks stop='{stop}'/><Wait length='2'/>")
            ended = {each.key: each for each in self.of(events, StepEnded)}
            self.assertTrue(ended["1/0/1"].stopped)
            self.assertFalse(ended["1/1/1"].stopped)
            self.assertEqual(self.ends(events), ["Breaks", "Wait"])
            self.about(self.lasted(events), 3.1, 0.6)

    async def test_what_is_being_broken_off_when_the_server_dies_is_broken_off_by_the_next(self):
        world = self.world
        world.application.answers["notice"] = Answer(never=True)
        self.answers("<Breaks/><Wait length='2'/>")
        call = await world.call("100")
        await world.told("notice")
        await world.passes(0.5)
        world.kill()
        world.application.answers["notice"] = Answer()
        world.start()
        events = await world.closed(call)
        self.assertEqual([each.key for each in self.of(events, StepEnded) if each.stopped], ["1/0/1"])
        self.assertEqual(self.ends(events), ["Breaks", "Wait"])

    async def test_variables_of_a_step_arrive_as_they_are_and_the_switch_answers(self):
        value = 'it\'s "${system(id)}" {a,b} \\ \n \u00e9 \u4f60'
        quoted = value.replace("&", "&amp;").replace('"', "&quot;").replace("\n", "&#10;")
        events = await self.play(f'<Asks value="{quoted}"/>')
        (end,) = self.of(events, ScriptEnded)
        self.assertEqual(end.why, value)

    async def test_a_word_that_would_be_more_than_one_is_not_sent(self):
        events = await self.play("<Asks name='asked x'/>")
        (end,) = self.of(events, ScriptEnded)
        self.assertIn("is given the word 'asked x', which is empty or holds what would end it", end.why)
        events = await self.play("<Asks name='nobody_set_it'/>")
        self.assertEqual(self.of(events, ScriptEnded)[-1].why, "_undef_")

    # -- Play

    async def test_play_plays_as_often_as_loop_says(self):
        events = await self.play(f"<Play loop='3'>{TONE}</Play>")
        self.assertIn(("playback", "!".join([TONE] * 3)), self.ran())
        self.assertGreater(self.lasted(events), 1.2)
        self.assertEqual(self.ends(events), ["Play"])

    async def test_play_goes_on_in_rounds(self):
        short = "tone_stream://%(20,0,440)"
        events = await self.play(f"<Play loop='25'>{short}</Play>")
        played = [argument.count("tone") for app, argument in self.ran() if app == "playback"]
        self.assertEqual(played, [10, 10, 5])
        self.assertEqual(len(self.of(events, VerbRound)), 2)
        keys = [each.key for each in self.of(events, StepStarted)]
        self.assertEqual(keys, ["1/0/1", "1/0/2", "1/0/3"])

    async def test_play_without_end_plays_until_the_call_ends(self):
        short = "tone_stream://%(20,0,440)"
        events = await self.play(f"<Play loop='0'>{short}</Play><Wait/>", TimeLimit="6")
        self.assertEqual(self.of(events, CallEnded)[0].cause, "ALLOTTED_TIMEOUT")
        self.assertGreater(len(self.of(events, VerbRound)), 0)
        self.assertEqual(self.ends(events), [])

    async def test_play_of_what_is_not_there_goes_on_with_the_next_verb(self):
        events = await self.play("<Play loop='0'>no/such/file.wav</Play><Wait/>")
        self.assertEqual(self.ends(events), ["Play", "Wait"])
        self.assertLess(self.lasted(events), 7)

    async def test_keys_end_neither_play_nor_wait(self):
        self.answers(f"<Play loop='4'>{TONE}</Play><Wait length='2'/>")
        call = await self.world.call("100")
        await self.world.recorded(call, StepStarted)
        await self.world.passes(0.6)
        await self.press("*#1")
        await self.world.passes(2.5)
        await self.press("*#1")
        events = await self.world.closed(call)
        self.assertGreater(self.lasted(events), 3.5)

    # -- Speak

    async def test_speak_speaks_with_its_engine_and_voice(self):
        events = await self.play("<Speak engine='flite' voice='kal'>it's one | \\ \u00e9</Speak>")
        self.assertIn(("speak", "flite|kal|it\\'s one | \\\\ \u00e9"), self.ran())
        self.assertGreater(self.lasted(events), 0.4)

    async def test_speak_speaks_as_often_as_loop_says(self):
        events = await self.play("<Speak loop='2'>once more</Speak>")
        self.assertEqual(self.ran(), [("speak", "flite|slt|once more")] * 2)
        self.assertEqual(self.ends(events), ["Speak"])

    async def test_speak_without_end_speaks_until_the_call_ends(self):
        events = await self.play("<Speak loop='0' engine='nosuch'>hello</Speak>", TimeLimit="3")
        self.assertEqual(self.of(events, CallEnded)[0].cause, "ALLOTTED_TIMEOUT")
        self.assertTrue(1 < len(self.of(events, VerbRound)) < 12, self.of(events, VerbRound))

    async def test_speak_says_in_recorded_words_as_often_as_loop_says(self):
        say = "language='en' type='NUMBER' method='PRONOUNCED'"
        events = await self.play(f"<Speak loop='3' {say}>42</Speak><Speak type='X' method='Y'>hello</Speak>")
        said = ("say", "en NUMBER PRONOUNCED 42")
        self.assertEqual(self.ran(), [said] * 3 + [("speak", "flite|slt|hello")])
        self.assertEqual(self.ends(events), ["Speak", "Speak"])

    # -- Redirect, Notify, Hangup, PreAnswer

    async def test_redirect_goes_on_with_another_document(self):
        self.answers("<Wait/><Hangup reason='busy'/>", path="next")
        events = await self.play(f"<Redirect method='GET'>{NEXT}</Redirect><Hangup/>", AccountSID="customer")
        (asked,) = [each for each in self.world.application.received if each.path == "next"]
        self.assertEqual(asked.method, "GET")
        (first,) = self.world.application.told("answer")
        for name in ("CallUUID", "RequestUUID", "To", "From", "Direction", "AccountSID", "CallStatus"):
            self.assertEqual(asked.params[name], first[name])
        self.assertEqual(self.of(events, CallEnded)[0].cause, "USER_BUSY")

    async def test_redirect_without_a_method_is_a_post(self):
        self.answers("", path="next")
        await self.play(f"<Redirect>{NEXT}</Redirect>")
        self.assertEqual(
            [each.method for each in self.world.application.received if each.path == "next"], ["POST"]
        )

    async def test_documents_that_lead_to_each_other_end_the_call(self):
        self.answers(f"<Redirect>{NEXT}</Redirect>", path="next")
        events = await self.play(f"<Redirect>{NEXT}</Redirect>")
        self.assertEqual(self.of(events, CallEnded)[0].cause, "PROTOCOL_ERROR")
        self.assertEqual(len(self.of(events, Redirected)), 50)

    async def test_notify_tells_and_goes_on(self):
        self.answers("<Hangup/>", path="notice")
        events = await self.play(f"<Notify method='GET'>{APPLICATION}/notice/?a=b</Notify><Wait/>")
        (told,) = [each for each in self.world.application.received if each.path == "notice"]
        self.assertEqual(
            (told.method, told.params["a"], told.params["CallStatus"]), ("GET", "b", "in-progress")
        )
        self.assertEqual(self.ends(events), ["Notify", "Wait"])

    async def test_notify_that_fails_holds_nothing_up_and_is_tried_again(self):
        answers = iter([Answer(status=500), Answer()])
        self.world.application.answers["notice"] = lambda _: next(answers)
        events = await self.play(f"<Notify>{APPLICATION}/notice/</Notify><Wait length='3'/>")
        self.assertEqual(self.ends(events), ["Notify", "Wait"])
        self.assertEqual(len(self.of(events, CallbackFailed)), 1)
        self.assertEqual(len(self.world.application.told("notice")), 2)

    async def test_hangup_has_its_reason_and_nothing_follows(self):
        for attributes, cause in (
            ("reason='rejected'", "CALL_REJECTED"),
            ("reason='busy'", "USER_BUSY"),
            ("reason='other'", "NORMAL_CLEARING"),
            ("schedule='-1'", "NORMAL_CLEARING"),
        ):
            events = await self.play(f"<Hangup {attributes}>a remark</Hangup><Notify>{NEXT}</Notify>")
            self.assertEqual(self.of(events, CallEnded)[0].cause, cause)
        self.assertEqual(self.world.application.told("next"), [])

    async def test_hangup_that_is_scheduled_lets_the_document_go_on(self):
        events = await self.play(
            "<Hangup schedule='30' reason='rejected'/><Hangup schedule='3' reason='busy'/><Wait length='20'/>"
        )
        self.assertEqual(self.of(events, CallEnded)[0].cause, "USER_BUSY")
        self.about(self.lasted(events), 3, 1.2)
        self.assertEqual(self.ends(events), ["Hangup", "Hangup"])

    async def test_hangup_that_is_scheduled_is_kept_by_the_switch(self):
        self.answers("<Hangup schedule='3' reason='busy'/><Wait length='20'/>")
        call = await self.world.call("100")
        await self.world.until(lambda: len(self.of(self.world.events(call), VerbEnded)) == 1)
        self.world.kill()
        await self.world.passes(4)
        self.assertEqual(await self.world.channels(), [])
        self.world.start()
        events = await self.world.closed(call)
        self.assertEqual(self.of(events, CallEnded)[0].cause, "USER_BUSY")

    async def test_preanswer_runs_what_is_inside(self):
        events = await self.play(f"<PreAnswer><Wait/><Play>{TONE}</Play></PreAnswer><Wait/>")
        self.assertEqual(self.ends(events), ["Wait", "Play", "Wait"])

    # -- documents that cannot be run

    async def test_a_document_that_cannot_be_run_does_nothing_at_all(self):
        for document, why in (
            ("<Wait/>\n<Dance/>", "line 2, column 1: unknown verb Dance"),
            ("<Play>/etc/passwd</Play>", "'/etc/passwd' is in none of PLAY_FOLDERS and RECORD_FOLDERS"),
            ("<Play/>", "Play is empty: between its tags must be a URL, a file or a stream"),
            ("<Redirect>x</Redirect>", "Redirect: 'x' does not begin with http:// or https://"),
            ("<Record filePath='/etc'/>", "Record: filePath '/etc' is in none of RECORD_FOLDERS"),
            (
                "<Redirect method='PUT'>http://a/</Redirect>",
                "attribute method='PUT' is wrong: it must be GET or POST",
            ),
            ("<Wait><Wait/></Wait>", "Wait cannot stand inside Wait"),
        ):
            events = await self.play(document)
            (end,) = self.of(events, ScriptEnded)
            self.assertEqual((end.cause, end.fault), ("PROTOCOL_ERROR", True))
            self.assertIn(f"document 1, {APPLICATION}/answer/: line ", end.why)
            self.assertIn(why, end.why)
            self.assertEqual(self.of(events, StepStarted), [])

    # -- a death in the middle

    async def test_killed_in_a_play_the_caller_hears_on_and_what_follows_runs_once(self):
        world = self.world
        self.answers(f"<Play loop='5'>{TONE}</Play><Speak>bye</Speak>")
        call = await world.call("100")
        await world.recorded(call, StepStarted)
        await world.passes(0.8)
        world.kill()
        await world.passes(0.6)
        world.start()
        events = await world.closed(call)
        self.assertEqual(self.ran(), [("playback", "!".join([TONE] * 5)), ("speak", "flite|slt|bye")])
        self.assertEqual([each.key for each in self.of(events, StepEnded)], ["1/0/1", "1/1/1"])


class InputStories(VerbStories):
    """GetDigits and Record, which need a switch that listens."""

    async def test_getdigits_takes_digits_to_its_action(self):
        self.answers("<Hangup reason='busy'/>", path="next")
        document = (
            f"<GetDigits action='{NEXT}' method='GET' timeout='4' numDigits='4' playBeep='true'>"
            "<Speak>press four keys, it's easy</Speak><Play loop='2'>no/such.wav</Play><Wait/></GetDigits><Wait/>"
        )
        self.answers(document)
        call = await self.world.call("100")
        await self.world.recorded(call, StepStarted)
        await self.world.passes(1)
        await self.press("1234")
        events = await self.world.closed(call)
        (asked,) = [each for each in self.world.application.received if each.path == "next"]
        self.assertEqual((asked.method, asked.params["Digits"]), ("GET", "1234"))
        self.assertEqual(self.of(events, CallEnded)[0].cause, "USER_BUSY")
        self.assertLess(self.lasted(events), 4)
        (prompt,) = [argument for app, argument in self.ran() if app == "play_and_get_digits"]
        self.assertIn(
            "say:press four keys, it\\\\\\'s easy!no/such.wav!no/such.wav!silence_stream://1000!tone", prompt
        )

    async def digits(self, attributes: str, keys: str, to: str = "100") -> list[Event]:
        self.answers("", path="next")
        self.answers(f"<GetDigits action='{NEXT}' {attributes}/><Wait/>")
        call = await self.world.call(to)
        await self.world.recorded(call, StepStarted)
        await self.world.passes(0.5)
        for part in keys.split():
            await self.press(part)
            await self.world.passes(2)
        return await self.world.closed(call)

    def told_digits(self) -> list[str]:
        return [each["Digits"] for each in self.world.application.told("next")]

    async def test_getdigits_ends_with_the_finishing_key_which_is_not_told(self):
        await self.digits("timeout='20'", "12#")
        await self.digits("timeout='20' finishOnKey='9*'", "1#*")
        self.assertEqual(self.told_digits(), ["12", "1#"])

    async def test_getdigits_without_a_finishing_key_ends_with_its_timeout(self):
        events = await self.digits("timeout='2' finishOnKey=''", "1#")
        self.assertEqual(self.told_digits(), ["1#"])
        self.about(self.lasted(events), 2.8, 0.9)

    async def test_getdigits_without_digits_goes_on_with_the_next_verb(self):
        events = await self.digits("timeout='1' retries='3'", "")
        self.assertEqual((self.told_digits(), self.ends(events)), ([], ["GetDigits", "Wait"]))
        self.about(self.lasted(events), 5.2, 1.6)

    async def test_getdigits_asks_again_after_what_is_not_valid(self):
        sound = "tone_stream://%(50,0,440)"
        valid = f"validDigits='12' invalidDigitsSound='{sound}' retries='2' timeout='5'"
        await self.digits(valid, "19# 21#")
        self.assertEqual(self.told_digits(), ["21"])
        (sent,) = [argument for app, argument in self.ran() if app == "play_and_get_digits"]
        self.assertIn(f"'{sound}' pagd_input ^(1|2)+$ 5000", sent)
        events = await self.digits("validDigits='12' timeout='5'", "9#")
        self.assertEqual((self.told_digits(), self.ends(events)), (["21"], ["GetDigits", "Wait"]))

    async def test_getdigits_without_action_goes_on_with_the_next_verb(self):
        events = await self.play("<GetDigits timeout='5' numDigits='2' action='none'/><Wait/>", to="512")
        self.assertEqual(self.ends(events), ["GetDigits", "Wait"])
        self.assertLess(self.lasted(events), 6)

    async def test_getdigits_of_a_caller_who_hangs_up_asks_for_nothing(self):
        await self.digits("timeout='20'", "1", to="702")
        self.assertEqual(self.told_digits(), [])

    async def test_digits_typed_while_the_server_is_dead_count_and_what_follows_runs_once(self):
        world = self.world
        self.answers("<Wait/>", path="next")
        self.answers(f"<GetDigits action='{NEXT}' timeout='8' numDigits='3'/><Wait/>")
        call = await world.call("100")
        await world.recorded(call, StepStarted)
        await world.passes(0.5)
        await self.press("1")
        world.kill()
        await world.passes(0.5)
        await self.press("23")
        await world.passes(0.5)
        world.start()
        events = await world.closed(call)
        self.assertEqual(self.told_digits(), ["123"])
        self.assertEqual(len([app for app, _ in self.ran() if app == "play_and_get_digits"]), 1)
        self.assertEqual([each.key for each in self.of(events, StepEnded)], ["1/0/1", "2/0/1"])

    # -- Record

    async def record(self, attributes: str, keys: str = "", to: str = "9", after: float = 2.0) -> list[Event]:
        self.answers("", path="next")
        self.answers(f"<Record action='{NEXT}' {attributes}/><Wait/>")
        call = await self.world.call(to)
        await self.world.until(lambda: any(app == "record" for app, _ in self.running()) or not keys)
        if keys:
            await self.world.passes(after)
            await self.press(keys)
        return await self.world.closed(call)

    def running(self) -> list[tuple[str, str]]:
        """The applications that began, the running one included."""
        return self.ran()

    async def test_record_tells_its_action_what_was_recorded(self):
        folder = self.world.config.record_folders[0]
        await self.record("maxLength='2' method='GET' timeout='7' finishOnKey='1#'")
        (asked,) = [each for each in self.world.application.received if each.path == "next"]
        told = asked.params
        self.assertEqual(asked.method, "GET")
        self.assertRegex(told["RecordingFileName"], rf"^[0-9]{{8}}-[0-9]{{6}}_{told['CallUUID']}_1-1$")
        self.assertEqual(told["RecordingFilePath"], f"{folder}/")
        self.assertEqual(told["RecordingFileFormat"], "mp3")
        self.assertEqual(told["RecordFile"], f"{folder}/{told['RecordingFileName']}.mp3")
        self.about(int(told["RecordingDuration"]), 2500, 900)
        self.assertEqual(told["Digits"], "")
        ran = [each for each in self.ran() if each[0] in ("record", "playback")][:2]
        self.assertEqual(
            ran, [("playback", "tone_stream://%(300,200,700)"), ("record", f"{told['RecordFile']} 2 500 7")]
        )

    async def test_two_recordings_of_one_second_are_two_files(self):
        record = f"<Record action='{NEXT}' redirect='false' bothLegs='true'/>"
        self.answers("", path="next")
        self.answers(f"{record}{record}<Wait/>")
        await self.world.closed(await self.world.call("9"))
        first, second = self.world.application.told("next")
        self.assertRegex(first["RecordingFileName"], "_1-1$")
        self.assertRegex(second["RecordingFileName"], "_1-2$")

    async def test_record_ends_with_a_key_and_has_its_names(self):
        folder = self.world.config.record_folders[0]
        names = f"fileFormat='wav' fileName='mine' filePath='{folder}/./' playBeep='false'"
        self.answers("", path="next")
        self.answers(f"<Record action='{NEXT}' {names} finishOnKey='5'/><Wait/>")
        call = await self.world.call("9")
        await self.world.recorded(call, StepStarted)
        await self.world.passes(1.5)
        await self.press("15")
        await self.world.closed(call)
        (told,) = self.world.application.told("next")
        self.assertEqual((told["RecordFile"], told["Digits"]), (f"{folder}/mine.wav", "5"))
        self.assertEqual([app for app, _ in self.ran()], ["record"])

    async def test_record_without_redirect_tells_and_goes_on(self):
        self.answers("<Hangup reason='busy'/>", path="next")
        events = await self.play(f"<Record action='{NEXT}' redirect='false' maxLength='1'/><Wait/>", to="9")
        self.assertEqual(self.ends(events), ["Record", "Wait"])
        self.assertEqual(len(self.world.application.told("next")), 1)

    async def test_record_without_action_goes_on(self):
        events = await self.play("<Record maxLength='1'/><Wait/>", to="9")
        self.assertEqual(self.ends(events), ["Record", "Wait"])

    async def test_record_of_a_caller_who_hangs_up_is_told_once(self):
        self.answers("<Wait/>", path="next")
        events = await self.play(f"<Record action='{NEXT}' playBeep='false'/><Wait/>", to="702")
        (told,) = self.world.application.told("next")
        self.assertGreaterEqual(int(told["RecordingDuration"]), 0)
        self.assertEqual(len(self.world.application.told("hangup")), 1)
        self.assertEqual(self.of(events, Redirected), [])

    async def test_record_of_both_legs_goes_on_at_once(self):
        self.answers("<Wait length='2'/>", path="next")
        events = await self.play(f"<Record action='{NEXT}' bothLegs='true' maxLength='9'/>", to="9")
        (told,) = self.world.application.told("next")
        self.assertEqual((told["RecordingDuration"], told["Digits"]), ("-1", ""))
        self.assertLess(self.lasted(events), 4)
        self.assertFalse([each for each in self.of(events, StepEnded) if each.failed])

    async def test_killed_in_a_record_it_goes_on_and_is_told_once(self):
        world = self.world
        self.answers("<Wait/>", path="next")
        self.answers(f"<Record action='{NEXT}' playBeep='false' maxLength='4'/>")
        call = await world.call("9")
        await world.until(lambda: len(self.of(world.events(call), StepStarted)) == 2)
        await world.passes(1)
        world.kill()
        await world.passes(1)
        world.start()
        await world.closed(call)
        (told,) = world.application.told("next")
        self.about(int(told["RecordingDuration"]), 4500, 900)
        self.assertEqual(len([app for app, _ in self.ran() if app == "record"]), 1)

    async def test_a_recording_that_is_broken_off_is_kept_and_the_call_goes_on(self):
        folder = self.world.config.record_folders[0]
        self.answers("", path="notice", delay=1.5)
        events = await self.play(f"<Breaks app='record' arg='{folder}/broken.wav'/><Wait/>", to="9")
        self.assertEqual(self.ends(events), ["Breaks", "Wait"])
        (stopped,) = [each for each in self.of(events, StepEnded) if each.stopped]
        self.about(int(dict(stopped.result)["record_ms"]), 1500, 600)
