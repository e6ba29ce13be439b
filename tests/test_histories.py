"""Calls recorded by an earlier version mean the same to this one, at every point of them."""

from pathlib import Path
from textwrap import dedent

from twisted.trial.unittest import SynchronousTestCase, TestCase

from plivotx import plugins
from plivotx.commands import Step, StopStep
from plivotx.config import Config
from plivotx.events import StepEnded, StepStarted, VerbAbandoned, VerbEnded
from plivotx.policies.run_script import run_script
from plivotx.projections.call import evolve
from plivotx.restxml.script import execute
from plivotx.testing import Answer, EmulatedWorld
from tests.histories import CONFIG, FOLDER, events, read, replayed

FILES = sorted(FOLDER.glob("*.jsonl"))


class Recorded(SynchronousTestCase):
    def test_calls_mean_what_they_meant(self):
        self.assertGreaterEqual(len(FILES), 8)
        for path in FILES:
            for number, (then, now) in enumerate(zip(read(path), replayed(events(path)), strict=True), 1):
                with self.subTest(path.name, line=number):
                    self.assertEqual(now.state, then.state)
                    self.assertEqual(now.due, then.due)

    def test_calls_hold_every_event_of_a_script(self):
        kinds = {type(each).__name__ for path in FILES for each in events(path)}
        script = {
            "DocumentFetched",
            "StepStarted",
            "StepEnded",
            "VerbEnded",
            "VerbRound",
            "Redirected",
            "ScriptEnded",
        }
        self.assertLessEqual(script, kinds)


class OfAnOlderVersion(SynchronousTestCase):
    """A recorded call whose verb does something else in this version."""

    def test_a_changed_verb_is_abandoned_and_the_call_goes_on(self):
        class Play(plugins.load([plugins.shipped()], CONFIG).verbs["Play"], frozen=True, kw_only=True):
            def run(self, call):
                yield from execute("playback", "something else")

        loaded = plugins.load([plugins.shipped()], CONFIG)
        policy = run_script({**loaded.verbs, "Play": Play}, loaded.session, CONFIG)
        call = None
        for event in events(FOLDER / "verbs.jsonl"):
            call = evolve(call, event)
            if isinstance(event, StepStarted) and event.key == "1/1/1":
                break
        (stop,) = policy(call)
        self.assertEqual((type(stop), stop.step), (StopStep, "1/1/1"))
        call = evolve(call, StepEnded(key="1/1/1", stopped=True))
        (decide,) = policy(call)
        self.assertEqual(
            decide.event,
            VerbAbandoned(document=1, verb=1, why="step 1/1/1 is recorded with another command"),
        )
        call = evolve(call, decide.event)
        (speak,) = policy(call)
        self.assertEqual((type(speak), speak.step, speak.app), (Step, "1/2/1", "speak"))


class AChangedVerb(TestCase):
    """A verb is upgraded while a call is in the middle of it."""

    def setUp(self):
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        self.file = folder / "music.py"

    def write(self, seconds):
        self.file.write_text(
            dedent(f"""
            from plivotx.hookspecs import hookimpl
            from plivotx.restxml.script import Verb, execute

            class Music(Verb, frozen=True, kw_only=True):
                def run(self, call):
                    yield from execute("playback", "silence_stream://{seconds}000")

            @hookimpl
            def verbs():
                return [Music]
            """)
        )

    async def upgraded(self, before, after):
        self.write(before)
        world = EmulatedWorld(Config(plugin_path=(str(self.file.parent),)))
        self.addCleanup(world.end)
        world.start()
        world.application.answers["answer"] = Answer(body=b"<Response><Music/><Wait length='2'/></Response>")
        call = await world.call("100")
        await world.recorded(call, StepStarted)
        await world.passes(1)
        world.kill()
        self.write(after)
        world.start()
        return await world.closed(call)

    async def test_that_does_something_else_is_abandoned_and_the_next_one_runs(self):
        recorded = await self.upgraded(before=600, after=500)
        (abandoned,) = [each for each in recorded if isinstance(each, VerbAbandoned)]
        self.assertEqual(abandoned.why, "step 1/0/1 is recorded with another command")
        ends = [(each.key, each.stopped) for each in recorded if isinstance(each, StepEnded)]
        self.assertEqual(ends, [("1/0/1", True), ("1/1/1", False)])
        self.assertEqual([each.name for each in recorded if isinstance(each, VerbEnded)], ["Wait"])

    async def test_that_does_the_same_goes_on(self):
        recorded = await self.upgraded(before=5, after=5)
        self.assertEqual([each.name for each in recorded if isinstance(each, VerbEnded)], ["Music", "Wait"])
        self.assertEqual([each for each in recorded if isinstance(each, VerbAbandoned)], [])
