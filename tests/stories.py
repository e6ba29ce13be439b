"""The story of a call, from POST to the hangup callback, faults included.

The stories are told once and played twice: on the emulator (tests/test_stories.py) and on a real
FreeSWITCH (tests/freeswitch/).  They use nothing but what a `World` offers.
"""

from plivotx.events import (
    AttemptFailed,
    AttemptStarted,
    CallEnded,
    ChannelAnswered,
    ChannelEnded,
    ChannelRang,
    LimitReached,
    ScriptEnded,
    StepEnded,
    StepStarted,
    VerbEnded,
)
from plivotx.testing import APPLICATION, Answer, World

STAYS = b"<Response><Wait length='600'/></Response>"


class Stories:
    """To be mixed into a TestCase that makes ``self.world``."""

    world: World

    def kinds(self, stream: str) -> list[str]:
        return [type(each).__name__ for each in self.world.events(stream)]

    def elapsed(self, stream: str, first: type, last: type) -> float:
        """Seconds between two events, on the switch's clock."""
        at = {}
        for each in self.world.events(stream):
            if type(each) in (first, last):
                at.setdefault(type(each), each.at)
        return (at[last] - at[first]) / 1e6

    def about(self, seconds: float, wanted: float, within: float) -> None:
        self.assertTrue(abs(seconds - wanted) <= within, f"{seconds} s, not {wanted} s")

    # -- ordinary calls

    async def test_a_call_rings_is_answered_runs_its_script_and_is_hung_up(self):
        world = self.world
        world.application.answers["answer"] = Answer(
            body=b"<Response><Wait length='1'/><Wait length='1'/></Response>"
        )
        call = await world.call("101", From="+1000", AccountSID="customer 7")
        await world.closed(call)
        channel = world.events(call)[1].channel
        self.assertEqual(
            world.application.told("ring"),
            [
                {
                    "To": "101",
                    "From": "1000",
                    "Direction": "outbound",
                    "RequestUUID": call,
                    "AccountSID": "customer 7",
                    "CallUUID": channel,
                    "CallStatus": "ringing",
                }
            ],
        )
        (asked,) = world.application.told("answer")
        self.assertEqual((asked["CallUUID"], asked["CallStatus"]), (channel, "in-progress"))
        (hangup,) = world.application.told("hangup")
        self.assertEqual(
            (hangup["CallUUID"], hangup["HangupCause"], hangup["CallStatus"]),
            (channel, "NORMAL_CLEARING", "completed"),
        )
        self.assertEqual(
            [each.name for each in world.events(call) if isinstance(each, VerbEnded)], ["Wait", "Wait"]
        )
        self.about(self.elapsed(call, ChannelAnswered, ChannelEnded), 2.1, within=0.5)
        self.assertEqual(await world.channels(), [])

    async def test_the_far_end_hangs_up(self):
        call = await self.world.call("702")
        await self.world.closed(call)
        self.assertEqual((await self.world.told("hangup"))["HangupCause"], "NORMAL_CLEARING")

    async def test_early_media_counts_as_ringing(self):
        call = await self.world.call("202", TimeLimit="1")
        events = await self.world.closed(call)
        (rang,) = [each for each in events if isinstance(each, ChannelRang)]
        self.assertTrue(rang.early_media)
        self.assertEqual(len(self.world.application.told("ring")), 1)

    async def test_hangup_ends_the_call_with_its_reason(self):
        self.world.application.answers["answer"] = Answer(
            body=b"<Response><Wait/><Hangup reason='busy'/><Wait/></Response>"
        )
        call = await self.world.call("100")
        await self.world.closed(call)
        self.assertEqual((await self.world.told("hangup"))["HangupCause"], "USER_BUSY")

    async def test_without_ring_url_and_hangup_url_the_answer_url_hears_of_the_end(self):
        call = await self.world.call("100", RingUrl="", HangupUrl="", TimeLimit="1")
        await self.world.closed(call)
        self.assertEqual(self.world.application.told("ring"), [])
        statuses = [each["CallStatus"] for each in self.world.application.told("answer")]
        self.assertEqual(statuses, ["in-progress", "completed"])

    # -- calls that fail

    async def fails(self, to: str, cause: str, **params: str) -> None:
        call = await self.world.call(to, **params)
        events = await self.world.closed(call)
        (hangup,) = self.world.application.told("hangup")
        self.assertEqual((hangup["HangupCause"], hangup["CallUUID"]), (cause, ""))
        self.assertEqual(self.world.application.told("ring"), [])
        self.assertEqual(len([each for each in events if isinstance(each, AttemptStarted)]), 1)

    async def test_a_busy_far_end(self):
        await self.fails("486", "USER_BUSY")

    async def test_a_far_end_that_rejects(self):
        await self.fails("603", "CALL_REJECTED")

    async def test_a_number_that_does_not_exist(self):
        await self.fails("404", "UNALLOCATED_NUMBER")

    async def test_a_gateway_that_is_congested(self):
        await self.fails("503", "NORMAL_TEMPORARY_FAILURE")

    async def test_a_gateway_behind_which_nobody_is(self):
        await self.fails("100", "NORMAL_TEMPORARY_FAILURE", Gateways="sofia/gateway/dead/")

    async def test_a_gateway_that_the_switch_does_not_know(self):
        await self.fails("100", "INVALID_GATEWAY", Gateways="sofia/gateway/nosuch/")

    async def test_a_cause_to_order(self):
        await self.fails("NO_ROUTE_TRANSIT_NET", "NO_ROUTE_TRANSIT_NET", Gateways="error/")

    # -- several gateways

    def attempts(self, stream: str) -> list[str]:
        return [each.gateway for each in self.world.events(stream) if isinstance(each, AttemptStarted)]

    async def test_gateways_are_tried_in_order_until_one_rings(self):
        world = self.world
        busy, good = f"{world.gateway}486", world.gateway
        call = await world.call(
            "101", Gateways=f"sofia/gateway/dead/,{busy},{good},{busy}", GatewayRetries="1,2", TimeLimit="1"
        )
        events = await world.closed(call)
        self.assertEqual(self.attempts(call), ["sofia/gateway/dead/", busy, busy, good])
        failures = [each for each in events if isinstance(each, AttemptFailed)]
        self.assertEqual(
            [each.cause for each in failures], ["NORMAL_TEMPORARY_FAILURE", "USER_BUSY", "USER_BUSY"]
        )
        self.assertIn(f"; {good} is tried next", failures[-1].why)
        (ring,) = world.application.told("ring")
        (hangup,) = world.application.told("hangup")
        channel = next(each.channel for each in events if isinstance(each, ChannelAnswered))
        self.assertEqual((ring["CallUUID"], hangup["CallUUID"]), (channel, channel))
        self.assertEqual(hangup["HangupCause"], "ALLOTTED_TIMEOUT")
        self.assertEqual(await world.channels(), [])

    async def test_when_all_gateways_fail_the_last_ones_cause_is_told_once(self):
        gateways = f"{self.world.gateway}486,error/NO_ROUTE_TRANSIT_NET,{self.world.gateway}603"
        call = await self.world.call("1", Gateways=gateways)
        await self.world.closed(call)
        (hangup,) = self.world.application.told("hangup")
        self.assertEqual((hangup["HangupCause"], hangup["CallUUID"]), ("CALL_REJECTED", ""))
        self.assertEqual(len(self.attempts(call)), 3)

    async def test_one_attempt_is_made_at_a_time(self):
        world = self.world
        call = await world.call("404", Gateways=",".join([world.gateway] * 5))
        events = await world.closed(call)
        order = [type(each).__name__ for each in events if isinstance(each, AttemptStarted | AttemptFailed)]
        self.assertEqual(order, ["AttemptStarted", "AttemptFailed"] * 5)

    async def test_an_answer_without_ringing_ends_the_list(self):
        world = self.world
        call = await world.call("702", Gateways=f"{world.gateway},{world.gateway}")
        await world.closed(call)
        self.assertEqual(len(self.attempts(call)), 1)
        self.assertEqual(world.application.told("ring"), [])
        self.assertEqual(len(world.application.told("hangup")), 1)

    async def test_early_media_ends_the_list(self):
        world = self.world
        call = await world.call("205", Gateways=f"{world.gateway},{world.gateway}", GatewayTimeouts="2")
        await world.closed(call)
        self.assertEqual(len(self.attempts(call)), 1)
        self.assertEqual((await world.told("hangup"))["HangupCause"], "NO_ANSWER")

    async def test_a_far_end_that_rings_and_does_not_answer_in_time_is_given_up(self):
        world = self.world
        call = await world.call("3", Gateways=f"{world.gateway},{world.gateway}", GatewayTimeouts="3,9")
        await world.closed(call)
        self.assertEqual((await world.told("hangup"))["HangupCause"], "NO_ANSWER")
        self.assertEqual(len(self.attempts(call)), 1)
        self.about(self.elapsed(call, ChannelRang, ChannelEnded), 2.5, within=0.7)

    async def test_the_codecs_of_a_gateway_are_offered_in_their_order(self):
        call = await self.world.call("100", GatewayCodecs="'PCMA,PCMU'", TimeLimit="2")
        await self.world.recorded(call, ChannelAnswered)
        (channel,) = await self.world.channels()
        codecs = await self.world.variable(channel, "absolute_codec_string")
        self.assertEqual(codecs, "^^:PCMA:PCMU")
        self.assertEqual(await self.world.variable(channel, "read_codec"), "PCMA")
        await self.world.closed(call)

    async def test_variables_of_the_client_are_on_the_channel(self):
        call = await self.world.call(
            "100",
            ExtraDialString=r"bridge_early_media=true,mine='it is, x',sip_h_X-A=1\,2,sip_h_Diversion=<sip:+1@a>;x=1",
            TimeLimit="2",
        )
        await self.world.recorded(call, ChannelAnswered)
        (channel,) = await self.world.channels()
        for name, value in {
            "bridge_early_media": "true",
            "mine": "it is, x",
            "sip_h_X-A": "1,2",
            "sip_h_Diversion": "<sip:+1@a>;x=1",
        }.items():
            self.assertEqual(await self.world.variable(channel, name), value)
        await self.world.closed(call)

    async def test_the_name_of_the_caller_is_sent_and_told(self):
        call = await self.world.call("100", CallerName="Zoë, O'Neill", TimeLimit="2")
        asked = await self.world.told("answer")
        self.assertEqual(asked["CallerName"], "Zoë, O'Neill")
        (channel,) = await self.world.channels()
        self.assertEqual(await self.world.variable(channel, "origination_caller_id_name"), "Zoë, O'Neill")
        await self.world.closed(call)

    # -- digits

    async def test_digits_are_sent_at_the_answer(self):
        call = await self.world.call("6", SendDigits="1w2W#@100", TimeLimit="6")
        events = await self.world.closed(call)
        heard = await self.world.heard(call)
        self.assertEqual("".join(digit for digit, _ in heard), "12#")
        answer = next(each.at for each in events if isinstance(each, ChannelAnswered))
        self.assertTrue(all(at > answer for _, at in heard), heard)

    async def test_digits_are_sent_in_early_media_if_that_is_asked_for(self):
        call = await self.world.call("206", SendDigits="45@100", SendOnPreanswer="true", TimeLimit="2")
        events = await self.world.closed(call)
        heard = await self.world.heard(call)
        self.assertEqual("".join(digit for digit, _ in heard), "45")
        answer = next(each.at for each in events if isinstance(each, ChannelAnswered))
        self.assertTrue(all(at < answer for _, at in heard), heard)
        (hangup,) = self.world.application.told("hangup")
        self.assertEqual(hangup["HangupCause"], "ALLOTTED_TIMEOUT")

    async def test_digits_for_early_media_are_sent_at_the_answer_where_there_is_none(self):
        call = await self.world.call("6", SendDigits="7@100", SendOnPreanswer="true", TimeLimit="2")
        await self.world.closed(call)
        self.assertEqual("".join(digit for digit, _ in await self.world.heard(call)), "7")

    async def test_digits_for_early_media_do_not_keep_a_far_end_ringing_for_ever(self):
        call = await self.world.call(
            "230", SendDigits="7@100", SendOnPreanswer="true", GatewayTimeouts="3", HangupOnRing=""
        )
        await self.world.closed(call)
        self.assertEqual((await self.world.told("hangup"))["HangupCause"], "NO_ANSWER")
        self.about(self.elapsed(call, ChannelRang, ChannelEnded), 3, within=0.5)

    async def test_a_script_waits_for_the_answer_although_the_channel_is_parked_before(self):
        self.world.application.answers["answer"] = Answer(body=b"<Response><Wait/></Response>")
        call = await self.world.call("203", SendDigits="7@100", SendOnPreanswer="true")
        events = await self.world.closed(call)
        self.about(self.elapsed(call, ChannelAnswered, ChannelEnded), 1.1, within=0.5)
        kinds = [type(each) for each in events]
        self.assertLess(kinds.index(ChannelAnswered), kinds.index(StepStarted))

    # -- limits

    async def test_hangup_on_ring_ends_a_call_that_only_rings(self):
        call = await self.world.call("3", HangupOnRing="2")
        await self.world.closed(call)
        self.assertEqual((await self.world.told("hangup"))["HangupCause"], "ORIGINATOR_CANCEL")
        self.about(self.elapsed(call, ChannelRang, ChannelEnded), 2.1, within=0.3)

    async def test_hangup_on_ring_of_nothing_ends_it_at_once(self):
        call = await self.world.call("3", HangupOnRing="0")
        await self.world.closed(call)
        self.about(self.elapsed(call, ChannelRang, ChannelEnded), 0.1, within=0.3)
        self.assertEqual(len(self.world.application.told("ring")), 1)

    async def test_hangup_on_ring_ends_a_call_that_was_answered_meanwhile(self):
        call = await self.world.call("101", HangupOnRing="3")
        await self.world.closed(call)
        self.assertEqual((await self.world.told("hangup"))["HangupCause"], "ORIGINATOR_CANCEL")
        self.assertIn("ChannelAnswered", self.kinds(call))

    async def test_hangup_on_ring_never_runs_for_a_call_that_did_not_ring(self):
        # The switch's own limit would come 5 s after ours.
        call = await self.world.call("6", HangupOnRing="0", TimeLimit="8")
        await self.world.closed(call)
        self.assertEqual((await self.world.told("hangup"))["HangupCause"], "ALLOTTED_TIMEOUT")

    async def test_time_limit_ends_an_answered_call(self):
        call = await self.world.call("101", TimeLimit="3")
        await self.world.closed(call)
        self.assertEqual((await self.world.told("hangup"))["HangupCause"], "ALLOTTED_TIMEOUT")
        self.about(self.elapsed(call, ChannelAnswered, ChannelEnded), 3.1, within=0.3)

    # -- an application that does not do its part

    async def test_an_application_without_a_document_ends_the_call(self):
        self.world.application.answers["answer"] = Answer(status=500)
        call = await self.world.call("100")
        await self.world.closed(call)
        self.assertEqual((await self.world.told("hangup"))["HangupCause"], "NETWORK_OUT_OF_ORDER")
        self.assertEqual(len(self.world.application.told("answer")), 3)

    async def test_a_broken_document_ends_the_call_and_the_log_says_where(self):
        self.world.application.answers["answer"] = Answer(body=b"<Response>\n <Wait length='x'/></Response>")
        call = await self.world.call("100")
        events = await self.world.closed(call)
        self.assertEqual((await self.world.told("hangup"))["HangupCause"], "PROTOCOL_ERROR")
        (end,) = [each for each in events if isinstance(each, ScriptEnded)]
        self.assertIn("line 2, column 2: Wait: attribute length='x' is wrong", end.why)

    async def test_a_callback_that_fails_is_tried_again_with_the_same_key(self):
        answers = iter([Answer(status=500), Answer(broken=True), Answer()])
        self.world.application.answers["hangup"] = lambda _: next(answers)
        call = await self.world.call("486")
        await self.world.closed(call)
        tries = [each for each in self.world.application.received if each.path == "hangup"]
        self.assertEqual(
            [each.headers.getRawHeaders("X-PLIVOTX-DELIVERY") for each in tries], [[f"{call}/hangup"]] * 3
        )

    # -- the server dies

    async def test_killed_while_ringing_and_started_again_the_call_goes_on(self):
        world = self.world
        call = await world.call("104", TimeLimit="3")
        await world.told("ring")
        world.kill()
        await world.passes(1)
        world.start()
        await world.closed(call)
        self.assertEqual((await world.told("hangup"))["HangupCause"], "ALLOTTED_TIMEOUT")
        self.assertEqual(len(world.application.told("answer")), 1)
        self.about(self.elapsed(call, ChannelAnswered, ChannelEnded), 3.1, within=0.5)

    async def test_killed_while_dialling_the_answer_is_found_out(self):
        world = self.world
        call = await world.call("101", TimeLimit="5")
        await world.recorded(call, AttemptStarted)
        await world.passes(0.2)
        world.kill()
        await world.passes(2.5)
        world.start()
        await world.closed(call)
        self.assertEqual(len(world.application.told("ring")), 1)
        self.assertEqual((await world.told("hangup"))["HangupCause"], "ALLOTTED_TIMEOUT")
        self.about(self.elapsed(call, ChannelAnswered, ChannelEnded), 5.1, within=0.7)

    async def test_killed_between_two_gateways_the_next_one_is_dialled(self):
        world = self.world
        # the first one is refused while nobody is there
        slow = f"{world.gateway}486"
        call = await world.call("101", Gateways=f"{slow},{world.gateway}", TimeLimit="2")
        await world.recorded(call, AttemptStarted)
        await world.until(lambda: len(self.attempts(call)) == 1)
        await world.passes(0.01)
        world.kill()
        await world.passes(1.5)
        world.start()
        events = await world.closed(call)
        self.assertEqual(self.attempts(call), [slow, world.gateway])
        self.assertEqual(len([each for each in events if isinstance(each, AttemptFailed)]), 1)
        self.assertEqual((await world.told("hangup"))["HangupCause"], "ALLOTTED_TIMEOUT")

    async def test_killed_during_the_call_the_time_limit_still_ends_it_and_tells_once(self):
        world = self.world
        call = await world.call("100", TimeLimit="6")
        await world.told("answer")
        await world.passes(1)
        world.kill()
        await world.passes(2)
        world.start()
        await world.closed(call)
        (hangup,) = world.application.told("hangup")
        self.assertEqual(hangup["HangupCause"], "ALLOTTED_TIMEOUT")
        self.about(self.elapsed(call, ChannelAnswered, ChannelEnded), 6.1, within=0.5)

    async def test_a_limit_that_passed_while_nobody_was_there_is_kept_at_the_start(self):
        world = self.world
        call = await world.call("100", TimeLimit="3")
        await world.told("answer")
        world.kill()
        await world.passes(4.5)
        world.start()
        await world.closed(call)
        self.assertEqual((await world.told("hangup"))["HangupCause"], "ALLOTTED_TIMEOUT")

    async def test_killed_while_ringing_and_never_started_the_switch_ends_the_call_itself(self):
        world = self.world
        call = await world.call("3", HangupOnRing="1")
        await world.recorded(call, ChannelRang)
        world.kill()
        await world.passes(3)
        self.assertEqual(len(await world.channels()), 1)
        await world.passes(5)
        self.assertEqual(await world.channels(), [])
        world.start()  # and what it kept of the end is told
        events = await world.closed(call)
        (end,) = [each for each in events if isinstance(each, ChannelEnded)]
        self.assertEqual((end.cause, end.found), ("ORIGINATOR_CANCEL", "kept"))
        self.assertEqual((await world.told("hangup"))["HangupCause"], "ORIGINATOR_CANCEL")

    async def test_killed_during_the_call_and_never_started_the_switch_ends_the_call_itself(self):
        world = self.world
        call = await world.call("100", TimeLimit="2")
        await world.told("answer")
        world.kill()
        await world.passes(4)
        self.assertEqual(len(await world.channels()), 1)
        await world.passes(5)
        self.assertEqual(await world.channels(), [])
        world.start()
        await world.closed(call)
        self.assertEqual((await world.told("hangup"))["HangupCause"], "ALLOTTED_TIMEOUT")

    async def test_a_far_end_that_hung_up_while_nobody_was_there_is_found_out(self):
        world = self.world
        call = await world.call("702")
        await world.told("answer")
        world.kill()
        await world.passes(4)
        world.start()
        await world.closed(call)
        (hangup,) = world.application.told("hangup")
        self.assertEqual(hangup["HangupCause"], "NORMAL_CLEARING")

    async def test_killed_in_a_wait_the_caller_waits_on_and_what_follows_runs_once(self):
        world = self.world
        world.application.answers["answer"] = Answer(
            body=b"<Response><Wait length='4'/><Wait length='1'/></Response>"
        )
        call = await world.call("100")
        await world.recorded(call, StepStarted)
        await world.passes(1)
        world.kill()
        await world.passes(1)
        world.start()
        events = await world.closed(call)
        self.assertEqual([each.key for each in events if isinstance(each, StepStarted)], ["1/0/1", "1/1/1"])
        self.assertEqual([each.key for each in events if isinstance(each, StepEnded)], ["1/0/1", "1/1/1"])
        self.about(self.elapsed(call, ChannelAnswered, ChannelEnded), 5.1, within=0.6)

    async def test_a_wait_that_ended_while_nobody_was_there_is_not_run_again(self):
        world = self.world
        world.application.answers["answer"] = Answer(
            body=b"<Response><Wait length='2'/><Wait length='1'/></Response>"
        )
        call = await world.call("100")
        await world.recorded(call, StepStarted)
        await world.passes(0.5)
        world.kill()
        await world.passes(4)
        world.start()
        events = await world.closed(call)
        self.assertEqual([each.key for each in events if isinstance(each, StepEnded)], ["1/0/1", "1/1/1"])
        self.about(self.elapsed(call, ChannelAnswered, ChannelEnded), 6, within=1)

    async def test_a_callback_owed_when_the_server_died_is_delivered_by_the_next(self):
        world = self.world
        world.application.answers["hangup"] = Answer(never=True)
        call = await world.call("486")
        await world.recorded(call, CallEnded)
        await world.told("hangup")
        world.kill()
        world.application.answers["hangup"] = Answer()
        world.start()
        await world.closed(call)
        first, second = world.application.told("hangup")
        self.assertEqual(first, second)

    async def test_several_calls_are_carried_over_a_restart(self):
        world = self.world
        calls = [await world.call(to, TimeLimit="4") for to in ("100", "101", "102", "103", "486", "3")]
        await world.passes(1.5)
        world.kill()
        world.start()
        for call in calls[:-1]:
            await world.closed(call)
        causes = {each["RequestUUID"]: each["HangupCause"] for each in world.application.told("hangup")}
        self.assertEqual([causes[call] for call in calls[:-1]], ["ALLOTTED_TIMEOUT"] * 4 + ["USER_BUSY"])
        self.assertEqual(len(await world.channels()), 1)

    async def test_limits_are_decided_once(self):
        call = await self.world.call("101", HangupOnRing="4", TimeLimit="1")
        events = await self.world.closed(call)
        self.assertEqual(len([each for each in events if isinstance(each, LimitReached)]), 1)
        self.assertEqual(len([each for each in events if isinstance(each, CallEnded)]), 1)
        self.assertEqual([each.url for each in self.world.application.received][-1], f"{APPLICATION}/hangup/")
