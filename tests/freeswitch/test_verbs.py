"""The stories of tests/stories_verbs.py on a real FreeSWITCH."""

import msgspec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.freeswitch.world import PASSWORD, SKIP, RealWorld
from tests.stories_verbs import CONFIG, VerbStories


class FreeSwitchVerbs(VerbStories, TestCase):
    skip = SKIP or None
    timeout = 120

    def setUp(self):
        self.world = RealWorld(msgspec.structs.replace(CONFIG, fs_inbound_password=PASSWORD))
        self.world.start()

    def tearDown(self):
        return Deferred.fromCoroutine(self.world.leave())
