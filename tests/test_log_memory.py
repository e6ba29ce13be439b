"""The log in memory keeps the contract, and crashes or refuses when a test wants it to."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from plivotx.log.interface import Log, Position, Recorded, Unwritable
from plivotx.log.memory import MemoryDisk, MemoryLog
from tests.log_contract import ANSWERED, CLOSED, RANG, Heard, LogContract, requested


class MemoryLogTests(LogContract, TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.disk = MemoryDisk()

    async def open_log(self) -> Log:
        return MemoryLog(self.disk, wall=self.wall)

    async def after_crash(self, log: Log) -> Log:
        return await self.open_log()

    async def check_only_open_are_read(self, log: Log) -> None:
        self.disk.streams.clear()
        self.disk.standings.clear()
        self.assertEqual(await self.open_now(log), ["a"])

    def beyond(self, position: Position) -> Position:
        return Position(str(int(position) + 1))


class StagedTests(SynchronousTestCase):
    """Commits on a clock: every moment of an append can be looked at."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.delay = 1.0
        self.disk = MemoryDisk()
        self.log = self.make()

    def make(self, **more: object) -> MemoryLog:
        return MemoryLog(
            self.disk,
            schedule=lambda turn: self.clock.callLater(self.delay, turn),
            wall=self.clock.seconds,
            **more,
        )

    def test_an_append_waits_for_its_commit(self) -> None:
        heard = Heard(self.log)
        done = self.log.append("a", [requested("a")])
        self.clock.advance(0.9)
        self.assertNoResult(done)
        self.assertEqual(self.disk.end, 0)
        self.clock.advance(0.1)
        self.assertEqual(self.successResultOf(done), 1)
        self.assertEqual(heard.what(), [("a", 1)])

    def test_what_waits_shares_one_commit(self) -> None:
        commits: list[Sequence[Recorded]] = []
        log = self.make(on_commit=commits.append)
        log.append("a", [requested("a"), RANG])
        self.clock.advance(0.5)
        log.append("b", [requested("b")])
        self.clock.advance(0.5)
        self.assertEqual([[each.stream for each in commit] for commit in commits], [["a", "a", "b"]])

    def test_a_crash_loses_what_was_not_committed(self) -> None:
        heard = Heard(self.log)
        kept = self.log.append("a", [requested("a")])
        self.clock.advance(1)
        lost = self.log.append("a", [RANG])
        self.log.abandon()
        self.clock.advance(5)
        self.assertEqual(self.successResultOf(kept), 1)
        self.assertNoResult(lost)
        self.assertEqual(heard.what(), [("a", 1)])
        events = self.successResultOf(self.make().read("a"))
        self.assertEqual([each.event for each in events], [requested("a")])

    def test_opening_the_disk_anew_abandons_the_log_that_had_it(self) -> None:
        lost = self.log.append("a", [requested("a")])
        log = self.make()
        kept = log.append("a", [RANG], expected=0)
        self.clock.advance(1)
        self.assertNoResult(lost)
        self.assertEqual(self.successResultOf(kept), 1)

    def test_a_crash_after_the_commit_keeps_what_nobody_heard_of(self) -> None:
        log = self.make(on_commit=lambda committed: log.abandon())
        heard = Heard(log)
        done = log.append("a", [requested("a")])
        self.clock.advance(1)
        self.assertNoResult(done)
        self.assertEqual(heard.all, [])
        self.assertEqual(len(self.successResultOf(self.make().read("a"))), 1)

    def test_a_crash_in_an_acknowledgement_silences_the_rest(self) -> None:
        heard = Heard(self.log)
        first, second = self.log.append("a", [RANG]), self.log.append("a", [ANSWERED])
        first.addCallback(lambda _: self.log.abandon())
        self.clock.advance(1)
        self.assertNoResult(second)
        self.assertEqual(heard.all, [])

    def test_a_crash_in_a_follower_silences_the_rest(self) -> None:
        heard: list[int] = []

        def deliver(recorded: Recorded) -> None:
            heard.append(recorded.version)
            self.log.abandon()

        self.log.follow(deliver, self.fail)
        other = Heard(self.log)
        self.log.append("a", [RANG, ANSWERED])
        self.clock.advance(1)
        self.assertEqual(heard, [1])
        self.assertEqual(other.all, [])

    def test_a_log_that_refuses_keeps_nothing_and_can_be_tried_again(self) -> None:
        self.log.refusing = "disk full"
        heard = Heard(self.log)
        done = self.log.append("a", [requested("a")])
        self.clock.advance(1)
        error = self.failureResultOf(done, Unwritable).value
        self.assertIn("disk full", str(error))
        self.assertFalse(error.in_doubt)
        self.log.refusing = ""
        again = self.log.append("a", [requested("a")], expected=0)
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(again), 1)
        self.assertEqual(heard.what(), [("a", 1)])

    def test_what_a_follower_appends_waits_for_the_next_commit(self) -> None:
        appended: list[Deferred[int]] = []

        def deliver(recorded: Recorded) -> None:
            if recorded.event == RANG:
                appended.append(self.log.append("a", [CLOSED]))

        self.log.follow(deliver, self.fail)
        self.log.append("a", [RANG])
        self.clock.advance(1)
        self.assertNoResult(appended[0])
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(appended[0]), 2)
