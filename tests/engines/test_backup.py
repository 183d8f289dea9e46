"""A copy of the database: of one moment, sound, and made by a connection that changes nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from deltawire.gateway.engines import backup
from deltawire.gateway.engines.backup import back_up, open_to_read
from deltawire.gateway.engines.distributing import distribute
from deltawire.gateway.engines.engine import EngineError
from deltawire.gateway.engines.folder import FILE
from deltawire.gateway.engines.schema import VERSION
from deltawire.gateway.streams.producers import ProducerState
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.staging import OpenMessage
from tests.engines.storing import commit, opened, store, texts


def copy_of(folder: Path) -> Path:
    """A folder with a copy of the database of another."""
    copy = folder.with_name(f"{folder.name}-copy")
    copy.mkdir()
    (copy / FILE).touch()
    back_up(folder, copy / FILE)
    return copy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_all_that_was_committed_is_in_the_copy(folder: Path) -> None:
    settings, producer = StreamSettings(buffer=7), ProducerState("p", 2, 5, 3)
    messages = [OpenMessage("m", "p", 1), OpenMessage("n", None)]
    with opened(folder) as (engine, _):
        engine.create("s", "e", settings)
        store(engine, commit(1, "a", "b"), commit(3, "c", producers=(producer,), messages=messages))
        copy = copy_of(folder)
        assert engine.failure is None
    assert [path.name for path in copy.iterdir()] == [FILE]
    with opened(copy) as (engine, [stream]):
        assert (stream.id, stream.settings, stream.state.history.floor, stream.state.history.last) == (
            "s",
            settings,
            1,
            3,
        )
        assert list(stream.state.producers) == [producer]
        assert list(stream.state.messages) == messages
        assert texts(engine, 1, 3, epoch=stream.epoch) == ["a", "b", "c"]


def test_a_commit_during_the_copy_is_neither_held_up_nor_in_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "STEP", 1)
    with opened(folder) as (engine, _):
        engine.create("s", "e", StreamSettings())
        store(engine, commit(1, "a"))
        steps = 0

        def commit_meanwhile(_: int) -> None:
            nonlocal steps
            steps += 1
            store(engine, commit(1 + steps, "later" * 10_000))

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", commit_meanwhile)
            copy = copy_of(folder)
        assert steps > 3
        assert len(texts(engine, 1, 1 + steps)) == 1 + steps
    with opened(copy) as (engine, [stream]):
        assert texts(engine, 1, stream.state.history.last, epoch=stream.epoch) == ["a"]


def test_an_open_stream_has_another_epoch_in_each_copy_and_a_closed_one_its_own(folder: Path) -> None:
    with opened(folder) as (engine, _):
        for name in ("open", "closed"):
            engine.create(name, f"{name}-epoch", StreamSettings())
        store(engine, commit(1, "a", stream="closed", epoch="closed-epoch", end_reason="closed"))
        store(engine, commit(1, "a", stream="open", epoch="open-epoch"))
    epochs = []
    for _ in range(2):
        with opened(copy := copy_of(folder)) as (_, streams):
            epochs.append({stream.id: stream.epoch for stream in streams})
        shutil.rmtree(copy)
    assert [it["closed"] for it in epochs] == ["closed-epoch"] * 2
    assert len({it["open"] for it in epochs} | {"open-epoch"}) == 3
    assert all(len(it["open"]) == 16 for it in epochs)


def test_each_gateway_that_starts_on_one_copy_gives_open_streams_an_epoch_of_its_own(folder: Path) -> None:
    with opened(folder) as (engine, _):
        for name in ("open", "closed"):
            engine.create(name, name, StreamSettings())
            store(engine, commit(1, "a", stream=name, epoch=name))
        store(engine, commit(2, "b", stream="closed", epoch="closed", end_reason="closed"))
    copy, starts = copy_of(folder), []
    for number in range(2):
        restored = shutil.copytree(copy, folder.with_name(f"restored-{number}"))
        for _ in range(2):
            with opened(restored) as (engine, streams):
                starts.append({stream.id: stream.epoch for stream in streams})
                assert texts(engine, 1, 1, stream="open", epoch=starts[-1]["open"]) == ["a"]
                assert engine.describe() == ({"new_epochs": "copy"} if len(starts) % 2 else {})
    assert starts[0] == starts[1], "the second start goes on with what the first one has begun"
    assert starts[2] == starts[3]
    assert len({"open", starts[0]["open"], starts[2]["open"]}) == 3
    assert {it["closed"] for it in starts} == {"closed"}


def test_a_copy_that_several_workers_share_has_one_epoch_for_each_stream(folder: Path) -> None:
    with opened(folder) as (engine, _):
        engine.create("s", "e", StreamSettings())
        store(engine, commit(1, "a"))
    copy, epochs = copy_of(folder), {"e"}
    for number in range(2):
        restored = shutil.copytree(copy, folder.with_name(f"restored-{number}"))
        homes = [restored / "worker-0-of-2", restored / "worker-1-of-2"]
        assert distribute([restored], homes, lambda _: 1).streams == 1
        with opened(homes[1]) as (_, [stream]):
            epochs.add(stream.epoch)
    assert len(epochs) == 3


def test_what_is_corrupt_in_a_copy_is_not_sealed_anew(folder: Path) -> None:
    with opened(folder) as (engine, _):
        engine.create("s", "e", StreamSettings())
        store(engine, commit(1, "a"))
    copy = copy_of(folder)
    with closing(sqlite3.connect(copy / FILE)) as database, database:
        database.execute("UPDATE streams SET floor = 2")
    for _ in range(2):
        with pytest.raises(EngineError, match="row 1 of streams is corrupt"), opened(copy):
            pass


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (FILE, f"{FILE}-wal")}


def test_the_connection_that_copies_can_neither_write_nor_checkpoint(folder: Path) -> None:
    with opened(folder) as (engine, _):
        engine.create("s", "e", StreamSettings())
        store(engine, commit(1, "a" * 10_000))
        before = contents(folder)
        assert len(before[f"{FILE}-wal"]) > 10_000, "there is something to checkpoint"
        source = open_to_read(folder)
        assert source.execute("SELECT count(*) FROM events").fetchone() == (1,)
        for statement in ("PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA wal_checkpoint", "DELETE FROM events"):
            with pytest.raises(sqlite3.OperationalError):
                source.execute(statement).fetchall()
        source.close()
        assert contents(folder) == before


def test_the_connection_that_copies_does_not_checkpoint_when_it_is_the_last_to_close(folder: Path) -> None:
    killed = folder.with_name("killed")
    with opened(folder) as (engine, _):
        engine.create("s", "e", StreamSettings())
        store(engine, commit(1, "a" * 10_000))
        shutil.copytree(folder, killed)  # as a gateway leaves it that was killed
    before = contents(killed)
    copy = copy_of(killed)
    assert contents(killed) == before
    with opened(copy) as (engine, [stream]):
        assert texts(engine, 1, 1, epoch=stream.epoch) == ["a" * 10_000], "what the WAL has is in the copy"


def make_other(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE t (x)")
    database.close()


def make_newer(path: Path) -> None:
    with opened(path.parent):
        pass
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version = {VERSION + 1}")
    database.close()


def corrupt(path: Path, place: int) -> None:
    with opened(path.parent) as (engine, _):
        engine.create("s", "e", StreamSettings())
        store(engine, *(commit(seq, "a" * 1000) for seq in range(1, 100)))
    raw = bytearray(path.read_bytes())
    raw[place] ^= 0xFF
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda _: None, f"has no {FILE}: name that of a gateway"),
        (lambda path: path.write_bytes(b"x" * 5000), "can't be copied: file is not a database"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (make_other, "belongs to another program"),
        (make_newer, f"its schema has version {VERSION + 1}, newer than this gateway's {VERSION}"),
        (
            lambda path: corrupt(path, -4096),
            "is corrupt: database disk image is malformed",
        ),  # the kind of its last page
        (lambda path: corrupt(path, 39), "is corrupt: .*freelist"),  # the number of its free pages,
    ],
    ids=["absent", "text", "empty", "another program's", "newer", "corrupt page", "corrupt header"],
)
def test_what_can_not_be_copied_is_named(folder: Path, make: object, reason: str) -> None:
    folder.mkdir()
    assert callable(make)
    make(folder / FILE)
    with pytest.raises(EngineError, match=reason) as raised:
        copy_of(folder)
    assert str(folder) in str(raised.value)
