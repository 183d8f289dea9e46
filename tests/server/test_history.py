"""A stored stream that is longer than memory: read from anywhere, by anyone, while it goes on."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.engines.folder import FILE
from deltawire.gateway.engines.sqlite import SqliteEngine
from deltawire.gateway.server import Gateway
from tests.support.peers import consumer, producer, publish, text_delta, text_of
from tests.support.waiting import eventually

Restart = Callable[..., AbstractAsyncContextManager[Gateway]]

COUNT = 6_000
TEXT = "x" * 500


@pytest.fixture
def start(tmp_path: Path) -> Restart:
    """Starts a gateway on the same folder each time, with little memory and much retention."""

    @asynccontextmanager
    async def start(**settings: Any) -> AsyncIterator[Gateway]:
        chosen: dict[str, Any] = {
            "port": 0,
            "drain_timeout": 0.2,
            "data_dir": str(tmp_path),
            "sync": "off",
            "memory_limit": 2 * 2**20,
            "buffer_bytes": 100_000,
            "retention_events": 1_000_000,
            "retention_bytes": 2**30,
        }
        async with Gateway(Settings(**chosen | settings)) as gateway:
            yield gateway

    return start


async def fill(gateway: Gateway, count: int = COUNT) -> None:
    async with producer(gateway) as writing:
        for begin in range(0, count, 100):
            batch = [text_delta(f"{number} {TEXT}") for number in range(begin, min(begin + 100, count))]
            await publish(writing, batch, upto=min(begin + 100, count))


def whole(count: int = COUNT) -> str:
    return "".join(f"{number} {TEXT}" for number in range(count))


@pytest.mark.parametrize("policy", ["coalesce", "disconnect"])
async def test_a_late_reader_gets_all_of_a_stream_longer_than_memory(start: Restart, policy: str) -> None:
    async with start() as gateway:
        await fill(gateway)
        stream = gateway.hub.manager.get("demo")
        assert stream.log.floor > COUNT / 2, "memory holds the rest"
        for _ in range(2):
            async with consumer(gateway, f"policy={policy}") as reading:
                messages = await reading.read_until("caught_up")
            assert text_of(messages) == whole()
            assert messages[0]["floor"] == 1
        assert gateway.hub.manager.bytes <= 2 * 2**20
    async with start() as gateway, consumer(gateway, f"policy={policy}") as reading:
        assert text_of(await reading.read_until("caught_up")) == whole()


async def test_live_readers_get_each_event_while_others_read_all_before(start: Restart) -> None:
    async with start() as gateway:
        await fill(gateway)
        async with consumer(gateway, "from=now") as live, producer(gateway) as writing:
            await live.read_until("caught_up")

            async def catch_up() -> str:
                async with consumer(gateway) as late:
                    return text_of(await late.read_until("caught_up"))

            late = [asyncio.create_task(catch_up()) for _ in range(8)]
            for number in range(50):
                await publish(writing, text_delta(f"live {number}"), upto=COUNT + number + 1)
                assert (await live.read())["seq"] == COUNT + number + 1
            for text in await asyncio.gather(*late):
                assert text.startswith(whole())


async def test_pages_over_http_reach_from_the_first_event_to_the_last(start: Restart) -> None:
    async with start() as gateway, httpx.AsyncClient(base_url=gateway.url.replace("ws:", "http:")) as client:
        await fill(gateway)
        seqs: list[int] = []
        while True:
            after = seqs[-1] if seqs else 0
            lines = (await client.get(f"/v1/streams/demo/events?after={after}&limit=700")).text.splitlines()
            if not lines:
                break
            assert len(lines) <= 700
            seqs += [json.loads(line)["seq"] for line in lines]
        info = (await client.get("/v1/streams/demo")).json()
    assert seqs == list(range(1, COUNT + 1))
    assert (info["floor"], info["events"]) == (1, COUNT)
    assert info["stored_bytes"] > COUNT * 500 > info["bytes"]


async def test_a_corrupt_piece_is_a_gap_and_logged_and_the_rest_is_served(
    start: Restart, tmp_path: Path, logs: list[dict[str, Any]]
) -> None:
    async with start() as gateway:
        await fill(gateway)
    with sqlite3.connect(tmp_path / FILE) as database:
        [(row, first, last, frames)] = database.execute("SELECT id, first, last, frames FROM pieces LIMIT 1 OFFSET 3")
        spoiled = bytearray(frames)
        spoiled[len(spoiled) // 2] ^= 1
        database.execute("UPDATE pieces SET frames = ? WHERE id = ?", (bytes(spoiled), row))
    database.close()
    async with start() as gateway, consumer(gateway, "policy=disconnect") as reading:
        messages = await reading.read_until("caught_up")
        async with httpx.AsyncClient(base_url=gateway.url.replace("ws:", "http:")) as client:
            page = (await client.get(f"/v1/streams/demo/events?after={first - 1}&limit=1")).json()
    gaps = [it for it in messages if it["type"] == "gap"]
    assert gaps == [{"type": "gap", "first": first, "seq": last, "reason": "evicted"}]
    seqs = [it["seq"] for it in messages if it["type"] == "text_delta"]
    assert seqs == [*range(1, first), *range(last + 1, COUNT + 1)]
    assert page["seq"] == last + 1
    [line] = [it for it in logs if it["event"] == "storage.read_failed"]
    assert line["stream"] == "demo"
    assert f"events {first} to {last}: corrupt" in line["detail"]


async def test_what_is_stored_is_read_over_http_while_nothing_can_be_stored(start: Restart, tmp_path: Path) -> None:
    async with start() as gateway, httpx.AsyncClient(base_url=gateway.url.replace("ws:", "http:")) as client:
        await fill(gateway)
        engine = gateway.hub._engine
        assert isinstance(engine, SqliteEngine)
        async with producer(gateway, stream="other") as writing:
            with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")  # so that the gateway can't commit
                await writing.say(text_delta("x"))
                await eventually(lambda: engine.failure)
                page = await client.get("/v1/streams/demo/events?limit=3")
                assert [json.loads(line)["seq"] for line in page.text.splitlines()] == [1, 2, 3]


async def test_changes_over_http_are_answered_once_they_are_stored(start: Restart) -> None:
    async with start() as gateway, httpx.AsyncClient(base_url=gateway.url.replace("ws:", "http:")) as client:
        assert (await client.put("/v1/streams/made")).status_code == 201
        assert (await client.delete("/v1/streams/made")).json()["closed"]
        engine = gateway.hub._engine
        assert isinstance(engine, SqliteEngine)
        commits = gateway.hub.storage_metrics().commits
        assert (await client.put("/v1/streams/other")).status_code == 201
        assert gateway.hub.storage_metrics().commits > commits
        engine._database.execute("PRAGMA max_page_count = 1")  # no more than there are: a full disk
        async with producer(gateway, stream="big") as writing:
            await writing.say(text_delta("x" * 60_000))
            await eventually(lambda: engine.failure)
            for method, path, change in (("PUT", "new", "created"), ("DELETE", "other", "closed")):
                answer = await client.request(method, f"/v1/streams/{path}")
                assert answer.status_code == 503
                why = f"nothing can be stored now ({engine.failure}): try again later"
                assert answer.json()["detail"] == f"stream {path!r} can't be {change}, as {why}"
        assert not gateway.hub.info("other").closed
        engine._database.execute("PRAGMA max_page_count = 1073741823")
        await eventually(lambda: engine.failure is None)
    async with start() as gateway:
        assert {it.id: it.is_closed for it in gateway.hub.list()} == {"made": True, "other": False, "big": False}


async def test_the_whole_store_is_bounded(start: Restart) -> None:
    async with start(data_limit=1_000_000, retention_bytes=6_400_000) as gateway:
        for name in ("a", "b", "c"):
            async with producer(gateway, stream=name) as writing:
                await publish(writing, *[text_delta(TEXT)] * 1000, upto=1000)
        await eventually(lambda: gateway.hub.manager.ledger.stored <= 1_000_000)
        assert [it.id for it in gateway.hub.list()] == ["c"]
        async with producer(gateway, stream="c") as writing, consumer(gateway, stream="c") as reading:
            await publish(writing, *[text_delta(TEXT)] * 1500, upto=2500)
            await eventually(lambda: gateway.hub.manager.ledger.stored <= 1_000_000)
            await reading.read_until("caught_up")
        stream = gateway.hub.manager.get("c")
        assert stream.floor > 1
        assert stream.log.head - stream.floor > 1000
