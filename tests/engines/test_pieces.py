"""Commits are merged to pieces, and what is read is the same before, while and after."""

from __future__ import annotations

from pathlib import Path

from deltawire.gateway.streams.settings import StreamSettings
from tests.engines.storing import commit, frames_of, full_disk, opened, read, store, texts, wait


def test_commits_are_merged_to_pieces_and_read_as_before(tmp_path: Path) -> None:
    with opened(tmp_path) as (engine, _):
        engine.create("s", "e", StreamSettings())
        store(engine, *(commit(seq, str(seq)) for seq in range(1, 10)))
        engine.merge("s", "e", 3, frames_of(3, *"3456789"))
        store(engine, commit(10, "10"), commit(11, "11"))
        assert texts(engine, 1, 11) == [str(seq) for seq in range(1, 12)]
        assert texts(engine, 5, 6) == ["5", "6"]
        rows = engine._database.execute("SELECT count(*) FROM events").fetchone()
        pieces = engine._database.execute("SELECT first, last FROM pieces").fetchall()
        assert (rows, pieces) == ((4,), [(3, 9)])
    with opened(tmp_path) as (engine, [stream]):
        assert (stream.state.history.floor, stream.state.history.last) == (1, 11)
        assert texts(engine, 1, 11) == [str(seq) for seq in range(1, 12)]
        engine.trim("s", "e", 10)
        store(engine, commit(12, "12"))
        assert texts(engine, 10, 12) == ["10", "11", "12"]
        assert "missing" in read(engine, 9, 9).fault
        engine.forget("s", "e")
    with opened(tmp_path) as (engine, []):
        for table in ("events", "pieces"):
            assert engine._database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_what_is_to_be_merged_is_read_while_nothing_can_be_stored(tmp_path: Path) -> None:
    with opened(tmp_path) as (engine, _):
        engine.create("s", "e", StreamSettings())
        store(engine, *(commit(seq, str(seq)) for seq in range(1, 10)))
        with full_disk(engine):
            engine.commit([commit(10, "x" * 1_000_000)], lambda: None)
            wait(lambda: engine.failure)
            engine.merge("s", "e", 1, frames_of(1, *"123456789"))
            assert texts(engine, 1, 9) == list("123456789")
        wait(lambda: engine.failure is None)
        assert texts(engine, 1, 9) == list("123456789")
        store(engine, commit(11, "11"))
        assert engine._database.execute("SELECT count(*) FROM pieces").fetchone() == (1,)


def test_no_more_is_read_than_is_asked_for(tmp_path: Path) -> None:
    with opened(tmp_path) as (engine, _):
        engine.create("s", "e", StreamSettings())
        store(engine, commit(1, *("x" * 1000 for _ in range(10))), commit(11, "y"))
        page = read(engine, 2, 11, size=2500)
        assert (page.last, len(page.frames)) == (4, 3)
        assert read(engine, 2, 11, size=1).last == 2
