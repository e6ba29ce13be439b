"""The rules of the operator for gateways: which are passed over, given up early, or end the search."""

import msgspec
from twisted.trial.unittest import SynchronousTestCase, TestCase

from plivotx.config import Config, GatewayRules
from plivotx.emulator.farends import Step, script
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

    def test_count_a_time_out_without_any_ringing_as_well(self):
        """A gateway that answers nothing at all ends so, if GatewayTimeouts is shorter than SIP's own 32 s."""
        silent = self.failed("NO_ANSWER")
        self.assertEqual(self.failures(silent, self.failed("RECOVERY_ON_TIMER_EXPIRE"), silent), (3, 12))

    def test_forget_them_once_the_far_end_was_reached(self):
        down = self.failed("GATEWAY_DOWN")
        for reached in (
            self.failed("USER_BUSY"),
            ChannelRang(channel="c1", at=1),
            ChannelAnswered(channel="c1", at=1),
        ):
            self.assertEqual(self.failures(down, reached), (0, 0.0))
            self.assertEqual(self.failures(down, reached, down), (1, 12))

    def test_learn_nothing_from_an_attempt_that_was_never_dialled(self):
        gateways = Gateways()
        gateways.apply(CALL, self.failed("GATEWAY_DOWN"), 10)
        for cause in ("NETWORK_OUT_OF_ORDER", "ORIGINATOR_CANCEL"):
            undialled = JobFailed(channel="c1", cause=cause, dialled=False)
            gateways.apply(evolve(CALL, undialled), self.failed(cause), 11)
            self.assertEqual(gateways.failures("a/"), (1, 10))
        refused = JobFailed(channel="c1", cause="NETWORK_OUT_OF_ORDER")
        gateways.apply(evolve(CALL, refused), self.failed(refused.cause), 12)
        self.assertEqual(gateways.failures("a/"), (2, 12))

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


DEAD = "sofia/gateway/dead/"
COOLING = Config(gateways=(GatewayRules(prefix=DEAD, cool_down=60, cool_down_after=2),))
SLOW = "sofia/gateway/slow/"


class Stories(TestCase):
    def setUp(self):
        self.world = EmulatedWorld(COOLING)
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
        self.assertRegex(skipped.why, "^it failed 2 times in a row; that counts for another [56][0-9] s$")


class Rules(TestCase):
    """Each rule in a whole call; what a real FreeSWITCH does with the time-out was measured."""

    def start(self, **rules):
        """A world in which gateways of ``sofia/gateway/slow`` have these rules, and all others none."""
        rules = GatewayRules(prefix="sofia/gateway/slow", **rules)
        self.world = EmulatedWorld(Config(gateways=(rules,)))
        self.world.start()
        self.addCleanup(self.world.end)
        return self.world

    async def ended(self, to="100", **params):
        """The gateways that were dialled, and the causes of those that failed."""
        call = await self.world.call(to, **{"Gateways": f"{SLOW},{SELF}", **params})
        events = await self.world.closed(call, 200)
        return (
            [each.gateway for each in events if isinstance(each, AttemptStarted)],
            [each.cause for each in events if isinstance(each, AttemptFailed)],
        )

    async def test_a_gateway_that_only_says_trying_or_nothing_is_followed_by_the_next_in_time(self):
        for far_end in ((Step(0, "trying"),), ()):
            world = self.start(progress_timeout=3)
            world.switch.gateways["slow"] = far_end
            tried, failed = await self.ended(TimeLimit="1")
            self.assertEqual((tried, failed), ([SLOW, SELF], ["PROGRESS_TIMEOUT"]))
            first, second = world.switch.dialled
            # the switch counts seconds of the clock, and up to one more
            self.assertTrue(3 <= second.at - first.at <= 4.2, second.at - first.at)
            self.assertEqual((await world.told("hangup"))["HangupCause"], "ALLOTTED_TIMEOUT")
            self.assertEqual(len(world.application.told("ring")), 1)
            world.end()

    async def test_without_the_rule_only_the_time_out_of_the_request_ends_such_an_attempt(self):
        world = self.start()
        world.switch.gateways["slow"] = ()
        tried, failed = await self.ended(TimeLimit="1", GatewayTimeouts="9")
        self.assertEqual((tried, failed), ([SLOW, SELF], ["NO_ANSWER"]))
        first, second = world.switch.dialled
        self.assertTrue(8 <= second.at - first.at <= 9.2, second.at - first.at)

    async def test_a_far_end_that_rings_or_gives_early_media_in_time_may_take_longer_to_answer(self):
        for number in ("106", "207"):
            world = self.start(progress_timeout=2)
            world.switch.gateways["slow"] = script
            tried, failed = await self.ended(number, TimeLimit="1")
            self.assertEqual((tried, failed), ([SLOW], []))
            self.assertEqual((await world.told("hangup"))["HangupCause"], "ALLOTTED_TIMEOUT")
            world.end()

    async def test_the_rule_is_for_gateways_of_its_prefix_alone(self):
        world = self.start(progress_timeout=1, stop_causes=("USER_BUSY",))
        world.switch.gateways["slow"] = world.switch.gateways["quick"] = ()
        await self.ended(Gateways=f"sofia/gateway/quick/,{SLOW}", GatewayTimeouts="3")
        limits = [each.variables.get("leg_progress_timeout", "") for each in world.switch.dialled]
        self.assertEqual(limits, ["", "1"])

    async def test_a_cause_that_ends_the_search_is_the_cause_of_the_call(self):
        world = self.start(stop_causes=("UNALLOCATED_NUMBER", "USER_BUSY"))
        world.switch.gateways["slow"] = script
        call = await world.call("404", Gateways=f"{SLOW},{SELF}", GatewayRetries="3")
        events = await world.closed(call)
        (failed,) = [each for each in events if isinstance(each, AttemptFailed)]
        self.assertIn("no other gateway is tried (stop_causes of sofia/gateway/slow/)", failed.why)
        self.assertEqual(len(world.switch.dialled), 1)
        (hangup,) = world.application.told("hangup")
        self.assertEqual((hangup["HangupCause"], hangup["CallUUID"]), ("UNALLOCATED_NUMBER", ""))

    async def test_any_other_cause_leads_to_the_next_gateway(self):
        world = self.start(stop_causes=("UNALLOCATED_NUMBER",))
        world.switch.gateways["slow"] = script
        tried, failed = await self.ended("603")
        self.assertEqual((tried, failed), ([SLOW, SELF], ["CALL_REJECTED"] * 2))

    async def test_a_far_end_that_would_ring_later_is_let_go_before_the_next_is_dialled(self):
        world = self.start(progress_timeout=2)
        # it would ring a moment after it was given up
        world.switch.gateways["slow"] = (Step(3.5, "ring"), Step(5, "answer"))
        tried, failed = await self.ended("101", TimeLimit="8")
        self.assertEqual((tried, failed), ([SLOW, SELF], ["PROGRESS_TIMEOUT"]))
        first, second = world.switch.dialled
        ends = {each.uuid: each for each in world.switch.ended}
        self.assertLessEqual(ends[first.uuid].at, second.at)
        self.assertEqual(len(world.application.told("ring")), 1)
