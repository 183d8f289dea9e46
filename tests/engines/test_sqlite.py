"""The SQLite engine: what is committed is there after a restart, and what is not was never told as if it were."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from deltawire.gateway.engines.engine import EngineError
from deltawire.gateway.engines.folder import FILE, LOCK
from deltawire.gateway.engines.sqlite import SqliteEngine
from deltawire.gateway.engines.writer import Job, Sync
from deltawire.gateway.streams.producers import MAX_REMEMBERED, ProducerState
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.staging import OpenMessage
from tests.engines.storing import DEADLINE, commit, full_disk, opened, read, store, texts, wait


def test_what_was_committed_is_there_after_a_restart(tmp_path: Path) -> None:
    settings = StreamSettings(buffer=7)
    producer = ProducerState("p", 2, 5, 3)
    with opened(tmp_path) as (engine, streams):
        assert streams == []
        engine.create("s", "e", settings)
        messages = [OpenMessage("m", "p", 3), OpenMessage("n", None)]
        store(engine, commit(1, "a", "b"), commit(3, "c", producers=(producer,), messages=messages))
    with opened(tmp_path) as (engine, [stream]):
        assert (stream.id, stream.epoch, stream.settings) == ("s", "e", settings)
        assert (stream.state.history.floor, stream.state.history.last, stream.state.end_reason) == (1, 3, None)
        assert list(stream.state.producers) == [producer]
        assert list(stream.state.messages) == messages
        assert texts(engine, 1, 3) == ["a", "b", "c"]
        assert texts(engine, 2, 3) == ["b", "c"]
        assert texts(engine, 2, 2) == ["b"]
        store(engine, commit(4, "d", end_reason="closed"))
    with opened(tmp_path) as (engine, [stream]):
        assert (stream.state.history.last, stream.state.end_reason) == (4, "closed")
        assert texts(engine, 1, 4) == ["a", "b", "c", "d"]


def test_a_commit_of_several_streams_is_one(tmp_path: Path) -> None:
    with opened(tmp_path) as (engine, _):
        for name in ("s", "t"):
            engine.create(name, "e", StreamSettings())
        store(engine, commit(1, "a"), commit(1, "x", stream="t"), commit(2, "b"))
        assert texts(engine, 1, 2) == ["a", "b"]
        assert texts(engine, 1, 1, "t") == ["x"]


def test_what_retention_drops_is_dropped_by_whole_commits(tmp_path: Path) -> None:
    with opened(tmp_path) as (engine, _):
        engine.create("s", "e", StreamSettings())
        store(engine, commit(1, "a", "b"), commit(3, "c", "d"), commit(5, "e"))
        engine.trim("s", "e", 4)
        store(engine, commit(6, "f"))
        assert texts(engine, 4, 6) == ["d", "e", "f"]
    with opened(tmp_path) as (engine, [stream]):
        assert (stream.state.history.floor, stream.state.history.last) == (4, 6)
        assert texts(engine, 4, 6) == ["d", "e", "f"]


def test_a_stream_that_is_forgotten_leaves_nothing_and_its_id_may_come_again(tmp_path: Path) -> None:
    with opened(tmp_path) as (engine, _):
        engine.create("s", "e", StreamSettings())
        store(engine, commit(1, "a", producers=(ProducerState("p", 1, 1, 1),)))
        engine.forget("s", "e")
        engine.create("s", "e2", StreamSettings())
        store(engine, commit(1, "b", epoch="e2"))
    with opened(tmp_path) as (engine, [stream]):
        assert (stream.epoch, stream.state.history.last, list(stream.state.producers)) == ("e2", 1, [])
    with sqlite3.connect(tmp_path / FILE) as database:
        assert database.execute("SELECT count(*) FROM events").fetchone() == (1,)


def test_a_second_gateway_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(EngineError, match="another gateway uses it"):
        asyncio.run(SqliteEngine(tmp_path).open(lambda function: function()))
    with opened(tmp_path):
        pass  # it is free again


def test_a_folder_that_can_not_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match=r"data_dir .*file/deeper: Not a directory"):
        asyncio.run(SqliteEngine(tmp_path / "file" / "deeper").open(lambda function: function()))


def test_a_database_of_another_user_is_told_and_the_folder_free_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "chmod", Mock(side_effect=PermissionError(1, "Operation not permitted")))
        with pytest.raises(EngineError, match=r"deltawire\.sqlite can't be used: .*Operation not permitted"):
            asyncio.run(SqliteEngine(tmp_path).open(lambda function: function()))
    with opened(tmp_path):
        pass


def test_settings_that_can_not_be_read_are_told(tmp_path: Path) -> None:
    with opened(tmp_path) as (engine, _):
        engine.create("s", "e", StreamSettings())
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("UPDATE streams SET settings = x'c1'")
    with pytest.raises(EngineError, match=r"deltawire\.sqlite can't be used: "):
        asyncio.run(SqliteEngine(tmp_path).open(lambda function: function()))


@pytest.mark.parametrize("content", [b"no database" * 100, b"\0" * 4096])
def test_what_is_no_database_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(EngineError, match=r"deltawire\.sqlite can't be used: file is not a database"):
        asyncio.run(SqliteEngine(tmp_path).open(lambda function: function()))


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(EngineError, match="version 99, newer than this gateway's"):
        asyncio.run(SqliteEngine(tmp_path).open(lambda function: function()))


def test_a_flipped_byte_is_found_and_the_rest_is_served(tmp_path: Path) -> None:
    with opened(tmp_path) as (engine, _):
        engine.create("s", "e", StreamSettings())
        store(engine, commit(1, "good"), commit(2, "spoiled"), commit(3, "fine"))
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute(
            "UPDATE events SET frames = CAST(replace(frames, x'73706f', x'73506f') AS BLOB) WHERE first = 2"
        )
    with opened(tmp_path) as (engine, _):
        assert read(engine, 2, 3) == (2, (), "events 2 to 2: corrupt (row 2 of events)")
        assert read(engine, 1, 3).last == 1, "what is before it is served"
        assert texts(engine, 1, 1) == ["good"]
        assert texts(engine, 3, 3) == ["fine"]


def test_nothing_is_committed_on_a_full_disk_reads_go_on_and_it_recovers_by_itself(tmp_path: Path) -> None:
    with opened(tmp_path) as (engine, _):
        engine.create("s", "e", StreamSettings())
        store(engine, commit(1, "before"))
        done = threading.Event()
        with full_disk(engine):
            engine.commit([commit(2, "x" * 1_000_000)], lambda _: done.set())
            wait(lambda: engine.failure)
            assert "full" in str(engine.failure)
            assert texts(engine, 1, 1) == ["before"]
            assert not done.is_set()
        assert done.wait(DEADLINE)
        assert engine.failure is None
        store(engine, commit(3, "after"))
        assert texts(engine, 3, 3) == ["after"]
    with opened(tmp_path) as (engine, [stream]):
        assert stream.state.history.last == 3


class Faulty:
    def __iter__(self) -> Iterator[object]:
        raise ZeroDivisionError


def test_a_fault_of_our_own_stops_commits_for_good_and_no_reads(tmp_path: Path) -> None:
    with opened(tmp_path) as (engine, _):
        engine.create("s", "e", StreamSettings())
        store(engine, commit(1, "before"))
        engine._writer.write(Job(statements=[("no SQL", Faulty())]))
        done = threading.Event()
        engine.commit([commit(2, "after")], lambda _: done.set())
        wait(lambda: engine.failure)
        assert engine._writer.is_broken
        assert texts(engine, 1, 1) == ["before"]
        assert not done.is_set()


@pytest.mark.parametrize("sync", ["always", "interval", "off"])
def test_commits_made_at_once_are_kept_in_order(tmp_path: Path, sync: Sync) -> None:
    with opened(tmp_path, sync) as (engine, _):
        engine.create("s", "e", StreamSettings())
        order: list[int] = []
        for seq in range(1, 201):
            engine.commit([commit(seq, str(seq))], lambda _, seq=seq: order.append(seq))  # type: ignore[misc]
        store(engine, commit(201, "last"))
        assert order == list(range(1, 201))
        assert texts(engine, 1, 200) == [str(seq) for seq in range(1, 201)]


def test_the_files_are_their_owners_alone(tmp_path: Path) -> None:
    with opened(tmp_path / "new"):
        pass
    folder = tmp_path / "new"
    assert [it.stat().st_mode & 0o777 for it in (folder, folder / FILE)] == [0o700, 0o600]


def test_commits_of_a_stream_that_was_forgotten_are_dropped_and_others_kept(tmp_path: Path) -> None:
    with opened(tmp_path) as (engine, _):
        for name in ("s", "t"):
            engine.create(name, "e", StreamSettings())
        engine.forget("s", "e")
        store(engine, commit(1, "gone"), commit(1, "kept", stream="t"))
        engine.trim("s", "e", 2)
        assert texts(engine, 1, 1, "t") == ["kept"]
        assert "forgotten" in read(engine, 1, 1).fault
    with opened(tmp_path) as (_, streams):
        assert [it.id for it in streams] == ["t"]


def test_producers_are_listed_oldest_first_and_trimmed_with_the_events(tmp_path: Path) -> None:
    count = MAX_REMEMBERED + 2
    with opened(tmp_path) as (engine, _):
        engine.create("s", "e", StreamSettings())
        for seq in range(1, count + 1):
            state = ProducerState(f"p{count - seq}", 0, 1, seq)
            engine.commit([commit(seq, "x", producers=(state,))], lambda _: None)
        engine.trim("s", "e", 2)
    with opened(tmp_path) as (_, [stream]):
        assert [it.seq for it in stream.state.producers] == list(range(3, count + 1))


@pytest.fixture
def crashed(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder as a process that was killed leaves it, or a machine that was started again since."""

    def crash(sync: Sync, *, was_started_again: bool, is_ended: bool = False) -> Path:
        folder, left = tmp_path / "data", tmp_path / "left"
        with opened(folder, sync) as (engine, _):
            for name in ("open", "closed"):
                engine.create(name, "e", StreamSettings())
                store(engine, commit(1, name, stream=name))
            store(engine, commit(2, "end", stream="closed", end_reason="closed"))
            if not is_ended:
                shutil.copytree(folder, left)
        if is_ended:
            folder.rename(left)
        lock = left / LOCK
        if was_started_again and lock.read_bytes():
            lock.write_text("an earlier start")
        return left

    return crash


@pytest.mark.parametrize("sync", ["off", "interval"])
def test_seqs_that_a_crash_of_the_machine_may_have_taken_are_not_given_again(
    crashed: Callable[..., Path], sync: Sync
) -> None:
    folder = crashed(sync, was_started_again=True)
    with opened(folder, sync) as (engine, streams):
        epochs = {stream.id: stream.epoch for stream in streams}
        assert epochs["closed"] == "e"
        assert epochs["open"] != "e"
        assert engine.describe() == {"new_epochs": "crash"}
        assert texts(engine, 1, 1, "open", epoch=epochs["open"]) == ["open"]
    with opened(folder, sync) as (engine, streams):
        assert {stream.id: stream.epoch for stream in streams} == epochs, "the gateway has ended in between"
        assert engine.describe() == {}


@pytest.mark.parametrize(
    ("sync", "conditions"),
    [
        ("off", {"was_started_again": False}),
        ("always", {"was_started_again": True}),
        ("interval", {"was_started_again": True, "is_ended": True}),
    ],
)
def test_epochs_stay_where_nothing_can_be_missing(
    crashed: Callable[..., Path], sync: Sync, conditions: dict[str, bool]
) -> None:
    with opened(crashed(sync, **conditions), sync) as (engine, streams):
        assert [stream.epoch for stream in streams] == ["e", "e"]
        assert engine.describe() == {}


@pytest.mark.parametrize("sync", ["always", "interval", "off"])
def test_another_program_that_opens_and_closes_the_database_takes_nothing_away(tmp_path: Path, sync: Sync) -> None:
    look = "import sqlite3, sys; database = sqlite3.connect(sys.argv[1]); database.execute('PRAGMA user_version'); {}"
    with opened(tmp_path, sync) as (engine, _):
        engine.create("s", "e", StreamSettings())
        store(engine, commit(1, "a"))
        for what in ("database.execute('SELECT * FROM streams').fetchall()", "database.execute('BEGIN IMMEDIATE')"):
            done = subprocess.run(
                [sys.executable, "-c", f"{look.format(what)}; database.close()", tmp_path / FILE], check=True
            )
            assert done.returncode == 0
        store(engine, commit(2, "b"))
        assert (tmp_path / f"{FILE}-wal").exists(), "a WAL that is deleted while it is written takes all that comes"
    with opened(tmp_path, sync) as (engine, [stream]):
        assert stream.state.history.last == 2
        assert texts(engine, 1, 2) == ["a", "b"]
