"""The stories on the emulator, and those that need a switch which does as it is told."""

from twisted.trial.unittest import TestCase

from plivotx.events import AttemptStarted, CallEnded, ChannelAnswered, ChannelEnded, ChannelRang
from plivotx.handlers.switch.dialling import UNWRITTEN
from plivotx.testing import EmulatedWorld
from tests.stories import Stories


class EmulatedStories(Stories, TestCase):
    def setUp(self):
        self.world = EmulatedWorld()
        self.world.start()
        self.addCleanup(self.world.end)


class Faults(TestCase):
    """What cannot be arranged on a real switch."""

    def setUp(self):
        self.world = EmulatedWorld()
        self.world.start()
        self.addCleanup(self.world.end)

    def drop(self):
        for link in list(self.world.network.links):
            link.drop("the cable was pulled")

    async def test_a_switch_that_is_not_there_makes_the_call_wait(self):
        world = self.world
        world.network.refusing = True
        self.drop()
        await world.passes(1)
        call = await world.call("100", TimeLimit="1")
        await world.passes(10)
        self.assertEqual(world.switch.dialled, [])
        world.network.refusing = False
        await world.closed(call)
        self.assertEqual(len(world.switch.dialled), 1)

    async def test_a_switch_that_never_comes_ends_the_call(self):
        world = self.world
        world.network.refusing = True
        self.drop()
        call = await world.call("100")
        await world.closed(call, 200)
        self.assertEqual((await world.told("hangup"))["HangupCause"], "NETWORK_OUT_OF_ORDER")

    async def test_of_many_calls_that_wait_a_death_leaves_only_a_few_in_doubt(self):
        world = self.world
        world.network.refusing = True
        self.drop()
        await world.passes(1)
        calls = [await world.call("486") for _ in range(5 * UNWRITTEN)]
        world.network.refusing = False
        await world.until(
            lambda: any(isinstance(each, AttemptStarted) for call in calls for each in world.events(call))
        )
        world.kill()
        world.start()
        causes = [
            each.cause for call in calls for each in await world.closed(call) if isinstance(each, CallEnded)
        ]
        self.assertEqual(set(causes), {"OUTCOME_UNKNOWN", "USER_BUSY"})
        self.assertLessEqual(causes.count("OUTCOME_UNKNOWN"), UNWRITTEN)
        self.assertEqual(len(causes), len(calls))

    async def test_a_lost_connection_is_made_anew_and_what_was_missed_is_found_out(self):
        world = self.world
        call = await world.call("102", TimeLimit="20")
        await world.recorded(call, ChannelRang)
        world.network.refusing = True
        self.drop()
        await world.passes(4)
        world.network.refusing = False
        await world.recorded(call, ChannelAnswered)
        self.assertEqual(len(world.switch.dialled), 1)
        await world.closed(call)

    async def test_a_stalled_connection_is_noticed(self):
        world = self.world
        call = await world.call("100", TimeLimit="100")
        await world.told("answer")
        for link in list(world.network.links):
            link.stall()
        await world.closed(call, 200)
        self.assertEqual((await world.told("hangup"))["HangupCause"], "ALLOTTED_TIMEOUT")

    async def test_a_switch_that_restarts_takes_its_calls_with_it(self):
        world = self.world
        call = await world.call("100")
        await world.told("answer")
        world.switch.restart()
        await world.closed(call)
        hangup = await world.told("hangup")
        self.assertEqual(hangup["HangupCause"], "CRASH")
        self.assertNotEqual(hangup["CallUUID"], "")

    async def test_a_channel_that_was_revived_keeps_its_limit(self):
        world = self.world
        call = await world.call("100", TimeLimit="30")
        await world.told("answer")
        channel = (await world.channels())[0]
        world.switch.restart(revive=[channel])
        events = await world.closed(call)
        self.assertEqual((await world.told("hangup"))["HangupCause"], "ALLOTTED_TIMEOUT")
        answer = next(each.at for each in events if isinstance(each, ChannelAnswered))
        end = next(each.at for each in events if isinstance(each, ChannelEnded))
        self.assertTrue(29 < (end - answer) / 1e6 < 31)

    async def test_a_channel_of_a_call_nobody_knows_is_hung_up(self):
        world = self.world
        call = await world.call("100")
        await world.told("answer")
        world.kill()
        world.disk = type(world.disk)()  # the log is gone
        world.start()
        await world.passes(5)
        self.assertEqual(await world.channels(), [])
        del call

    async def test_an_end_that_was_never_told_is_found_out(self):
        world = self.world
        call = await world.call("705")
        await world.told("answer")
        world.switch.faults.lose["CHANNEL_HANGUP_COMPLETE"] = 1.0
        events = await world.closed(call, 200)
        (end,) = [each for each in events if isinstance(each, ChannelEnded)]
        self.assertEqual((end.cause, end.found), ("NORMAL_CLEARING", "kept"))

    async def test_a_log_that_refuses_for_a_while_loses_no_call(self):
        world = self.world
        call = await world.call("102", TimeLimit="5")
        await world.recorded(call, ChannelRang)
        world.process.log.refusing = "disk full"
        await world.passes(3)
        refused = await world.post(
            From="1", To="100", Gateways=world.gateway, AnswerUrl="http://application.test/answer/"
        )
        self.assertFalse(refused["Success"])
        world.process.log.refusing = ""
        await world.closed(call, 200)
        self.assertEqual(len(world.switch.dialled), 1)
        self.assertEqual(len([each for each in world.events(call) if isinstance(each, CallEnded)]), 1)

    async def test_when_all_is_over_nothing_is_kept(self):
        world = self.world
        for to in ("101", "486", "701", "3"):
            await world.call(to, HangupOnRing="2")
        await world.passes(30)
        server = world.process.server
        self.assertEqual(
            server.idle(),
            dict.fromkeys(server.idle(), 0),
        )
        self.assertEqual(world.switch.hash, {})
