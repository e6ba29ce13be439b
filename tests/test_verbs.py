"""The stories of the verbs on the emulator."""

from twisted.trial.unittest import TestCase

from plivotx.testing import EmulatedWorld
from tests.stories_verbs import CONFIG, VerbStories


class EmulatedVerbs(VerbStories, TestCase):
    def setUp(self):
        self.world = EmulatedWorld(CONFIG)
        self.world.start()
        self.addCleanup(self.world.end)
