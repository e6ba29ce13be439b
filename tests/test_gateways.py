"""Which gateways keep failing, and that such a one is passed over for a while."""

import msgspec
from twisted.trial.unittest import SynchronousTestCase, TestCase

from plivotx.config import Config, GatewayRules
from plivotx.events import (
    AttemptFailed,
    AttemptSkipped,
    AttemptStarted,
    CallRequested,
    ChannelAnswered,
    ChannelRang,
    Gateway,
    JobFailed,
)
from plivotx.projections.call import evolve
from plivotx.projections.gateways import MOST, Gateways
from plivotx.testing import SELF, EmulatedWorld

UUID = "7b1d6a52-3c1b-4f0e-8f3e-1de0b7a1c0aa"
CALL = evolve(
    evolve(
        None,
        CallRequested(
            request_uuid=UUID,
            from_number="1",
            to_number="2",
            gateways=(Gateway(prefix="a/"),),
            answer_url="http://a.test/",
            hangup_url="http://a.test/",
        ),
    ),
    AttemptStarted(number=1, gateway="a/", channel="c1", switch="default", core="c"),
)


class Standings(SynchronousTestCase):
    def failures(self, *events):
        gateways = Gateways()
        for now, event in enumerate(events, 10):
            gateways.apply(CALL, event, now)
        return gateways.failures("a/")

    def failed(self, cause, channel="c1"):
        return AttemptFailed(channel=channel, cause=cause, why="")

    def test_count_failures_in_a_row_that_are_the_gateways_own(self):
        down = self.failed("GATEWAY_DOWN")
        self.assertEqual(self.failures(), (0, 0.0))
        self.assertEqual(self.failures(down, down, self.failed("NORMAL_TEMPORARY_FAILURE")), (3, 12))

    def test_forget_them_once_the_far_end_was_reached(self):
        down = self.failed("GATEWAY_DOWN")
        for reached in (
            self.failed("USER_BUSY"),
            ChannelRang(channel="c1", at=1),
            ChannelAnswered(channel="c1", at=1),
        ):
            self.assertEqual(self.failures(down, reached), (0, 0.0))
            self.assertEqual(self.failures(down, reached, down), (1, 12))

    def test_learn_nothing_from_other_channels_and_events(self):
        down = self.failed("GATEWAY_DOWN")
        others = (ChannelRang(channel="x", at=1), JobFailed(channel="c1", cause="USER_BUSY"))
        self.assertEqual(self.failures(down, self.failed("GATEWAY_DOWN", "x"), *others), (1, 10))

    def test_are_kept_of_so_many_gateways_only(self):
        gateways = Gateways()
        for number in range(MOST + 1):
            attempt = msgspec.structs.replace(CALL.attempts[0], gateway=f"g{number}/")
            call = msgspec.structs.replace(CALL, attempts=(attempt,))
            gateways.apply(call, self.failed("GATEWAY_DOWN"), number)
        self.assertEqual(gateways.failures("g0/"), (0, 0.0))
        self.assertEqual(gateways.failures("g1/"), (1, 1))
        self.assertEqual(gateways.failures(f"g{MOST}/"), (1, MOST))


class Cooling(Config):
    """A configuration in which one gateway is passed over for a minute after two failures."""

    def rules(self, prefix):
        return GatewayRules(cool_down=60, cool_down_after=2) if prefix == DEAD else GatewayRules()


DEAD = "sofia/gateway/dead/"


class Stories(TestCase):
    def setUp(self):
        self.world = EmulatedWorld(Cooling())
        self.world.start()
        self.addCleanup(self.world.end)

    async def attempts(self, gateways):
        """What was done with each gateway: true if it was dialled."""
        call = await self.world.call("486", Gateways=gateways)
        events = await self.world.closed(call)
        return [
            (each.gateway, isinstance(each, AttemptStarted))
            for each in events
            if isinstance(each, AttemptStarted | AttemptSkipped)
        ]

    async def test_a_gateway_that_keeps_failing_is_passed_over_and_tried_again_later(self):
        both = f"{DEAD},{SELF}"
        for _ in range(2):
            self.assertEqual(await self.attempts(both), [(DEAD, True), (SELF, True)])
        self.assertEqual(await self.attempts(both), [(DEAD, False), (SELF, True)])
        await self.world.passes(61)
        self.assertEqual(await self.attempts(both), [(DEAD, True), (SELF, True)])
        self.assertEqual(await self.attempts(both), [(DEAD, False), (SELF, True)])

    async def test_the_last_hope_is_tried_all_the_same(self):
        for _ in range(4):
            self.assertEqual(await self.attempts(DEAD), [(DEAD, True)])
        self.assertEqual(await self.attempts(f"{DEAD},{DEAD}"), [(DEAD, True), (DEAD, True)])

    async def test_why_it_was_passed_over_is_on_record(self):
        for _ in range(2):
            await self.attempts(DEAD)
        call = await self.world.call("486", Gateways=f"{DEAD},{SELF}")
        skipped = await self.world.recorded(call, AttemptSkipped)
        self.assertRegex(
            skipped.why, f"{DEAD} failed 2 times in a row and is passed over for another [56][0-9] s"
        )
