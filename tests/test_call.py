"""Properties of a call's projection and policies: facts come in any order, doubled, or not at all."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar
from uuid import uuid5

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from plivotx import plugins
from plivotx.commands import (
    ApiStep,
    At,
    Command,
    Decide,
    FetchDocument,
    HangUp,
    Originate,
    PostCallback,
    Step,
    StopStep,
    Watch,
)
from plivotx.config import Config, GatewayRules
from plivotx.events import (
    AttemptFailed,
    AttemptSkipped,
    AttemptStarted,
    CallbackDelivered,
    CallbackFailed,
    CallbackGivenUp,
    CallbackOwed,
    CallbackRenewed,
    CallClosed,
    CallEnded,
    CallRequested,
    ChannelAnswered,
    ChannelEnded,
    ChannelRang,
    DocumentFailed,
    DocumentFetched,
    Event,
    Gateway,
    HangupRequested,
    JobFailed,
    LimitReached,
    Redirected,
    ScriptEnded,
    StepEnded,
    StepStarted,
    VerbAbandoned,
    VerbEnded,
    VerbRound,
    decode,
    encode,
)
from plivotx.policies import Policy
from plivotx.policies.call_back import MOST_RETRIED, backoff, call_back
from plivotx.policies.dial_out import dial_out
from plivotx.policies.keep_time import keep_time
from plivotx.policies.run_script import MAX_IDLE, MIN_EVENTS, MIN_READ, run_script
from plivotx.projections.call import Call, channel_uuid, evolve
from plivotx.restxml.script import (
    Again,
    Api,
    Caller,
    Execute,
    Finish,
    Goto,
    Start,
    Steps,
    Stop,
    Tell,
    Verb,
    Wait,
    api,
    do,
    execute,
)

CONFIG = Config(callback_tries=3, document_tries=2)
PLUGINS = plugins.load([Path(plugins.shipped())], CONFIG)
POLICIES: list[Policy] = [
    run_script(PLUGINS.verbs, PLUGINS.session, CONFIG),
    call_back(PLUGINS.callbacks, CONFIG),
    dial_out(CONFIG),
    keep_time(CONFIG),
]
REQUEST = "1b4e28ba-2fa1-4d30-8f2c-1f2e3d4c5b6a"
FIRST = channel_uuid(REQUEST, "A", 1)
DOCUMENT = "<Response><Wait length='2'/><Wait/></Response>"
STARTED = 1_800_000_000_000_000
SECOND = 1_000_000


def request(gateways: int | tuple[Gateway, ...] = 1, **fields: object) -> CallRequested:
    if isinstance(gateways, int):
        gateways = tuple(Gateway(prefix=f"sofia/gateway/g{n}/") for n in range(gateways))
    return CallRequested(
        **{
            "request_uuid": REQUEST,
            "from_number": "1000",
            "to_number": "+2000",
            "gateways": gateways,
            "answer_url": "http://app/answer/",
            "hangup_url": "http://app/hangup/",
            "ring_url": "http://app/ring/",
            **fields,
        }
    )


def due(call: Call, policies: list[Policy] = POLICIES) -> list[Command]:
    return [command for policy in policies for command in policy(call)]


def settle(call: Call, policies: list[Policy] = POLICIES) -> tuple[Call, list[Event]]:
    """Take every decision that is due, and those that follow from it."""
    decided: list[Event] = []
    for _ in range(50):
        decision = next((each for each in due(call, policies) if isinstance(each, Decide)), None)
        if decision is None:
            return call, decided
        decided.append(decision.event)
        call = evolve(call, decision.event)
    raise AssertionError(f"no rest after {decided}")


def lived(*events: Event, of: CallRequested | None = None) -> Call:
    """The call after *events*, with the decisions taken in between."""
    call, _ = settle(evolve(None, of or request()))
    for event in events:
        call, _ = settle(evolve(call, event))
    return call


def started(number: int = 1) -> AttemptStarted:
    channel = channel_uuid(REQUEST, "A", number)
    return AttemptStarted(
        number=number, gateway=f"sofia/gateway/g{number - 1}/", channel=channel, switch="default", core="c"
    )


def rang(channel: str = FIRST) -> ChannelRang:
    return ChannelRang(channel=channel, at=STARTED + SECOND)


def answered(channel: str = FIRST) -> ChannelAnswered:
    return ChannelAnswered(channel=channel, at=STARTED + 3 * SECOND)


def ended(cause: str = "NORMAL_CLEARING", channel: str = FIRST, **more: object) -> ChannelEnded:
    return ChannelEnded(channel=channel, cause=cause, at=STARTED + 9 * SECOND, **more)


_channels = st.sampled_from([channel_uuid(REQUEST, "A", 1), channel_uuid(REQUEST, "A", 2), "somebody else's"])
_times = st.integers(0, 20).map(lambda n: STARTED + n * SECOND)
_small = st.integers(0, 3)
_facts: st.SearchStrategy[Event] = st.one_of(
    st.builds(ChannelRang, channel=_channels, at=_times, early_media=st.booleans()),
    st.builds(ChannelAnswered, channel=_channels, at=_times),
    st.builds(
        ChannelEnded,
        channel=_channels,
        cause=st.sampled_from(["USER_BUSY", "NORMAL_CLEARING", "OUTCOME_UNKNOWN"]),
        at=_times,
        rang_at=st.sampled_from([0, STARTED]),
        answered_at=st.sampled_from([0, STARTED]),
        found=st.sampled_from(["event", "kept", "missing", "restart"]),
    ),
    st.builds(JobFailed, channel=_channels, cause=st.sampled_from(["USER_BUSY", "INVALID_GATEWAY"])),
    st.builds(StepEnded, key=st.sampled_from(["1/0/1", "1/1/1", "2/0/1", "x"])),
    st.builds(DocumentFetched, number=st.integers(1, 2), body=st.sampled_from([DOCUMENT, "<no", ""])),
    st.builds(
        DocumentFailed, number=st.integers(1, 2), attempt=_small, why=st.just("500"), final=st.booleans()
    ),
    st.builds(
        CallbackDelivered, key=st.sampled_from(["ring", "hangup", "?"]), attempt=_small, status=st.just(200)
    ),
    st.builds(
        CallbackFailed, key=st.sampled_from(["ring", "hangup", "?"]), attempt=_small, why=st.just("500")
    ),
)
_decisions: st.SearchStrategy[Event] = st.one_of(
    st.builds(started, st.integers(1, 2)),
    st.builds(AttemptSkipped, number=st.integers(1, 3), gateway=st.just("g"), why=st.just("cooling")),
    st.builds(LimitReached, limit=st.sampled_from(["TimeLimit", "HangupOnRing"]), cause=st.just("X")),
    st.builds(StepStarted, key=st.sampled_from(["1/0/1", "1/1/1"]), digest=st.sampled_from(["", "ab"])),
    st.builds(VerbEnded, document=st.just(1), verb=_small, name=st.just("Wait")),
    st.builds(ScriptEnded, cause=st.just("X"), why=st.just("")),
    st.builds(AttemptFailed, channel=_channels, cause=st.just("X"), why=st.just("")),
    st.builds(CallEnded, cause=st.just("X")),
    st.just(CallClosed()),
    st.builds(CallbackRenewed, key=st.sampled_from(["ring", "hangup", "?"]), renewal=st.integers(1, 3)),
)
_requests = st.builds(
    request,
    gateways=st.integers(1, 3),
    time_limit=st.none() | st.integers(1, 60),
    hangup_on_ring=st.none() | st.integers(0, 60),
    ring_url=st.sampled_from(["", "http://app/ring/"]),
    send_digits=st.sampled_from(["", "1"]),
    send_on_preanswer=st.booleans(),
)


def outcome(command: Command, draw: st.DataObject) -> Iterator[Event]:
    """A fair world: every command has an outcome, good or bad."""
    match command:
        case Originate():
            yield started(command.number)
            if draw.draw(st.booleans()):
                yield JobFailed(channel=command.channel, cause="USER_BUSY")
        case Watch():
            if draw.draw(st.booleans()):
                yield rang(command.channel)
                yield answered(command.channel)
            yield ended(channel=command.channel)
        case At():
            yield LimitReached(limit=command.limit, cause=command.cause)
        case HangUp():
            yield ended(cause=command.cause, channel=command.channel)
        case PostCallback():
            if draw.draw(st.booleans()):
                yield CallbackDelivered(key=command.delivery, attempt=command.attempt, status=200)
            else:
                yield CallbackFailed(key=command.delivery, attempt=command.attempt, why="500")
        case FetchDocument():
            if draw.draw(st.booleans()):
                yield DocumentFetched(number=command.number, body=DOCUMENT)
            else:
                yield DocumentFailed(number=command.number, attempt=command.attempt, why="500")
        case Step() | ApiStep():
            yield StepStarted(key=command.step, digest=command.digest)
            yield StepEnded(key=command.step)
        case StopStep():
            yield StepEnded(key=command.step, stopped=True)


class Properties(SynchronousTestCase):
    @given(_requests, st.lists(_facts | _decisions, max_size=12))
    def test_no_order_loss_or_doubling_makes_evolve_or_a_policy_raise(self, first, events):
        call = evolve(None, first)
        for event in [*events, *events]:
            call = evolve(call, event)
            due(call)

    @given(st.lists(_facts | _decisions, max_size=5))
    def test_without_its_request_a_call_is_nothing(self, events):
        call = None
        for event in events:
            call = evolve(call, event)
        self.assertIsNone(call)

    @given(_requests, st.lists(_facts, max_size=12), st.data())
    def test_a_call_ends_once_whatever_the_world_tells(self, first, facts, data):
        call, decided = settle(evolve(None, first))
        call, more = settle(evolve(call, started()))
        decided += more
        for fact in facts:
            call, more = settle(evolve(call, fact))
            decided += more
            for command in due(call):
                if isinstance(command, Originate) and data.draw(st.booleans()):
                    call, more = settle(evolve(call, started(command.number)))
                    decided += more
        ends = [each for each in decided if isinstance(each, CallEnded)]
        keys = [each.key for each in decided if isinstance(each, CallbackOwed)]
        self.assertLessEqual(len(ends), 1)
        self.assertEqual(len(keys), len(set(keys)))

    @given(_requests, st.lists(_facts | _decisions, max_size=12), st.integers(0, 12))
    def test_a_prefix_read_back_from_disk_gives_the_same_state(self, first, events, cut):
        history = [first, *events][: cut + 1]
        live = again = None
        for event in history:
            live = evolve(live, event)
        for data in [encode(event) for event in history]:
            again = evolve(again, decode(data))
        self.assertEqual(live, again)
        self.assertEqual([each.key for each in due(live)], [each.key for each in due(again)])

    @given(_requests, st.lists(_facts, max_size=6), st.data())
    def test_nothing_stays_due_in_a_world_that_answers(self, first, facts, data):
        call, _ = settle(evolve(None, first))
        for fact in facts:
            call, _ = settle(evolve(call, fact))
        for _ in range(60):
            commands = due(call)
            if not commands:
                break
            for event in outcome(data.draw(st.sampled_from(commands)), data):
                call, _ = settle(evolve(call, event))
        self.assertEqual(due(call), [])
        self.assertTrue(call.closed)
        self.assertIsNotNone(call.ended)
        self.assertTrue(all(each.settled for each in call.owed))

    @given(_requests, st.lists(_facts, max_size=8), st.data())
    def test_the_same_channel_is_never_dialled_twice(self, first, facts, data):
        call, _ = settle(evolve(None, first))
        dialled = []
        for fact in facts:
            call, _ = settle(evolve(call, fact))
            for command in due(call):
                if isinstance(command, Originate) and data.draw(st.booleans()):
                    dialled.append(command.channel)
                    call, _ = settle(evolve(call, started(command.number)))
        self.assertEqual(len(dialled), len(set(dialled)))


class ChannelUuids(SynchronousTestCase):
    @given(st.uuids(), st.sampled_from("AB"), st.integers(1, 3200))
    def test_are_those_of_version_5_within_the_request(self, request, leg, attempt):
        self.assertEqual(channel_uuid(str(request), leg, attempt), str(uuid5(request, f"{leg}/{attempt}")))


class Dialling(SynchronousTestCase):
    def kinds(self, call: Call) -> list[type[Command]]:
        return [type(each) for each in due(call)]

    def test_a_new_call_is_dialled(self):
        (command,) = due(lived())
        self.assertIsInstance(command, Originate)
        self.assertEqual(command.channel, FIRST)

    def test_a_started_attempt_is_watched_and_never_dialled_again(self):
        self.assertEqual(self.kinds(lived(started())), [Watch])

    def test_the_last_gateway_failed_ends_the_call_with_its_cause_and_no_channel(self):
        for fact in (JobFailed(channel=FIRST, cause="USER_BUSY"), ended("USER_BUSY")):
            call = lived(started(), fact)
            self.assertEqual((call.ended.cause, call.ended.call_uuid), ("USER_BUSY", ""))

    def test_job_and_channel_failing_both_ways_round_try_the_next_gateway_once(self):
        job, channel = JobFailed(channel=FIRST, cause="USER_BUSY"), ended("USER_BUSY")
        for facts in ((job, channel), (channel, job), (job, job), (channel, channel)):
            call = lived(started(), *facts, of=request(gateways=2))
            self.assertEqual([each.number for each in due(call) if isinstance(each, Originate)], [2])

    def test_an_answer_without_ringing_ends_the_gateway_list(self):
        call = lived(started(), answered(), ended(), of=request(gateways=2))
        self.assertEqual((call.ended.cause, call.ended.call_uuid), ("NORMAL_CLEARING", FIRST))

    def test_after_ringing_no_further_gateway_is_tried(self):
        call = lived(started(), rang(), ended("USER_BUSY"), of=request(gateways=2))
        self.assertEqual(call.ended.cause, "USER_BUSY")

    def test_an_attempt_that_nobody_saw_end_is_not_followed_by_another(self):
        for found in ("missing", "restart"):
            call = lived(started(), ended("OUTCOME_UNKNOWN", found=found), of=request(gateways=2))
            self.assertEqual(call.ended.cause, "OUTCOME_UNKNOWN")

    def test_an_attempt_that_left_a_trace_is_followed_by_another_unless_it_rang(self):
        kept = ended("USER_BUSY", found="kept")
        call = lived(started(), kept, of=request(gateways=2))
        self.assertEqual([each.number for each in due(call) if isinstance(each, Originate)], [2])
        for more in ({"rang_at": STARTED}, {"answered_at": STARTED}):
            kept = ended("USER_BUSY", found="kept", **more)
            call = lived(started(), kept, of=request(gateways=2))
            self.assertEqual((call.ended.cause, call.ended.call_uuid), ("USER_BUSY", FIRST))

    def test_each_gateway_is_tried_as_often_as_it_says_one_after_the_other(self):
        gateways = (Gateway("a/", tries=2), Gateway("b/"), Gateway("c/", tries=3))
        call = lived(of=request(gateways=gateways))
        dialled = []
        for number in range(1, 7):
            (command,) = due(call)
            self.assertIsInstance(command, Originate)
            self.assertEqual(command.number, number)
            dialled.append(command.gateway.prefix)
            began = AttemptStarted(
                number=number,
                gateway=command.gateway.prefix,
                channel=command.channel,
                switch="default",
                core="c",
            )
            for event in (began, JobFailed(channel=command.channel, cause=f"CAUSE_{number}")):
                call, _ = settle(evolve(call, event))
        self.assertEqual(dialled, ["a/", "a/", "b/", "c/", "c/", "c/"])
        self.assertEqual((call.ended.cause, call.ended.call_uuid), ("CAUSE_6", ""))
        self.assertEqual(len({each.channel for each in call.attempts}), 6)

    def test_why_the_next_one_was_tried_is_on_record(self):
        gateways = (Gateway("a/", tries=2), Gateway("b/"))
        call, whys = lived(of=request(gateways=gateways)), []
        for fact in (
            JobFailed(channel=FIRST, cause="INVALID_GATEWAY"),
            ended("USER_BUSY", channel_uuid(REQUEST, "A", 2), sip_code="486"),
            ended("NO_ANSWER", channel_uuid(REQUEST, "A", 3)),
        ):
            (command,) = due(call)
            began = AttemptStarted(
                number=command.number,
                gateway=command.gateway.prefix,
                channel=command.channel,
                switch="s",
                core="c",
            )
            call, _ = settle(evolve(call, began))
            call, decided = settle(evolve(call, fact))
            whys += [each.why for each in decided if isinstance(each, AttemptFailed)]
        self.assertEqual(
            whys,
            [
                "FreeSWITCH could not originate it: INVALID_GATEWAY; a/ is tried again",
                "it ended with USER_BUSY (SIP 486) before it rang; b/ is tried next",
                "it ended with NO_ANSWER before it rang; no gateway is left",
            ],
        )

    def test_a_gateway_that_is_passed_over_is_followed_by_the_next(self):
        call = lived(
            AttemptSkipped(number=1, gateway="sofia/gateway/g0/", why="it keeps failing"),
            of=request(gateways=2),
        )
        (command,) = due(call)
        self.assertEqual((command.number, command.gateway.prefix), (2, "sofia/gateway/g1/"))
        call = lived(
            AttemptSkipped(number=1, gateway="sofia/gateway/g0/", why="it keeps failing"),
            started(2),
            JobFailed(channel=channel_uuid(REQUEST, "A", 2), cause="USER_BUSY"),
            of=request(gateways=2),
        )
        self.assertEqual(call.ended.cause, "USER_BUSY")

    def test_a_cause_that_the_operator_says_so_of_ends_the_search(self):
        rules = GatewayRules(prefix="sofia/gateway/g0/", stop_causes=("USER_BUSY", "UNALLOCATED_NUMBER"))
        policy = dial_out(Config(gateways=(rules,)))
        for cause, stops in (("USER_BUSY", True), ("NO_ANSWER", False)):
            call = evolve(evolve(evolve(None, request(gateways=2)), started()), ended(cause))
            (decision,) = policy(call)
            (follows,) = policy(evolve(call, decision.event))
            self.assertEqual(isinstance(follows, Decide), stops)
            self.assertEqual("no other gateway is tried" in decision.event.why, stops)
            if stops:
                self.assertEqual(follows.event.cause, "USER_BUSY")

    def test_what_the_request_says_of_digits_and_variables_goes_with_each_attempt(self):
        call = lived(
            of=request(
                variables=(("a", "1"),),
                send_digits="1w",
                send_on_preanswer=True,
                caller_name="Zoë",
                gateways=(Gateway("a/", timeout=9, codecs="PCMA"),),
            )
        )
        (command,) = due(call)
        self.assertEqual(
            (command.variables, command.send_digits, command.early_digits, command.caller_id_name),
            ((("a", "1"),), "1w", True, "Zoë"),
        )
        self.assertEqual(command.gateway, Gateway("a/", timeout=9, codecs="PCMA"))

    def test_a_ring_that_only_the_end_told_of_still_counts(self):
        call = lived(started(), ended("NO_ANSWER", rang_at=STARTED), of=request(gateways=2))
        self.assertEqual(call.ended.call_uuid, FIRST)
        self.assertEqual([each.what.key for each in call.owed], ["ring", "hangup"])


class Limits(SynchronousTestCase):
    def at(self, call: Call) -> list[tuple[str, int]]:
        return [(each.limit, each.when) for each in due(call) if isinstance(each, At)]

    def test_hangup_on_ring_counts_from_the_first_ring(self):
        call = lived(started(), rang(), of=request(hangup_on_ring=7))
        self.assertEqual(self.at(call), [("HangupOnRing", STARTED + 8 * SECOND)])

    def test_hangup_on_ring_never_runs_without_ring_or_early_media(self):
        call = lived(started(), answered(), of=request(hangup_on_ring=7))
        self.assertEqual([limit for limit, _ in self.at(call)], ["TimeLimit"])

    def test_hangup_on_ring_goes_on_after_the_answer(self):
        call = lived(started(), rang(), answered(), of=request(hangup_on_ring=7))
        self.assertEqual(self.at(call), [("HangupOnRing", STARTED + 8 * SECOND)])

    def test_of_several_limits_the_first_is_due(self):
        for seconds, first in ((4, ("TimeLimit", 7)), (5, ("HangupOnRing", 8)), (6, ("HangupOnRing", 8))):
            call = lived(started(), rang(), answered(), of=request(hangup_on_ring=7, time_limit=seconds))
            self.assertEqual(self.at(call), [(first[0], STARTED + first[1] * SECOND)])

    def test_ringing_is_limited_by_us_where_early_media_ends_the_time_out_of_the_switch(self):
        early = ChannelRang(channel=FIRST, at=STARTED + SECOND, early_media=True, created_at=STARTED)
        for digits, preanswer, limits in (
            ("1", True, [("GatewayTimeouts", STARTED + 20 * SECOND)]),
            ("1", False, []),
            ("", True, []),
        ):
            of = request(
                gateways=(Gateway("a/", timeout=20),), send_digits=digits, send_on_preanswer=preanswer
            )
            self.assertEqual(self.at(lived(started(), early, of=of)), limits)
            answer = [each for each, _ in self.at(lived(started(), early, answered(), of=of))]
            self.assertEqual(answer, ["TimeLimit"])

    def test_ringing_is_limited_by_the_time_out_of_the_gateway_that_rings(self):
        listed = (Gateway("a/", timeout=20, tries=2), Gateway("b/", timeout=30), Gateway("c/", timeout=40))
        of = request(gateways=listed, send_digits="1", send_on_preanswer=True)
        for number, timeout in ((1, 20), (2, 20), (3, 30), (4, 40)):
            earlier = [channel_uuid(REQUEST, "A", each) for each in range(1, number)]
            events = [
                event
                for each, channel in enumerate(earlier, 1)
                for event in (started(each), ended("USER_BUSY", channel))
            ]
            rings = rang(channel_uuid(REQUEST, "A", number))
            limits = self.at(lived(*events, started(number), rings, of=of))
            self.assertEqual(limits, [("GatewayTimeouts", rings.at + timeout * SECOND)])

    def test_without_a_time_limit_the_longest_call_is_the_limit(self):
        call = lived(started(), answered())
        self.assertEqual(self.at(call), [("TimeLimit", STARTED + (3 + CONFIG.max_call_duration) * SECOND)])

    def test_only_a_limit_on_record_hangs_up(self):
        call = lived(started(), rang(), of=request(hangup_on_ring=0))
        self.assertFalse(any(isinstance(each, HangUp) for each in due(call)))
        call = evolve(call, LimitReached(limit="HangupOnRing", cause="ORIGINATOR_CANCEL"))
        self.assertEqual(
            [each.cause for each in due(call) if isinstance(each, HangUp)], ["ORIGINATOR_CANCEL"]
        )


class HangingUp(SynchronousTestCase):
    ASKED = HangupRequested(cause="NORMAL_CLEARING")

    def kinds(self, call: Call) -> set[type[Command]]:
        return {type(each) for each in due(call)}

    def test_of_a_call_that_nobody_was_dialled_for_ends_it(self):
        call, decided = settle(evolve(evolve(None, request(3)), self.ASKED))
        self.assertEqual(decided[0], CallEnded(cause="NORMAL_CLEARING"))
        self.assertEqual(self.kinds(call), {PostCallback})

    def test_between_two_gateways_ends_the_call(self):
        failed = AttemptFailed(channel=FIRST, cause="USER_BUSY", why="")
        call = evolve(None, request(3))
        for event in (started(), ended("USER_BUSY"), failed, self.ASKED):
            call = evolve(call, event)
        _, decided = settle(call)
        self.assertEqual(decided[0], CallEnded(cause="NORMAL_CLEARING"))

    def test_at_every_point_of_an_attempt_hangs_up_and_keeps_no_other_limit(self):
        of = request(3, hangup_on_ring=9, send_digits="1", send_on_preanswer=True)
        for before in ((), (rang(),), (answered(),), (rang(), answered())):
            call = lived(started(), *before, self.ASKED, of=of)
            (hang_up,) = [each for each in due(call) if isinstance(each, HangUp)]
            self.assertEqual((hang_up.channel, hang_up.cause), (FIRST, "NORMAL_CLEARING"))
            self.assertLessEqual(self.kinds(call), {HangUp, Watch, PostCallback})

    def test_of_an_attempt_that_did_not_ring_is_followed_by_no_other(self):
        for end in (ended("NORMAL_CLEARING"), ended("USER_BUSY"), JobFailed(channel=FIRST, cause="X")):
            call = evolve(evolve(evolve(None, request(3)), started()), self.ASKED)
            _, decided = settle(evolve(call, end))
            self.assertEqual([type(each) for each in decided[:2]], [AttemptFailed, CallEnded])
            self.assertIn("no other gateway is tried, for the call is to be hung up", decided[0].why)
            self.assertEqual(decided[1].cause, "NORMAL_CLEARING")

    def test_stops_the_script_and_a_cause_that_came_first_stays(self):
        document = DocumentFetched(number=1, body=DOCUMENT)
        before = lived(started(), answered(), document)
        self.assertIn(Step, self.kinds(before))
        self.assertEqual(self.kinds(evolve(before, self.ASKED)), {HangUp, Watch})
        for first in (
            ScriptEnded(cause="USER_BUSY", why="Hangup"),
            LimitReached(limit="TimeLimit", cause="USER_BUSY"),
        ):
            call = lived(started(), answered(), first, self.ASKED)
            self.assertEqual([each.cause for each in due(call) if isinstance(each, HangUp)], ["USER_BUSY"])

    def test_is_asked_for_once_and_not_after_the_end(self):
        call = evolve(evolve(None, request()), self.ASKED)
        self.assertEqual(evolve(call, HangupRequested(cause="USER_BUSY")).hangup, self.ASKED)
        over = evolve(evolve(None, request()), CallEnded(cause="USER_BUSY"))
        self.assertIsNone(evolve(over, self.ASKED).hangup)

    @given(_requests, st.lists(_facts, max_size=8), st.integers(0, 8), st.data())
    def test_wherever_it_comes_nobody_is_dialled_after_it_and_the_call_ends(self, first, facts, place, data):
        call, _ = settle(evolve(None, first))
        for fact in facts[:place]:
            call, _ = settle(evolve(call, fact))
        over = call.ended is not None
        call, _ = settle(evolve(call, self.ASKED))
        for fact in facts[place:]:
            call, _ = settle(evolve(call, fact))
            self.assertNotIn(Originate, self.kinds(call))
        for _ in range(60):
            for command in due(call)[:1]:
                self.assertNotIsInstance(command, Originate)
                for event in outcome(command, data):
                    call, _ = settle(evolve(call, event))
        self.assertIsNotNone(call.ended)
        self.assertTrue(over or call.hangup)


class Callbacks(SynchronousTestCase):
    def posts(self, call: Call) -> list[tuple[str, int]]:
        return [(each.delivery, each.attempt) for each in due(call) if isinstance(each, PostCallback)]

    def test_the_first_try_of_a_later_callback_waits_for_the_earlier_one(self):
        call = lived(started(), rang(), ended())
        self.assertEqual(self.posts(call), [("ring", 1)])

    def test_a_retry_holds_up_nothing(self):
        call = lived(started(), rang(), ended(), CallbackFailed(key="ring", attempt=1, why="500"))
        self.assertEqual(self.posts(call), [("ring", 2), ("hangup", 1)])

    def test_of_hundreds_that_fail_the_latest_are_tried_again_first(self):
        call = lived(started(), rang(), ended())
        for number in range(300):
            owed = CallbackOwed(key=f"n{number}", url="http://a/", method="POST", params=())
            call = evolve(evolve(call, owed), CallbackFailed(key=owed.key, attempt=1, why="500"))
        latest = [(f"n{number}", 2) for number in range(300 - MOST_RETRIED, 300)]
        self.assertEqual(self.posts(call), [*latest, ("ring", 1)])
        for key, _ in latest:
            call = evolve(call, CallbackDelivered(key=key, attempt=2, status=200))
        earlier = [(f"n{number}", 2) for number in range(300 - 2 * MOST_RETRIED, 300 - MOST_RETRIED)]
        self.assertEqual(self.posts(call), [*earlier, ("ring", 1)])

    def test_a_call_is_closed_when_it_has_ended_and_all_is_told_and_not_before(self):
        told = [CallbackDelivered(key=key, attempt=1, status=200) for key in ("ring", "hangup")]
        events = [started(), rang(), told[0], ended(), told[1]]
        for number in range(len(events)):
            self.assertFalse(lived(*events[:number]).closed, events[:number])
        self.assertTrue(lived(*events).closed)

    def test_after_the_last_try_it_is_given_up_and_the_call_is_closed(self):
        """Defect 23 of v0.1: it tried once, and nothing told that it had failed."""
        failures = [
            CallbackFailed(key=key, attempt=n, why="500") for key in ("ring", "hangup") for n in (1, 2, 3)
        ]
        call = lived(started(), rang(), ended(), *failures)
        self.assertTrue(call.closed)
        self.assertEqual([each.given_up for each in call.owed], [True, True])

    def test_a_renewed_one_is_tried_anew_and_the_call_closed_once_more_with_what_is_left(self):
        failures = [
            CallbackFailed(key=key, attempt=n, why="500") for key in ("ring", "hangup") for n in (1, 2, 3)
        ]
        closed = lived(started(), rang(), ended(), *failures)
        call = evolve(closed, CallbackRenewed(key="ring", renewal=1))
        self.assertEqual((call.closed, call.owed[0].why), (False, "500"))
        self.assertEqual(self.posts(call), [("ring", 1)])
        call, decided = settle(evolve(call, CallbackDelivered(key="ring", attempt=1, status=200)))
        self.assertEqual(decided, [CallClosed(undelivered=1, renewal=1)])
        self.assertGreater(decided[0].rank, CallClosed(undelivered=2).rank)
        again, _ = settle(evolve(call, CallbackRenewed(key="hangup", renewal=2)))
        for event in failures[3:]:
            again, decided = settle(evolve(again, event))
        self.assertEqual(
            decided, [CallbackGivenUp(key="hangup", why="500"), CallClosed(undelivered=1, renewal=2)]
        )

    def test_a_renewal_of_what_was_not_given_up_changes_nothing_but_that_the_call_is_closed_again(self):
        closed = lived(
            started(),
            rang(),
            ended(),
            CallbackDelivered(key="ring", attempt=1, status=200),
            CallbackDelivered(key="hangup", attempt=1, status=200),
        )
        for key in ("ring", "?"):
            call, decided = settle(evolve(closed, CallbackRenewed(key=key, renewal=1)))
            self.assertEqual(decided, [CallClosed(renewal=1)])
            self.assertEqual(call.owed, closed.owed)


class Scripts(SynchronousTestCase):
    def answered(self, *events: Event) -> Call:
        return lived(started(), answered(), *events)

    def steps(self, call: Call) -> list[tuple[str, str, bool]]:
        return [(each.step, each.arg, each.started) for each in due(call) if isinstance(each, Step)]

    def digest(self, call: Call) -> str:
        return next(each.digest for each in due(call) if isinstance(each, Step | ApiStep))

    def test_the_verbs_run_one_after_the_other_and_the_end_hangs_up(self):
        call = self.answered(DocumentFetched(number=1, body=DOCUMENT))
        self.assertEqual(self.steps(call), [("1/0/1", "silence_stream://2000", False)])
        call = evolve(call, StepStarted(key="1/0/1", digest=self.digest(call)))
        self.assertEqual(self.steps(call), [("1/0/1", "silence_stream://2000", True)])
        call, _ = settle(evolve(call, StepEnded(key="1/0/1")))
        self.assertEqual(self.steps(call), [("1/1/1", "silence_stream://1000", False)])
        call, _ = settle(evolve(call, StepEnded(key="1/1/1")))
        self.assertEqual(self.steps(call), [])
        self.assertEqual([each.cause for each in due(call) if isinstance(each, HangUp)], ["NORMAL_CLEARING"])

    def test_hangup_ends_the_call_with_its_reason(self):
        call = self.answered(DocumentFetched(number=1, body="<Response><Hangup reason='busy'/></Response>"))
        self.assertEqual([each.cause for each in due(call) if isinstance(each, HangUp)], ["USER_BUSY"])

    def test_a_document_that_cannot_be_run_ends_the_call_and_says_where(self):
        call = self.answered(DocumentFetched(number=1, body="<Response>\n<Dance/></Response>"))
        self.assertEqual(call.script.end.cause, "PROTOCOL_ERROR")
        self.assertIn("line 2, column 1: unknown verb Dance", call.script.end.why)

    def test_an_empty_answer_is_a_document_without_verbs(self):
        call = self.answered(DocumentFetched(number=1, body=" "))
        self.assertEqual(call.script.end.cause, "NORMAL_CLEARING")

    def test_a_document_that_cannot_be_fetched_ends_the_call(self):
        failures = [DocumentFailed(number=1, attempt=n, why="status 500") for n in (1, 2)]
        call = self.answered(*failures)
        self.assertEqual(
            (call.script.end.cause, call.script.end.why), ("NETWORK_OUT_OF_ORDER", "document 1: status 500")
        )
        self.assertEqual(call.script.end.complaint, call.script.end.why)

    def test_a_changed_verb_is_abandoned_and_the_next_one_runs(self):
        call = self.answered(DocumentFetched(number=1, body=DOCUMENT), StepStarted(key="1/0/1", digest="old"))
        self.assertEqual(self.steps(call), [])
        self.assertEqual([each.step for each in due(call) if isinstance(each, StopStep)], ["1/0/1"])
        call, decided = settle(evolve(call, StepEnded(key="1/0/1", stopped=True)))
        self.assertEqual([type(each) for each in decided], [VerbAbandoned])
        self.assertIn("step 1/0/1 is recorded with another command", decided[0].complaint)
        self.assertEqual([step for step, _, _ in self.steps(call)], ["1/1/1"])

    def test_nothing_is_run_any_more_once_the_channel_is_gone(self):
        call = self.answered(DocumentFetched(number=1, body=DOCUMENT), ended())
        self.assertEqual(self.steps(call), [])


class _Odd(Verb, frozen=True, kw_only=True):
    """Does what a test wants; what it lived through is in *seen*."""

    body: ClassVar[Callable[[Caller], Steps]]

    def run(self, call: Caller) -> Steps:
        return (yield from type(self).body(call))


class Outcomes(SynchronousTestCase):
    """What verbs may do and return, by a verb of the test."""

    def setUp(self) -> None:
        self.session = lambda call: (("Document", str(call.script.number)),)

    def policies(self, body: Callable[[Caller], Steps], config: Config = CONFIG) -> list[Policy]:
        verb = type("Odd", (_Odd,), {"body": staticmethod(body)}, frozen=True, kw_only=True)
        return [run_script({"Odd": verb, "Wait": PLUGINS.verbs["Wait"]}, self.session, config), *POLICIES[1:]]

    def begin(self, body: Callable[[Caller], Steps], config: Config = CONFIG) -> None:
        self.running = self.policies(body, config)
        self.call = evolve(None, request())
        for event in (started(), answered()):
            self.tell(event)
        self.tell(DocumentFetched(number=1, body="<Response><Odd/><Wait/></Response>"))

    def tell(self, event: Event) -> list[Event]:
        self.call, decided = settle(evolve(self.call, event), self.running)
        return decided

    def due(self, *kinds: type[Command]) -> list[Command]:
        return [each for each in due(self.call, self.running) if isinstance(each, kinds)]

    def start(self, command: Step | ApiStep) -> None:
        self.tell(StepStarted(key=command.step, digest=command.digest))

    def test_a_redirect_fetches_what_it_names_from_that_event_alone(self) -> None:
        def body(call: Caller) -> Steps:
            yield from ()
            return Goto("http://app/next/", "GET", (("Digits", "1"),))

        self.begin(body)
        (event,) = [self.call.script.source]
        self.assertEqual(
            event,
            Redirected(
                document=1, url="http://app/next/", method="GET", params=(("Document", "2"), ("Digits", "1"))
            ),
        )
        (fetch,) = self.due(FetchDocument)
        self.assertEqual(
            (fetch.number, fetch.url, fetch.method, fetch.params), (2, event.url, event.method, event.params)
        )
        self.tell(StepEnded(key="1/0/1"))  # of the old document: of no meaning
        self.assertEqual(self.call.script.history, ())
        self.tell(DocumentFetched(number=2, body=DOCUMENT))
        self.assertEqual([each.step for each in self.due(Step)], ["2/0/1"])

    def test_without_a_method_the_configuration_says_how(self) -> None:
        def body(call: Caller) -> Steps:
            yield from ()
            return Goto("http://app/next/")

        self.begin(body, Config(default_http_method="GET"))
        self.assertEqual([each.method for each in self.due(FetchDocument)], ["GET"])

    def circle(self, body: Callable[[Caller], Steps], config: Config = CONFIG, length: int = 0) -> int:
        """How many documents there were until the script ended."""
        self.begin(body, config)
        while not self.call.script.end:
            for step in self.due(Step):
                self.start(step)
                self.tell(StepEnded(key=step.step))
            number = self.call.script.number
            self.tell(DocumentFetched(number=number, body="<Response><Odd/></Response>" + " " * length))
        return self.call.script.number

    def test_documents_that_only_lead_to_each_other_end_the_call(self) -> None:
        def body(call: Caller) -> Steps:
            yield from ()
            return Goto("http://app/round/")

        self.assertEqual(self.circle(body), MAX_IDLE + 1)
        end = self.call.script.end
        self.assertEqual((end.cause, end.fault), ("PROTOCOL_ERROR", True))
        self.assertIn("document 51, POST http://app/round/: Odd leads to http://app/round/, and", end.why)

    def test_documents_that_do_something_may_lead_to_each_other_for_long(self) -> None:
        def body(call: Caller) -> Steps:
            yield from execute("playback", "x")
            return Goto("http://app/round/")

        self.assertEqual(self.circle(body, Config(max_documents=120)), 120)
        self.assertIn("120 documents (MAX_DOCUMENTS)", self.call.script.end.complaint)

    def test_all_documents_of_a_call_together_have_a_greatest_length(self) -> None:
        def body(call: Caller) -> Steps:
            yield from execute("playback", "x")
            return Goto("http://app/round/")

        self.assertEqual(self.circle(body, length=250_000), 1 + -(-MIN_READ // 250_028))
        end = self.call.script.end
        self.assertEqual((end.cause, end.fault), ("PROTOCOL_ERROR", True))
        self.assertIn("documents of a call may have 8388608 characters in all", end.complaint)
        self.assertEqual(self.circle(body, Config(max_documents=10_000), length=250_000), 329)

    def test_a_call_that_has_done_too_much_is_ended(self) -> None:
        def body(call: Caller) -> Steps:
            yield from execute("playback", "x")
            return Again()

        self.begin(body)
        self.call = replace(self.call, version=MIN_EVENTS - 4)
        (step,) = self.due(Step)
        self.start(step)
        self.tell(StepEnded(key=step.step))  # and the round it ends
        self.assertIsNone(self.call.script.end)
        (step,) = self.due(Step)
        self.start(step)
        end = self.call.script.end
        self.assertEqual((end.cause, end.fault), ("PROTOCOL_ERROR", True))
        self.assertIn("the call has 50000 events, and may have no more", end.complaint)
        self.assertEqual([each.cause for each in self.due(HangUp)], ["PROTOCOL_ERROR"])

    def test_a_verb_may_begin_anew_and_its_keys_go_on(self) -> None:
        rounds = []

        def body(call: Caller) -> Steps:
            rounds.append(call.round)
            yield from execute("playback", "x")
            return Again() if call.round < 2 else None

        self.begin(body)
        for number in (1, 2, 3):
            (step,) = self.due(Step)
            self.assertEqual(step.step, f"1/0/{number}")
            self.start(step)
            decided = self.tell(StepEnded(key=step.step))
            if number < 3:
                self.assertEqual(decided, [VerbRound(document=1, verb=0, steps=number)])
                self.assertEqual(self.call.script.history, ())
                self.tell(StepEnded(key=step.step))  # twice: of an earlier round by now
                self.assertEqual(self.call.script.history, ())
        self.assertEqual(set(rounds), {0, 1, 2})
        self.assertEqual([each.step for each in self.due(Step)], ["1/1/1"])

    def test_a_verb_that_begins_anew_without_doing_anything_is_abandoned(self) -> None:
        def body(call: Caller) -> Steps:
            yield from ()
            return Again()

        self.begin(body)
        self.assertEqual([each.step for each in self.due(Step)], ["1/1/1"])

    def test_only_one_application_runs_at_a_time(self) -> None:
        def body(call: Caller) -> Steps:
            first = yield Start(Execute("playback", "a"))
            second = yield Start(Execute("playback", "b"))
            yield Start(Api("uuid_x", (call.channel,)))
            yield Wait(second)
            yield Wait(first)

        self.begin(body)
        self.assertEqual([each.step for each in self.due(Step, ApiStep)], ["1/0/1", "1/0/3"])
        (first,) = self.due(Step)
        self.start(first)
        self.tell(StepEnded(key="1/0/1"))
        self.assertEqual([each.step for each in self.due(Step)], ["1/0/2"])
        (command,) = self.due(ApiStep)
        self.assertEqual((command.command, command.words), ("uuid_x", (FIRST,)))

    def test_a_step_may_be_broken_off_and_the_next_one_waits_for_it(self) -> None:
        def body(call: Caller) -> Steps:
            key = yield Start(Execute("playback", "a"))
            yield from api("uuid_x")
            yield Stop(key)
            yield from execute("playback", "b")

        self.begin(body)
        step, command = self.due(Step, ApiStep)
        self.start(step)
        self.start(command)
        self.tell(StepEnded(key=command.step))
        (stop,) = self.due(Step, StopStep)
        self.assertEqual((type(stop), stop.step), (StopStep, step.step))
        self.tell(StepEnded(key=step.step, stopped=True))
        self.assertEqual([each.arg for each in self.due(Step)], ["b"])

    def test_a_step_that_is_broken_off_before_it_began_never_begins(self) -> None:
        def body(call: Caller) -> Steps:
            key = yield Start(Execute("playback", "a"))
            yield Stop(key)
            heard = yield Wait(key)
            return Finish("X", str(heard.stopped))

        self.begin(body)
        self.assertEqual(self.due(Step, StopStep), [])
        self.assertEqual(self.call.script.end.why, "True")

    def test_a_verb_that_is_over_has_what_it_left_running_broken_off_first(self) -> None:
        def body(call: Caller) -> Steps:
            yield Start(Execute("playback", "a"))
            yield from api("uuid_x")
            return Goto("http://app/next/")

        self.begin(body)
        step, command = self.due(Step, ApiStep)
        self.start(step)
        self.tell(StepEnded(key=command.step))
        self.assertEqual([each.step for each in self.due(StopStep)], ["1/0/1"])
        self.assertIsNone(self.call.script.source)
        self.tell(StepEnded(key="1/0/1", stopped=True))
        self.assertEqual([each.number for each in self.due(FetchDocument)], [2])

    def notify(self, call: Caller) -> Steps:
        told = yield from do(Tell("http://app/notice/", "GET", (("a", "b"),)))
        return Finish("X", told.failed)

    def test_the_application_is_told_once_it_was_tried(self) -> None:
        self.begin(self.notify)
        (owed,) = [each.what for each in self.call.owed]
        self.assertEqual(
            owed,
            CallbackOwed(
                key="1/0/1",
                url="http://app/notice/",
                method="GET",
                params=(("Document", "1"), ("a", "b")),
            ),
        )
        self.assertEqual([each.delivery for each in self.due(PostCallback)], ["1/0/1"])
        self.assertIsNone(self.call.script.end)
        self.tell(CallbackDelivered(key="1/0/1", attempt=1, status=200))
        self.assertEqual(self.call.script.end.why, "")

    def test_what_fails_to_be_told_is_tried_again_and_the_script_goes_on(self) -> None:
        self.begin(self.notify)
        self.tell(CallbackFailed(key="1/0/1", attempt=1, why="status 500"))
        self.assertEqual(self.call.script.end.why, "status 500")
        self.assertEqual([each.attempt for each in self.due(PostCallback)], [2])

    def test_when_the_caller_is_gone_only_tidings_are_left(self) -> None:
        def body(call: Caller) -> Steps:
            heard = yield from execute("record", "x", ("record_ms",))
            yield from do(Tell("http://app/recorded/", params=tuple(heard.vars.items())))
            yield from do(Tell("http://app/also/"))
            yield from execute("playback", "never")
            return Goto("http://app/never/")

        self.begin(body)
        (step,) = self.due(Step)
        self.start(step)
        self.tell(StepEnded(key=step.step, result=(("record_ms", "900"),), cut=True))
        self.assertEqual(self.due(Step, FetchDocument, PostCallback), [])  # it will soon be gone
        decided = self.tell(ended())
        kinds = [type(each) for each in decided]
        self.assertEqual(kinds, [StepStarted, CallbackOwed, CallEnded, CallbackOwed])
        self.assertEqual(decided[1].params, (("Document", "1"), ("record_ms", "900")))
        self.tell(CallbackDelivered(key="1/0/2", attempt=1, status=200))
        self.assertEqual([each.delivery for each in self.due(PostCallback)], ["hangup"])
        self.tell(CallbackDelivered(key="hangup", attempt=1, status=200))
        self.assertEqual([each.delivery for each in self.due(PostCallback)], ["1/0/3"])
        self.assertFalse(self.call.closed)
        decided = self.tell(CallbackDelivered(key="1/0/3", attempt=1, status=200))
        self.assertEqual([type(each) for each in decided], [StepEnded, ScriptEnded, CallClosed])
        self.assertEqual(decided[1].cause, "NORMAL_CLEARING")

    def test_a_verb_that_had_not_begun_is_not_asked_when_the_caller_is_gone(self) -> None:
        self.begin(self.notify)
        call = evolve(None, request())
        for event in (
            started(),
            answered(),
            DocumentFetched(number=1, body="<Response><Odd/></Response>"),
            ended(),
        ):
            call = evolve(call, event)
        self.assertEqual(list(self.running[0](call)), [])


class Delays(SynchronousTestCase):
    def test_between_tries_double_up_to_the_longest_and_are_spread_by_a_quarter(self):
        for failures, middle in ((1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (100_000, 60)):
            delays = [backoff(failures, str(key), 1.0, 60.0) for key in range(200)]
            self.assertTrue(all(0.75 * middle <= each <= 1.25 * middle for each in delays), failures)
            self.assertTrue(max(delays) - min(delays) > 0.4 * middle)
        self.assertEqual(backoff(0, "key", 1.0, 60.0), 0.0)

    def test_are_the_same_after_a_restart(self):
        self.assertEqual(backoff(3, "key", 1.0, 60.0), backoff(3, "key", 1.0, 60.0))
