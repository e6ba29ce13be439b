"""The contract of the event log: what every back end must do, numbered as in plivotx/log/interface.py.

A back end's own test file inherits `LogContract`, says how to make a log, and adds its own faults.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import ClassVar

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, gatherResults, succeed
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread, deferToThread

from plivotx.events import (
    COLUMNS,
    AttemptStarted,
    CallbackRenewed,
    CallClosed,
    CallEnded,
    CallRequested,
    ChannelAnswered,
    ChannelEnded,
    ChannelRang,
    Column,
    DocumentFetched,
    Event,
    Gateway,
    Unknown,
    encode,
)
from plivotx.log.common import fits
from plivotx.log.interface import (
    START,
    Conflict,
    Fenced,
    Log,
    Position,
    Recorded,
    Refused,
    Unreadable,
    Unwritable,
    Wanted,
)
from tests.strategies import batches


def requested(stream: str, to: str = "2", account: str = "") -> CallRequested:
    return CallRequested(
        request_uuid=stream,
        from_number="1",
        to_number=to,
        gateways=(Gateway(prefix="sofia/gateway/one/"),),
        answer_url="http://a/",
        hangup_url="http://h/",
        account_sid=account,
    )


def started(number: int = 1) -> AttemptStarted:
    return AttemptStarted(number=number, gateway=f"g{number}/", channel=f"c{number}", switch="s", core="k")


RANG = ChannelRang(channel="c1", at=1_700_000_000_000_000)
ANSWERED = ChannelAnswered(channel="c1", at=1_700_000_001_000_000)
GONE = ChannelEnded(channel="c1", cause="NORMAL_CLEARING", at=1_700_000_002_000_000)
ENDED = CallEnded(cause="NORMAL_CLEARING", call_uuid="c1", at=1_700_000_002_000_000)
CLOSED = CallClosed()
UNWRITABLE_EVENT = ChannelRang(channel="\ud800", at=1)
"""Half a surrogate pair has no UTF-8."""


class Heard:
    """A follower that keeps what it was told."""

    def __init__(self, log: Log, after: Position | None = None) -> None:
        self.all: list[Recorded] = []
        self.resets: list[str] = []
        self._wanted: list[tuple[int, Deferred[None]]] = []
        self.stop = log.follow(self.deliver, self.reset, after)

    def deliver(self, recorded: Recorded) -> None:
        self.all.append(recorded)
        self._wake()

    def reset(self, why: str) -> None:
        self.resets.append(why)
        self._wake()

    async def until(self, number: int) -> None:
        """Wait until *number* events were delivered, or the log was reset."""
        if len(self.all) < number and not self.resets:
            wanted: Deferred[None] = Deferred()
            self._wanted.append((number, wanted))
            await wanted

    async def until_reset(self) -> str:
        await self.until(10**9)
        return self.resets[0]

    def what(self) -> list[tuple[str, int]]:
        return [(each.stream, each.version) for each in self.all]

    def _wake(self) -> None:
        due = [each for each in self._wanted if len(self.all) >= each[0] or self.resets]
        self._wanted = [each for each in self._wanted if each not in due]
        for _, wanted in due:
            wanted.callback(None)


class LogContract:
    """Mix this into a TestCase and say how to make a log."""

    timeout: ClassVar[int] = 20
    now: float
    """The wall clock of the logs under test, seconds."""

    def setUp(self) -> None:
        self.now = 1_700_000_000.0

    async def open_log(self) -> Log:
        """A log on this test's storage, closed at the end of the test; an earlier one was closed."""
        raise NotImplementedError

    async def after_crash(self, log: Log) -> Log:
        """What another process finds on this test's storage once the one that has *log* was killed."""
        raise NotImplementedError

    async def check_only_open_are_read(self, log: Log) -> None:
        """Show that `open_streams` does not look at closed streams: here *log* holds some."""
        raise NotImplementedError

    def beyond(self, position: Position) -> Position:
        """A position later than *position*, which is the last one of the log."""
        raise NotImplementedError

    def wall(self) -> float:
        return self.now

    # -- 1: positions only grow --------------------------------------------------------------------

    async def test_1_every_event_has_a_position_of_its_own(self) -> None:
        log = await self.open_log()
        heard = Heard(log)
        await log.append("a", [requested("a"), started(), RANG])
        await log.append("b", [requested("b")])
        await heard.until(4)
        self.assertEqual(len({each.position for each in heard.all}), 4)
        self.assertNotIn(START, [each.position for each in heard.all])

    async def test_1_a_position_is_never_used_again(self) -> None:
        log = await self.open_log()
        heard = Heard(log)
        await log.append("old", [requested("old"), CLOSED])
        await heard.until(2)
        before = {each.position for each in heard.all}
        self.now += 10
        self.assertEqual(await log.forget(closed_before=self.now), 1)
        log = await self.reopened(log)
        later = Heard(log)
        await log.append("new", [requested("new"), CLOSED])
        await later.until(2)
        self.assertFalse(before & {each.position for each in later.all})

    async def test_1_the_same_event_has_the_same_position_wherever_it_is_read(self) -> None:
        log = await self.open_log()
        heard = Heard(log)
        await log.append("a", [requested("a"), started()])
        await heard.until(2)
        self.assertEqual(list(await log.read("a")), heard.all)
        end, _ = await log.open_streams()
        self.assertEqual(end, heard.all[-1].position)
        log = await self.reopened(log)
        self.assertEqual(list(await log.read("a")), heard.all)

    # -- 2: a batch is all there or not at all -----------------------------------------------------

    async def test_2_a_batch_stays_together(self) -> None:
        log = await self.open_log()
        heard = Heard(log)
        batch = [requested("a"), started(), RANG]
        appended = [log.append("a", batch), log.append("b", [requested("b")]), log.append("a", [ANSWERED])]
        self.assertEqual(await gatherResults(appended), [3, 1, 4])
        await heard.until(5)
        self.assertEqual(heard.what(), [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("a", 4)])
        self.assertEqual([each.event for each in await log.read("a")], [*batch, ANSWERED])

    async def test_2_a_batch_with_an_event_that_cannot_be_written_leaves_nothing(self) -> None:
        log = await self.open_log()
        for bad in (UNWRITABLE_EVENT, Unknown(type="Bad", data=b'{"type":"Bad","x":"\xff"}')):
            await self.assertFailure(log.append("a", [requested("a"), bad]), Refused)
        await self.assertFailure(log.append("\ud800", [requested("a")]), Refused)
        self.assertEqual(list(await log.read("a")), [])
        self.assertEqual(await log.append("a", [requested("a")], expected=0), 1)

    async def test_2_an_empty_batch_changes_nothing_and_tells_the_version(self) -> None:
        log = await self.open_log()
        self.assertEqual(await log.append("a", [], expected=0), 0)
        self.assertEqual(await log.append("a", [requested("a")], expected=0), 1)
        self.assertEqual(await log.append("a", []), 1)
        await self.assertFailure(log.append("a", [], expected=0), Conflict)
        self.assertEqual(len(await log.read("a")), 1)

    # -- 3: a follower gets each event once, in order, after it is durable -------------------------

    async def test_3_followers_hear_the_same_in_the_order_of_the_appends(self) -> None:
        log = await self.open_log()
        one, two = Heard(log), Heard(log)
        streams = [f"s{number % 7}" for number in range(200)]
        await gatherResults([log.append(each, [RANG]) for each in streams])
        await one.until(200)
        await two.until(200)
        self.assertEqual([each.stream for each in one.all], streams)
        self.assertEqual(one.all, two.all)
        for stream in set(streams):
            versions = [each.version for each in one.all if each.stream == stream]
            self.assertEqual(versions, list(range(1, len(versions) + 1)))

    async def test_3_following_begins_at_the_present_end(self) -> None:
        log = await self.open_log()
        await log.append("a", [requested("a")])
        heard = Heard(log)
        await log.append("a", [RANG])
        await heard.until(1)
        self.assertEqual(heard.what(), [("a", 2)])

    async def test_3_following_from_a_position_misses_nothing_and_doubles_nothing(self) -> None:
        log = await self.open_log()
        first = Heard(log)
        await gatherResults([log.append(f"s{n}", [requested(f"s{n}"), RANG]) for n in range(150)])
        await first.until(300)
        for skipped in (0, 1, 123, 299, 300):
            after = first.all[skipped - 1].position if skipped else START
            heard = Heard(log, after)
            # Appended while the follower still catches up with what was there before.
            number = len(first.all)
            await gatherResults([log.append("late", [RANG]) for _ in range(20)])
            await first.until(number + 20)
            await heard.until(len(first.all) - skipped)
            self.assertEqual(heard.all, first.all[skipped:])
            heard.stop()

    async def test_3_a_position_stays_true_when_the_log_is_opened_again(self) -> None:
        log = await self.open_log()
        heard = Heard(log)
        await log.append("a", [requested("a"), started(), RANG])
        await heard.until(3)
        log = await self.reopened(log)
        later = Heard(log, heard.all[0].position)
        await later.until(2)
        self.assertEqual(later.all, heard.all[1:])

    async def test_3_an_event_is_readable_when_it_is_delivered(self) -> None:
        log = await self.open_log()
        reading: list[Deferred[Sequence[Recorded]]] = []
        heard: Deferred[Recorded] = Deferred()

        def deliver(recorded: Recorded) -> None:
            reading.append(log.read("a"))
            heard.callback(recorded)

        log.follow(deliver, self.fail)
        await log.append("a", [requested("a")])
        recorded = await heard
        self.assertEqual(list(await reading[0]), [recorded])

    async def test_3_a_follower_is_never_called_from_within(self) -> None:
        log = await self.open_log()
        await log.append("a", [requested("a")])
        inside: list[str] = []
        delivered: list[int] = []
        done: Deferred[None] = Deferred()

        def deliver(recorded: Recorded) -> None:
            self.assertEqual(inside, [])
            inside.append("deliver")
            delivered.append(recorded.version)
            if recorded.version <= 3:
                log.append("a", [RANG])
            elif recorded.version == 5:
                done.callback(None)
            inside.pop()

        inside.append("follow")
        log.follow(deliver, self.fail, START)
        inside.pop()
        inside.append("append")
        log.append("a", [RANG])
        inside.pop()
        await done
        self.assertEqual(delivered, [1, 2, 3, 4, 5])

    async def test_3_a_follower_may_append_and_hears_that_too(self) -> None:
        log = await self.open_log()
        answers: list[Deferred[int]] = []

        def answer(recorded: Recorded) -> None:
            if recorded.event == RANG:
                answers.append(log.append(recorded.stream, [ANSWERED], expected=recorded.version))

        log.follow(answer, self.fail)
        heard = Heard(log)
        await log.append("a", [requested("a"), RANG])
        await heard.until(3)
        self.assertEqual(heard.what(), [("a", 1), ("a", 2), ("a", 3)])
        self.assertEqual(await answers[0], 3)

    async def test_3_a_follower_that_raises_hears_on_and_so_do_the_others(self) -> None:
        log = await self.open_log()
        before: list[int] = []

        def bad(recorded: Recorded) -> None:
            before.append(recorded.version)
            raise RuntimeError("this follower is no good")

        log.follow(bad, self.fail)
        heard = Heard(log)
        await log.append("a", [requested("a"), RANG])
        await log.append("a", [ANSWERED])
        await heard.until(3)
        await self.until(lambda: len(before) == 3)
        self.assertEqual(before, [1, 2, 3])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 3)

    async def test_3_a_stopped_follower_hears_nothing_more(self) -> None:
        log = await self.open_log()
        heard = Heard(log)
        stopped: list[int] = []

        def deliver(recorded: Recorded) -> None:
            stopped.append(recorded.version)
            stop()

        stop = log.follow(deliver, self.fail)
        await log.append("a", [requested("a"), RANG, ANSWERED])
        await heard.until(3)
        await log.append("a", [GONE])
        await heard.until(4)
        await self.until(lambda: bool(stopped))
        self.assertEqual(stopped, [1])
        stop()  # once more is no harm

    async def test_3_a_follower_beyond_the_end_is_told_that_the_log_lost_its_tail(self) -> None:
        log = await self.open_log()
        heard = Heard(log)
        await log.append("a", [requested("a"), RANG])
        await heard.until(2)
        beyond = self.beyond(heard.all[-1].position)
        lost = Heard(log, beyond)
        self.assertEqual(lost.resets, [])  # not from within follow
        self.assertIn("end", await lost.until_reset())
        await log.append("a", [ANSWERED])
        await heard.until(3)
        self.assertEqual(lost.all, [])
        self.assertEqual(len(lost.resets), 1)

    # -- 4: what is stale is refused, and leaves the others alone ----------------------------------

    async def test_4_a_stale_expected_version_is_refused(self) -> None:
        log = await self.open_log()
        self.assertEqual(await log.append("a", [requested("a")], expected=0), 1)
        for stale in (0, 2):
            error = await self.assertFailure(log.append("a", [RANG], expected=stale), Conflict)
            self.assertIn("'a'", str(error))
            self.assertIn("version 1", str(error))
            self.assertIn(str(stale), str(error))
        self.assertEqual(await log.append("a", [RANG], expected=1), 2)
        self.assertEqual([each.event for each in await log.read("a")], [requested("a"), RANG])

    async def test_4_of_several_with_the_same_expected_version_one_wins(self) -> None:
        log = await self.open_log()
        heard = Heard(log)
        tries = [log.append("a", [started(number)], expected=0) for number in range(1, 6)]
        self.assertEqual(await tries[0], 1)
        for each in tries[1:]:
            await self.assertFailure(each, Conflict)
        await log.append("b", [requested("b")])
        await heard.until(2)
        self.assertEqual(heard.what(), [("a", 1), ("b", 1)])
        self.assertEqual(heard.all[0].event, started(1))

    async def test_4_a_stale_fence_is_refused(self) -> None:
        log = await self.open_log()
        first = await log.take_fence()
        self.assertEqual(await log.append("a", [requested("a")], fence=first), 1)
        second = await log.take_fence()
        error = await self.assertFailure(log.append("a", [RANG], fence=first), Fenced)
        self.assertIn("'a'", str(error))
        self.assertEqual(await log.append("a", [ANSWERED], fence=second), 2)
        self.assertEqual(await log.append("a", [RANG]), 3)  # a fact needs no fence

    async def test_4_a_fence_stays_stale_when_the_log_is_opened_again(self) -> None:
        log = await self.open_log()
        first = await log.take_fence()
        log = await self.reopened(log)
        second = await log.take_fence()
        self.assertNotEqual(first, second)
        await self.assertFailure(log.append("a", [RANG], fence=first), Fenced)

    async def test_4_a_refused_append_leaves_its_neighbours_untouched(self) -> None:
        log = await self.open_log()
        heard = Heard(log)
        stale = await log.take_fence()
        await log.take_fence()
        good, refused = [], []
        for number in range(30):
            good.append(log.append(f"s{number}", [requested(f"s{number}"), RANG], expected=0))
            refused.append(log.append(f"s{number}", [ANSWERED], expected=7))
            refused.append(log.append(f"s{number}", [ANSWERED], fence=stale))
            refused.append(log.append(f"s{number}", [ANSWERED, UNWRITABLE_EVENT]))
        self.assertEqual(await gatherResults(good), [2] * 30)
        for each in refused:
            await self.assertFailure(each, Refused)
        await heard.until(60)
        self.assertEqual(heard.what(), [(f"s{n}", v) for n in range(30) for v in (1, 2)])

    # -- 5: open streams are found without reading closed ones -------------------------------------

    async def test_5_open_streams_are_those_opened_and_not_closed(self) -> None:
        log = await self.open_log()
        self.assertEqual(await self.open_now(log), [])
        for name in ("a", "b", "c"):
            self.now += 1
            await log.append(name, [requested(name)])
        await log.append("b", [ENDED, CLOSED])
        await log.append("stray", [RANG])  # never opened
        await log.append("b", [GONE])  # a late fact does not open it again
        await log.append("d", [requested("d"), CLOSED])
        self.assertEqual(await self.open_now(log), ["a", "c"])
        log = await self.reopened(log)
        self.assertEqual(await self.open_now(log), ["a", "c"])

    async def test_5_closed_streams_are_not_read(self) -> None:
        log = await self.open_log()
        await gatherResults([log.append(f"s{n}", [requested(f"s{n}"), RANG, CLOSED]) for n in range(50)])
        await log.append("a", [requested("a")])
        await self.check_only_open_are_read(log)

    async def test_5_reading_the_open_ones_and_following_misses_nothing(self) -> None:
        log = await self.open_log()
        await log.append("a", [requested("a")])
        await log.append("b", [requested("b")])
        position, streams = await log.open_streams()
        await log.append("a", [RANG])
        await log.append("c", [requested("c")])
        known = {
            (each.stream, each.version): each.event for stream in streams for each in await log.read(stream)
        }
        heard = Heard(log, position)
        await heard.until(2)
        known.update({(each.stream, each.version): each.event for each in heard.all})
        self.assertEqual(
            known,
            {
                ("a", 1): requested("a"),
                ("a", 2): RANG,
                ("b", 1): requested("b"),
                ("c", 1): requested("c"),
            },
        )

    async def test_5_several_streams_are_read_at_once(self) -> None:
        log = await self.open_log()
        self.assertEqual(await log.read_several([]), {})
        for name in ("a", "b", "c"):
            await log.append(name, [requested(name)])
        await log.append("b", [RANG])
        await log.append("c", [RANG, CLOSED])
        await log.append("a", [RANG, ANSWERED])
        read = await log.read_several(["b", "a", "missing"])
        self.assertEqual(set(read), {"a", "b"})
        for name in ("a", "b"):
            self.assertEqual(list(read[name]), [each.event for each in await log.read(name)])

    async def test_5_hundreds_of_streams_are_read_at_once(self) -> None:
        log = await self.open_log()
        names = [f"s{n}" for n in range(500)]
        await gatherResults([log.append(name, [requested(name), RANG]) for name in names])
        read = await log.read_several(names)
        self.assertEqual(
            {name: list(events) for name, events in read.items()},
            {name: [requested(name), RANG] for name in names},
        )

    async def test_5_an_empty_log_can_be_followed_from_its_end(self) -> None:
        log = await self.open_log()
        end, _ = await log.open_streams()
        heard = Heard(log, end)
        await log.append("a", [requested("a")])
        await heard.until(1)
        self.assertEqual(heard.what(), [("a", 1)])

    # -- 6: what this version does not know survives -----------------------------------------------

    async def test_6_unknown_fields_survive(self) -> None:
        newer = msgspec.defstruct(
            "ChannelRang",
            [("codec", str)],
            bases=(ChannelRang,),
            frozen=True,
            kw_only=True,
            tag="ChannelRang",
        )
        log = await self.open_log()
        heard = Heard(log)
        event = newer(channel="c1", at=RANG.at, codec="opus")
        await log.append("a", [requested("a"), event])
        await heard.until(2)
        log = await self.reopened(log)
        for recorded in (heard.all[1], (await log.read("a"))[1]):
            self.assertEqual(type(recorded.event), ChannelRang)
            self.assertEqual(recorded.event, RANG)
            self.assertEqual(msgspec.json.decode(recorded.data)["codec"], "opus")

    async def test_6_unknown_types_survive(self) -> None:
        class CallTransferred(Event, frozen=True, kw_only=True, tag=True):
            to: str

            def columns(self) -> dict[str, str]:
                return {"state": "transferred", "transferred_to": self.to}

            @property
            def rank(self) -> int:
                return 25_000

        log = await self.open_log()
        heard = Heard(log)
        event = CallTransferred(to="elsewhere")
        await log.append("a", [requested("a"), event])
        await log.append("a", [RANG])
        await heard.until(3)
        log = await self.reopened(log)
        unknown = Unknown(type="CallTransferred", data=encode(event))
        self.assertEqual([each.event for each in await log.read("a")], [requested("a"), unknown, RANG])
        self.assertEqual(await log.read_several(["a"]), {"a": [requested("a"), unknown, RANG]})
        self.assertEqual(heard.all[1].event, unknown)
        row = await log.call("a")
        self.assertEqual(row.columns["state"], "transferred")
        self.assertEqual(set(row.columns), set(COLUMNS))
        # What was read as unknown can be written again, and is the same.
        await log.append("b", [unknown])
        self.assertEqual((await log.read("b"))[0].data, encode(event))
        self.assertIsNone(await log.call("b"))

    # -- 7: only what was never acknowledged is lost -----------------------------------------------

    async def test_7_what_was_acknowledged_is_there_after_a_crash(self) -> None:
        log = await self.open_log()
        heard = Heard(log)
        appended = [log.append(f"s{n % 5}", [started(n + 1), RANG]) for n in range(40)]
        await gatherResults(appended)
        await heard.until(80)
        log = await self.after_crash(log)
        again = Heard(log, START)
        await again.until(80)
        self.assertEqual(again.all, heard.all)
        self.assertEqual(await log.append("s0", [ANSWERED], expected=16), 17)

    # -- the read model ----------------------------------------------------------------------------

    async def test_row_follows_the_call(self) -> None:
        log = await self.open_log()
        opened = self.now
        await log.append("a", [requested("a", to="33", account="x")])
        self.now += 1
        await log.append("a", [started(1)])
        row = await log.call("a")
        self.assertEqual(row.stream, "a")
        self.assertEqual(row.columns["state"], "dialling")
        self.assertEqual(row.columns["to_number"], "33")
        self.assertEqual(row.columns["attempt"], 1)
        self.assertEqual((row.open, row.opened, row.changed), (True, opened, opened + 1))
        await log.append("a", [RANG, ANSWERED])
        self.now += 1
        await log.append("a", [ENDED, CLOSED])
        log = await self.reopened(log)
        row = await log.call("a")
        self.assertEqual(
            row.columns,
            {
                "state": "closed",
                "from_number": "1",
                "to_number": "33",
                "account_sid": "x",
                "switch": "s",
                "gateway": "g1/",
                "attempt": 1,
                "call_uuid": "c1",
                "rang_at": RANG.at,
                "answered_at": ANSWERED.at,
                "ended_at": ENDED.at,
                "cause": "NORMAL_CLEARING",
                "undelivered": 0,
            },
        )
        self.assertEqual((row.open, row.opened, row.changed), (False, opened, opened + 2))
        self.assertEqual(row.rank, CLOSED.rank)

    async def test_row_takes_only_what_outranks_it(self) -> None:
        log = await self.open_log()
        await log.append("a", [requested("a"), started(1), ANSWERED])
        await log.append("a", [RANG, started(2)])
        await log.append("a", [ChannelAnswered(channel="c9", at=5)])  # no higher is not higher
        row = await log.call("a")
        self.assertEqual(row.columns["answered_at"], ANSWERED.at)
        self.assertEqual(row.columns["state"], "in-progress")
        self.assertEqual(row.columns["attempt"], 1)
        self.assertIsNone(row.columns["rang_at"])
        self.assertEqual(row.rank, ANSWERED.rank)

    async def test_row_changes_with_every_event(self) -> None:
        log = await self.open_log()
        await log.append("a", [requested("a")])
        self.now += 5
        await log.append("a", [DocumentFetched(number=1, body="<Response/>")])
        row = await log.call("a")
        self.assertEqual(row.changed, self.now)
        self.assertEqual(row.opened, self.now - 5)
        self.assertEqual((await log.read("a"))[1].at, self.now)

    async def test_row_is_none_where_no_event_sets_a_column(self) -> None:
        log = await self.open_log()
        await log.append("a", [GONE])
        self.assertIsNone(await log.call("a"))
        self.assertIsNone(await log.call("no such stream"))
        self.assertEqual(list(await log.calls()), [])

    async def test_rows_are_listed_newest_first(self) -> None:
        log = await self.open_log()
        for number in range(10):
            self.now += 1
            await log.append(f"s{number}", [requested(f"s{number}", to=str(number % 2), account="x")])
        await log.append("s8", [ENDED, CLOSED])

        async def listed(limit: int = 100, **wanted: object) -> list[str]:
            return [each.stream for each in await log.calls(Wanted(**wanted), limit)]

        self.assertEqual(await listed(), [f"s{n}" for n in reversed(range(10))])
        self.assertEqual(await listed(limit=2), ["s9", "s8"])
        self.assertEqual(await listed(where={"to_number": "0"}), ["s8", "s6", "s4", "s2", "s0"])
        self.assertEqual(await listed(where={"to_number": "0"}, open_only=True), ["s6", "s4", "s2", "s0"])
        self.assertEqual(await listed(where={"to_number": "0", "state": "closed"}), ["s8"])
        self.assertEqual(await listed(where={"gateway": None, "cause": None}, limit=1), ["s9"])
        self.assertEqual(await listed(where={"to_number": "nobody"}), [])
        self.assertEqual(await listed(where={"to_number": ("0", "nobody")}, limit=2), ["s8", "s6"])
        self.assertEqual(await listed(where={"to_number": ("0", "1")}, limit=2), ["s9", "s8"])
        self.assertEqual(await listed(where={"to_number": ()}), [])
        self.assertEqual(await listed(where={"cause": (None, "x")}, limit=2), ["s9", "s7"])
        began = self.now - 9
        self.assertEqual(await listed(opened_from=began + 7), ["s9", "s8", "s7"])
        self.assertEqual(await listed(opened_until=began + 2), ["s1", "s0"])
        self.assertEqual(await listed(opened_from=began + 4, opened_until=began + 6), ["s5", "s4"])
        self.assertEqual(await listed(opened_from=began + 8, open_only=True), ["s9"])
        page = await log.calls(Wanted(where={"account_sid": "x"}), limit=4)
        rest = await listed(where={"account_sid": "x"}, after=page[-1].cursor)
        self.assertEqual([*(each.stream for each in page), *rest], [f"s{n}" for n in reversed(range(10))])
        self.assertEqual(await listed(after=page[-1].cursor, opened_until=began + 9, limit=1), ["s5"])
        self.assertEqual(await listed(after=page[-1].cursor, opened_until=began + 2), ["s1", "s0"])

    async def test_lists_by_column_are_the_whole_list_without_what_does_not_fit(self) -> None:
        log = await self.open_log()
        for number in range(36):
            self.now += number % 3 == 0  # three calls have one moment
            events = [requested(f"s{number}", to="0+1"[number % 3], account=("", "x")[number % 4 == 0])]
            if number % 5:
                events += [ENDED, CallClosed(undelivered=number % 2)]
            await log.append(f"s{number}", events)
        every = await log.calls()
        self.assertEqual(len(every), 36)
        numbers: list[tuple[Column, ...] | Column] = ["0", ("0", "+"), ("0", "0"), ("0", None), ()]
        accounts: list[tuple[Column, ...] | Column] = ["x", "", ("x", ""), None]
        channels: list[tuple[Column, ...] | Column] = ["c1", "nobody", None, ("c1", None)]
        asked: list[Wanted] = [Wanted(where={"to_number": to}) for to in numbers]
        asked += [Wanted(where={"account_sid": account}) for account in accounts]
        asked += [Wanted(where={"call_uuid": channel}) for channel in channels]
        asked += [
            Wanted(where={"to_number": ("0", "1"), "from_number": ("1", "+1"), "account_sid": ("", "x")}),
            Wanted(where={"to_number": ("0", "1"), "state": "closed"}, undelivered_only=True),
            Wanted(where={"to_number": ("0", "1")}, open_only=True),
            Wanted(where={"from_number": "1"}, opened_from=self.now - 7, opened_until=self.now - 1),
        ]
        for wanted in asked:
            fitting = [each.stream for each in every if fits(each, wanted)]
            found: list[str] = []
            page = await log.calls(wanted, limit=4)
            while page:
                self.assertTrue(len(page) == 4 or len(found) + len(page) == len(fitting))
                found += [each.stream for each in page]
                after = page[-1].cursor
                page = await log.calls(msgspec.structs.replace(wanted, after=after), limit=4)
            self.assertEqual(found, fitting, str(wanted))

    async def test_lists_are_continued_without_a_gap_or_a_double_among_calls_of_one_moment(self) -> None:
        log = await self.open_log()
        names = [f"s{n}" for n in range(450)]

        async def request(streams: Sequence[str]) -> None:
            await gatherResults([log.append(each, [requested(each)]) for each in streams])

        await request(names[:20])
        self.now += 1
        await request(names[20:])
        for open_only in (False, True):
            listed: list[str] = []
            after = None
            while page := await log.calls(Wanted(after=after, open_only=open_only), limit=70):
                listed += [each.stream for each in page]
                after = page[-1].cursor
                if len(listed) == 210 and not open_only:  # what comes in at that moment, above and below
                    await request(["a", "z"])
            self.assertEqual(len(listed), len(set(listed)))
            if open_only:
                self.assertEqual(sorted(listed), sorted([*names, "a", "z"]))
            else:
                self.assertEqual(sorted(listed), sorted([*names, "a"]))
            self.assertEqual(set(listed[-20:]), set(names[:20]))

    async def test_rows_tell_what_could_not_be_delivered(self) -> None:
        log = await self.open_log()
        await log.append("none", [requested("none"), ENDED, CLOSED])
        await log.append("open", [requested("open"), ENDED])
        await log.append("two", [requested("two"), ENDED, CallClosed(undelivered=2)])

        async def undelivered() -> list[tuple[str, object]]:
            rows = await log.calls(Wanted(undelivered_only=True))
            return [(each.stream, each.columns["undelivered"]) for each in rows]

        self.assertEqual(await undelivered(), [("two", 2)])
        self.assertEqual((await log.call("none")).columns["undelivered"], 0)
        self.assertIsNone((await log.call("open")).columns["undelivered"])
        self.assertEqual(await self.open_now(log), ["open"])
        await log.append("two", [CallbackRenewed(key="ring", renewal=1)])
        self.assertEqual(sorted(await self.open_now(log)), ["open", "two"])
        row = await log.call("two")
        self.assertEqual((row.open, row.columns["state"], row.columns["undelivered"]), (True, "completed", 2))
        self.now += 1
        self.assertEqual(await log.forget(closed_before=self.now), 1)
        log = await self.reopened(log)
        await log.append("two", [CallClosed(undelivered=1, renewal=1)])
        self.assertEqual(await undelivered(), [("two", 1)])
        await log.append("two", [CallbackRenewed(key="ring", renewal=2), CallClosed(renewal=2)])
        self.assertEqual(await undelivered(), [])
        row = await log.call("two")
        self.assertEqual((row.open, row.columns["state"], row.columns["undelivered"]), (False, "closed", 0))
        self.assertEqual(await self.open_now(log), ["open"])

    async def test_rows_cannot_be_asked_for_by_an_unknown_column(self) -> None:
        log = await self.open_log()
        with self.assertRaisesRegex(ValueError, "'state; DROP'"):
            await log.calls(Wanted(where={"state; DROP": "x"}))

    # -- reading -----------------------------------------------------------------------------------

    async def test_reading_a_part_of_a_stream(self) -> None:
        log = await self.open_log()
        await log.append("a", [requested("a"), started(), RANG])
        self.assertEqual([each.version for each in await log.read("a", after_version=1)], [2, 3])
        self.assertEqual(list(await log.read("a", after_version=3)), [])
        self.assertEqual(list(await log.read("no such stream")), [])

    async def test_any_text_can_be_a_stream_or_a_value(self) -> None:
        log = await self.open_log()
        heard = Heard(log)
        for odd in ("", " ", "a:b", "{x}", "naïve ☎", "line\r\nfeed", "nul\0", '"', "-1", "x" * 5000):
            before = len(heard.all)
            await log.append(odd, [requested(odd, to=odd)])
            await heard.until(before + 1)
            self.assertEqual([each.event for each in await log.read(odd)], [requested(odd, to=odd)])
            self.assertEqual((await log.call(odd)).columns["to_number"], odd)
            self.assertEqual(heard.all[-1].stream, odd)

    async def test_a_large_event(self) -> None:
        log = await self.open_log()
        heard = Heard(log)
        event = DocumentFetched(number=1, body="é" * 300_000)
        await log.append("a", [event, RANG])
        await heard.until(2)
        self.assertEqual([each.event for each in heard.all], [event, RANG])
        self.assertEqual((await log.read("a"))[0].event, event)

    async def test_many_appends_at_once(self) -> None:
        log = await self.open_log()
        heard = Heard(log)
        appended = [log.append(f"s{n % 100}", [started(n // 100 + 1)]) for n in range(2000)]
        self.assertEqual(await gatherResults(appended), [n // 100 + 1 for n in range(2000)])
        await heard.until(2000)
        self.assertEqual(heard.what(), [(f"s{n % 100}", n // 100 + 1) for n in range(2000)])

    # -- everything at once ------------------------------------------------------------------------

    async def test_any_appends_are_kept_as_plain_lists_would_keep_them(self) -> None:
        log = await self.open_log()
        examples = itertools.count()
        write = st.tuples(st.sampled_from("abc"), batches, st.sampled_from((None, 0, 0, 1, -1)))
        running: list[Deferred[None]] = []  # none, once the test is over

        @settings(max_examples=min(500, settings.default.max_examples))  # each waits for a real disk
        @given(st.lists(write, max_size=12))
        def check(writes: list[tuple[str, list[Event], int | None]]) -> None:
            prefix = f"{next(examples)}/"
            program = Program([(prefix + stream, *rest) for stream, *rest in writes])
            blockingCallFromThread(reactor, run, program)

        def run(program: Program) -> Deferred[None]:
            running[0] = Deferred.fromCoroutine(self.check_program(log, program))
            return running[0]

        def end() -> None:
            """Let the thread come to its end even if the log never answers."""
            running.pop().cancel()

        running.append(succeed(None))
        self.addCleanup(end)
        await deferToThread(check)

    test_any_appends_are_kept_as_plain_lists_would_keep_them.timeout = 120  # to find a small example

    async def check_program(self, log: Log, program: "Program") -> None:
        """Do all at once what *program* does one after the other, and look at all that can be seen."""
        heard = Heard(log)
        outcomes = await DeferredList([log.append(*each) for each in program.appends], consumeErrors=True)
        self.assertEqual([result if done else result.type for done, result in outcomes], program.outcomes)
        await heard.until(len(program.order))
        heard.stop()
        self.assertEqual([(each.stream, each.event) for each in heard.all], program.order)
        for stream, events in program.streams.items():
            recorded = await log.read(stream)
            self.assertEqual([each.event for each in recorded], events)
            self.assertEqual([each.version for each in recorded], list(range(1, len(events) + 1)))
            row = await log.call(stream)
            known = {k: v for k, v in row.columns.items() if v is not None} if row else {}
            self.assertEqual(known, program.columns(stream))
            self.assertEqual(stream in await self.open_now(log), program.is_open(stream))

    # -- forgetting --------------------------------------------------------------------------------

    async def test_forget_deletes_old_closed_streams(self) -> None:
        log = await self.open_log()
        await log.append("old", [requested("old"), RANG, CLOSED])
        await log.append("open", [requested("open")])
        await log.append("stray", [GONE])  # opened by nothing, so nothing is owed to it
        self.now += 10
        await log.append("young", [requested("young"), CLOSED])
        self.assertEqual(await log.forget(closed_before=self.now), 2)
        for gone in ("old", "stray"):
            self.assertEqual(list(await log.read(gone)), [])
            self.assertIsNone(await log.call(gone))
        self.assertEqual([each.stream for each in await log.calls()], ["young", "open"])
        self.assertEqual(await log.forget(closed_before=self.now), 0)
        self.assertEqual(await log.append("old", [requested("old")], expected=0), 1)

    async def test_forget_leaves_followers_in_order(self) -> None:
        log = await self.open_log()
        live = Heard(log)
        for number in range(5):
            await log.append(f"s{number}", [requested(f"s{number}"), *([] if number % 2 else [CLOSED])])
        await live.until(8)
        self.now += 1
        self.assertEqual(await log.forget(closed_before=self.now), 3)
        fresh, late = Heard(log, START), Heard(log, live.all[-1].position)
        await log.append("s1", [CLOSED])
        await fresh.until(3)
        await late.until(1)
        await live.until(9)
        self.assertEqual(fresh.what(), [("s1", 1), ("s3", 1), ("s1", 2)])
        self.assertEqual(late.what(), [("s1", 2)])
        self.assertEqual(fresh.resets + late.resets + live.resets, [])

    async def test_forget_many(self) -> None:
        log = await self.open_log()
        await gatherResults([log.append(f"s{n}", [requested(f"s{n}"), CLOSED]) for n in range(700)])
        self.now += 1
        self.assertEqual(await log.forget(closed_before=self.now), 700)
        self.assertEqual(list(await log.calls()), [])

    # -- closing -----------------------------------------------------------------------------------

    async def test_close_finishes_what_was_appended(self) -> None:
        log = await self.open_log()
        appended = [log.append("a", [RANG]) for _ in range(50)]
        await log.close()
        self.assertEqual(await gatherResults(appended), list(range(1, 51)))
        log = await self.open_log()
        self.assertEqual(len(await log.read("a")), 50)

    async def test_a_closed_log_takes_and_gives_nothing(self) -> None:
        log = await self.open_log()
        await log.close()
        await self.assertFailure(log.append("a", [requested("a")]), Unwritable)
        await self.assertFailure(log.read("a"), Unreadable)
        await self.assertFailure(log.read_several(["a"]), Unreadable)
        await self.assertFailure(log.open_streams(), Unreadable)
        await log.close()  # once more is no harm

    # -- for the tests themselves ------------------------------------------------------------------

    async def reopened(self, log: Log) -> Log:
        await log.close()
        return await self.open_log()

    async def open_now(self, log: Log) -> list[str]:
        return list((await log.open_streams())[1])

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the reactor turn until *condition* holds; trial's time-out ends a vain wait."""
        while not condition():
            await deferLater(reactor, 0)


class Program:
    """Appends to a log that is nothing but lists, one after the other."""

    def __init__(self, writes: Sequence[tuple[str, list[Event], int | None]]) -> None:
        self.streams: dict[str, list[Event]] = {}
        self.order: list[tuple[str, Event]] = []
        self.appends: list[tuple[str, list[Event], int | None]] = []
        self.outcomes: list[int | type[Conflict]] = []
        for stream, events, off in writes:
            there = self.streams.setdefault(stream, [])
            self.appends.append((stream, events, None if off is None else len(there) + off))
            if off:
                self.outcomes.append(Conflict)
            else:
                there += events
                self.order += [(stream, event) for event in events]
                self.outcomes.append(len(there))

    def columns(self, stream: str) -> dict[str, Column]:
        known: dict[str, Column] = {}
        rank = 0
        for event in self.streams[stream]:
            if event.rank > rank:
                rank = event.rank
                known |= event.columns()
        return known

    def is_open(self, stream: str) -> bool:
        marks = [event.opens for event in self.streams[stream] if event.opens or event.closes]
        return bool(marks) and marks[-1]
