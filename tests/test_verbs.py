"""The stories of the verbs on the emulator."""

from twisted.trial.unittest import TestCase

from plivotx.testing import EmulatedWorld
from tests.stories_verbs import CONFIG, InputStories

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
