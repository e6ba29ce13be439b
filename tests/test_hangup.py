"""The stories of calls that are hung up on the emulator, and those that need a switch which does as it is told."""

from unittest import mock

from twisted.internet.defer import fail
from twisted.trial.unittest import SynchronousTestCase, TestCase

from plivotx.emulator import api as emulated
from plivotx.engine import NoSuchCall
from plivotx.events import (
    AttemptStarted,
    CallbackDelivered,
    CallEnded,
    ChannelRang,
    HangupRequested,
    JobFailed,
)
from plivotx.log.interface import Conflict, Unwritable
from plivotx.rest.forms import BadForm, hangup_wanted
from plivotx.testing import SELF, EmulatedWorld
from tests.stories_hangup import EXECUTED, FAILED, HangupStories

SILENT = "sofia/gateway/silent/"


class EmulatedHangups(HangupStories, TestCase):
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

    def away(self):
        self.world.network.refusing = True
        for link in list(self.world.network.links):
            link.drop("the cable was pulled")

    async def hang_up(self, **params):
        return await self.world.post("/v0.1/HangupCall/", **params)

    def nothing_is_left(self):
        idle = self.world.process.server.idle()
        self.assertEqual(idle, dict.fromkeys(idle, 0))

    async def test_one_that_is_dialled_and_does_not_ring_is_not_tried_through_the_next_gateway(self):
        world = self.world
        for gateway in (SILENT, "sofia/gateway/trying/"):
            world.application.received.clear()
            call = await world.call("3", Gateways=f"{gateway},{SELF}", GatewayRetries="3,1")
            await world.recorded(call, AttemptStarted)
            await world.passes(1)
            self.assertEqual(await self.hang_up(RequestUUID=call), EXECUTED)
            events = await world.closed(call, 2)
            self.assertEqual(len([each for each in events if isinstance(each, AttemptStarted)]), 1)
            (hangup,) = world.application.told("hangup")
            self.assertEqual((hangup["HangupCause"], hangup["CallUUID"]), ("NORMAL_CLEARING", ""))
            self.assertEqual(world.application.told("ring"), [])
            (attempt,) = (await world.get(f"/v0.1/Calls/{call}/"))["Call"]["Attempts"]
            self.assertIn("no other gateway is tried, for the call is to be hung up", attempt["Why"])
            self.assertEqual(attempt["Cause"], "NORMAL_CLEARING")
        await world.passes(5)
        self.assertEqual(await world.channels(), [])
        self.nothing_is_left()

    async def test_killed_while_it_is_dialled_the_next_one_hangs_up_and_dials_nobody(self):
        world = self.world
        call = await world.call("3", Gateways=f"{SILENT},{SELF}")
        await world.recorded(call, AttemptStarted)
        await world.passes(0.5)
        self.assertEqual(await self.hang_up(RequestUUID=call), EXECUTED)
        world.kill()
        await world.passes(1)
        world.start()
        await world.closed(call, 20)
        self.assertEqual((await world.told("hangup"))["HangupCause"], "NORMAL_CLEARING")
        self.assertEqual(len(world.switch.dialled), 1)

    async def test_killed_before_it_was_dialled_the_next_one_dials_nobody(self):
        world = self.world
        self.away()
        await world.passes(1)
        call = await world.call("3")
        answer = world.process.post("/v0.1/HangupCall/", {"RequestUUID": call})
        await world.until(lambda: any(isinstance(each, HangupRequested) for each in world.events(call)))
        world.kill()
        del answer
        world.network.refusing = False
        world.start()
        events = await world.closed(call, 20)
        self.assertEqual([each for each in events if isinstance(each, AttemptStarted)], [])
        self.assertEqual((await world.told("hangup"))["HangupCause"], "NORMAL_CLEARING")
        self.assertEqual(world.switch.dialled, [])

    async def test_one_that_waits_for_its_switch_ends_at_once_and_is_never_dialled(self):
        world = self.world
        self.away()
        await world.passes(1)
        call = await world.call("3")
        await world.passes(5)
        self.assertEqual(await self.hang_up(RequestUUID=call), EXECUTED)
        events = await world.closed(call, 1)
        self.assertEqual([each for each in events if isinstance(each, AttemptStarted)], [])
        self.assertEqual((await world.told("hangup"))["HangupCause"], "NORMAL_CLEARING")
        world.network.refusing = False
        await world.passes(60)
        self.assertEqual(world.switch.dialled, [])
        self.nothing_is_left()

    async def test_one_whose_switch_went_just_before_it_was_dialled_is_called_off(self):
        world = self.world
        record = type(world.process.log).append

        def append(log, stream, events, *more, **named):
            if isinstance(events[0], AttemptStarted):
                self.away()
            return record(log, stream, events, *more, **named)

        self.patch(type(world.process.log), "append", append)
        call = await world.call("3", Gateways=f"{SELF},{SELF}")
        await world.recorded(call, AttemptStarted)
        await world.passes(3)
        self.assertEqual(world.events(call)[-1], world.events(call)[1])
        self.assertEqual(await self.hang_up(RequestUUID=call), EXECUTED)
        events = await world.closed(call, 1)
        self.assertEqual([each.cause for each in events if isinstance(each, JobFailed)], ["NORMAL_CLEARING"])
        self.assertEqual((await world.told("hangup"))["HangupCause"], "NORMAL_CLEARING")
        world.network.refusing = False
        await world.passes(60)
        self.assertEqual(world.switch.dialled, [])
        self.nothing_is_left()

    async def test_a_channel_that_the_switch_is_slow_to_make_is_hung_up_as_soon_as_it_is_there(self):
        world = self.world
        kills = []

        def kill(switch, argument):
            kills.append(world.clock.seconds())
            return emulated.NO_CHANNEL if len(kills) < 4 else real(switch, argument)

        real = emulated.COMMANDS["uuid_kill"]
        self.patch(emulated, "COMMANDS", {**emulated.COMMANDS, "uuid_kill": kill})
        world.switch.faults.lose["CHANNEL_CREATE"] = 1.0  # it would tell of the channel
        call = await world.call("3", Gateways=f"{SILENT},{SELF}")
        await world.until(lambda: world.switch.dialled)
        self.assertEqual(await self.hang_up(RequestUUID=call), EXECUTED)
        await world.closed(call, 3)
        self.assertEqual(len(kills), 4)
        self.assertEqual((await world.told("hangup"))["HangupCause"], "NORMAL_CLEARING")
        self.assertEqual(len(world.switch.dialled), 1)

    async def test_one_whose_switch_is_away_is_hung_up_when_it_is_back(self):
        world = self.world
        call = await world.call("3")
        channel = (await world.recorded(call, ChannelRang)).channel
        self.away()
        self.assertEqual(await self.hang_up(CallUUID=channel), EXECUTED)
        await world.passes(10)
        self.assertEqual(await world.channels(), [channel])
        world.network.refusing = False
        await world.closed(call, 40)
        self.assertEqual((await world.told("hangup"))["HangupCause"], "NORMAL_CLEARING")
        await world.passes(0.5)
        self.assertEqual(await world.channels(), [])

    async def test_one_that_goes_on_all_the_time_is_hung_up_all_the_same(self):
        world = self.world
        call = await world.call("3")
        await world.recorded(call, CallbackDelivered)
        log, tries = world.process.log, []

        def append(stream, events, *more, **named):
            if isinstance(events[0], HangupRequested):
                tries.append(named["expected"])
                if named["expected"] is not None:
                    return fail(Conflict("for the test"))
            return real(stream, events, *more, **named)

        real = log.append
        with mock.patch.object(log, "append", append):
            self.assertEqual(await self.hang_up(RequestUUID=call), EXECUTED)
        self.assertEqual((len(tries), tries[-1]), (5, None))
        await world.closed(call)

    async def test_one_that_ends_meanwhile_is_not_changed_by_it(self):
        world = self.world
        call = await world.call("701")
        (ended,) = [each for each in await world.closed(call) if isinstance(each, CallEnded)]
        world.process.log.append(call, [HangupRequested(cause="USER_BUSY")])
        await world.recorded(call, HangupRequested)
        await world.passes(5)
        reading = world.process.log.call(call)
        await world.until(lambda: reading.called)
        row = await reading
        self.assertEqual((row.open, row.columns["cause"]), (False, ended.cause))
        self.assertEqual(await self.hang_up(RequestUUID=call), FAILED)

    async def test_a_cause_on_record_that_no_switch_knows_hangs_up_all_the_same(self):
        world = self.world
        for cause in ("NO SUCH\nCAUSE", "SO_LONG" * 1000, "NO_SUCH_CAUSE"):
            world.application.received.clear()
            call = await world.call("3")
            await world.recorded(call, ChannelRang)
            world.process.log.append(call, [HangupRequested(cause=cause)])
            await world.closed(call, 3)
            self.assertEqual((await world.told("hangup"))["HangupCause"], "NORMAL_CLEARING")
        self.nothing_is_left()

    async def test_a_log_that_cannot_be_written_answers_503_and_changes_nothing(self):
        world = self.world
        call = await world.call("3")
        channel = (await world.recorded(call, ChannelRang)).channel
        await world.passes(1)
        for why in (Unwritable("disk full"), Conflict("always")):
            with mock.patch.object(
                world.process.log, "append", side_effect=lambda *_, why=why, **__: fail(why)
            ):
                answer = world.process.post("/v0.1/HangupCall/", {"RequestUUID": call})
                await world.until(lambda answer=answer: answer.called)
            status, body = await answer
            self.assertEqual((status, body["Success"]), (503, False))
            self.assertIn("cannot be written now", body["Message"])
        await world.passes(30)
        self.assertEqual(await world.channels(), [channel])
        self.flushLoggedErrors()

    async def test_what_is_wrong_with_the_request_is_said_as_clients_of_this_api_expect(self):
        for params, message in (
            ({}, "CallUUID or RequestUUID Parameter must be present"),
            ({"CallUUID": "", "RequestUUID": ""}, "CallUUID or RequestUUID Parameter must be present"),
            (
                {"CallUUID": "a", "RequestUUID": "b"},
                "Both CallUUID and RequestUUID Parameters cannot be present",
            ),
        ):
            with self.subTest(params=params):
                self.assertEqual(await self.hang_up(**params), {"Success": False, "Message": message})

    async def test_what_is_unknown_cannot_be_hung_up(self):
        for name in ("CallUUID", "RequestUUID"):
            for value in ("7b1d6a52-3c1b-4f0e-8f3e-1de0b7a1c0aa", "a\r\nb", "\0", "all", "é"):
                with self.subTest(name=name, value=value):
                    self.assertEqual(await self.hang_up(**{name: value}), FAILED)
        self.assertEqual(self.world.disk.streams, {})

    async def test_the_engine_says_that_there_is_no_such_call(self):
        asked = self.world.process.server.engine.hang_up("NORMAL_CLEARING", channel="nobody's")
        with self.assertRaises(NoSuchCall):
            await asked

    async def test_a_limit_that_was_reached_first_gives_the_cause(self):
        world = self.world
        call = await world.call("3", HangupOnRing="2")
        await world.recorded(call, ChannelRang)
        with mock.patch.object(emulated, "COMMANDS", {**emulated.COMMANDS, "uuid_kill": lambda *_: "-ERR\n"}):
            await world.passes(2.5)
            self.assertEqual(await self.hang_up(RequestUUID=call), EXECUTED)
        await world.closed(call)
        self.assertEqual((await world.told("hangup"))["HangupCause"], "ORIGINATOR_CANCEL")
        self.assertEqual(len([each for each in world.events(call) if isinstance(each, CallEnded)]), 1)


class Form(SynchronousTestCase):
    def test_names_one_of_the_two(self):
        self.assertEqual(hangup_wanted({"RequestUUID": "r", "Other": "x"}), ("r", ""))
        self.assertEqual(hangup_wanted({"CallUUID": "c", "RequestUUID": ""}), ("", "c"))
        with self.assertRaises(BadForm):
            hangup_wanted({})
