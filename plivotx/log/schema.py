"""The tables of the SQLite log, and how the file of an older version becomes one of this version."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing

from plivotx.log.interface import Unopenable

APPLICATION_ID = 0x706C7678
"""What `file` and SQLite's own header know our files by: "plvx"."""

UPGRADES: tuple[tuple[str, ...], ...] = (
    (  # 1
        """
        CREATE TABLE streams (
            id INTEGER PRIMARY KEY,    -- grows with every new stream
            name TEXT NOT NULL UNIQUE, -- what callers know the stream by: RequestUUID or CallUUID of a call
            version INTEGER NOT NULL,  -- number of events in the stream
            open INTEGER NOT NULL,     -- 1 from the event that opens the stream to the one that closes it
            opened REAL NOT NULL,      -- wall time of the first event, seconds of the epoch
            changed REAL NOT NULL,     -- wall time of the latest event, seconds of the epoch
            rank INTEGER NOT NULL,     -- of the last event whose columns were taken; 0: none yet
            state TEXT,                -- accepted, dialling, ringing, in-progress, completed, closed
            from_number TEXT,          -- caller, as the request gave it
            to_number TEXT,            -- far end, as the request gave it
            account_sid TEXT,          -- AccountSID, as the request gave it
            switch TEXT,               -- name of the FreeSWITCH that dials
            gateway TEXT,              -- dial-string prefix of the latest attempt
            attempt INTEGER,           -- number of the latest attempt, from 1
            call_uuid TEXT,            -- channel that rang or was answered
            rang_at INTEGER,           -- microseconds of the epoch on the switch's clock
            answered_at INTEGER,       -- microseconds of the epoch on the switch's clock
            ended_at INTEGER,          -- microseconds of the epoch on the switch's clock; 0: no channel ended
            cause TEXT                 -- hangup cause
        )
        """,
        "CREATE INDEX streams_opened ON streams (opened)",
        # Partial, so that open streams are found, and old closed ones, whatever number there is of the other.
        "CREATE INDEX streams_open ON streams (opened) WHERE open",
        "CREATE INDEX streams_closed ON streams (changed) WHERE NOT open",
        """
        CREATE TABLE events (
            position INTEGER PRIMARY KEY AUTOINCREMENT, -- order of the whole log; never used twice
            stream INTEGER NOT NULL,                    -- streams.id
            version INTEGER NOT NULL,                   -- number of the event in its stream, from 1
            at REAL NOT NULL,                           -- wall time of the append, seconds of the epoch
            data TEXT NOT NULL                          -- the event as JSON
        )
        """,
        "CREATE UNIQUE INDEX events_stream ON events (stream, version)",
        """
        CREATE TABLE fence (
            token INTEGER NOT NULL -- the one token that is valid; the only row
        )
        """,
        "INSERT INTO fence VALUES (0)",
        # The read model: streams that are calls.
        """
        CREATE VIEW calls AS
            SELECT name AS stream, rank, open, opened, changed,
                   state, from_number, to_number, account_sid, switch, gateway, attempt,
                   call_uuid, rang_at, answered_at, ended_at, cause
            FROM streams WHERE rank > 0
        """,
    ),
    (  # 2: callbacks that were given up; lists in a strict order
        """
        ALTER TABLE streams ADD COLUMN
            undelivered INTEGER /* callbacks that were given up, as of the last time the call was closed */
        """,
        # The encoder puts the type first in the text of an event.
        """
        UPDATE streams SET undelivered = (
            SELECT count(*) FROM events
            WHERE events.stream = streams.id AND data LIKE '{"type":"CallbackGivenUp"%'
        ) WHERE state = 'closed'
        """,
        "DROP INDEX streams_opened",
        "CREATE INDEX streams_opened ON streams (opened, name)",
        "CREATE INDEX streams_undelivered ON streams (opened, name) WHERE undelivered > 0",
        "DROP VIEW calls",
        """
        CREATE VIEW calls AS
            SELECT name AS stream, rank, open, opened, changed,
                   state, from_number, to_number, account_sid, switch, gateway, attempt,
                   call_uuid, rang_at, answered_at, ended_at, cause, undelivered
            FROM streams WHERE rank > 0
        """,
    ),
    (  # 3: lists by number, account or channel, and of open calls, read little but what they show
        # Of closed calls only: written when a call is over, they cost nothing while it is accepted.
        "CREATE INDEX streams_from ON streams (from_number, opened) WHERE NOT open",
        "CREATE INDEX streams_to ON streams (to_number, opened) WHERE NOT open",
        "CREATE INDEX streams_account ON streams (account_sid, opened) WHERE NOT open AND account_sid > ''",
        "CREATE INDEX streams_channel ON streams (call_uuid) WHERE NOT open AND call_uuid > ''",
        # With the name, as streams_opened is, which SQLite prefers otherwise.
        "DROP INDEX streams_open",
        "CREATE INDEX streams_open ON streams (opened, name) WHERE open",
    ),
)
"""Statements that make each version out of the one before; the first makes it out of an empty file.

From tag 0.1.0 on an entry is never changed, only followed by another.
"""


def connect(path: str, upgrades: Sequence[Sequence[str]] = UPGRADES) -> sqlite3.Connection:
    """Open the file *path* for writing, made anew or brought to this version if need be.

    An older file is first copied to ``PATH.vN``, where N is its version.  Raises `Unopenable` if the
    file is not ours or of a newer version; it is left as it was.
    """
    connection = None
    try:
        connection = another(path)
        _prepare(connection, path, upgrades)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise Unopenable(f"{path}: {error}")
        raise
    return connection


def another(path: str) -> sqlite3.Connection:
    """Open a file that `connect` has made ready, once more; raises sqlite3.Error.

    Transactions are begun and ended by whoever has the connection, in one thread at a time.  What is
    committed is on disk (synchronous=FULL); in WAL mode that costs one fsync.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def _prepare(connection: sqlite3.Connection, path: str, upgrades: Sequence[Sequence[str]]) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (ours,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if ours != APPLICATION_ID and (ours or version or tables):
        raise Unopenable(f"{path}: an SQLite file, but none that plivotx made")
    if version > len(upgrades):
        raise Unopenable(
            f"{path}: written by a newer plivotx"
            f" (the file has version {version}, this one knows up to {len(upgrades)})"
        )
    (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":
        raise Unopenable(f"{path}: no write-ahead log on this file system (journal mode is {mode})")
    if 0 < version < len(upgrades):
        with closing(sqlite3.connect(f"{path}.v{version}")) as copy:
            connection.backup(copy)
    for number, statements in enumerate(upgrades[version:], version + 1):
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={number}")
        connection.execute("COMMIT")
