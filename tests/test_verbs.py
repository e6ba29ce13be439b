"""The stories of the verbs on the emulator."""

from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from plivotx.events import ChannelAnswered, ChannelEnded, StepStarted, VerbEnded
from plivotx.testing import APPLICATION, Answer, EmulatedWorld
from tests.stories_verbs import CONFIG, NEXT, TONE, InputStories

OURS = ("park", "set", "sched_hangup")
"""Applications that plivotx runs besides those of verbs."""


class EmulatedVerbs(InputStories, TestCase):
    def setUp(self):
        self.world = EmulatedWorld(CONFIG)
        self.world.start()
        self.addCleanup(self.world.end)

    def ran(self):
        return [(app, arg) for _, app, arg, _ in self.world.switch.executed if app not in OURS]

    async def press(self, keys):
        (channel,) = await self.world.channels()
        self.world.switch.press(channel, keys)

    async def test_what_is_spoken_is_what_the_document_says(self):
        """Apostrophes in pairs, and backslashes: the switch splits the argument once more."""
        await self.play(
            "<Speak>We're sorry, it's 'closed' c:\\new</Speak>"
            f"<GetDigits timeout='1'><Speak>A isn't 'it'</Speak><Play>{TONE}</Play><Speak>it's B</Speak></GetDigits>"
        )
        self.assertEqual(
            [text for _, text in self.world.switch.spoken],
            ["We're sorry, it's 'closed' c:\\new", "A isn't 'it'", "it's B"],
        )


class Told(TestCase):
    """What a switch is asked to tell of a call, and what is done without it."""

    def setUp(self):
        self.world = EmulatedWorld(CONFIG)
        self.world.start()
        self.addCleanup(self.world.end)
        self.world.application.answers["answer"] = Answer(
            body=b"<Response><Wait length='1'/><Hangup/></Response>"
        )

    async def test_of_an_application_is_only_the_end_of_a_step(self):
        heard = []
        switch = self.world.process.server.switches["default"]
        on_event = switch.on_event

        def hear(switch, event):
            heard.append((event["Event-Name"], event.get("Application-UUID")))
            on_event(switch, event)

        switch.on_event = hear
        await self.world.closed(await self.world.call("100"))
        self.assertEqual(
            [each for each in heard if each[0] != "HEARTBEAT"],
            [
                ("CHANNEL_CREATE", None),
                ("CHANNEL_PROGRESS", None),
                ("CHANNEL_ANSWER", None),
                ("BACKGROUND_JOB", None),
                ("CHANNEL_PARK", None),
                ("CHANNEL_EXECUTE_COMPLETE", "1/0/1"),
                ("CHANNEL_HANGUP_COMPLETE", None),
            ],
        )

    async def test_nothing_is_asked_as_long_as_nothing_was_missed(self):
        asked = []
        api = self.world.switch.api

        def ask(command, argument, done):
            asked.append(command)
            api(command, argument, done)

        self.world.switch.api = ask
        await self.world.closed(await self.world.call("100"))
        self.assertNotIn("uuid_dump", asked)
        self.world.switch.faults.lose["CHANNEL_PARK"] = 1.0
        events = await self.world.closed(await self.world.call("100"))
        self.assertIn("uuid_dump", asked)
        (answered,) = [each for each in events if isinstance(each, ChannelAnswered)]
        (ended,) = [each for each in events if isinstance(each, ChannelEnded)]
        self.assertTrue(2 < (ended.at - answered.at) / 1e6 < 2.5, "a second later")


SCRIPTS = {
    # number, AnswerUrl's document, the one at NEXT
    "Play": ("100", f"<Play loop='12'>{TONE}</Play><Wait/>", ""),
    "Speak": (
        "100",
        "<Speak loop='2'>hello</Speak><Speak type='NUMBER' method='COUNTED'>4</Speak><Wait/>",
        "",
    ),
    "GetDigits": (
        "512",
        f"<GetDigits action='{NEXT}' numDigits='2' timeout='6'/><Wait/>",
        "<Speak>thanks</Speak>",
    ),
    "GetDigits in vain": ("100", f"<GetDigits action='{NEXT}' timeout='1' retries='2'/><Wait/>", ""),
    "Record": ("9", f"<Record action='{NEXT}' maxLength='2'/>", "<Wait/>"),
    "Record, tell": ("9", f"<Record action='{NEXT}' redirect='false' maxLength='2'/><Wait/>", ""),
    "Record both": ("9", f"<Record action='{NEXT}' bothLegs='true' maxLength='2'/>", "<Wait length='3'/>"),
    "Record, hung up": ("703", f"<Record action='{NEXT}' playBeep='false'/><Wait/>", ""),
    "Redirect": ("100", f"<Wait/><Redirect>{NEXT}</Redirect><Wait/>", "<Wait/>"),
    "Notify": ("100", f"<Notify>{NEXT}</Notify><Wait/>", ""),
    "Hangup": ("100", "<Hangup schedule='3' reason='busy'/><Wait length='9'/>", ""),
    "PreAnswer": ("100", f"<PreAnswer><Wait/><Play>{TONE}</Play></PreAnswer><Wait/>", ""),
}


class ADeathAtEveryPoint(TestCase):
    """After each event that an answered call leaves on record the server dies, once; the caller notices nothing."""

    async def story(self, name, after=None):
        """What the caller and the application lived through."""
        to, document, following = SCRIPTS[name]
        world = EmulatedWorld(CONFIG)
        try:
            world.start()
            for path, content in (("answer", document), ("next", following), ("notice", "")):
                body = f"<Response>{content}</Response>".encode()
                world.application.answers[path] = Answer(body=body)
            call = await world.call(to)
            if after is not None:
                await world.until(lambda: len(world.events(call)) > after)
                world.kill()
                await world.passes(0.05)
                world.start()
            events = await world.closed(call)
            ran = [
                (app, arg) for _, app, arg, _ in world.switch.executed if app not in ("park", "sched_hangup")
            ]
            steps = [(each.key, each.digest) for each in events if isinstance(each, StepStarted)]
            ends = [each.name for each in events if isinstance(each, VerbEnded)]
            told = {each.path for each in world.application.received}
            cause = world.application.told("hangup")[-1]["HangupCause"]
            answered = next(at for at, each in enumerate(events) if isinstance(each, ChannelAnswered))
            return range(answered, len(events) - 1), (steps, ends, told, cause), self.comparable(ran)
        finally:
            world.end()

    def comparable(self, ran):
        """What ran, without the name of a recording, which has the time of day in it."""
        return [(app, "" if app == "record" else arg) for app, arg in ran]

    async def test_changes_nothing(self):
        for name in SCRIPTS:
            points, lived, ran = await self.story(name)
            self.assertTrue(lived[0], name)
            for after in points:
                _, lived_now, ran_now = await self.story(name, after)
                with self.subTest(name, after=after):
                    self.assertEqual(lived_now[1:], lived[1:])
                    self.assertEqual([key for key, _ in lived_now[0]], [key for key, _ in lived[0]])
                    self.assertEqual(ran_now, ran)


class TheLog(TestCase):
    """What the operator reads when an application gives what cannot be run."""

    async def warned(self, body, status=200):
        lines = []

        def observe(event):
            if event["log_level"] is LogLevel.warn:
                lines.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        world = EmulatedWorld()
        self.addCleanup(world.end)
        world.start()
        world.application.answers["answer"] = Answer(body=body, status=status)
        call = await world.call("100")
        await world.closed(call)
        (line,) = [each for each in lines if each.startswith(f"call {call}: ")]
        return line.removeprefix(f"call {call}: ")

    async def test_says_where_a_document_is_wrong(self):
        self.assertIn(
            f"document 1, {APPLICATION}/answer/: line 2, column 2: unknown verb Dance (known: GetDigits",
            await self.warned(b"<Response>\n <Dance/></Response>"),
        )
        self.assertIn("line 1, column 13: not well-formed", await self.warned(b"<Response></Wait>"))

    async def test_says_why_there_is_no_document(self):
        self.assertEqual(
            await self.warned(b"", status=404), f"document 1: POST {APPLICATION}/answer/: status 404"
        )
        self.assertIn("longer than 262144 bytes", await self.warned(b"x" * 300_000))
