"""The stories of tests/stories_hangup.py on a real FreeSWITCH."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.freeswitch.world import SKIP, RealWorld
from tests.stories_hangup import HangupStories


class FreeSwitchHangups(HangupStories, TestCase):
    skip = SKIP or None
    timeout = 120

    def setUp(self):
        self.world = RealWorld()
        self.world.start()
        return Deferred.fromCoroutine(self.world.listen())

    def tearDown(self):
        return Deferred.fromCoroutine(self.world.leave())
