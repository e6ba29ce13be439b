"""A step of the wall clock is not the passing of time, and a limit is kept by the clock of the switch."""

import time

from twisted.internet.base import ReactorBase
from twisted.internet.defer import Deferred, succeed
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from plivotx.commands import At
from plivotx.events import LimitReached
from plivotx.handlers.timers import Timers
from plivotx.service import steady


class Clocks:
    """The two clocks of a host; the wall clock can be set."""

    def __init__(self, case):
        self.passed = 1000.0
        self.wall = 1_800_000_000.0
        case.patch(time, "time", lambda: self.wall)
        case.patch(time, "monotonic", lambda: self.passed)

    def pass_by(self, seconds):
        self.passed += seconds
        self.wall += seconds


class ASteadyReactor(SynchronousTestCase):
    def setUp(self):
        self.clocks = Clocks(self)
        self.patch(ReactorBase, "seconds", staticmethod(lambda: self.clocks.wall))  # it was bound at import
        self.patch(ReactorBase, "installWaker", lambda reactor: None)  # no socket
        self.reactor = SelectReactor()
        self.called = []

    def after(self, seconds, name="timer"):
        return self.reactor.callLater(seconds, self.called.append, name)

    def pass_by(self, seconds):
        self.clocks.pass_by(seconds)
        self.reactor.runUntilCurrent()

    def test_keeps_a_timer_for_its_time_when_the_wall_clock_is_set(self):
        for step in (+3600, -3600, +86_400 * 365):
            steady(self.reactor)
            self.called.clear()
            self.after(10)
            self.pass_by(4)
            self.clocks.wall += step
            self.pass_by(5.9)
            self.assertEqual(self.called, [], step)
            self.pass_by(0.2)
            self.assertEqual(self.called, ["timer"], step)

    def test_keeps_for_older_timers_what_remained_of_them(self):
        self.after(10, "ten")
        self.after(3, "three")
        self.after(0, "at once")
        self.clocks.pass_by(2)
        steady(self.reactor)
        self.clocks.wall += 3600
        self.pass_by(0)
        self.assertEqual(self.called, ["at once"])
        self.pass_by(1.1)
        self.assertEqual(self.called, ["at once", "three"])
        self.pass_by(6.8)
        self.assertEqual(self.called, ["at once", "three"])
        self.pass_by(0.2)
        self.assertEqual(self.called, ["at once", "three", "ten"])

    def test_lets_timers_be_moved_and_cancelled_as_before(self):
        older = self.after(10, "older")
        gone = self.after(5, "gone")
        steady(self.reactor)
        newer = self.after(10, "newer")
        self.clocks.wall -= 500
        self.pass_by(1)
        older.reset(2)
        newer.delay(5)
        gone.cancel()
        self.assertEqual(older.getTime() - self.reactor.seconds(), 2)
        self.pass_by(2.1)
        self.assertEqual(self.called, ["older"])
        self.pass_by(11)
        self.assertEqual(self.called, ["older"])
        self.pass_by(1)
        self.assertEqual(self.called, ["older", "newer"])

    def test_sleeps_until_the_next_timer_and_no_longer(self):
        self.after(10)
        steady(self.reactor)
        self.clocks.wall += 3600
        self.assertEqual(self.reactor.timeout(), 10)

    def test_is_needed_for_without_it_a_step_ends_every_wait_at_once(self):
        self.after(10)
        self.pass_by(0)
        self.clocks.wall += 3600
        self.pass_by(0)
        self.assertEqual(self.called, ["timer"])


class ALimit(SynchronousTestCase):
    def test_comes_in_time_though_the_clock_of_the_switch_was_known_badly_at_first(self):
        clock = Clock()
        behind = [0.9]  # what is known at first are whole seconds

        def remaining(switch, when):
            return when / 1e6 - clock.seconds() + behind[0]

        timers = Timers(clock, remaining, lambda _: succeed(None))
        limit = At(stream="s", switch="default", when=6_000_000, limit="TimeLimit", cause="ALLOTTED_TIMEOUT")
        reached = Deferred.fromCoroutine(timers.at(limit, None))
        clock.advance(1)
        behind[0] = 0.0
        while not reached.called:
            clock.advance(0.01)
        self.assertTrue(5.99 <= clock.seconds() <= 6.02, clock.seconds())
        self.assertEqual(
            self.successResultOf(reached), (LimitReached(limit="TimeLimit", cause="ALLOTTED_TIMEOUT"),)
        )
