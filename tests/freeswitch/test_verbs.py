"""The stories of tests/stories_verbs.py on a real FreeSWITCH."""

import msgspec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.freeswitch.world import PASSWORD, SKIP, RealWorld
from tests.stories_verbs import CONFIG, InputStories


class FreeSwitchVerbs(InputStories, TestCase):
    skip = SKIP or None
    timeout = 120

    def setUp(self):
        return Deferred.fromCoroutine(self.begin())

    async def begin(self):
        self.world = RealWorld(msgspec.structs.replace(CONFIG, fs_inbound_password=PASSWORD))
        self.ended = []
        self.world.observer.on_event = lambda _, event: self.ended.append(event)
        await self.world.observer.when_up()
        folder = (await self.world.observer.api("global_getvar recordings_dir")).text.strip()
        self.world.config = msgspec.structs.replace(self.world.config, record_folders=(folder,))
        self.world.start()

    def tearDown(self):
        return Deferred.fromCoroutine(self.world.leave())

    def ran(self):
        ends = [each for each in self.ended if each.get("Event-Name") == "CHANNEL_EXECUTE_COMPLETE"]
        ran = [(each["Application"], each.get("Application-Data", "")) for each in ends]
        return [each for each in ran if each[0] not in ("park", "set", "sched_hangup")]

    async def press(self, keys):
        (channel,) = await self.world.channels()
        for key in keys:
            await self.world.observer.api(f"uuid_recv_dtmf {channel} {key}")
