"""The tables of the SQLite engine.

Events are rows that are only appended, each with the frames of one commit of one stream, so that a commit writes where
the last one ended; an index by stream and seq would cost three times as much. Where the rows of a stream are is kept in
memory and found again when the database is opened.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 1
"""Of the schema, in `PRAGMA user_version`."""

APPLICATION_ID: Final = 0x64776972
"""In `PRAGMA application_id`: the database is one of deltawire's."""

TABLES: Final = """
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
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    first INTEGER NOT NULL,   -- seq of the first event
    last INTEGER NOT NULL,
    checksum INTEGER NOT NULL, -- CRC-32 of the frames
    frames BLOB NOT NULL
);
"""
