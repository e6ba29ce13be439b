"""The stories of the verbs: each attribute of each, and a death of the server in the middle.

Played on the emulator (tests/test_verbs.py) and on a real FreeSWITCH (tests/freeswitch/).
"""

from pathlib import Path

from plivotx.config import Config
from plivotx.events import (
    ChannelAnswered,
    ChannelEnded,
    Event,
    ScriptEnded,
    StepEnded,
    VerbEnded,
)
from plivotx.testing import Answer, World

CONFIG = Config(plugin_path=(str(Path(__file__).parent / "verbs"),))


class VerbStories:
    """To be mixed into a TestCase that makes ``self.world``."""

    world: World

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
        self.assertIn("is given a word that is empty or holds what would end it", end.why)
        events = await self.play("<Asks name='nobody_set_it'/>")
        self.assertEqual(self.of(events, ScriptEnded)[-1].why, "_undef_")
