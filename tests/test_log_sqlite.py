"""The log in an SQLite file keeps the contract, through full disks, kills, torn files and upgrades."""
# ruff: noqa: ASYNC240 - a test may wait for the disk

import os
import re
import resource
import shutil
import signal
import sqlite3
import sys
import threading
from contextlib import closing
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from plivotx.events import COLUMNS, CallbackGivenUp, DocumentFetched, encode
from plivotx.log import schema, sqlite, sqlite_reading, sqlite_writing
from plivotx.log.interface import (
    START,
    Conflict,
    Log,
    Position,
    Refused,
    Unopenable,
    Unreadable,
    Unwritable,
    Wanted,
)
from plivotx.log.sqlite import SQLiteLog
from tests.log_contract import ANSWERED, CLOSED, RANG, Heard, LogContract, requested

GIVEN_UP = CallbackGivenUp(key="ring", why="status 500")


class SQLiteCase(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.now = 1_700_000_000.0
        self.path = str(Path(self.mktemp()).resolve())

    def wall(self) -> float:
        return self.now

    async def open_log(self) -> SQLiteLog:
        return await self.open_file(self.path)

    async def open_file(self, path: str) -> SQLiteLog:
        log = await SQLiteLog.open(path, reactor, wall=self.wall)
        self.addCleanup(log.close)
        return log


class SQLiteLogTests(SQLiteCase, LogContract):
    async def after_crash(self, log: Log) -> Log:
        copy = self.path + ".copy"
        for suffix in ("", "-wal"):
            shutil.copyfile(self.path + suffix, copy + suffix)
        return await self.open_file(copy)

    async def check_only_open_are_read(self, log: SQLiteLog) -> None:
        plan = await log._read(
            lambda c: c.execute(f"EXPLAIN QUERY PLAN {sqlite_reading._OPEN_STREAMS}").fetchall()
        )
        scan, sort = [each[-1] for each in plan]
        self.assertEqual(scan, "SCAN streams USING INDEX streams_open")
        self.assertRegex(sort, "FOR (LAST TERM|RIGHT PART) OF ORDER BY")  # calls of one moment
        self.assertEqual(await self.open_now(log), ["a"])

    def beyond(self, position: Position) -> Position:
        return Position(str(int(position) + 1))


# -- opening -----------------------------------------------------------------------------------------


class OpeningTests(SQLiteCase):
    async def refused(self) -> str:
        """What opening the file is refused with; the file is left as it was."""
        before = Path(self.path).read_bytes() if Path(self.path).is_file() else None
        error = await self.assertFailure(SQLiteLog.open(self.path, reactor), Unopenable)
        self.assertIn(self.path, str(error))
        if before is not None:
            self.assertEqual(Path(self.path).read_bytes(), before)
        return str(error)

    async def test_a_file_has_one_owner(self) -> None:
        log = await self.open_log()
        self.assertIn(f"process id {os.getpid()}", await self.refused())
        await log.append("a", [requested("a")])  # the first owner is not disturbed
        await log.close()
        log = await self.open_log()
        self.assertEqual(len(await log.read("a")), 1)

    async def test_a_file_has_one_owner_among_processes(self) -> None:
        child = Child(self.path)
        await child.until(1)
        self.assertIn(f"process id {child.transport.pid}", await self.refused())
        await child.kill()
        await self.open_log()  # a killed owner leaves no lock behind

    async def test_a_file_whose_lock_file_was_deleted_has_one_owner(self) -> None:
        child = Child(self.path)
        await child.until(1)
        Path(f"{self.path}.lock").unlink()
        error = await self.assertFailure(SQLiteLog.open(self.path, reactor), Unopenable)
        self.assertIn("another process has it (process id unknown", str(error))
        await child.kill()
        await self.open_log()

    async def test_a_file_that_was_deleted_or_replaced_takes_nothing_until_it_is_put_back(self) -> None:
        log = await self.open_log()
        await log.append("a", [requested("a")])
        for suffix in ("", "-wal", "-shm"):
            for replaced in (False, True):
                with self.subTest(suffix=suffix, replaced=replaced):
                    file, aside = Path(self.path + suffix), Path(f"{self.path}.aside")
                    file.rename(aside)
                    if replaced:
                        shutil.copyfile(aside, file)
                    error = await self.assertFailure(log.append("b", [requested("b")]), Unwritable)
                    self.assertIn("deleted or replaced", str(error))
                    aside.rename(file)
        await log.append("c", [requested("c")])
        await log.close()
        _, streams = await (await self.open_log()).open_streams()
        self.assertEqual(list(streams), ["a", "c"])

    async def test_a_folder_that_is_missing(self) -> None:
        self.path = f"{self.path}/no/such/folder"
        self.assertIn("No such file", await self.refused())

    async def test_a_file_that_is_no_database(self) -> None:
        Path(self.path).write_text("an old log of calls\n" * 100, encoding="utf-8")
        self.assertIn("not a database", await self.refused())

    async def test_a_database_of_somebody_else(self) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("CREATE TABLE theirs (x)")
        self.assertIn("none that plivotx made", await self.refused())

    async def test_a_file_of_a_newer_version(self) -> None:
        await (await self.open_log()).close()
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("PRAGMA user_version=7")
        why = await self.refused()
        self.assertIn("version 7", why)
        self.assertIn(f"up to {len(schema.UPGRADES)}", why)

    async def test_threads_end_with_the_log(self) -> None:
        log = await self.open_log()
        await log.append("a", [RANG])
        await log.close()
        await self.assertFailure(SQLiteLog.open(f"{self.path}/x", reactor), Unopenable)
        for thread in threading.enumerate():
            if self.path in thread.name:
                thread.join(timeout=5)
                self.assertFalse(thread.is_alive(), thread.name)

    async def test_a_closed_log_is_one_file(self) -> None:
        log = await self.open_log()
        await log.append("a", [RANG])
        await log.close()
        self.assertFalse(Path(self.path + "-wal").exists())


class UpgradeTests(SynchronousTestCase):
    ADDED = (
        *schema.UPGRADES,
        ("ALTER TABLE streams ADD COLUMN extra TEXT", "UPDATE streams SET extra = name"),
    )

    def setUp(self) -> None:
        self.path = self.mktemp()

    def open(self, upgrades: object = schema.UPGRADES) -> sqlite3.Connection:
        connection = schema.connect(self.path, upgrades)
        self.addCleanup(connection.close)
        return connection

    def one_stream(self) -> None:
        connection = self.open()
        connection.execute(
            "INSERT INTO streams (name, version, open, opened, changed, rank) VALUES ('a', 1, 1, 1, 1, 0)"
        )
        connection.close()

    def test_an_older_file_is_copied_and_upgraded(self) -> None:
        self.one_stream()
        upgraded = self.open(self.ADDED)
        self.assertEqual(upgraded.execute("SELECT name, extra FROM streams").fetchall(), [("a", "a")])
        self.assertEqual(upgraded.execute("PRAGMA user_version").fetchone(), (len(self.ADDED),))
        self.path = f"{self.path}.v{len(schema.UPGRADES)}"
        copy = self.open()
        self.assertEqual(copy.execute("SELECT name FROM streams").fetchall(), [("a",)])
        self.assertRaises(sqlite3.Error, copy.execute, "SELECT extra FROM streams")

    def test_a_failed_upgrade_changes_nothing(self) -> None:
        self.one_stream()
        broken = (*schema.UPGRADES, (*self.ADDED[-1], "SELECT nonsense"))
        self.assertRaises(Unopenable, self.open, broken)
        connection = self.open()
        self.assertRaises(sqlite3.Error, connection.execute, "SELECT extra FROM streams")
        self.assertEqual(self.open(self.ADDED).execute("SELECT extra FROM streams").fetchone(), ("a",))

    def test_a_file_of_version_1_learns_what_was_given_up(self) -> None:
        connection = self.open(schema.UPGRADES[:1])
        for number, (name, state, texts) in enumerate(
            (
                ("two", "closed", [encode(GIVEN_UP), encode(CLOSED), encode(GIVEN_UP)]),
                ("none", "closed", [encode(CLOSED), b'{"type":"DocumentFetched","body":"CallbackGivenUp"}']),
                ("open", "completed", [encode(GIVEN_UP)]),
            ),
            1,
        ):
            connection.execute(
                "INSERT INTO streams (id, name, version, open, opened, changed, rank, state)"
                " VALUES (?, ?, 3, ?, 1, 1, 40000, ?)",
                (number, name, state != "closed", state),
            )
            connection.executemany(
                "INSERT INTO events (stream, version, at, data) VALUES (?, ?, 1, ?)",
                [(number, version, text.decode()) for version, text in enumerate(texts, 1)],
            )
        connection.close()
        upgraded = self.open()
        rows = upgraded.execute("SELECT stream, undelivered FROM calls ORDER BY stream").fetchall()
        self.assertEqual(rows, [("none", 0), ("open", None), ("two", 2)])
        self.assertTrue(Path(f"{self.path}.v1").exists())
        (tables,) = upgraded.execute("SELECT sql FROM sqlite_master WHERE name = 'streams'").fetchone()
        self.assertIn("/* callbacks that were given up", tables)

    def test_a_file_of_version_2_is_listed_by_number_account_and_channel(self) -> None:
        connection = self.open(schema.UPGRADES[:2])
        connection.executemany(
            "INSERT INTO streams (name, version, open, opened, changed, rank, to_number, account_sid, call_uuid)"
            " VALUES (?, 3, ?, ?, 1, 40000, ?, ?, ?)",
            [
                (f"s{number}", number == 7, number, f"+{number % 3}", "x" * (number % 2), f"c{number}")
                for number in range(9)
            ],
        )
        connection.close()
        upgraded = self.open()
        for where, names in (
            ({"to_number": ("1", "+1")}, ["s7", "s4", "s1"]),
            ({"account_sid": "x"}, ["s7", "s5", "s3", "s1"]),
            ({"call_uuid": "c8"}, ["s8"]),
        ):
            rows = sqlite_reading.read_rows(Wanted(where=where), 10, upgraded)
            self.assertEqual([each.stream for each in rows], names)
        self.assertEqual(upgraded.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
        self.assertTrue(Path(f"{self.path}.v2").exists())

    def plan(self, **wanted: object) -> list[str]:
        """How SQLite makes a list, step by step."""
        query, values = sqlite_reading._listing(Wanted(**wanted), 10)
        return [each for *_, each in self.connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]

    def test_lists_do_not_sort_what_they_do_not_show(self) -> None:
        self.connection = self.open()
        numbers = {"to_number": ("1", "+1"), "from_number": ("2", "+2")}
        wanted: list[dict[str, object]] = [
            {"open_only": True},
            {"undelivered_only": True},
            {"where": {"state": "closed", "gateway": "g/", "cause": "USER_BUSY"}},
            {"where": {"state": "ringing"}, "open_only": True},
            *({"where": {name: value}} for name, value in numbers.items()),
            {"where": {"account_sid": "x"}},
            {"where": {**numbers, "account_sid": "x", "state": "closed"}, "undelivered_only": True},
        ]
        for each in wanted:
            for more in ({}, {"after": (5.0, "x")}, {"opened_from": 1.0, "opened_until": 5.0}):
                plan = self.plan(**each, **more)
                self.assertNotIn("FOR ORDER BY", str(plan), str(each))

    def test_lists_by_number_account_and_channel_and_of_open_calls_pass_over_no_closed_ones(self) -> None:
        self.connection = self.open()
        spans = ({}, {"after": (5.0, "x")}, {"opened_from": 1.0, "opened_until": 5.0})
        for column, index in (
            ("from_number", "streams_from"),
            ("to_number", "streams_to"),
            ("account_sid", "streams_account"),
            ("call_uuid", "streams_channel"),
        ):
            for value, times in (("1", 1), (("1", "+1"), 2), (("1", "1"), 1)):
                for span in spans:
                    plan = " ".join(self.plan(where={column: value}, **span))
                    used = re.findall(r"INDEX (streams\w*)", plan)
                    self.assertEqual(used, ["streams_open", *[index] * times], plan)
                    self.assertEqual(plan.count(f"({column}=?"), times, plan)
        for where in ({}, {"state": "ringing"}, {"to_number": "1"}):
            for span in spans:
                plan = " ".join(self.plan(open_only=True, where=where, **span))
                self.assertEqual(re.findall(r"INDEX (streams\w*)", plan), ["streams_open"], plan)

    def test_a_call_that_is_accepted_goes_into_no_index_of_closed_ones(self) -> None:
        connection = self.open()
        indexes = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql > ''")
        of_closed = {name for name, text in indexes if "WHERE NOT open" in text}
        self.assertLessEqual({"streams_from", "streams_to", "streams_account", "streams_channel"}, of_closed)

    def test_a_new_file_needs_no_copy(self) -> None:
        self.open(self.ADDED)
        self.assertFalse(Path(f"{self.path}.v0").exists())

    def test_the_tables_hold_the_columns_of_the_read_model(self) -> None:
        connection = self.open()
        there = {name: kind for _, name, kind, *_ in connection.execute("PRAGMA table_info(streams)")}
        self.assertLessEqual(COLUMNS.items(), there.items())
        view = [name for _, name, *_ in connection.execute("PRAGMA table_info(calls)")]
        self.assertEqual(view, ["stream", "rank", "open", "opened", "changed", *COLUMNS])

    def test_every_column_has_a_comment(self) -> None:
        tables = self.open().execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        for name, text in tables:
            for line in text.strip().splitlines()[1:-1] if not name.startswith("sqlite_") else ():
                self.assertRegex(line, r"^\s+\w+ [A-Z].* -- \w", f"table {name}")


# -- what cannot be written ----------------------------------------------------------------------------


class UnwritableTests(SQLiteCase):
    async def test_a_full_disk_is_reported_and_the_log_goes_on_afterwards(self) -> None:
        log = await self.open_log()
        heard = Heard(log)
        await log.append("a", [requested("a")])
        size = Path(self.path + "-wal").stat().st_size
        with file_size_limit(size + 80_000):
            # One that fits, one that does not, one that fits: only the second fails.
            appended = [
                log.append("a", [RANG]),
                log.append("b", [DocumentFetched(number=1, body="x" * 200_000)]),
                log.append("a", [ANSWERED]),
            ]
            self.assertEqual(await appended[0], 2)
            error = await self.assertFailure(appended[1], Unwritable)
            self.assertEqual(await appended[2], 3)
        self.assertIn(self.path, str(error))
        self.assertFalse(error.in_doubt)
        self.assertEqual(await log.append("b", [RANG], expected=0), 1)
        await heard.until(4)
        self.assertEqual(heard.what(), [("a", 1), ("a", 2), ("a", 3), ("b", 1)])

    async def test_a_statement_that_fails_for_want_of_space_fails_alone(self) -> None:
        log = await self.open_log()
        await log.append("a", [requested("a")])

        def limit(pages: int) -> Deferred[None]:
            return log._write(lambda c: (c.execute(f"PRAGMA max_page_count={pages}").fetchone(), ()))

        await limit(1)  # SQLite makes this the present number of pages
        appended = [
            log.append("a", [RANG]),
            log.append("b", [DocumentFetched(number=1, body="x" * 200_000)]),
            log.append("a", [ANSWERED]),
        ]
        self.assertEqual(await appended[0], 2)
        error = await self.assertFailure(appended[1], Unwritable)
        self.assertIn("full", str(error))
        self.assertEqual(await appended[2], 3)
        await limit(10**6)
        self.assertEqual(await log.append("b", [RANG], expected=0), 1)

    async def test_a_write_that_fails_half_way_leaves_nothing_and_the_others_alone(self) -> None:
        log = await self.open_log()

        def half(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO events (stream, version, at, data) VALUES (1, 9, 0, '{}')")
            raise LookupError

        appended = [log.append("a", [requested("a")]), log._write(half), log.append("a", [RANG])]
        self.assertEqual(await appended[0], 1)
        await self.assertFailure(appended[1], LookupError)
        self.assertEqual(await appended[2], 2)
        self.assertEqual([each.version for each in await log.read("a")], [1, 2])

    async def test_every_commit_is_synced(self) -> None:
        log = await self.open_log()
        self.assertEqual(await log._write(lambda c: (c.execute("PRAGMA synchronous").fetchone(), ())), (2,))

    async def test_a_lock_of_somebody_else_makes_appends_wait_but_not_the_reactor(self) -> None:
        log = await self.open_log()
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            done = log.append("a", [requested("a")])
            self.assertEqual(list(await log.read("a")), [])  # meanwhile reading works
            self.assertNoResult(done)
            other.execute("COMMIT")
            self.assertEqual(await done, 1)

    async def test_a_lock_of_somebody_else_that_stays_is_reported(self) -> None:
        log = await self.open_log()
        await log._write(lambda c: (c.execute("PRAGMA busy_timeout=0"), ()))
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            appended = [log.append("a", [requested("a")]), log.append("b", [requested("b")])]
            for each in appended:
                error = await self.assertFailure(each, Unwritable)
                self.assertIn("locked", str(error))
        self.assertEqual(await log.append("a", [requested("a")], expected=0), 1)

    async def test_a_value_that_a_column_cannot_hold_is_refused_alone(self) -> None:
        log = await self.open_log()
        too_large = RANG.__class__(channel="c1", at=2**63)
        appended = [log.append("a", [requested("a")]), log.append("a", [too_large]), log.append("a", [RANG])]
        self.assertEqual(await appended[0], 1)
        await self.assertFailure(appended[1], Refused)
        self.assertEqual(await appended[2], 2)

    async def test_what_a_refused_append_fails_with_does_not_hold_the_whole_group(self) -> None:
        log = await self.open_log()
        failures: list[Failure] = []
        await log.append("a", [requested("a")], expected=1).addErrback(failures.append)
        self.assertIsInstance(failures[0].value, Conflict)
        self.assertIsNone(failures[0].getTracebackObject())

    def test_only_a_failed_fsync_leaves_a_doubt(self) -> None:
        for code, doubt in (
            (sqlite3.SQLITE_FULL, False),
            (sqlite3.SQLITE_IOERR_WRITE, False),
            (sqlite3.SQLITE_IOERR_FSYNC, True),
        ):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = code
            self.assertIs(sqlite_writing._unwritable("path", error).in_doubt, doubt)


class file_size_limit:  # noqa: N801 - reads as the statement it is
    """Inside, no file of this process grows beyond *size* bytes: a full disk without filling one."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __enter__(self) -> None:
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.before[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


# -- what the writer has in mind -------------------------------------------------------------------------


class KeptTests(SQLiteCase):
    async def statements(self, log: SQLiteLog) -> list[str]:
        """The first words of the statements that the writer does from now on."""
        seen: list[str] = []
        await log._write(lambda c: (c.set_trace_callback(lambda text: seen.append(text.split()[0])), ()))
        return seen

    async def test_how_an_open_stream_stands_is_asked_for_once(self) -> None:
        log = await self.open_log()
        await log.append("a", [requested("a")])
        seen = await self.statements(log)
        for version, asked in ((2, ["SELECT"]), (3, []), (4, [])):
            seen.clear()
            self.assertEqual(await log.append("a", [RANG], expected=version - 1), version)
            self.assertEqual(seen, ["BEGIN", *asked, "UPDATE", "INSERT", "COMMIT"])

    async def test_a_stream_that_is_not_open_is_not_kept(self) -> None:
        log = await self.open_log()
        seen = await self.statements(log)
        await log.append("a", [RANG])
        await log.append("b", [requested("b"), CLOSED])
        seen.clear()
        self.assertEqual(await log.append("a", [RANG], expected=1), 2)
        self.assertEqual(await log.append("b", [RANG], expected=2), 3)
        self.assertEqual(seen.count("SELECT"), 2)

    async def test_only_some_are_kept(self) -> None:
        self.patch(sqlite_writing, "MAX_KEPT", 2)
        log = await self.open_log()
        for version in (1, 2, 3):
            versions = await gatherResults(
                [
                    log.append(f"s{n}", [requested(f"s{n}") if version == 1 else RANG], expected=version - 1)
                    for n in range(5)
                ]
            )
            self.assertEqual(versions, [version] * 5)
        seen = await self.statements(log)
        for stream, asked in (("s0", 1), ("s1", 1), ("s2", 1), ("s1", 0), ("s2", 0), ("s0", 1)):
            seen.clear()
            await log.append(stream, [RANG])
            self.assertEqual(seen.count("SELECT"), asked, stream)

    async def test_what_is_appended_because_of_a_commit_shares_the_next_one(self) -> None:
        log = await self.open_log()
        seen = await self.statements(log)
        appended: list[Deferred[int]] = []

        def append(stream: str) -> None:
            appended.append(log.append(stream, [RANG]))

        def meanwhile(_: sqlite3.Connection) -> tuple[None, tuple[()]]:
            reactor.callFromThread(append, "a")
            return None, ()

        log.follow(lambda recorded: append("d") if recorded.stream == "b" else None, self.fail)
        done = gatherResults([log._write(meanwhile), log.append("b", [RANG])])
        await done.addCallback(lambda _: append("c"))
        self.assertEqual(await gatherResults(appended), [1, 1])
        self.assertEqual(len(appended), 3)
        await appended[2]
        self.assertEqual(seen.count("BEGIN"), 2)

    async def test_columns_are_written_once(self) -> None:
        log = await self.open_log()
        await log.append("a", [requested("a", to="42")])
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("UPDATE streams SET to_number = '43'")
        await log.append("a", [RANG])
        row = await log.call("a")
        self.assertEqual((row.columns["to_number"], row.columns["state"]), ("43", "ringing"))

    async def test_streams_that_another_program_deleted_are_noticed(self) -> None:
        log = await self.open_log()
        await gatherResults([log.append(each, [requested(each)]) for each in "ab"])
        await gatherResults([log.append(each, [RANG]) for each in "ab"])
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("DELETE FROM events WHERE stream = 1")
            other.execute("DELETE FROM streams WHERE id = 1")
        error = await self.assertFailure(log.append("a", [ANSWERED], expected=2), Unwritable)
        self.assertIn("another program", str(error))
        self.assertEqual(await log.append("a", [requested("a")], expected=0), 1)
        self.assertEqual(await log.append("b", [ANSWERED], expected=2), 3)


# -- what cannot be read -------------------------------------------------------------------------------


class UnreadableTests(SQLiteCase):
    async def test_a_page_that_cannot_be_read_is_tried_again(self) -> None:
        log = await self.open_log()
        await log.append("a", [requested("a"), RANG])
        self.patch(sqlite, "RETRY", 0)
        failures = [sqlite3.OperationalError("disk I/O error")] * 3
        page = sqlite.read_page

        def failing(*arguments: object) -> object:
            if failures:
                raise failures.pop()
            return page(*arguments)

        self.patch(sqlite, "read_page", failing)
        heard = Heard(log, START)
        await heard.until(2)
        self.assertEqual(heard.what(), [("a", 1), ("a", 2)])

    async def test_a_read_that_fails_says_where(self) -> None:
        log = await self.open_log()
        error = await self.assertFailure(log._read(lambda c: c.execute("SELECT nonsense")), Unreadable)
        self.assertIn(self.path, str(error))
        self.assertEqual(list(await log.read("a")), [])

    async def test_a_damaged_event_does_not_hide_the_others(self) -> None:
        log = await self.open_log()
        await log.append("a", [requested("a"), RANG, ANSWERED])
        await log._write(
            lambda c: (c.execute('UPDATE events SET data = \'{"type":"ChannelRang"}\' WHERE version = 2'), ())
        )
        events = [each.event for each in await log.read("a")]
        self.assertEqual(events[::2], [requested("a"), ANSWERED])
        self.assertEqual(events[1].data, b'{"type":"ChannelRang"}')
        await log.append("b", [requested("b")])
        self.assertEqual(await log.read_several(["a", "b"]), {"a": events, "b": [requested("b")]})


# -- 7: kill -9 and torn files ---------------------------------------------------------------------------


class Child(ProcessProtocol):
    """A process that appends as fast as it can and prints the version of each acknowledged append."""

    PROGRAM = """
import sys
from twisted.internet import reactor, task
from twisted.internet.defer import Deferred, gatherResults
from plivotx.log.sqlite import SQLiteLog
from tests.log_contract import RANG

async def one(log, stream):
    while True:
        version = await log.append(stream, [RANG, RANG])
        print(stream, version, flush=True)

async def main():
    log = await SQLiteLog.open(sys.argv[1], reactor)
    await gatherResults([Deferred.fromCoroutine(one(log, f"s{n}")) for n in range(8)])

task.react(lambda _: Deferred.fromCoroutine(main()))
"""

    def __init__(self, path: str) -> None:
        self.out = self.err = b""
        self._wanted: tuple[int, Deferred[None]] | None = None
        self._ended: Deferred[None] = Deferred()
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
        reactor.spawnProcess(
            self, sys.executable, [sys.executable, "-c", self.PROGRAM, path], env=environment
        )

    def outReceived(self, data: bytes) -> None:
        self.out += data
        if self._wanted and self.out.count(b"\n") >= self._wanted[0]:
            self._wanted, (_, wanted) = None, self._wanted
            wanted.callback(None)

    def errReceived(self, data: bytes) -> None:
        self.err += data

    def processEnded(self, reason: Failure) -> None:
        self._ended.callback(None)
        if self._wanted:
            self._wanted[1].errback(RuntimeError(self.err.decode()))
        reason.trap(ProcessTerminated)

    def until(self, lines: int) -> Deferred[None]:
        wanted: Deferred[None] = Deferred()
        self._wanted = lines, wanted
        return wanted

    async def kill(self) -> dict[str, int]:
        """Kill it with signal 9; returns the highest acknowledged version of each stream."""
        self.transport.signalProcess(signal.SIGKILL)
        await self._ended
        lines = self.out.decode().split("\n")[:-1]  # the last one may be torn
        return {stream: int(version) for stream, version in map(str.split, lines)}


class CrashTests(SQLiteCase):
    async def test_7_a_killed_process_loses_nothing_acknowledged(self) -> None:
        for lines in (1, 400):
            child = Child(self.path)
            await child.until(lines)
            acknowledged = await child.kill()
            log = await self.open_log()
            for stream, version in acknowledged.items():
                recorded = await log.read(stream)
                self.assertGreaterEqual(len(recorded), version)
                self.assertEqual(len(recorded) % 2, 0)  # batches of two, whole
                self.assertEqual([each.version for each in recorded], list(range(1, len(recorded) + 1)))
            await log.close()

    async def test_7_a_torn_tail_loses_only_what_came_after(self) -> None:
        log = await self.open_log()
        await log.append("a", [requested("a")])
        await log.append("b", [requested("b"), RANG])
        wal = Path(self.path + "-wal")
        sound = wal.stat().st_size
        await log.append("a", [DocumentFetched(number=1, body="x" * 9_000), CLOSED])
        await log.append("c", [requested("c"), CLOSED])
        whole = wal.read_bytes()
        self.assertGreater(len(whole), sound + 12_000)
        step = (len(whole) - sound) // 12
        for number, cut in enumerate(range(sound, len(whole) + 1, step)):
            garbled = bytearray(whole)
            garbled[cut : cut + 16] = b"\xaa" * len(garbled[cut : cut + 16])
            for kind, tail in (
                ("cut", whole[:cut]),
                ("zeros", whole[:cut] + bytes(9_000)),
                ("garbled", garbled),
            ):
                copy = f"{self.path}.{number}.{kind}"
                shutil.copyfile(self.path, copy)
                Path(copy + "-wal").write_bytes(tail)
                torn = await self.open_file(copy)
                a, b, c = await gatherResults([torn.read(each) for each in "abc"])
                self.assertIn((len(a), len(b), len(c)), [(1, 2, 0), (3, 2, 0), (3, 2, 2)])
                self.assertEqual(await self.open_now(torn), ["a", "b"] if len(a) == 1 else ["b"])
                self.assertEqual(await torn.append("b", [ANSWERED], expected=2), 3)
                await torn.close()

    async def open_now(self, log: Log) -> list[str]:
        return list((await log.open_streams())[1])
