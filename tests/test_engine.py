"""The engine: what is due is started once, decisions go in batches, failures back off, nothing is lost."""

from itertools import pairwise
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from plivotx.commands import At, Decide, HangUp, Watch
from plivotx.engine import Engine
from plivotx.events import (
    AttemptStarted,
    CallClosed,
    CallEnded,
    CallRequested,
    ChannelAnswered,
    ChannelRang,
    Gateway,
    HangupRequested,
    LimitReached,
    VerbEnded,
)
from plivotx.log.interface import Conflict, Unwritable
from plivotx.log.memory import MemoryDisk, MemoryLog

STREAM = "1b4e28ba-2fa1-4d30-8f2c-1f2e3d4c5b6a"
REQUEST = CallRequested(
    request_uuid=STREAM,
    from_number="1",
    to_number="2",
    gateways=(Gateway(prefix="g/"),),
    answer_url="http://a/",
    hangup_url="http://a/",
)
STARTED = AttemptStarted(number=1, gateway="g/", channel="c", switch="s", core="x")
WATCH = Watch(stream=STREAM, channel="c", switch="s", core="x", backstop=1, cause="X")
HANG_UP = HangUp(stream=STREAM, channel="c", switch="s", cause="X")


class EngineTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.disk = MemoryDisk()
        self.asked = []
        self.policies = []
        self.handlers = {}

    def engine(self):
        self.log = MemoryLog(self.disk, schedule=lambda f: self.clock.callLater(0.001, f), wall=lambda: 0.0)
        made = Engine(self.log, self.policies, self.handlers, self.clock)
        self.successResultOf(Deferred.fromCoroutine(made.start()))
        self.addCleanup(made.stop)
        return made

    def advance(self, seconds=0.1):
        self.clock.pump([0.001] * int(seconds * 1000))

    def names(self):
        return [type(each.event).__name__ for each in self.disk.streams.get(STREAM, ())]

    def handler(self, command, ticket):
        """Records that it was asked and never ends."""
        self.asked.append(command)
        self.tickets = [*getattr(self, "tickets", []), ticket]
        waiting = Deferred()
        self.waiting = [*getattr(self, "waiting", []), waiting]
        return waiting

    def test_what_is_due_is_started_once_however_often_it_is_found_due(self):
        self.policies.append(lambda call: [WATCH])
        self.handlers[Watch] = self.handler
        engine = self.engine()
        engine.request(REQUEST)
        self.advance()
        self.log.append(STREAM, [STARTED])
        self.advance()
        self.assertEqual(self.asked, [WATCH])

    def test_between_the_decisions_of_one_batch_nobody_is_asked_again(self):
        states = []

        def policy(call):
            states.append(call.version)
            if not call.ended:
                return [Decide(stream=STREAM, event=CallEnded(cause="X"))]
            return [] if call.closed else [Decide(stream=STREAM, event=CallClosed())]

        self.policies.append(policy)
        engine = self.engine()
        engine.request(REQUEST)
        self.advance()
        self.assertEqual(self.names(), ["CallRequested", "CallEnded", "CallClosed"])
        self.assertEqual(
            states, [1, 2, 3]
        )  # what follows from each decision: it is so once they are on record

    def test_a_fact_that_comes_while_decisions_are_on_their_way_is_asked_about_once_they_are_refused(self):
        def policy(call):
            if call.version == 1:
                yield Decide(stream=STREAM, event=LimitReached(limit="TimeLimit", cause="X"))
                yield Decide(stream=STREAM, event=CallEnded(cause="X"))
            elif call.version == 2 and not call.attempts:
                yield Decide(stream=STREAM, event=CallEnded(cause="X"))
            elif call.attempts:
                yield WATCH

        self.policies.append(policy)
        self.handlers[Watch] = self.handler
        engine = self.engine()
        log, append = self.log, self.log.append

        def overtaken(stream, events, *more, **others):
            if isinstance(events[0], LimitReached):
                append(stream, [STARTED])
            return append(stream, events, *more, **others)

        self.patch(log, "append", overtaken)
        engine.request(REQUEST)
        self.advance()
        self.assertEqual(self.names(), ["CallRequested", "AttemptStarted"])
        self.assertEqual(self.asked, [WATCH])

    def test_what_is_no_longer_due_and_only_waited_is_forgotten(self):
        self.policies.append(lambda call: [] if call.attempts else [WATCH])
        self.handlers[Watch] = self.handler
        engine = self.engine()
        engine.request(REQUEST)
        self.advance()
        self.log.append(STREAM, [STARTED])
        self.advance()
        self.assertTrue(self.waiting[0].called)  # cancelled: nobody else fires it
        self.assertEqual(engine.idle()["running"], 0)

    def test_what_was_sent_is_not_cancelled_and_its_outcome_is_recorded(self):
        self.policies.append(lambda call: [] if call.attempts else [WATCH])
        sent = Deferred()

        async def handle(command, ticket):
            with ticket.sent():
                await sent
                await ticket.record(ChannelRang(channel="c", at=1))
            self.fail("a command that is no longer due went on behind what was sent")

        self.handlers[Watch] = handle
        engine = self.engine()
        engine.request(REQUEST)
        self.advance()
        self.log.append(STREAM, [STARTED])
        self.advance()
        sent.callback(None)
        self.advance()
        self.assertEqual(self.names()[-1], "ChannelRang")

    def test_the_outcome_of_what_was_sent_last_is_recorded_though_it_is_no_longer_due(self):
        self.policies.append(lambda call: [] if call.attempts else [WATCH])
        sent = Deferred()

        async def handle(command, ticket):
            with ticket.sent(last=True):
                await sent
            return (ChannelRang(channel="c", at=1),)

        self.handlers[Watch] = handle
        engine = self.engine()
        engine.request(REQUEST)
        self.advance()
        self.log.append(STREAM, [STARTED])
        self.advance()
        sent.callback(None)
        self.advance()
        self.assertEqual(self.names()[-1], "ChannelRang")
        self.assertEqual(engine.idle()["running"], 0)

    def test_what_is_due_anew_while_the_old_one_runs_on_is_started_after_it(self):
        self.policies.append(lambda call: [] if call.version == 2 else [WATCH])
        sent = Deferred()

        async def handle(command, ticket):
            self.asked.append(ticket.call.version)
            with ticket.sent():
                await sent
            await Deferred()

        self.handlers[Watch] = handle
        engine = self.engine()
        engine.request(REQUEST)
        self.advance()
        for event in (STARTED, ChannelRang(channel="c", at=1)):
            self.log.append(STREAM, [event])
            self.advance()
        self.assertEqual(self.asked, [1])
        sent.callback(None)
        self.advance()
        self.assertEqual(self.asked, [1, 3])

    def test_decisions_that_follow_from_each_other_are_one_batch(self):
        def policy(call):
            if not call.ended:
                yield Decide(stream=STREAM, event=CallEnded(cause="X"))
            elif not call.closed:
                yield Decide(stream=STREAM, event=CallClosed())

        self.policies.append(policy)
        engine = self.engine()
        engine.request(REQUEST)
        self.advance()
        self.assertEqual(self.names(), ["CallRequested", "CallEnded", "CallClosed"])
        self.assertEqual(engine.idle(), dict.fromkeys(engine.idle(), 0))

    def ending_once_it_rang(self):
        """An engine with a call whose end is decided once it has rung, and what is appended from now on."""
        end = Decide(stream=STREAM, event=CallEnded(cause="X"))
        self.policies.append(lambda call: [end] if call.up and call.up.rang_at else [])
        engine = self.engine()
        self.log.append(STREAM, [REQUEST, STARTED])
        self.advance()
        append, appended = self.log.append, []

        def noted(stream, events, expected=None):
            appended.extend(type(each).__name__ for each in events)
            return append(stream, events, expected)

        self.patch(self.log, "append", noted)
        return engine, appended

    def test_what_is_decided_because_of_a_fact_goes_into_the_log_with_it(self):
        engine, appended = self.ending_once_it_rang()
        told = engine.tell("c", ChannelRang(channel="c", at=1))
        self.assertEqual(appended, ["ChannelRang", "CallEnded"])
        self.advance()
        self.successResultOf(told)
        self.assertEqual(self.names()[2:], appended)

    def test_nothing_is_decided_while_a_fact_is_on_its_way_for_it_would_be_refused(self):
        engine, appended = self.ending_once_it_rang()
        for fact in (ChannelAnswered(channel="c", at=2), ChannelRang(channel="c", at=1)):
            self.assertNoResult(engine.tell("c", fact))
        self.advance()
        self.assertEqual(appended, ["ChannelAnswered", "ChannelRang", "CallEnded"])
        self.assertEqual(self.names()[2:], appended)

    def test_a_fact_is_recorded_although_what_was_decided_because_of_it_is_overtaken(self):
        engine, appended = self.ending_once_it_rang()
        asked = Deferred.fromCoroutine(engine.hang_up("Y", stream=STREAM))  # on its way before
        told = engine.tell("c", ChannelRang(channel="c", at=1))
        self.advance()
        self.successResultOf(asked)
        self.successResultOf(told)
        self.assertEqual(
            appended, ["HangupRequested", "ChannelRang", "CallEnded", "ChannelRang", "CallEnded"]
        )
        self.assertEqual(self.names()[2:], ["HangupRequested", "ChannelRang", "CallEnded"])

    def test_a_fact_is_recorded_although_what_is_decided_because_of_it_cannot_be_written(self):
        broken = Decide(stream=STREAM, event=CallEnded(cause="\ud800"))
        self.policies.append(lambda call: [broken] if call.up and call.up.rang_at else [])
        engine = self.engine()
        self.log.append(STREAM, [REQUEST, STARTED])
        self.advance()
        told = engine.tell("c", ChannelRang(channel="c", at=1))
        self.advance()
        self.successResultOf(told)
        self.assertEqual(self.names(), ["CallRequested", "AttemptStarted", "ChannelRang"])
        self.assertEqual(engine.idle()["held"], 1)  # to be decided again, later each time

    def test_what_waited_for_a_fact_is_decided_although_that_could_not_be_written(self):
        engine, appended = self.ending_once_it_rang()
        append, late = self.log.append, Deferred()
        with patch.object(self.log, "append", lambda *_: late):
            told = engine.tell("c", ChannelAnswered(channel="c", at=2))
        append(STREAM, [ChannelRang(channel="c", at=1)])
        self.advance()
        self.assertEqual(appended, ["ChannelRang"])
        late.errback(Unwritable("disk full"))
        self.failureResultOf(told, Unwritable)
        self.advance()
        self.assertEqual(appended, ["ChannelRang", "CallEnded"])

    def refused_while_a_decision_waits(self, refusal):
        """A command's outcome is refused that is no longer due, after what made something else be decided."""
        end = Decide(stream=STREAM, event=CallEnded(cause="X"))
        self.policies.append(lambda call: [] if call.ended else [end] if call.hangup else [WATCH])

        async def handle(command, ticket):
            with ticket.sent():
                await ticket.record(STARTED)

        self.handlers[Watch] = handle
        engine = self.engine()
        engine.request(REQUEST)
        late = Deferred()
        with patch.object(self.log, "append", lambda *_: late):
            self.advance()
        self.log.append(STREAM, [HangupRequested(cause="X")])
        self.advance()
        self.assertEqual(self.names(), ["CallRequested", "HangupRequested"])
        late.errback(refusal)
        self.advance()

    def test_what_waited_for_an_outcome_that_is_overtaken_is_decided(self):
        self.refused_while_a_decision_waits(Conflict("the stream has version 2, expected was 1"))
        self.assertEqual(self.names(), ["CallRequested", "HangupRequested", "CallEnded"])

    def test_what_waited_for_an_outcome_that_could_not_be_written_is_decided(self):
        self.refused_while_a_decision_waits(Unwritable("disk full"))
        self.assertEqual(self.names(), ["CallRequested", "HangupRequested", "CallEnded"])

    def test_what_is_to_be_done_does_not_wait_for_a_fact_that_cannot_be_written(self):
        def policy(call):
            if call.up and call.up.rang_at:
                yield Decide(stream=STREAM, event=CallEnded(cause="X"))
            elif call.up:
                yield WATCH
                yield from [HANG_UP] if call.hangup else []

        async def handle(command, ticket):
            return (ChannelRang(channel="c", at=1),)

        self.policies.append(policy)
        self.handlers |= {Watch: handle, HangUp: self.handler}
        self.engine()
        late = Deferred()
        self.log.append(STREAM, [REQUEST, STARTED])
        with patch.object(self.log, "append", lambda *_: late):
            self.advance()  # the fact is on its way, with what is decided because of it
        self.log.append(STREAM, [HangupRequested(cause="X")])
        self.advance()
        self.log.refusing = "disk full"
        late.errback(Unwritable("disk full"))
        self.advance()
        self.assertEqual(self.asked, [HANG_UP])
        self.log.refusing = ""
        self.advance(2)
        self.assertEqual(self.names()[2:], ["HangupRequested", "ChannelRang", "CallEnded"])

    def test_a_decision_overtaken_by_a_fact_is_dropped_and_asked_again(self):
        self.policies.append(
            lambda call: (
                [] if call.ended else [Decide(stream=STREAM, event=CallEnded(cause=str(len(call.attempts))))]
            )
        )
        engine = self.engine()
        engine.request(REQUEST)
        self.log.append(STREAM, [STARTED])  # in the same commit
        self.advance()
        self.assertEqual(self.names(), ["CallRequested", "AttemptStarted", "CallEnded"])
        self.assertEqual(self.disk.streams[STREAM][-1].event.cause, "1")
        del engine

    def test_a_handler_that_changes_nothing_is_held_back_longer_each_time(self):
        self.policies.append(lambda call: [WATCH])

        async def handle(command, ticket):
            self.asked.append(self.clock.seconds())
            return ()

        self.handlers[Watch] = handle
        self.engine().request(REQUEST)
        self.advance(2)
        self.assertLessEqual(len(self.asked), 6)
        gaps = [later - earlier for earlier, later in pairwise(self.asked)]
        self.assertTrue(all(later > 1.5 * earlier for earlier, later in pairwise(gaps)), gaps)

    def test_a_policy_that_raises_is_logged_and_the_others_are_asked(self):
        def broken(call):
            raise ZeroDivisionError

        self.policies += [broken, lambda call: [WATCH]]
        self.handlers[Watch] = self.handler
        self.engine().request(REQUEST)
        self.advance()
        self.assertEqual(self.asked, [WATCH])
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))

    def test_a_handler_that_raises_is_logged_and_tried_again(self):
        self.policies.append(lambda call: [HANG_UP])
        failing = [True]

        async def handle(command, ticket):
            if failing.pop() if failing else False:
                raise ZeroDivisionError
            self.asked.append(command)
            await Deferred()

        self.handlers[HangUp] = handle
        self.engine().request(REQUEST)
        self.advance(0.5)
        self.assertEqual(self.asked, [HANG_UP])
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))

    def test_policies_that_never_come_to_rest_do_not_spin(self):
        self.policies.append(
            lambda call: [Decide(stream=STREAM, event=LimitReached(limit=str(call.version), cause="X"))]
        )
        engine = self.engine()
        engine.request(REQUEST)
        self.advance(0.02)
        self.assertLess(len(self.names()), 30)
        del engine

    def test_a_fact_from_a_handler_is_kept_until_the_log_takes_it(self):
        at = At(stream=STREAM, switch="s", when=1, limit="L", cause="X")
        self.policies.append(lambda call: [] if call.attempts else [at])

        async def handle(command, ticket):
            self.asked.append(command)
            return (ChannelRang(channel="c", at=1),)

        self.handlers[At] = handle
        engine = self.engine()
        engine.request(REQUEST)
        self.clock.advance(0.001)
        self.log.refusing = "disk full"
        with capturedLogs() as said:
            self.advance(3)
        self.assertEqual(self.names(), ["CallRequested"])
        (line,) = [formatEvent(each) for each in said if each["log_level"] is LogLevel.warn]
        self.assertRegex(line, f"the log refuses events of call {STREAM}: .*disk full")
        self.log.refusing = ""
        self.advance(1.2)
        self.assertEqual(self.names()[1], "ChannelRang")
        del engine

    def test_a_script_of_hundreds_of_verbs_that_do_nothing_is_decided_in_one_batch(self):
        def policy(call):
            if call.script.verb < 300:
                yield Decide(
                    stream=STREAM, event=VerbEnded(document=1, verb=call.script.verb, name="Nothing")
                )

        self.policies.append(policy)
        engine = self.engine()
        engine.request(REQUEST)
        with capturedLogs() as said:
            self.advance()
        self.assertEqual(self.names(), ["CallRequested"] + ["VerbEnded"] * 300)
        self.assertEqual([formatEvent(each) for each in said], [])

    def test_policies_that_decide_what_changes_nothing_are_complained_of(self):
        self.policies.append(lambda call: [Decide(stream=STREAM, event=CallEnded(cause="X"))])
        engine = self.engine()
        with capturedLogs() as said:
            engine.request(REQUEST)
            self.clock.pump([0.001] * 3)
        self.assertIn("policies do not come to rest", formatEvent(said[0]))

    def test_a_log_that_is_closed_with_the_server_is_not_complained_of(self):
        ended = Decide(stream=STREAM, event=CallEnded(cause="X"))
        self.policies.append(lambda call: [] if call.ended else [ended])
        engine = self.engine()
        with capturedLogs() as said:
            engine.request(REQUEST)
            self.clock.advance(0.001)
            self.log.refusing = "the log is closed"
            engine.stop()
            self.advance(3)
        self.assertEqual([formatEvent(each) for each in said], [])

    def test_a_request_that_cannot_be_written_fails(self):
        engine = self.engine()
        self.log.refusing = "disk full"
        request = engine.request(REQUEST)
        self.advance()
        self.failureResultOf(request, Unwritable)
        self.assertEqual(engine.idle()["calls"], 0)

    def test_a_fact_about_a_channel_of_no_open_call_is_dropped(self):
        engine = self.engine()
        engine.tell("nobody's", ChannelRang(channel="nobody's", at=1))
        self.advance()
        self.assertEqual(self.disk.streams, {})

    def test_at_the_start_open_calls_are_asked_for_what_is_due(self):
        self.policies.append(lambda call: [WATCH] if call.attempts else [])
        self.handlers[Watch] = self.handler
        first = self.engine()
        first.request(REQUEST)
        self.log.append(STREAM, [STARTED])
        self.advance()
        first.stop()
        self.asked.clear()
        second = self.engine()
        self.advance()
        self.assertEqual(self.asked, [WATCH])
        self.assertEqual(second.channels.stream("c"), STREAM)
