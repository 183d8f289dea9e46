"""Stored streams move to where they belong, and an interruption loses none."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.msgpack import encode

from deltawire.gateway.engines import distributing
from deltawire.gateway.engines.checksums import STREAM, of_events, of_values, teach
from deltawire.gateway.engines.distributing import distribute
from deltawire.gateway.engines.engine import EngineError
from deltawire.gateway.engines.folder import FILE, LOCK
from deltawire.gateway.engines.schema import migrate
from deltawire.gateway.streams.settings import StreamSettings

NAMES = [f"s{number}" for number in range(9)]


class Row(NamedTuple):
    """A stream with all that is stored of it."""

    name: str
    epoch: str
    producers: list[tuple[str, int]]
    frames: list[tuple[int, bytes]]


def write(folder: Path, names: list[str]) -> None:
    """Store streams, with a producer, two commits and a piece each, as an engine does."""
    folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as database:
        migrate(database, 0)
        for number, name in enumerate(names, start=5):
            values = (number, name, f"epoch of {name}", encode(StreamSettings()), 1, encode([]), None, 1.0, 2.0)
            database.execute("INSERT INTO streams VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*values, of_values(*values)))
            producer = (number, "p", 1, 2, 3)
            database.execute("INSERT INTO producers VALUES (?, ?, ?, ?, ?, ?)", (*producer, of_values(*producer)))
            for table, row, first in (("pieces", 0, 1), ("events", 1, 11), ("events", 2, 21)):
                place, frames = (3 * number + row, number, first, first + 9), f"{name} {first}".encode()
                event = (*place, of_events(*place, frames), 0.0, frames)
                database.execute(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?)", event)


def read(folder: Path) -> list[Row]:
    if not (folder / FILE).exists():
        return []
    rows = []
    with closing(sqlite3.connect(folder / FILE)) as database:
        ids: list[int] = []
        for number, name, epoch in database.execute("SELECT id, name, epoch FROM streams ORDER BY name").fetchall():
            producers = database.execute("SELECT id, seq FROM producers WHERE stream = ?", (number,)).fetchall()
            events = database.execute(
                "SELECT id, first, frames FROM pieces WHERE stream = ?1 "
                "UNION ALL SELECT id, first, frames FROM events WHERE stream = ?1 ORDER BY first",
                (number,),
            ).fetchall()
            ids += [id_ for id_, _, _ in events]
            rows.append(Row(name, epoch, producers, [(first, frames) for _, first, frames in events]))
        assert len(set(ids)) == len(ids), "a number is that of one row, whether of events or of a piece"
    return rows


def expected(*names: str) -> list[Row]:
    return [
        Row(name, f"epoch of {name}", [("p", 3)], [(at, f"{name} {at}".encode()) for at in (1, 11, 21)])
        for name in sorted(names)
    ]


def by_number(count: int) -> Callable[[str], int]:
    return lambda name: int(name[1:]) % count


def homes(root: Path, count: int) -> list[Path]:
    return [root] if count == 1 else [root / f"home-{number}-of-{count}" for number in range(count)]


def folders(root: Path) -> list[Path]:
    return [root, *root.glob("home-*")]


def check(root: Path, count: int) -> None:
    for number, home in enumerate(homes(root, count)):
        assert read(home) == expected(*(name for name in NAMES if by_number(count)(name) == number))
    assert len(list(root.rglob(FILE))) == count


def test_streams_move_from_one_number_of_databases_to_another(tmp_path: Path) -> None:
    write(tmp_path, NAMES)
    for count, moved in ((3, 9), (2, 9), (1, 9), (4, 9), (4, 0)):
        assert distribute(folders(tmp_path), homes(tmp_path, count), by_number(count)).streams == moved
        check(tmp_path, count)


def test_a_stream_that_is_stored_twice_is_named_and_nothing_changes(tmp_path: Path) -> None:
    write(tmp_path, NAMES)
    write(homes(tmp_path, 2)[1], NAMES[1::2])
    with closing(sqlite3.connect(tmp_path / FILE)) as database, database:
        teach(database)
        database.execute("UPDATE streams SET epoch = 'another' WHERE name = 's3'")
        database.execute(f"UPDATE streams SET checksum = {STREAM}")
    before = read(tmp_path), read(homes(tmp_path, 2)[1])
    with pytest.raises(EngineError, match="stream 's3' is stored in"):
        distribute(folders(tmp_path), homes(tmp_path, 2), by_number(2))
    assert (read(tmp_path), read(homes(tmp_path, 2)[1])) == before


def test_an_empty_folder_stays_empty(tmp_path: Path) -> None:
    assert distribute(folders(tmp_path), homes(tmp_path, 2), by_number(2)).streams == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("copies", range(4))
def test_an_interruption_after_any_copy_loses_and_doubles_nothing(
    tmp_path: Path, copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, NAMES)
    left = copies
    copy = distributing._copy

    def copy_some(*arguments: object) -> int:
        nonlocal left
        if not left:
            raise OSError(28, "No space left on device")
        left -= 1
        return copy(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(distributing, "_copy", copy_some)
    if copies < 3:
        with pytest.raises(EngineError, match="No space left on device"):
            distribute(folders(tmp_path), homes(tmp_path, 3), by_number(3))
        assert read(tmp_path) == expected(*NAMES), "nothing is deleted before everything is copied"
    monkeypatch.undo()
    distribute(folders(tmp_path), homes(tmp_path, 3), by_number(3))
    check(tmp_path, 3)


def test_an_interruption_before_the_old_database_is_deleted_doubles_nothing(tmp_path: Path) -> None:
    write(tmp_path, NAMES)
    shutil.copy(tmp_path / FILE, tmp_path / "kept")
    distribute(folders(tmp_path), homes(tmp_path, 2), by_number(2))
    (tmp_path / "kept").rename(tmp_path / FILE)
    assert distribute(folders(tmp_path), homes(tmp_path, 2), by_number(2)).streams == 0
    check(tmp_path, 2)


def test_an_interruption_after_a_crash_of_the_machine_gives_epochs_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, NAMES)
    (tmp_path / LOCK).write_text("an earlier start")
    copy, fails = distributing._copy, {1}

    def copy_some(source: Path, home: Path, number: int, home_of: Callable[[str], int]) -> int:
        if number in fails:
            raise OSError(28, "No space left on device")
        return copy(source, home, number, home_of)

    monkeypatch.setattr(distributing, "_copy", copy_some)
    with pytest.raises(EngineError, match="No space left on device"):
        distribute(folders(tmp_path), homes(tmp_path, 2), by_number(2))
    renewed = read(tmp_path)
    assert not {row.epoch for row in renewed} & {row.epoch for row in expected(*NAMES)}
    fails.clear()
    distribute(folders(tmp_path), homes(tmp_path, 2), by_number(2))
    assert sorted(row for home in homes(tmp_path, 2) for row in read(home)) == renewed


def test_a_database_that_can_t_be_read_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(EngineError, match=FILE):
        distribute(folders(tmp_path), homes(tmp_path, 2), by_number(2))
    assert (tmp_path / FILE).exists()


def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    write(tmp_path, NAMES)
    with closing(sqlite3.connect(tmp_path / FILE)) as database:
        database.execute("PRAGMA user_version = 999")
    with pytest.raises(EngineError, match="newer"):
        distribute(folders(tmp_path), homes(tmp_path, 2), by_number(2))
    assert (tmp_path / FILE).exists()
