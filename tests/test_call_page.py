"""The call page, row by row: what no other test shows of it, and the lists of where each thing is shown.

`ROWS` are the rules of POST /v0.1/Call/, `PARAMETERS` what it takes, `TOLD` what the application is told, and
`DEFECTS` what the v0.1 server did wrong and is not to come back.  ``forms.Digits.test_x`` is that test in
tests/test_forms.py.
"""

from importlib import import_module
from itertools import pairwise

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from plivotx.config import Config
from plivotx.emulator.farends import Step, script
from plivotx.events import (
    AttemptStarted,
    CallbackFailed,
    CallbackGivenUp,
    CallEnded,
    ChannelAnswered,
    ChannelEnded,
    ChannelRang,
    LimitReached,
)
from plivotx.handlers.switch import dialling
from plivotx.rest.forms import call_requested
from plivotx.testing import SELF, Answer, EmulatedWorld
from tests.test_callbacks import ANSWERED, ENDED, GONE, LOADED, RANG, STARTED, UUID, call

BUSY = (Step(0, "refuse", "USER_BUSY"),)
ORDERS = (
    {},
    {"swap": 1.0},
    {"job_delay": 3.0},
    {"swap": 1.0, "job_delay": 3.0, "twice": {"*": 1.0}},
    {"lose": {"BACKGROUND_JOB": 1.0}},
)
"""Of the failed job and the end of its channel: either first, late, twice, or one alone."""
FOREIGN = "Zoë مرحبا 电话 📞"


def of(events, kind):
    """Those of one kind."""
    return [each for each in events if isinstance(each, kind)]


class Calls(TestCase):
    """Each in a world of its own."""

    def start(self, config=None):
        self.world = EmulatedWorld(config)
        self.world.start()
        self.addCleanup(self.world.end)
        return self.world

    def gateways(self, *behaviours):
        """The value of Gateways for far ends that do this, in order."""
        names = [f"g{number}" for number in range(1, len(behaviours) + 1)]
        self.world.switch.gateways.update(zip(names, behaviours, strict=True))
        return ",".join(f"sofia/gateway/{name}/" for name in names)

    def one_at_a_time(self):
        """Fail if a channel was dialled while the one before was up; how many there were."""
        ends = {each.uuid: each.at for each in self.world.switch.ended}
        dialled = self.world.switch.dialled
        for earlier, later in pairwise(dialled):
            self.assertLessEqual(ends[earlier.uuid], later.at)
        return len(dialled)

    def seconds(self, events, first, last):
        """Seconds between the first event of one kind and the first of another, on the switch's clock."""
        return (of(events, last)[0].at - of(events, first)[0].at) / 1e6


class Attempts(Calls):
    async def test_a_far_end_that_is_busy_after_it_rang_ends_the_list(self):
        world = self.start()
        for progress in ("ring", "early"):
            world.application.received.clear()
            world.switch.dialled.clear()
            rings = (Step(0, progress), Step(2, "refuse", "USER_BUSY"))
            call = await world.call("1", Gateways=self.gateways(rings, script), GatewayRetries="3")
            await world.closed(call)
            self.assertEqual(len(world.switch.dialled), 1)
            (ring,) = world.application.told("ring")
            (hangup,) = world.application.told("hangup")
            self.assertEqual((hangup["HangupCause"], hangup["CallUUID"]), ("USER_BUSY", ring["CallUUID"]))

    async def test_each_attempt_has_the_time_out_and_the_codecs_of_its_gateway(self):
        world = self.start()
        call = await world.call(
            "1",
            Gateways=self.gateways((), (), BUSY),
            GatewayTimeouts="3,5",
            GatewayCodecs="'PCMA,PCMU',PCMU",
            GatewayRetries="2",
        )
        await world.closed(call)
        dialled = world.switch.dialled
        self.assertEqual([each.variables["originate_timeout"] for each in dialled], ["3", "3", "5", "60"])
        self.assertEqual(
            [each.variables.get("absolute_codec_string", "") for each in dialled],
            ["^^:PCMA:PCMU", "^^:PCMA:PCMU", "PCMU", ""],
        )
        lasted = [later.at - earlier.at for earlier, later in pairwise(dialled)]
        for seconds, limit in zip(lasted, (3, 3, 5), strict=True):
            self.assertTrue(limit - 1 <= seconds <= limit + 0.2, lasted)

    async def test_a_far_end_with_none_of_the_codecs_is_followed_by_the_next_gateway(self):
        world = self.start()
        call = await world.call(
            "100", Gateways=f"{SELF},{SELF}", GatewayCodecs="nosuch,PCMU", TimeLimit="1", RingUrl=""
        )
        await world.closed(call)
        self.assertEqual(self.one_at_a_time(), 2)
        self.assertEqual((await world.told("hangup"))["HangupCause"], "ALLOTTED_TIMEOUT")


class Limits(Calls):
    async def test_of_two_limits_the_earlier_ends_the_call_with_its_cause(self):
        for params, cause in (
            ({"HangupOnRing": "3", "TimeLimit": "30"}, "ORIGINATOR_CANCEL"),
            ({"HangupOnRing": "30", "TimeLimit": "3"}, "ALLOTTED_TIMEOUT"),
        ):
            world = self.start()
            events = await world.closed(await world.call("101", **params))
            self.assertEqual((await world.told("hangup"))["HangupCause"], cause)
            self.assertEqual(len(of(events, LimitReached)), 1)

    async def test_hangup_on_ring_counts_from_early_media_too(self):
        for wanted in ("0", "2"):
            world = self.start()
            events = await world.closed(await world.call("220", HangupOnRing=wanted))
            self.assertEqual((await world.told("hangup"))["HangupCause"], "ORIGINATOR_CANCEL")
            self.assertLess(abs(self.seconds(events, ChannelRang, ChannelEnded) - int(wanted)), 0.3)

    async def test_hangup_on_ring_counts_from_the_first_of_ringing_and_early_media(self):
        world = self.start()
        both = (Step(0, "ring"), Step(2, "early"), Step(20, "answer"))
        call = await world.call("1", Gateways=self.gateways(both), HangupOnRing="3")
        events = await world.closed(call)
        self.assertLess(abs(self.seconds(events, ChannelRang, ChannelEnded) - 3), 0.3)
        self.assertEqual(len(world.application.told("ring")), 1)

    async def test_time_limit_does_not_count_the_ringing(self):
        world = self.start()
        events = await world.closed(await world.call("105", TimeLimit="2"))
        self.assertLess(abs(self.seconds(events, ChannelAnswered, ChannelEnded) - 2.1), 0.3)


class Digits(Calls):
    async def heard(self, digits, to="6", **params):
        """What the far end heard: each digit with its milliseconds, and seconds between them."""
        world = self.start()
        await world.closed(await world.call(to, SendDigits=digits, TimeLimit="20", **params))
        return world.switch.digits

    async def test_last_two_seconds_each_where_the_form_does_not_say(self):
        for digits, seconds in (("1#", 2.0), ("1#@300", 0.3)):
            heard = [(each.digit, each.seconds) for each in await self.heard(digits)]
            self.assertEqual(heard, [("1", seconds), ("#", seconds)])

    async def test_wait_as_long_for_a_small_as_for_a_capital_w(self):
        async def pause(digits):
            first, second = await self.heard(digits)
            return second.at - first.at

        none = await pause("12@100")
        self.assertLess(abs(await pause("1w2@100") - none - 0.5), 0.05)
        self.assertLess(abs(await pause("1W2@100") - none - 0.5), 0.05)
        self.assertLess(abs(await pause("1wW2@100") - none - 1.0), 0.05)

    async def test_make_early_media_count_only_if_they_are_to_be_sent_in_it(self):
        for params, ignored in (
            ({"SendOnPreanswer": "true"}, "false"),
            ({"SendOnPreanswer": "false"}, "true"),
            ({}, "true"),
        ):
            await self.heard("1", **params)
            (dialled,) = self.world.switch.dialled
            self.assertEqual(dialled.variables["ignore_early_media"], ignored)

    async def test_are_sent_once_though_there_are_early_media_and_an_answer(self):
        for early in ("true", "false"):
            heard = await self.heard("12@100", to="203", SendOnPreanswer=early)
            self.assertEqual([(each.digit, each.info) for each in heard], [("1", False), ("2", False)])
            self.assertEqual({each.answered for each in heard}, {early == "false"})


class Told(Calls):
    """What the application is told beyond who calls whom."""

    NAMES = ("Channel-Name", "Answer-State", "variable_mine", "variable_nosuch", "CallStatus", "To")

    async def test_extra_fs_vars_have_the_values_of_the_moment(self):
        world = self.start(Config(extra_fs_vars=self.NAMES))
        call = await world.call("101", ExtraDialString="mine='a, Zoë'", TimeLimit="1")
        await world.closed(call)
        for path, state in (("ring", "ringing"), ("answer", "answered"), ("hangup", "hangup")):
            (told,) = world.application.told(path)
            with self.subTest(path=path):
                self.assertIn("sofia/", told["Channel-Name"])
                self.assertEqual(told["Answer-State"], state)
                self.assertEqual(told["variable_mine"], "a, Zoë")
                self.assertEqual(told["variable_nosuch"], "")

    async def test_extra_fs_vars_replace_nothing_of_ours(self):
        world = self.start(Config(extra_fs_vars=self.NAMES))
        await world.closed(await world.call("101", TimeLimit="1"))
        statuses = [each.params["CallStatus"] for each in world.application.received]
        self.assertEqual(statuses, ["ringing", "in-progress", "completed"])
        self.assertEqual({each.params["To"] for each in world.application.received}, {"101"})

    async def test_extra_fs_vars_are_empty_where_there_was_no_channel(self):
        world = self.start(Config(extra_fs_vars=self.NAMES))
        await world.closed(await world.call("NO_ROUTE_TRANSIT_NET", Gateways="error/"))
        (hangup,) = world.application.told("hangup")
        for name in ("Channel-Name", "Answer-State", "variable_mine", "variable_nosuch"):
            self.assertEqual(hangup[name], "", name)

    async def test_extra_fs_vars_of_a_refused_call_do_not_depend_on_what_tells_of_it_first(self):
        for faults in ORDERS:
            world = self.start(Config(extra_fs_vars=("variable_sip_term_status", "variable_mine")))
            for name, value in faults.items():
                setattr(world.switch.faults, name, value)
            await world.closed(await world.call("486", ExtraDialString="mine=7"))
            (hangup,) = world.application.told("hangup")
            self.assertEqual((hangup["variable_sip_term_status"], hangup["variable_mine"]), ("486", "7"))

    async def test_extra_fs_vars_are_found_out_after_a_restart(self):
        world = self.start(Config(extra_fs_vars=("variable_mine",)))
        call = await world.call("101", ExtraDialString="mine=7", TimeLimit="5")
        await world.recorded(call, AttemptStarted)
        await world.passes(0.005)
        world.kill()
        await world.passes(3)
        world.start()
        await world.closed(call)
        self.assertEqual([each.params["variable_mine"] for each in world.application.received], ["7"] * 3)

    async def test_extra_fs_vars_go_with_no_later_document(self):
        world = self.start(Config(extra_fs_vars=("variable_mine",)))
        world.application.answers.update(REDIRECTED)
        await world.closed(await world.call("100", ExtraDialString="mine=7", TimeLimit="9", AccountSID="A"))
        (first,) = world.application.told("answer")
        (second,) = world.application.told("next")
        self.assertEqual(first.pop("variable_mine"), "7")
        self.assertEqual(second, first)

    async def test_the_id_of_the_scheduled_hangup_is_told_at_the_answer_or_at_an_end_without_one(self):
        world = self.start()
        await world.closed(await world.call("101", TimeLimit="1"))
        ring, answer, hangup = (world.application.told(each)[0] for each in ("ring", "answer", "hangup"))
        self.assertEqual(len(answer["ScheduledHangupId"]), 36)
        self.assertNotIn("ScheduledHangupId", {**ring, **hangup})
        world.application.received.clear()
        await world.closed(await world.call("3", TimeLimit="1", GatewayTimeouts="2"))
        self.assertEqual(len((await world.told("hangup"))["ScheduledHangupId"]), 36)
        world.application.received.clear()
        await world.closed(await world.call("101", HangupOnRing="2"))
        self.assertFalse(any("ScheduledHangupId" in each.params for each in world.application.received))
        world.application.received.clear()
        await world.closed(await world.call("486", TimeLimit="1"))  # it has no CallUUID either
        self.assertNotIn("ScheduledHangupId", await world.told("hangup"))

    async def test_who_forwarded_the_call_is_told_where_a_diversion_says_so(self):
        world = self.start()
        await world.closed(
            await world.call(
                "101",
                ExtraDialString='sip_h_Diversion="Zoë" <sip:+4930123@carrier.test>;reason=no-answer',
                TimeLimit="1",
            )
        )
        ring, answer, hangup = (world.application.told(each)[0] for each in ("ring", "answer", "hangup"))
        self.assertEqual((answer["ForwardedFrom"], hangup["ForwardedFrom"]), ("4930123", "4930123"))
        self.assertNotIn("ForwardedFrom", ring)
        world.application.received.clear()
        await world.closed(
            await world.call("101", ExtraDialString="sip_h_Diversion=anonymous", TimeLimit="1")
        )
        self.assertFalse(any("ForwardedFrom" in each.params for each in world.application.received))

    async def test_the_account_goes_with_everything_and_never_on_the_channel(self):
        world = self.start()
        await world.closed(await world.call("101", AccountSID=FOREIGN, TimeLimit="1"))
        told = [(each.path, each.params["AccountSID"]) for each in world.application.received]
        self.assertEqual(told, [(each, FOREIGN) for each in ("ring", "answer", "hangup")])
        (dialled,) = world.switch.dialled
        self.assertFalse([each for each in dialled.variables.values() if FOREIGN in each])

    async def test_by_get_everything_is_in_the_query(self):
        world = self.start(Config(default_http_method="GET"))
        await world.closed(
            await world.call("101", TimeLimit="1", AnswerUrl="http://application.test/answer/?a=b")
        )
        self.assertEqual([each.method for each in world.application.received], ["GET"] * 3)
        (asked,) = world.application.told("answer")
        self.assertEqual((asked["a"], asked["CallStatus"]), ("b", "in-progress"))


REDIRECTED = {
    "answer": Answer(
        body=b"<Response><Redirect method='GET'>http://application.test/next/</Redirect></Response>"
    ),
    "next": Answer(body=b"<Response><Wait/></Response>"),
}


class Defects(Calls):
    """Each test says which of the old server's defects it would find."""

    async def test_1_after_an_answer_without_ringing_no_other_gateway_is_dialled(self):
        for far_end in ((Step(0, "answer"), Step(2, "bye", "NORMAL_CLEARING")), (Step(1, "answer"),)):
            world = self.start()
            call = await world.call(
                "1", Gateways=self.gateways(far_end, script, script), GatewayRetries="2", TimeLimit="4"
            )
            events = await world.closed(call)
            await world.passes(30)
            self.assertEqual((self.one_at_a_time(), len(of(events, CallEnded))), (1, 1))
            (hangup,) = world.application.told("hangup")
            self.assertEqual(hangup["CallUUID"], of(events, ChannelAnswered)[0].channel)

    async def refused_twice(self, last, **faults):
        """A call whose first two gateways refuse with a job and an end each, in an order to choose."""
        world = self.start()
        for name, value in faults.items():
            setattr(world.switch.faults, name, value)
        rejects = (Step(0, "refuse", "CALL_REJECTED"),)
        call = await world.call("1", Gateways=self.gateways(BUSY, rejects, last), TimeLimit="2")
        events = await world.closed(call)
        await world.passes(30)
        self.assertEqual(len(of(events, AttemptStarted)), 3)
        self.assertEqual(self.one_at_a_time(), 3)
        return events

    async def test_2_a_refused_attempt_leads_to_one_other_whatever_tells_of_it_first(self):
        for faults in ORDERS:
            with self.subTest(faults=faults):
                await self.refused_twice(script("101"), **faults)

    async def test_3_the_attempt_that_rings_after_refused_ones_has_its_callbacks(self):
        for faults in ORDERS:
            with self.subTest(faults=faults):
                events = await self.refused_twice(script("101"), **faults)
                channel = of(events, ChannelAnswered)[0].channel
                (ring,) = self.world.application.told("ring")
                (hangup,) = self.world.application.told("hangup")
                self.assertEqual((ring["CallUUID"], hangup["CallUUID"]), (channel, channel))
                self.assertEqual(hangup["HangupCause"], "ALLOTTED_TIMEOUT")

    async def test_4_and_6_when_all_are_refused_the_cause_is_the_last_ones_and_there_is_no_call_uuid(self):
        for faults in ORDERS:
            with self.subTest(faults=faults):
                await self.refused_twice((Step(0, "refuse", "UNALLOCATED_NUMBER"),), **faults)
                (hangup,) = self.world.application.told("hangup")
                self.assertEqual((hangup["HangupCause"], hangup["CallUUID"]), ("UNALLOCATED_NUMBER", ""))
                self.assertNotIn("ALegUUID", hangup)

    async def ends_although(self, seconds=400.0):
        """The cause of a call that cannot be dialled: it ends, the application hears of it, nothing is kept."""
        world = self.world
        await world.closed(await world.call("1", Gateways=self.gateways(BUSY, BUSY)), seconds)
        (hangup,) = world.application.told("hangup")
        self.assertEqual((hangup["CallUUID"], world.switch.dialled), ("", []))
        await world.passes(10)
        idle = world.process.server.idle()
        self.assertEqual(idle, dict.fromkeys(idle, 0))
        return hangup["HangupCause"]

    def broken(self, *args, **kw):
        """What ought to work and does not."""
        del args, kw
        raise ZeroDivisionError

    async def test_7_an_exception_while_the_line_is_made_ends_the_call_and_is_told(self):
        self.start()
        self.patch(dialling, "dial_line", self.broken)
        self.assertEqual(await self.ends_although(20), "NORMAL_UNSPECIFIED")
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))

    async def test_7_an_exception_while_the_line_is_written_ends_the_call_and_is_told(self):
        self.start().process.server.switches["default"].bgapi = self.broken
        # nobody can be sure that it was not written: nothing more is dialled
        self.assertEqual(await self.ends_although(), "OUTCOME_UNKNOWN")
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))

    async def test_7_an_originate_that_is_never_answered_ends_the_call_and_is_told(self):
        self.start().process.server.switches["default"].bgapi = lambda text, job: Deferred()
        self.assertEqual(await self.ends_although(), "OUTCOME_UNKNOWN")

    async def test_9_a_call_for_a_switch_that_is_away_waits_and_is_told_to_have_failed(self):
        world = self.start(Config(dial_patience=30))
        world.network.refusing = True
        for link in list(world.network.links):
            link.drop("the cable was pulled")
        await world.passes(1)
        began = world.clock.seconds()
        self.assertEqual(await self.ends_although(), "NETWORK_OUT_OF_ORDER")
        (hangup,) = [each for each in world.application.received if each.path == "hangup"]
        self.assertTrue(29 <= hangup.at - began <= 32, hangup.at - began)

    async def test_10_hangup_on_ring_of_nothing_lets_a_far_end_that_answers_without_ringing_talk(self):
        world = self.start(Config(backstop_margin=1))
        answers = (Step(1, "answer"), Step(8, "bye", "NORMAL_CLEARING"))
        events = await world.closed(await world.call("1", Gateways=self.gateways(answers), HangupOnRing="0"))
        self.assertEqual((await world.told("hangup"))["HangupCause"], "NORMAL_CLEARING")
        self.assertGreater(self.seconds(events, ChannelAnswered, ChannelEnded), 7.9)

    async def test_15_several_codecs_of_one_gateway_all_arrive(self):
        for given in ("'PCMA,PCMU',PCMU", '"PCMA,PCMU",PCMU', "'PCMA, PCMU' , PCMU"):
            world = self.start()
            call = await world.call("1", Gateways=self.gateways(BUSY, BUSY), GatewayCodecs=given)
            await world.closed(call)
            codecs = [each.variables["absolute_codec_string"] for each in world.switch.dialled]
            self.assertEqual(codecs, ["^^:PCMA:PCMU", "PCMU"])

    async def test_16_text_beyond_ascii_is_carried_or_refused_and_the_connection_lives(self):
        world = self.start()
        carried = set()
        for name, good in {**ALL_OF_THEM, "ExtraDialString": "mine="}.items():
            answer = await world.post(**{**ALL_OF_THEM, name: good + FOREIGN})
            if answer["Success"]:
                carried.add(name)
                await world.closed(answer["RequestUUID"])
            else:
                self.assertIn(name, answer["Message"])
        self.assertEqual(carried, {"CallerName", "AccountSID", "ExtraDialString"})
        values = [each.variables for each in world.switch.dialled]
        self.assertEqual(sum(each.get("origination_caller_id_name") == FOREIGN for each in values), 1)
        self.assertEqual(sum(each.get("mine") == FOREIGN for each in values), 1)
        self.assertEqual(world.process.server.switches["default"].epoch, 1)
        await world.closed(await world.call("486"))

    async def test_21_after_a_restart_of_freeswitch_a_call_that_rang_ends_and_nothing_is_kept(self):
        world = self.start()
        call = await world.call("3", Gateways=f"{SELF},{SELF}")
        await world.recorded(call, ChannelRang)
        world.switch.restart()
        await world.closed(call)
        (hangup,) = world.application.told("hangup")
        self.assertEqual((hangup["HangupCause"], len(world.switch.dialled)), ("CRASH", 1))
        await world.passes(30)
        idle = world.process.server.idle()
        self.assertEqual(idle, dict.fromkeys(idle, 0))

    async def test_21_after_a_restart_of_freeswitch_a_call_that_may_have_rung_is_not_dialled_again(
        self,
    ):
        world = self.start()
        call = await world.call("1", Gateways=self.gateways((), BUSY))
        await world.recorded(call, AttemptStarted)
        await world.passes(1)
        world.switch.restart()
        await world.closed(call)
        (hangup,) = world.application.told("hangup")
        self.assertEqual((hangup["HangupCause"], len(world.switch.dialled)), ("CRASH", 1))

    async def test_22_an_application_that_never_answers_a_callback_does_not_hold_up_the_call(self):
        world = self.start()
        world.application.answers["ring"] = Answer(never=True)
        call = await world.call("101", TimeLimit="3")
        asked = await world.recorded(call, ChannelAnswered)
        await world.told("answer", 1)
        events = await world.closed(call, 900)
        self.assertEqual(of(events, CallbackGivenUp)[0].key, "ring")
        self.assertLess(abs(self.seconds(events, ChannelAnswered, ChannelEnded) - 3.1), 0.3)
        self.assertLess(asked.at, of(events, ChannelEnded)[0].at)
        self.assertEqual(len(world.application.told("hangup")), 1)

    async def test_22_an_application_that_never_sends_a_document_has_its_call_hung_up(self):
        world = self.start()
        world.application.answers["answer"] = Answer(never=True)
        events = await world.closed(await world.call("101"), 200)
        self.assertEqual((await world.told("hangup"))["HangupCause"], "NETWORK_OUT_OF_ORDER")
        self.assertLess(self.seconds(events, ChannelAnswered, ChannelEnded), 60)

    async def test_23_a_callback_is_tried_again_and_what_was_not_delivered_is_on_record(self):
        world = self.start(Config(callback_tries=4))
        world.application.answers["hangup"] = Answer(status=503)
        events = await world.closed(await world.call("486"))
        self.assertEqual(len(world.application.told("hangup")), 4)
        self.assertEqual([each.attempt for each in of(events, CallbackFailed)], [1, 2, 3, 4])
        (given_up,) = of(events, CallbackGivenUp)
        self.assertEqual(given_up.key, "hangup")
        self.assertIn("503", of(events, CallbackFailed)[-1].why)

    async def test_24_what_is_told_of_one_call_is_not_told_of_another(self):
        world = self.start()
        world.application.answers.update(REDIRECTED)
        diverted = "sip_h_Diversion=sip:+4930123@carrier.test"
        one = await world.call("100", AccountSID="A", TimeLimit="9", ExtraDialString=diverted)
        other = await world.call("101")
        await world.closed(one)
        await world.closed(other)
        told = {each["RequestUUID"]: each for each in world.application.told("next")}
        self.assertEqual(told[one]["AccountSID"], "A")
        self.assertEqual(
            set(told[one]) - set(told[other]), {"AccountSID", "ScheduledHangupId", "ForwardedFrom"}
        )
        self.assertEqual(told[other]["ALegRequestUUID"], other)

    async def test_26_the_query_of_a_url_replaces_nothing_of_ours(self):
        world = self.start()
        query = "?CallUUID=x&HangupCause=x&mine=7"
        call = await world.call("101", HangupUrl=f"http://application.test/hangup/{query}", TimeLimit="1")
        await world.closed(call)
        hangup = await world.told("hangup")
        self.assertEqual((hangup["HangupCause"], hangup["mine"]), ("ALLOTTED_TIMEOUT", "7"))
        self.assertEqual(hangup["CallUUID"], world.switch.dialled[0].uuid)

    async def test_27_text_beyond_ascii_arrives_with_every_callback(self):
        world = self.start(Config(auth_token="secret"))
        await world.closed(await world.call("101", AccountSID=FOREIGN, CallerName=FOREIGN, TimeLimit="1"))
        self.assertEqual([each.params["AccountSID"] for each in world.application.received], [FOREIGN] * 3)
        self.assertEqual((await world.told("answer"))["CallerName"], FOREIGN)

    async def test_35_a_url_arrives_with_its_commas_and_quotes(self):
        world = self.start()
        odd = "?a=1,2&b='x'&c=%22y%22|z"
        urls = {
            f"{path.title()}Url": f"http://application.test/{path}/{odd}"
            for path in ("ring", "answer", "hangup")
        }
        await world.closed(await world.call("101", TimeLimit="1", **urls))
        self.assertEqual([each.url for each in world.application.received], list(urls.values()))
        for told in world.application.received:
            self.assertEqual((told.params["a"], told.params["b"], told.params["c"]), ("1,2", "'x'", '"y"|z'))


ALL_OF_THEM = {
    "From": "1000",
    "To": "486",
    "Gateways": SELF,
    "AnswerUrl": "http://application.test/answer/",
    "HangupUrl": "http://application.test/hangup/",
    "RingUrl": "http://application.test/ring/",
    "CallerName": "",
    "GatewayCodecs": "",
    "GatewayTimeouts": "",
    "GatewayRetries": "",
    "ExtraDialString": "",
    "SendDigits": "",
    "SendOnPreanswer": "",
    "TimeLimit": "",
    "HangupOnRing": "",
    "AccountSID": "",
}

# -- where each thing is shown -------------------------------------------------------------------------

ROWS = {
    "status 200 and Success, Message, RequestUUID, for refused parameters too": (
        "rest.Accepting.test_a_call_is_answered_with_its_request_uuid",
        "rest.Accepting.test_a_refused_parameter_is_answered_with_status_200",
    ),
    "401 without credentials, or from an address that is not allowed": (
        "rest.WhoMayAsk.test_nobody_with_wrong_ones",
        "rest.WhoMayAsk.test_only_addresses_that_are_allowed",
    ),
    "503 when the log cannot be written": (
        "rest.Accepting.test_a_log_that_cannot_be_written_is_answered_503_and_may_be_tried_again",
        "stories.Faults.test_a_log_that_refuses_for_a_while_loses_no_call",
    ),
    "accepted means that it is on disk": (
        "rest.Accepting.test_the_answer_waits_until_the_request_is_on_disk",
        "kills.Kills.test_what_was_accepted_ends_once_and_nobody_is_dialled_twice",
    ),
    "gateways are tried in order, each as often as its GatewayRetries says": (
        "stories.EmulatedStories.test_gateways_are_tried_in_order_until_one_rings",
        "call.Dialling.test_each_gateway_is_tried_as_often_as_it_says_one_after_the_other",
    ),
    "until one rings, gives early media or answers, and none after that": (
        "call_page.Attempts.test_a_far_end_that_is_busy_after_it_rang_ends_the_list",
        "stories.EmulatedStories.test_early_media_ends_the_list",
        "stories.EmulatedStories.test_an_answer_without_ringing_ends_the_list",
        "stories.EmulatedStories.test_a_far_end_that_rings_and_does_not_answer_in_time_is_given_up",
    ),
    "a list that is shorter than Gateways, surplus entries, an empty entry": (
        "forms.Gateways.test_behind_the_end_of_a_shorter_list_have_the_defaults",
        "forms.Gateways.test_do_not_mind_surplus_entries_of_other_lists",
        "forms.Gateways.test_of_an_empty_entry_have_the_default",
    ),
    "an entry that is no number, or below 1, is refused": (
        "forms.Gateways.test_with_an_entry_that_is_no_number_or_below_one_are_refused",
    ),
    "HangupOnRing counts from the first ring or early media, answered meanwhile or not": (
        "stories.EmulatedStories.test_hangup_on_ring_ends_a_call_that_only_rings",
        "stories.EmulatedStories.test_hangup_on_ring_of_nothing_ends_it_at_once",
        "stories.EmulatedStories.test_hangup_on_ring_ends_a_call_that_was_answered_meanwhile",
        "stories.EmulatedStories.test_hangup_on_ring_never_runs_for_a_call_that_did_not_ring",
        "call_page.Limits.test_hangup_on_ring_counts_from_early_media_too",
        "call_page.Limits.test_hangup_on_ring_counts_from_the_first_of_ringing_and_early_media",
    ),
    "TimeLimit counts from the answer": (
        "stories.EmulatedStories.test_time_limit_ends_an_answered_call",
        "call_page.Limits.test_time_limit_does_not_count_the_ringing",
    ),
    "of two limits the earlier counts": (
        "call_page.Limits.test_of_two_limits_the_earlier_ends_the_call_with_its_cause",
        "stories.EmulatedStories.test_limits_are_decided_once",
    ),
    "any other number is refused": (
        "forms.Numbers.test_of_any_other_kind_are_refused_and_never_ignored",
        "forms.Numbers.test_time_limit_is_above_zero",
    ),
    "SendDigits: the letters, w and W, the length": (
        "forms.Digits.test_are_taken_as_the_documentation_has_them",
        "forms.Digits.test_of_any_other_kind_are_refused",
        "call_page.Digits.test_last_two_seconds_each_where_the_form_does_not_say",
        "call_page.Digits.test_wait_as_long_for_a_small_as_for_a_capital_w",
    ),
    "SendDigits at the answer, or in early media": (
        "stories.EmulatedStories.test_digits_are_sent_at_the_answer",
        "stories.EmulatedStories.test_digits_are_sent_in_early_media_if_that_is_asked_for",
        "stories.EmulatedStories.test_digits_for_early_media_are_sent_at_the_answer_where_there_is_none",
        "call_page.Digits.test_are_sent_once_though_there_are_early_media_and_an_answer",
    ),
    "with SendOnPreanswer early media count, the ringing is limited, the script waits for the answer": (
        "call_page.Digits.test_make_early_media_count_only_if_they_are_to_be_sent_in_it",
        "stories.EmulatedStories.test_digits_for_early_media_do_not_keep_a_far_end_ringing_for_ever",
        "stories.EmulatedStories.test_a_script_waits_for_the_answer_although_the_channel_is_parked_before",
    ),
    "HangupUrl is AnswerUrl where it is not given": (
        "forms.ACall.test_without_a_hangup_url_is_told_at_the_answer_url_that_it_ended",
        "stories.EmulatedStories.test_without_ring_url_and_hangup_url_the_answer_url_hears_of_the_end",
    ),
    "a call that never rang has the last cause and an empty CallUUID": (
        "stories.EmulatedStories.test_when_all_gateways_fail_the_last_ones_cause_is_told_once",
        "callbacks.Hangup.test_of_a_call_that_never_rang_has_an_empty_call_uuid_and_no_a_leg",
    ),
    "where the old server ignored its documentation, that counts": (
        "callbacks.Every.test_one_has_both_numbers_without_any_leading_plus",
        "callbacks.Answer.test_has_the_name_of_the_caller_as_it_was_posted",
        "callbacks.Answer.test_asks_for_its_document_with_the_session_parameters_and_the_request_uuid",
    ),
    "callbacks have exactly the parameters of v0.1, a signature, and what we add as headers": (
        "stories.EmulatedStories.test_a_call_rings_is_answered_runs_its_script_and_is_hung_up",
        "http.Callbacks.test_are_delivered_with_exactly_their_parameters",
        "http.Headers.test_hold_the_signature_of_what_was_sent",
        "http.Headers.test_name_the_delivery_which_is_the_same_on_every_try_and_the_attempt",
    ),
    "callbacks have time-outs, are tried again, and stay on record": (
        "http.Callbacks.test_no_answer_is_a_failure_at_the_time_limit_and_not_before",
        "call_page.Defects.test_23_a_callback_is_tried_again_and_what_was_not_delivered_is_on_record",
    ),
    "what could not be delivered is listed and can be sent again": (
        "calls_api.Lists.test_can_be_asked_for_by_each_parameter",
        "calls_api.Resending.test_delivers_what_was_given_up_and_closes_the_call_again",
        "call.Callbacks.test_a_renewed_one_is_tried_anew_and_the_call_closed_once_more_with_what_is_left",
    ),
    "a request with an Idempotency-Key makes one call, however often it comes": (
        "calls_api.Repeating.test_gives_the_answer_of_the_first_and_makes_one_call",
        "calls_api.Repeating.test_with_other_parameters_is_refused",
        "calls_api.Repeating.test_at_once_makes_one_call_and_all_get_its_answer",
    ),
}

PARAMETERS = {
    "From": (
        "forms.ACall.test_lacks_each_mandatory_parameter_by_name",
        "forms.Texts.test_that_would_do_something_on_the_switch_are_refused",
        "esl_dialstring.Destinations.test_callers",
    ),
    "To": (
        "forms.ACall.test_lacks_each_mandatory_parameter_by_name",
        "forms.Texts.test_to_may_name_a_host_only_where_no_gateway_is_passed_by",
        "forms.Texts.test_to_and_gateway_are_looked_at_together",
        "forms.Fraud.test_is_kept_out_by_gateway_and_by_destination",
    ),
    "Gateways": (
        "forms.Gateways.test_are_tried_in_their_order_once_each_for_sixty_seconds_with_the_codecs_of_the_switch",
        "forms.Gateways.test_have_no_empty_entry_and_are_not_too_many",
        "stories.EmulatedStories.test_gateways_are_tried_in_order_until_one_rings",
    ),
    "AnswerUrl": (
        "forms.Urls.test_that_cannot_be_requested_are_refused",
        "call_page.Defects.test_35_a_url_arrives_with_its_commas_and_quotes",
    ),
    "HangupUrl": (
        "forms.Urls.test_that_cannot_be_requested_are_refused",
        "forms.ACall.test_without_a_hangup_url_is_told_at_the_answer_url_that_it_ended",
    ),
    "RingUrl": (
        "forms.Urls.test_that_cannot_be_requested_are_refused",
        "callbacks.Ring.test_is_not_told_without_a_ring_url",
        "callbacks.Ring.test_is_told_at_early_media_and_not_at_an_answer",
    ),
    "CallerName": (
        "esl_dialstring.Destinations.test_callers",
        "stories.EmulatedStories.test_the_name_of_the_caller_is_sent_and_told",
    ),
    "GatewayCodecs": (
        "forms.Gateways.test_with_a_list_of_codecs_that_is_none_are_refused",
        "stories.EmulatedStories.test_the_codecs_of_a_gateway_are_offered_in_their_order",
        "call_page.Attempts.test_a_far_end_with_none_of_the_codecs_is_followed_by_the_next_gateway",
    ),
    "GatewayTimeouts": (
        "forms.Gateways.test_have_each_their_own_of_the_other_lists",
        "call_page.Attempts.test_each_attempt_has_the_time_out_and_the_codecs_of_its_gateway",
    ),
    "GatewayRetries": (
        "forms.Gateways.test_that_make_too_many_attempts_are_refused",
        "call.Dialling.test_each_gateway_is_tried_as_often_as_it_says_one_after_the_other",
    ),
    "ExtraDialString": (
        "forms.ExtraDialString.test_is_names_and_values",
        "forms.ExtraDialString.test_that_is_no_list_of_them_is_refused",
        "forms.ExtraDialString.test_with_a_variable_that_executes_something_is_refused",
        "forms.ExtraDialString.test_with_a_variable_by_which_the_call_is_driven_is_refused",
        "forms.Fraud.test_needs_leave_to_execute_anything",
        "stories.EmulatedStories.test_variables_of_the_client_are_on_the_channel",
    ),
    "SendDigits": (
        "forms.Digits.test_of_any_other_kind_are_refused",
        "stories.EmulatedStories.test_digits_are_sent_at_the_answer",
    ),
    "SendOnPreanswer": (
        "forms.Digits.test_are_sent_in_early_media_only_if_that_is_said",
        "stories.EmulatedStories.test_digits_are_sent_in_early_media_if_that_is_asked_for",
    ),
    "TimeLimit": (
        "forms.Numbers.test_time_limit_is_above_zero",
        "stories.EmulatedStories.test_time_limit_ends_an_answered_call",
    ),
    "HangupOnRing": (
        "forms.Numbers.test_of_any_other_kind_are_refused_and_never_ignored",
        "stories.EmulatedStories.test_hangup_on_ring_ends_a_call_that_only_rings",
    ),
    "AccountSID": (
        "forms.Texts.test_that_stay_with_us_may_hold_anything_that_is_text",
        "call_page.Told.test_the_account_goes_with_everything_and_never_on_the_channel",
    ),
}

_RING = "callbacks.Ring.test_is_told_at_the_first_ringing"
_ANSWER = "callbacks.Answer.test_asks_for_its_document_with_the_session_parameters_and_the_request_uuid"
_HANGUP = "callbacks.Hangup.test_is_told_once_the_call_has_ended"
_NEVER_RANG = "callbacks.Hangup.test_of_a_call_that_never_rang_has_an_empty_call_uuid_and_no_a_leg"
TOLD = {
    "To": (_RING, _ANSWER, _HANGUP, "callbacks.Every.test_one_has_both_numbers_without_any_leading_plus"),
    "From": (_RING, _ANSWER, _HANGUP, "callbacks.Every.test_one_has_both_numbers_without_any_leading_plus"),
    "Direction": (_RING, _ANSWER, _HANGUP),
    "RequestUUID": (_RING, _ANSWER, _HANGUP),
    "CallUUID": (
        _RING,
        _ANSWER,
        _HANGUP,
        _NEVER_RANG,
        "callbacks.Answer.test_names_the_channel_that_was_answered",
    ),
    "CallStatus": (_RING, _ANSWER, _HANGUP),
    "AccountSID": ("callbacks.Every.test_one_has_the_account_only_if_it_was_given",),
    "CallerName": (_ANSWER, "callbacks.Answer.test_has_the_name_of_the_caller_as_it_was_posted"),
    "ALegUUID": (_ANSWER, _HANGUP, _NEVER_RANG),
    "ALegRequestUUID": (_ANSWER, _HANGUP, _NEVER_RANG),
    "ScheduledHangupId": (
        "call_page.Told.test_the_id_of_the_scheduled_hangup_is_told_at_the_answer_or_at_an_end_without_one",
    ),
    "ForwardedFrom": ("call_page.Told.test_who_forwarded_the_call_is_told_where_a_diversion_says_so",),
    "HangupCause": (_HANGUP, _NEVER_RANG),
}
EXTRA = (
    "call_page.Told.test_extra_fs_vars_have_the_values_of_the_moment",
    "call_page.Told.test_extra_fs_vars_replace_nothing_of_ours",
    "call_page.Told.test_extra_fs_vars_are_empty_where_there_was_no_channel",
    "call_page.Told.test_extra_fs_vars_of_a_refused_call_do_not_depend_on_what_tells_of_it_first",
    "call_page.Told.test_extra_fs_vars_are_found_out_after_a_restart",
    "call_page.Told.test_extra_fs_vars_go_with_no_later_document",
)
"""Where EXTRA_FS_VARS are shown, which are told under names of the operator's choice."""

DEFECTS = {
    1: (
        "an answer without ringing leaves the list alive",
        "call_page.Defects.test_1_after_an_answer_without_ringing_no_other_gateway_is_dialled",
        "call.Dialling.test_an_answer_without_ringing_ends_the_gateway_list",
    ),
    2: (
        "a failed job and the end of its channel each lead to another gateway",
        "call_page.Defects.test_2_a_refused_attempt_leads_to_one_other_whatever_tells_of_it_first",
        "call.Dialling.test_job_and_channel_failing_both_ways_round_try_the_next_gateway_once",
    ),
    3: (
        "the callbacks of the attempt that rings are lost after that",
        "call_page.Defects.test_3_the_attempt_that_rings_after_refused_ones_has_its_callbacks",
    ),
    4: (
        "the cause of an earlier attempt is told",
        "call_page.Defects.test_4_and_6_when_all_are_refused_the_cause_is_the_last_ones_and_there_is_no_call_uuid",
    ),
    5: (
        "HangupCall before the ringing makes the server dial the next gateway",
        "hangup.Faults.test_one_that_is_dialled_and_does_not_ring_is_not_tried_through_the_next_gateway",
        "hangup.Faults.test_one_that_waits_for_its_switch_ends_at_once_and_is_never_dialled",
        "call.HangingUp.test_wherever_it_comes_nobody_is_dialled_after_it_and_the_call_ends",
    ),
    6: (
        "whether a refused call has a CallUUID is chance",
        "call_page.Defects.test_4_and_6_when_all_are_refused_the_cause_is_the_last_ones_and_there_is_no_call_uuid",
    ),
    7: (
        "what fails while it is dialled is never told",
        "call_page.Defects.test_7_an_exception_while_the_line_is_made_ends_the_call_and_is_told",
        "call_page.Defects.test_7_an_exception_while_the_line_is_written_ends_the_call_and_is_told",
        "call_page.Defects.test_7_an_originate_that_is_never_answered_ends_the_call_and_is_told",
        "connections.Connections.test_an_originate_that_the_switch_does_not_take_ends_the_call_at_once",
    ),
    8: (
        "no tries at all are accepted, and nothing happens",
        "forms.Gateways.test_with_an_entry_that_is_no_number_or_below_one_are_refused",
    ),
    9: (
        "without a connection to FreeSWITCH the call is lost in silence",
        "call_page.Defects.test_9_a_call_for_a_switch_that_is_away_waits_and_is_told_to_have_failed",
        "stories.Faults.test_a_switch_that_is_not_there_makes_the_call_wait",
    ),
    10: (
        "HangupOnRing=0 hangs up at an answer without ringing",
        "call_page.Defects.test_10_hangup_on_ring_of_nothing_lets_a_far_end_that_answers_without_ringing_talk",
        "stories.EmulatedStories.test_hangup_on_ring_never_runs_for_a_call_that_did_not_ring",
    ),
    11: (
        "bad numbers are ignored without a word",
        "forms.Numbers.test_of_any_other_kind_are_refused_and_never_ignored",
        "forms.Gateways.test_with_an_entry_that_is_no_number_or_below_one_are_refused",
    ),
    12: (
        "nothing is escaped in dial strings",
        "hostile.Hostile.test_a_value_is_refused_by_name_or_dialled_exactly_as_it_stands",
        "esl_dialstring.Lines.test_one_hostile_parameter",
    ),
    13: (
        "almost anything passes in To",
        "esl_dialstring.Destinations.test_hostile_numbers",
        "forms.Texts.test_that_would_do_something_on_the_switch_are_refused",
    ),
    14: (
        "a line end in what controls calls is a second command",  # of HangupCall: there is no other such endpoint yet
        "hangup.Faults.test_what_is_unknown_cannot_be_hung_up",
        "esl_dialstring.ApiLines.test_refuse_what_is_no_word",
        "esl_session.Commands.test_refused_and_not_counted",
    ),
    15: (
        "a list of several codecs is cut at its comma",
        "call_page.Defects.test_15_several_codecs_of_one_gateway_all_arrive",
        "stories.EmulatedStories.test_the_codecs_of_a_gateway_are_offered_in_their_order",
    ),
    16: (
        "a value beyond ASCII brings the shared connection out of step",
        "call_page.Defects.test_16_text_beyond_ascii_is_carried_or_refused_and_the_connection_lives",
    ),
    17: (
        "no digit is heard in early media",
        "stories.EmulatedStories.test_digits_are_sent_in_early_media_if_that_is_asked_for",
    ),
    20: (
        "a restart loses every request with its timers and callbacks",
        "kills.Kills.test_what_was_accepted_ends_once_and_nobody_is_dialled_twice",
        "stories.EmulatedStories.test_killed_during_the_call_the_time_limit_still_ends_it_and_tells_once",
        "stories.EmulatedStories.test_a_callback_owed_when_the_server_died_is_delivered_by_the_next",
    ),
    21: (
        "after a restart of FreeSWITCH nothing is compared",
        "call_page.Defects.test_21_after_a_restart_of_freeswitch_a_call_that_rang_ends_and_nothing_is_kept",
        "call_page.Defects.test_21_after_a_restart_of_freeswitch_a_call_that_may_have_rung_is_not_dialled_again",
        "stories.Faults.test_a_switch_that_restarts_takes_its_calls_with_it",
    ),
    22: (
        "requests to the application have no time-out",
        "call_page.Defects.test_22_an_application_that_never_answers_a_callback_does_not_hold_up_the_call",
        "call_page.Defects.test_22_an_application_that_never_sends_a_document_has_its_call_hung_up",
        "http.Callbacks.test_no_answer_is_a_failure_at_the_time_limit_and_not_before",
    ),
    23: (
        "callbacks are not tried again, and nobody knows of those that failed",
        "call_page.Defects.test_23_a_callback_is_tried_again_and_what_was_not_delivered_is_on_record",
    ),
    24: (
        "what is known of one customer's call is sent to another's URL",
        "call_page.Defects.test_24_what_is_told_of_one_call_is_not_told_of_another",
    ),
    25: (
        "the method of Redirect, and of actions that redirect, is ignored",
        "verbs.EmulatedVerbs.test_redirect_goes_on_with_another_document",
    ),
    26: (
        "the query of a URL replaces parameters of the callback",
        "call_page.Defects.test_26_the_query_of_a_url_replaces_nothing_of_ours",
        "signature.APost.test_does_not_let_the_query_replace_what_we_say",
    ),
    27: (
        "a text beyond ASCII loses its callback",
        "call_page.Defects.test_27_text_beyond_ascii_arrives_with_every_callback",
        "http.Callbacks.test_text_of_every_script_arrives_where_v01_lost_the_callback",
        "signature.Signing.test_text_beyond_ascii_is_signed_as_utf8",
    ),
    28: (
        "a missing value is sent as None",
        "callbacks.Every.test_one_is_nothing_but_text",
    ),
    29: (
        "From keeps its + in some callbacks",
        "callbacks.Every.test_one_has_both_numbers_without_any_leading_plus",
    ),
    30: (
        "CallerName is not what the client gave",
        "stories.EmulatedStories.test_the_name_of_the_caller_is_sent_and_told",
        "callbacks.Answer.test_has_the_name_of_the_caller_as_it_was_posted",
    ),
    31: (
        "AnswerUrl has no RequestUUID",
        "callbacks.Answer.test_asks_for_its_document_with_the_session_parameters_and_the_request_uuid",
    ),
    32: (
        "a recording is never told if the caller hung up",
        "verbs.EmulatedVerbs.test_record_of_a_caller_who_hangs_up_is_told_once",
    ),
    33: (
        "what Record is to tell without redirecting crashes the session",
        "verbs.EmulatedVerbs.test_record_without_redirect_tells_and_goes_on",
    ),
    35: (
        "a comma cuts a URL, and quotes vanish from it",
        "call_page.Defects.test_35_a_url_arrives_with_its_commas_and_quotes",
        "forms.Urls.test_are_kept_character_for_character",
    ),
    38: (
        "PROXY_URL is not used for https",
        "agent.ByProxy.test_what_is_for_http_is_asked_of_the_proxy_with_the_whole_url",
        "agent.ThroughAProxy.test_https_is_verified_with_the_host_behind_it",
    ),
    39: (
        "credentials can be found out by time, and without them the API is open",
        "rest.WhoMayAsk.test_they_are_compared_in_constant_time",
        "config.Safety.test_an_address_beyond_loopback_needs_credentials",
        "config.Safety.test_one_half_of_the_credentials_is_a_mistake",
    ),
    40: (
        "credentials that cannot be decoded are answered 500",
        "rest.WhoMayAsk.test_nobody_with_wrong_ones",
    ),
}
ELSEWHERE = {
    34: "DialHangupCause: there is no Dial yet",
    36: "HangupUrl of incoming calls: there are none yet",
    37: "RECORD_URL and heartbeats: there are none yet",
}
"""Defects of calls and callbacks that concern what plivotx does not do yet."""


class Asked(dict):
    """A form that knows what was asked of it."""

    def __init__(self, form):
        super().__init__(form)
        self.names = set()

    def get(self, name, default=None):
        self.names.add(name)
        return super().get(name, default)


def parameters():
    """The names of all parameters that are looked for in a form."""
    form = Asked(ALL_OF_THEM)
    call_requested(form, UUID, lambda event: None)
    return form.names


def told():
    """The names of all parameters that the application is told, beyond those of EXTRA_FS_VARS."""
    names = set()
    request = {
        "account_sid": "A",
        "time_limit": 5,
        "variables": (("sip_h_Diversion", "sip:1@a"),),
    }
    for events in ((STARTED, RANG), (STARTED, RANG, ANSWERED), (STARTED, RANG, GONE, ENDED), (ENDED,)):
        state = call(*events, **request)
        names |= {name for tell in LOADED.callbacks for owed in tell(state) for name, _ in owed.params}
        names |= {name for name, _ in LOADED.session(state)}
    return names


class TheLists(SynchronousTestCase):
    def test_name_tests_that_are_there(self):
        named = [test for each in (ROWS, PARAMETERS, TOLD) for tests in each.values() for test in tests]
        named += [test for _, *tests in DEFECTS.values() for test in tests]
        self.assertGreater(len(named), 100)
        for name in (*named, *EXTRA):
            module, case, test = name.split(".")
            found = getattr(import_module(f"tests.test_{module}"), case)
            self.assertTrue(issubclass(found, SynchronousTestCase), name)
            self.assertTrue(test.startswith("test_") and callable(getattr(found, test, None)), name)

    def test_leave_nothing_without_a_test(self):
        for listed in (ROWS, PARAMETERS, TOLD):
            self.assertTrue(all(listed.values()))
        self.assertTrue(all(len(each) > 1 for each in DEFECTS.values()))

    def test_have_each_parameter_and_everything_that_is_told(self):
        self.assertEqual(set(PARAMETERS), parameters())
        self.assertEqual(set(TOLD), told())

    def test_have_each_defect_of_calls_made_and_of_their_callbacks(self):
        self.assertEqual(sorted([*DEFECTS, *ELSEWHERE]), [*range(1, 18), *range(20, 41)])

    def test_have_each_test_of_a_defect_that_is_in_this_file(self):
        here = {f"call_page.Defects.{name}" for name in vars(Defects) if name.startswith("test_")}
        self.assertLessEqual(here, {test for _, *tests in DEFECTS.values() for test in tests})
