"""The tables of the SQLite engine, and how those of an older gateway become these.

Events are rows that are only appended, each with the frames of one commit of one stream, so that a commit writes where
the last one ended; an index by stream and seq would cost three times as much. What has come together in a stream is
stored again as one piece, which is read at once, and its commits are deleted. Where the rows of a stream are is kept in
memory and found again when the database is opened.
"""

from __future__ import annotations

import sqlite3
from typing import Final

VERSION: Final = 2
"""Of the schema, in `PRAGMA user_version`."""

APPLICATION_ID: Final = 0x64776972
"""In `PRAGMA application_id`: the database is one of deltawire's."""

_EVENTS: Final = """
    id INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    first INTEGER NOT NULL,   -- seq of the first event
    last INTEGER NOT NULL,
    checksum INTEGER NOT NULL, -- CRC-32 of the frames
    at REAL NOT NULL,         -- seconds since 1970
    frames BLOB NOT NULL      -- last, so that the rest is found without it
"""

TABLES: Final = f"""
CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    epoch TEXT NOT NULL,
    settings BLOB NOT NULL,   -- MessagePack
    floor INTEGER NOT NULL,   -- seq of the oldest event
    messages BLOB NOT NULL,   -- in progress: MessagePack
    end_reason TEXT,
    created_at REAL NOT NULL, -- seconds since 1970
    changed_at REAL NOT NULL
);
CREATE TABLE producers (
    stream INTEGER NOT NULL,
    id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    last INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (stream, id)
) WITHOUT ROWID;
CREATE TABLE events ({_EVENTS});
CREATE TABLE pieces ({_EVENTS});
"""

MIGRATIONS: Final[dict[int, str]] = {
    1: f"""
ALTER TABLE events ADD COLUMN at REAL NOT NULL DEFAULT 0;
UPDATE events SET at = (SELECT changed_at FROM streams WHERE streams.id = events.stream);
CREATE TABLE pieces ({_EVENTS});
""",  # noqa: S608 - names of ours
}
"""What makes version N + 1 of version N."""


def migrate(database: sqlite3.Connection, version: int) -> None:
    """Create the tables, or change those of an older gateway; all of it or nothing.

    Args:
        database: not in a transaction.
        version: of its schema; 0 if it is empty.
    """
    steps = [TABLES] if version == 0 else [MIGRATIONS[old] for old in range(version, VERSION)]
    if steps:
        pragmas = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
        database.executescript(f"BEGIN IMMEDIATE; {''.join(steps)} {pragmas} COMMIT;")
