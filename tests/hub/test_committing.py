"""A hub that stores its streams: what one of them meets costs no other, and nothing is read that nobody needs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.engines.sqlite import SqliteEngine
from deltawire.gateway.hub import Hub
from deltawire.gateway.server.http.routes import _page
from deltawire.gateway.streams.history import PIECE_COMMITS
from deltawire.protocol.events import MessageStart, MessageStop, TextDelta
from tests.support.waiting import eventually, turn


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=str(tmp_path), sync="off")


async def test_a_stream_that_is_closed_unread_ends_with_the_hub(settings: Settings) -> None:
    async with Hub(settings) as hub:
        hub.create("s").send_nowait(TextDelta("x"))
    async with Hub(settings) as hub:
        hub.close("s")  # its commit is made while the hub ends, and nothing can be read then
        stream = hub.manager.get("s")
    await turn()
    assert stream.end_reason == "closed"
    async with Hub(settings) as hub:
        assert hub.get("s").is_closed


async def test_a_stream_that_is_forgotten_while_events_wait_costs_the_commits_of_no_other(settings: Settings) -> None:
    async with Hub(msgspec.structs.replace(settings, max_streams=2)) as hub:
        gone, other = hub.create("gone"), hub.create("other")
        gone.send_nowait(TextDelta("x"))
        other.send_nowait(TextDelta("y"))
        gone.close()
        hub.create("new")
        await eventually(lambda: len(other) == 1)
    async with Hub(settings) as hub:
        assert sorted(it.id for it in hub.list()) == ["new", "other"]


async def test_the_digest_of_a_message_covers_what_was_sent_to_an_unread_stream(settings: Settings) -> None:
    async with Hub(settings) as hub:
        stream = hub.create("s")
        stream.send_nowait(MessageStart("old"))
        stream.send_nowait(TextDelta("old"))
    async with Hub(settings) as hub:
        stream = hub.get("s")
        stream.send_nowait(MessageStop("old", "end_turn"))
        stream.send_nowait(MessageStart("new"))
        stream.send_nowait(TextDelta("new"))
        reader = stream.subscribe()
        stream.send_nowait(MessageStop("new", "end_turn"))
        events = [await anext(reader) for _ in range(6)]
    stop = events[-1].data  # type: ignore[union-attr]
    assert isinstance(stop, MessageStop)
    assert stop.digest
    assert (stop.digest.first, stop.digest.characters) == (4, 3)


async def test_a_page_of_events_ends_early_where_they_are_unloaded_meanwhile(settings: Settings) -> None:
    async with Hub(settings) as hub:
        stream = hub.create("s")
        for _ in range(3000):
            stream.send_nowait(TextDelta("x" * 30))
        await eventually(lambda: len(stream) == 3000)
        log = hub.manager.get("s").log
        page = _page(log, 0, 3000)
        assert next(page)
        assert hub.manager.get("s").unload()
        assert list(page) == []


async def test_streams_that_are_worth_a_piece_at_once_are_stored_again_one_after_the_other(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Hub(settings) as hub:
        merged: list[str] = []
        this_turn: list[str] = []
        merge = SqliteEngine.merge

        def merge_noted(engine: SqliteEngine, stream: str, epoch: str, first: int, frames: Sequence[bytes]) -> None:
            assert this_turn == [], "acks would wait for both"
            this_turn.append(stream)
            asyncio.get_running_loop().call_soon(this_turn.clear)
            merged.append(stream)
            merge(engine, stream, epoch, first, frames)

        monkeypatch.setattr(SqliteEngine, "merge", merge_noted)
        streams = [hub.create(f"s{number}") for number in range(10)]
        for _ in range(PIECE_COMMITS + 1):
            for it in streams:
                it.send_nowait(TextDelta("x"))
            await eventually(lambda: all(hub.manager.get(it.id).is_settled for it in streams))
        for it in streams:
            it.send_nowait(MessageStart("m"))
            it.send_nowait(MessageStop("m", "end_turn"))
        await eventually(lambda: sorted(merged) == [it.id for it in streams])
    async with Hub(settings) as hub:
        assert {len(hub.get(it.id)) for it in hub.list()} == {PIECE_COMMITS + 3}
