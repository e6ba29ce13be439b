"""The stories of calls that a client hangs up, at each point of their way.

Played on the emulator (tests/test_hangup.py) and on a real FreeSWITCH (tests/freeswitch/).
"""

from typing import Any

from plivotx.events import (
    AttemptStarted,
    CallEnded,
    ChannelAnswered,
    ChannelRang,
    Event,
    HangupRequested,
    StepStarted,
)
from plivotx.testing import Answer, World

STAYS = Answer(body=b"<Response><Wait length='600'/></Response>")
DEAD = "sofia/gateway/dead/"
EXECUTED = {"Success": True, "Message": "Hangup Call Executed"}
FAILED = {"Success": False, "Message": "Hangup Call Failed"}


class HangupStories:
    """To be mixed into a TestCase that makes ``self.world``."""

    world: World

    async def hang_up(self, **params: str) -> dict[str, Any]:
        return await self.world.post("/v0.1/HangupCall/", **params)

    async def ended(self, call: str, channel: str, attempts: int = 1, *, deaths: int = 0) -> list[Event]:
        """The call ends as one that was hung up, with no attempt beyond those there were.

        A server that dies may have told so already and not have it on record: then the next one tells it again.
        """
        world = self.world
        events = await world.closed(call, 20)
        hangup, *again = world.application.told("hangup")
        self.assertLessEqual(len(again), deaths)
        self.assertTrue(all(each == hangup for each in again))
        self.assertEqual((hangup["HangupCause"], hangup["CallUUID"]), ("NORMAL_CLEARING", channel))
        self.assertEqual(len([each for each in events if isinstance(each, AttemptStarted)]), attempts)
        (asked,) = [each for each in events if isinstance(each, HangupRequested)]
        self.assertEqual(asked.cause, "NORMAL_CLEARING")
        (end,) = [each for each in events if isinstance(each, CallEnded)]
        self.assertEqual(end.cause, "NORMAL_CLEARING")
        await self.nobody_is_up()
        return events

    async def nobody_is_up(self) -> None:
        await self.world.passes(0.5)  # the switch forgets a channel a little after its end
        self.assertEqual(await self.world.channels(), [])

    # -- each state of a call

    async def test_one_that_was_only_accepted_may_be_dialled_or_not_and_ends(self):
        world = self.world
        call = await world.call("3", Gateways=f"{world.gateway},{world.gateway}")
        self.assertEqual(await self.hang_up(RequestUUID=call), EXECUTED)
        events = await world.closed(call, 20)
        self.assertLessEqual(len([each for each in events if isinstance(each, AttemptStarted)]), 1)
        self.assertEqual((await world.told("hangup"))["HangupCause"], "NORMAL_CLEARING")
        await self.nobody_is_up()

    async def test_one_that_rings(self):
        world = self.world
        call = await world.call("3", Gateways=f"{world.gateway},{world.gateway}")
        ring = await world.told("ring")
        self.assertEqual(await self.hang_up(RequestUUID=call), EXECUTED)
        await self.ended(call, ring["CallUUID"])
        (attempt,) = (await world.get(f"/v0.1/Calls/{call}/"))["Call"]["Attempts"]
        self.assertEqual(attempt["HungUpBy"], "plivotx")

    async def test_one_that_rings_by_its_call_uuid(self):
        world = self.world
        call = await world.call("3")
        ring = await world.told("ring")
        self.assertEqual(await self.hang_up(CallUUID=ring["CallUUID"]), EXECUTED)
        await self.ended(call, ring["CallUUID"])

    async def test_one_that_gives_early_media(self):
        world = self.world
        call = await world.call("260")
        rang = await world.recorded(call, ChannelRang)
        self.assertEqual(await self.hang_up(RequestUUID=call), EXECUTED)
        await self.ended(call, rang.channel)

    async def test_one_that_was_answered_while_its_script_runs(self):
        world = self.world
        world.application.answers["answer"] = STAYS
        call = await world.call("100", TimeLimit="300")
        answered = await world.recorded(call, ChannelAnswered)
        await world.recorded(call, StepStarted)
        self.assertEqual(await self.hang_up(RequestUUID=call), EXECUTED)
        await self.ended(call, answered.channel)

    async def test_one_that_was_answered_by_its_call_uuid(self):
        world = self.world
        world.application.answers["answer"] = STAYS
        call = await world.call("100")
        channel = (await world.told("answer"))["CallUUID"]
        self.assertEqual(await self.hang_up(CallUUID=channel), EXECUTED)
        await self.ended(call, channel)

    async def test_one_that_waits_for_its_document(self):
        world = self.world
        world.application.answers["answer"] = Answer(never=True)
        call = await world.call("100")
        channel = (await world.told("answer"))["CallUUID"]
        self.assertEqual(await self.hang_up(RequestUUID=call), EXECUTED)
        await self.ended(call, channel)

    # -- what there is nothing to hang up of

    async def test_one_that_has_ended_cannot_be_hung_up(self):
        world = self.world
        call = await world.call("486")
        events = await world.closed(call)
        self.assertEqual(await self.hang_up(RequestUUID=call), FAILED)
        self.assertEqual(world.events(call), events)

    async def test_one_that_has_ended_and_is_not_closed_cannot_be_hung_up(self):
        world = self.world
        world.application.answers["hangup"] = Answer(never=True)
        call = await world.call("700")
        # so soon that a real switch does not always tell of the answer
        channel = (await world.recorded(call, CallEnded)).call_uuid
        self.assertTrue(channel)
        for params in ({"RequestUUID": call}, {"CallUUID": channel}):
            self.assertEqual(await self.hang_up(**params), FAILED)
        self.assertEqual([each for each in world.events(call) if isinstance(each, HangupRequested)], [])

    async def test_a_channel_of_an_attempt_that_is_over_cannot_be_hung_up_and_the_call_goes_on(self):
        world = self.world
        call = await world.call("3", Gateways=f"{DEAD},{world.gateway}")
        rang = await world.recorded(call, ChannelRang)
        first = next(each.channel for each in world.events(call) if isinstance(each, AttemptStarted))
        self.assertNotEqual(first, rang.channel)
        self.assertEqual(await self.hang_up(CallUUID=first), FAILED)
        self.assertEqual(await world.channels(), [rang.channel])
        self.assertEqual(await self.hang_up(CallUUID=rang.channel), EXECUTED)
        await self.ended(call, rang.channel, attempts=2)

    async def test_asked_twice_is_recorded_once(self):
        world = self.world
        call = await world.call("3")
        ring = await world.told("ring")
        both = [self.world.process.post("/v0.1/HangupCall/", {"RequestUUID": call}) for _ in range(2)]
        await world.until(lambda: all(each.called for each in both))
        self.assertEqual([await each for each in both], [(200, EXECUTED)] * 2)
        await self.ended(call, ring["CallUUID"])

    # -- the server dies

    async def test_killed_as_soon_as_it_was_answered_the_next_one_hangs_up(self):
        world = self.world
        call = await world.call("3", Gateways=f"{world.gateway},{world.gateway}")
        ring = await world.told("ring")
        self.assertEqual(await self.hang_up(RequestUUID=call), EXECUTED)
        world.kill()
        await world.passes(1)
        world.start()
        await self.ended(call, ring["CallUUID"], deaths=1)

    async def test_killed_in_the_middle_of_a_script_the_next_one_hangs_up(self):
        world = self.world
        world.application.answers["answer"] = STAYS
        call = await world.call("100")
        answered = await world.recorded(call, ChannelAnswered)
        await world.recorded(call, StepStarted)
        self.assertEqual(await self.hang_up(CallUUID=answered.channel), EXECUTED)
        world.kill()
        world.start()
        await self.ended(call, answered.channel, deaths=1)
