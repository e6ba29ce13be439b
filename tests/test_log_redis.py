"""The log in a Redis Stream keeps the contract, through kills, lost connections and a lost tail."""

from collections.abc import Callable

import msgspec
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from plivotx.log import redis
from plivotx.log.interface import (
    START,
    Conflict,
    Fenced,
    Log,
    Position,
    Unopenable,
    Unreadable,
    Unwritable,
)
from plivotx.log.redis import RedisLog
from tests.log_contract import ANSWERED, CLOSED, RANG, Heard, LogContract, requested, started
from tests.redis_server import MISSING, RedisServer, shared


class RedisCase(TestCase):
    if MISSING:
        skip = MISSING
    timeout = 20

    def setUp(self) -> None:
        self.now = 1_700_000_000.0
        self.server = shared()
        self.server.ask("FLUSHALL")

    def wall(self) -> float:
        return self.now

    async def open_log(self, **more: object) -> RedisLog:
        log = await RedisLog.open(self.server.url, reactor, wall=self.wall, **more)
        self.addCleanup(log.close)
        return log

    def configure(self, name: str, value: str) -> None:
        """Change a setting of the server until the end of the test."""
        before = self.server.ask("CONFIG", "GET", name).split(b"\r\n")[4].decode()
        self.addCleanup(self.server.ask, "CONFIG", "SET", name, before)
        self.server.ask("CONFIG", "SET", name, value)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await deferLater(reactor, 0)


class RedisLogTests(RedisCase, LogContract):
    async def after_crash(self, log: Log) -> Log:
        return await self.open_log()

    async def check_only_open_are_read(self, log: RedisLog) -> None:
        for number in range(50):
            for name in ("ids", "tokens", "row"):
                self.server.ask("DEL", f"plivotx:{name}:s{number}")
        self.assertEqual(await self.open_now(log), ["a"])

    def beyond(self, position: Position) -> Position:
        milliseconds, _, number = position.partition("-")
        return Position(f"{milliseconds}-{int(number) + 1}")


# -- opening -----------------------------------------------------------------------------------------


class OpeningTests(RedisCase):
    async def refused(self, url: str) -> str:
        opening = RedisLog.open(url, reactor, limit=0.5)
        return str(await self.assertFailure(opening, Unopenable))

    async def test_a_server_that_is_not_there(self) -> None:
        why = await self.refused("unix:///no/such/socket")
        self.assertIn("unix:///no/such/socket: no answer within 0.5 s", why)
        self.assertIn("No such file", why)

    async def test_an_address_that_is_none(self) -> None:
        for url in ("http://user:secret@host/", "redis://host:port/", "redis://host/calls", "unix:"):
            self.assertNotIn("secret", await self.refused(url))

    async def test_a_password_that_is_wrong(self) -> None:
        self.server.ask("ACL", "SETUSER", "node", "on", ">right", "allkeys", "allcommands")
        self.addCleanup(self.server.ask, "ACL", "DELUSER", "node")
        why = await self.refused(self.server.url.replace("unix://", "unix://node:wrong@"))
        self.assertIn("WRONGPASS", why)
        self.assertNotIn("wrong@", why)
        url = self.server.url.replace("unix://", "unix://node:right@")
        await (await RedisLog.open(url, reactor)).close()

    async def test_a_log_of_a_newer_version(self) -> None:
        self.server.ask("SET", "plivotx:format", "7")
        why = await self.refused(self.server.url)
        self.assertIn("format 7", why)
        self.assertIn(self.server.url, why)

    async def test_a_database_and_a_prefix_keep_logs_apart(self) -> None:
        urls = [(self.server.url, "one"), (self.server.url, "two"), (f"{self.server.url}?db=3", "one")]
        logs = [await RedisLog.open(url, reactor, prefix=prefix) for url, prefix in urls]
        for log in logs:
            self.addCleanup(log.close)
            self.assertEqual(await log.append("a", [requested("a")], expected=0), 1)

    async def test_a_server_that_may_lose_events_is_warned_of(self) -> None:
        said: list[str] = []

        def observe(event: dict[str, object]) -> None:
            if event.get("log_namespace") == "plivotx.log.redis.RedisLog":
                said.append(f"{event['name']} is {event['value']}")

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        await self.open_log()
        self.assertEqual(said, [])
        self.configure("appendfsync", "everysec")
        self.configure("maxmemory-policy", "allkeys-lru")
        await self.open_log()
        self.assertEqual(said, ["appendfsync is everysec", "maxmemory-policy is allkeys-lru"])


# -- several nodes -----------------------------------------------------------------------------------


class SharedTests(RedisCase):
    async def test_nodes_hear_each_other_in_one_order(self) -> None:
        one, two = await self.open_log(), await self.open_log()
        heard = [Heard(one, START), Heard(two, START)]
        await gatherResults([log.append("a", [RANG]) for _ in range(50) for log in (one, two)])
        for each in heard:
            await each.until(100)
        self.assertEqual(heard[0].all, heard[1].all)
        self.assertEqual([each.version for each in heard[0].all], list(range(1, 101)))

    async def test_of_two_nodes_with_the_same_expected_version_one_wins(self) -> None:
        one, two = await self.open_log(), await self.open_log()
        for version in range(20):
            appended = [log.append("a", [RANG], expected=version) for log in (one, two)]
            outcomes = await DeferredList(appended, consumeErrors=True)
            (lost,) = [why for done, why in outcomes if not done]
            self.assertTrue(lost.check(Conflict))

    async def test_a_node_that_took_the_fence_shuts_the_other_out(self) -> None:
        one, two = await self.open_log(), await self.open_log()
        old = await one.take_fence()
        new = await two.take_fence()
        await self.assertFailure(one.append("a", [RANG], fence=old), Fenced)
        self.assertEqual(await two.append("a", [RANG], fence=new), 1)


# -- what cannot be written ----------------------------------------------------------------------------


class UnwritableTests(RedisCase):
    async def test_what_the_server_refuses_is_not_written(self) -> None:
        log = await self.open_log()
        await log.append("a", [requested("a")])
        for refuse, word in (
            (("CONFIG", "SET", "maxmemory", "1"), "OOM"),
            (("REPLICAOF", "127.0.0.1", "1"), "READONLY"),
        ):
            self.addCleanup(self.server.ask, "REPLICAOF", "NO", "ONE")
            self.addCleanup(self.server.ask, "CONFIG", "SET", "maxmemory", "0")
            self.server.ask(*refuse)
            error = await self.assertFailure(log.append("a", [RANG]), Unwritable)
            self.assertIn(word, str(error))
            self.assertIn("'a'", str(error))
            self.assertFalse(error.in_doubt)
            self.server.ask("REPLICAOF", "NO", "ONE")
            self.server.ask("CONFIG", "SET", "maxmemory", "0")
        self.assertEqual(await log.append("a", [RANG], expected=1), 2)

    async def test_a_server_that_is_gone_leaves_no_doubt_of_what_was_never_sent(self) -> None:
        log = await self.open_log(limit=0.3)
        self.server.kill()
        await self.until(lambda: log._connection.redis is None)
        error = await self.assertFailure(log.append("a", [RANG]), Unwritable)
        self.assertFalse(error.in_doubt)
        await self.assertFailure(log.read("a"), Unreadable)
        await self.assertFailure(log.take_fence(), Unwritable)
        self.server.start()
        await self.connected(log)
        self.assertEqual(await log.append("a", [RANG], expected=0), 1)

    async def test_a_server_that_hangs_leaves_a_doubt(self) -> None:
        log = await self.open_log(limit=0.3)
        self.server.freeze()
        self.addCleanup(self.server.thaw)
        error = await self.assertFailure(log.append("a", [RANG]), Unwritable)
        self.assertTrue(error.in_doubt)
        self.assertIn("0.3 s", str(error))
        self.server.thaw()
        await self.connected(log)
        self.assertEqual(len(await log.read("a")), await log.append("a", []))

    async def test_scripts_that_the_server_forgot_are_sent_again(self) -> None:
        log = await self.open_log()
        await log.append("a", [RANG])
        self.server.ask("SCRIPT", "FLUSH")
        self.assertEqual(await log.append("a", [RANG]), 2)

    async def connected(self, log: RedisLog) -> None:
        await self.until(lambda: log._connection.redis is not None)


class LostConnectionTests(RedisCase):
    async def test_an_append_whose_answer_was_lost_is_done_once(self) -> None:
        log = await self.open_log()
        heard = Heard(log)
        await log.append("a", [requested("a")])
        appended = [log.append("a", [RANG], expected=1), log.append("a", [ANSWERED, CLOSED])]
        await self.answer_is_lost(log)
        for each in appended:
            self.assertNoResult(each)
        # Another writer comes in between, so the version alone would not tell.
        other = await self.open_log()
        self.assertEqual(await other.append("a", [RANG]), 5)
        self.assertEqual(await gatherResults(appended), [2, 4])
        await heard.until(5)
        self.assertEqual([each.event for each in heard.all], [requested("a"), RANG, ANSWERED, CLOSED, RANG])
        self.assertEqual(len(await log.read("a")), 5)

    async def test_a_refusal_whose_answer_was_lost_is_still_one(self) -> None:
        log = await self.open_log()
        await log.append("a", [requested("a")])
        refused = log.append("a", [RANG], expected=7)
        await self.answer_is_lost(log)
        await self.assertFailure(refused, Conflict)
        self.assertEqual(len(await log.read("a")), 1)

    async def test_a_doubt_is_not_ended_by_a_server_that_cannot_tell(self) -> None:
        log = await self.open_log()
        appended = log.append("a", [RANG])
        self.addCleanup(self.server.ask, "REPLICAOF", "NO", "ONE")

        def fail_over() -> None:
            self.server.ask("FLUSHALL")
            self.server.ask("REPLICAOF", "127.0.0.1", "1")

        await self.answer_is_lost(log, then=fail_over)
        (append,) = log._pending.values()
        await self.until(lambda: append.sendings > 2)  # READONLY is no answer to what was in doubt
        self.assertNoResult(appended)
        self.server.ask("REPLICAOF", "NO", "ONE")
        self.assertEqual(await appended, 1)
        self.assertEqual(len(await log.read("a")), 1)

    async def test_connections_killed_again_and_again_double_nothing_and_keep_the_order(self) -> None:
        log = await self.open_log()
        heard = Heard(log)
        appended = []
        for number in range(1, 301):
            appended.append(log.append("a", [started(number)]))
            if number % 60 == 0:
                await deferLater(reactor, 0)
                self.server.ask("CLIENT", "KILL", "TYPE", "normal")
        self.assertEqual(await gatherResults(appended), list(range(1, 301)))
        await heard.until(300)
        self.assertEqual([each.event.number for each in heard.all], list(range(1, 301)))
        self.assertEqual(heard.resets, [])

    async def test_reading_goes_on_after_a_lost_connection(self) -> None:
        log = await self.open_log()
        await log.append("a", [requested("a")])
        reading = [log.read("a"), log.call("a"), log.calls(), log.open_streams()]
        self.server.ask("CLIENT", "KILL", "TYPE", "normal")
        read, row, rows, (_, streams) = await gatherResults(reading)
        self.assertEqual((len(read), row.stream, len(rows), streams), (1, "a", 1, ["a"]))

    async def answer_is_lost(self, log: RedisLog, then: Callable[[], object] = lambda: None) -> None:
        """Have what was sent done by the server, and its answers lost with the connection."""
        await deferLater(reactor, 0)  # it is on its way
        self.server.ask("PING")  # blocks the reactor, so no answer is read; now it is done
        then()
        log._connection.redis.transport.abortConnection()


# -- 7: kill -9, torn files, a lost tail -----------------------------------------------------------------


class CrashTests(RedisCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(redis, "BLOCK", 0.1)
        self.server = RedisServer()  # one that keeps what it is told, and only that
        self.addCleanup(self.server.remove)
        self.server.start()

    async def test_7_a_killed_server_loses_nothing_acknowledged(self) -> None:
        log = await self.open_log()
        heard = Heard(log)
        acknowledged: list[int] = []
        appended = [log.append("a", [started(number), RANG]) for number in range(1, 201)]
        for each in appended:
            each.addCallback(lambda version: acknowledged.append(version) or version)
        await self.until(lambda: len(acknowledged) > 20)
        self.server.kill()
        self.server.start()
        # Those that were under way are found or done again, each once.
        self.assertEqual(await gatherResults(appended), list(range(2, 402, 2)))
        await heard.until(400)
        self.assertEqual([each.event.number for each in heard.all[::2]], list(range(1, 201)))
        self.assertEqual(acknowledged, list(range(2, 402, 2)))
        self.assertEqual(heard.resets, [])

    async def test_7_a_torn_tail_loses_only_what_came_after(self) -> None:
        log = await self.open_log()
        await log.append("a", [requested("a"), RANG])
        sound = self.server.append_only_file().stat().st_size
        await log.append("a", [ANSWERED, CLOSED])
        await log.close()
        whole = self.server.append_only_file().read_bytes()
        for cut in range(sound, len(whole), (len(whole) - sound) // 6 + 1):
            self.server.kill()
            self.server.append_only_file().write_bytes(whole[:cut])
            self.server.start()
            log = await self.open_log()
            self.assertEqual([each.event for each in await log.read("a")], [requested("a"), RANG])
            self.assertEqual((await log.call("a")).columns["state"], "ringing")
            self.assertEqual((await log.open_streams())[1], ["a"])
            self.assertEqual(await log.append("a", [CLOSED], expected=2), 3)
            await log.close()

    async def lose_the_tail(self, log: RedisLog) -> Heard:
        """Have one event delivered, and another that the server then no longer knows."""
        heard = Heard(log)
        await log.append("a", [requested("a")])
        sound = self.server.append_only_file().stat().st_size
        await log.append("a", [RANG])
        await heard.until(2)
        whole = self.server.append_only_file().read_bytes()
        self.server.kill()
        self.server.append_only_file().write_bytes(whole[:sound])
        return heard

    async def test_followers_are_told_of_a_lost_tail(self) -> None:
        log = await self.open_log()
        heard = await self.lose_the_tail(log)
        self.server.start()
        self.assertIn("the log ends at", await heard.until_reset())
        await log.append("a", [ANSWERED], expected=1)
        again = Heard(log, START)
        await again.until(2)
        self.assertEqual(again.what(), [("a", 1), ("a", 2)])
        self.assertEqual(len(heard.all), 2)

    async def test_followers_are_told_of_a_lost_tail_that_others_wrote_over(self) -> None:
        log = await self.open_log()
        heard = await self.lose_the_tail(log)
        # The new tail is written before the follower is back: it can't tell by where the log ends.
        heard_of = log._followers[0].connection
        heard_of._address = msgspec.structs.replace(heard_of._address, endpoint=Nowhere())
        self.server.start()
        other = await self.open_log()
        self.assertEqual(await other.append("a", [ANSWERED, CLOSED], expected=1), 3)
        heard_of._address = other._address
        self.assertIn("came in its place", await heard.until_reset())
        self.assertEqual(len(heard.all), 2)

    async def test_followers_are_told_of_a_log_made_anew(self) -> None:
        log = await self.open_log()
        heard = Heard(log)
        await log.append("a", [requested("a")])
        await heard.until(1)
        self.server.ask("FLUSHALL")
        other = await self.open_log()
        await gatherResults([other.append("b", [RANG]) for _ in range(5)])
        self.assertIn("made anew", await heard.until_reset())
        self.assertEqual(len(heard.all), 1)

    async def test_a_forgotten_event_is_no_lost_tail(self) -> None:
        log = await self.open_log()
        heard = Heard(log)
        await log.append("a", [requested("a"), CLOSED])
        await heard.until(2)
        self.now += 1
        self.assertEqual(await log.forget(closed_before=self.now), 1)
        self.server.kill()
        self.server.start()
        await log.append("b", [requested("b")])
        await heard.until(3)
        self.assertEqual(heard.resets, [])
        self.assertEqual(heard.what()[2:], [("b", 1)])


class Nowhere:
    """An endpoint where nobody answers."""

    def connect(self, _: object) -> Deferred[None]:
        return Deferred()
