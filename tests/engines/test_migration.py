"""A database of an older gateway becomes one of this; others are refused."""

from __future__ import annotations

import asyncio
import sqlite3
import zlib
from pathlib import Path

import msgspec
import pytest

from deltawire.gateway.engines.engine import EngineError
from deltawire.gateway.engines.folder import FILE
from deltawire.gateway.engines.schema import MIGRATIONS, VERSION
from deltawire.gateway.engines.sqlite import SqliteEngine
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.staging import OpenMessage
from tests.engines.storing import commit, frames_of, opened, store, texts

OLD_TABLES = """
CREATE TABLE streams (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, epoch TEXT NOT NULL, settings BLOB NOT NULL,
    floor INTEGER NOT NULL, messages BLOB NOT NULL, end_reason TEXT, created_at REAL NOT NULL,
    changed_at REAL NOT NULL);
CREATE TABLE producers (stream INTEGER NOT NULL, id TEXT NOT NULL, generation INTEGER NOT NULL, last INTEGER NOT NULL,
    seq INTEGER NOT NULL, PRIMARY KEY (stream, id)) WITHOUT ROWID;
CREATE TABLE events (id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    checksum INTEGER NOT NULL, frames BLOB NOT NULL);
PRAGMA application_id = 0x64776972;
PRAGMA user_version = 1;
"""


def test_a_database_of_version_1_is_migrated(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as database:
        database.executescript(OLD_TABLES)
        encode = msgspec.msgpack.encode
        stream = (7, "s", "e", encode(StreamSettings()), 1, encode([["m", "p"]]), None, 1000.0, 2000.0)
        database.execute("INSERT INTO streams VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", stream)
        data = b"".join(frames_of(1, "a", "b"))
        database.execute("INSERT INTO events VALUES (3, 7, 1, 2, ?, ?)", (zlib.crc32(data), data))
    for _ in range(2):
        with opened(tmp_path) as (engine, [found]):
            assert list(found.state.messages) == [OpenMessage("m", "p", 0)]
            assert (found.state.history.floor, found.state.history.last) == (1, 2)
            assert texts(engine, 1, 2) == ["a", "b"]
            assert engine._database.execute("PRAGMA user_version").fetchone() == (VERSION,)
            assert engine._database.execute("SELECT at FROM events WHERE id = 3").fetchone() == (2000.0,)
    with opened(tmp_path) as (engine, _):
        store(engine, commit(3, "c"))
        assert texts(engine, 1, 3) == ["a", "b", "c"]


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sqlite3.connect(tmp_path / FILE) as database:
        database.executescript(OLD_TABLES)
    with monkeypatch.context() as patch:
        patch.setitem(MIGRATIONS, 1, MIGRATIONS[1] + "NONSENSE;")
        with pytest.raises(EngineError, match="NONSENSE"):
            asyncio.run(SqliteEngine(tmp_path).open(lambda function: function()))
    with opened(tmp_path) as (_, streams):
        assert streams == []


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("CREATE TABLE t (x)")
    with pytest.raises(EngineError, match="belongs to another program"):
        asyncio.run(SqliteEngine(tmp_path).open(lambda function: function()))
