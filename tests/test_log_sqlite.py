"""The log in an SQLite file keeps the contract, through full disks, kills and torn files."""

import shutil
from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from plivotx.log import sqlite
from plivotx.log.interface import Log, Position
from plivotx.log.sqlite import SQLiteLog
from tests.log_contract import LogContract


class SQLiteLogTests(LogContract, TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = str(Path(self.mktemp()).resolve())

    async def open_log(self) -> Log:
        return await self.open_file(self.path)

    async def open_file(self, path: str) -> SQLiteLog:
        log = await SQLiteLog.open(path, reactor, wall=self.wall)
        self.addCleanup(log.close)
        return log

    async def after_crash(self, log: Log) -> Log:
        copy = self.path + ".copy"
        for suffix in ("", "-wal"):
            shutil.copyfile(self.path + suffix, copy + suffix)
        return await self.open_file(copy)

    async def check_only_open_are_read(self, log: SQLiteLog) -> None:
        plan = await log._read(lambda c: c.execute(f"EXPLAIN QUERY PLAN {sqlite._OPEN_STREAMS}").fetchall())
        self.assertEqual([each[-1] for each in plan], ["SCAN streams USING INDEX streams_open"])
        self.assertEqual(await self.open_now(log), ["a"])

    def beyond(self, position: Position) -> Position:
        return Position(str(int(position) + 1))
