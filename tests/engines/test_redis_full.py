"""A Redis server whose memory is full: what takes little goes on, the rest is told, and it recovers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from deltawire.gateway.config import UnreachableError
from deltawire.gateway.engines.redis import engine as engine_module
from deltawire.gateway.engines.redis import keeping
from deltawire.gateway.engines.redis.session import TTL, takes_no_more
from scripts.proof.children import serving
from tests.support.asking import http_client
from tests.support.forking import ForkedChildren
from tests.support.on_redis import expect_all, gateway_on, is_ready, numbered, write
from tests.support.peers import peer, producer
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.waiting import eventually

pytestmark = needs_redis


@contextmanager
def full(server: RedisServer) -> Iterator[None]:
    """The server has no memory left."""
    server.command("CONFIG", "SET", "maxmemory", "1")
    try:
        yield
    finally:
        server.command("CONFIG", "SET", "maxmemory", "0")


async def test_a_server_without_memory_left_is_told_and_it_recovers(server: RedisServer) -> None:
    async with gateway_on(server) as gateway:
        await write(gateway, 1, 5)
        server.command("CONFIG", "SET", "maxmemory", "1")
        async with producer(gateway, "producer=p") as writing:
            await writing.say(*numbered(6, 6))
            await eventually(lambda: "OOM" in (gateway.hub.storage_failure or ""))
            await writing.say(*numbered(7, 7))
            assert "OOM" in (await writing.read_until("problem"))[-1]["message"]
        assert not await is_ready(gateway)
        server.command("CONFIG", "SET", "maxmemory", "0")
        await eventually(lambda: not gateway.hub.storage_failure)
        await write(gateway, 7, 10)
        await expect_all(gateway, 10)


async def test_a_server_without_memory_left_is_told_before_anybody_publishes(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "RENEWAL", 0.01)
    async with gateway_on(server) as gateway:
        await write(gateway, 1, 5)
        with full(server):
            await eventually(lambda: "maxmemory" in (gateway.hub.storage_failure or ""))
            assert not await is_ready(gateway)
            async with producer(gateway, "producer=p") as writing:
                await writing.say(*numbered(6, 6))
                assert "maxmemory" in (await writing.read_until("problem"))[-1]["message"]
        await eventually(lambda: not gateway.hub.storage_failure)
        assert await is_ready(gateway)
        await write(gateway, 6, 10)


@pytest.mark.parametrize(
    ("memory", "is_full"),
    [
        ({"used_memory": 1001, "maxmemory": 1000}, True),
        ({"used_memory": 1000, "maxmemory": 1000}, False),
        ({"used_memory": 1001, "maxmemory": 1000, "mem_not_counted_for_evict": 1}, False),
        ({"used_memory": 1001, "maxmemory": 0}, False),
        ({"used_memory": 1001, "maxmemory": 1000, "maxmemory_policy": "noeviction"}, True),
        ({"used_memory": 1001, "maxmemory": 1000, "maxmemory_policy": "allkeys-lru"}, False),
        ({}, False),
    ],
)
def test_a_server_is_full_when_it_refuses_writes(memory: dict[str, Any], *, is_full: bool) -> None:
    assert takes_no_more(memory) is is_full


async def test_streams_that_are_over_make_room_on_a_server_without_memory_left(server: RedisServer) -> None:
    async with gateway_on(server) as gateway:
        await write(gateway, 1, 5)
        await write(gateway, 1, 5, stream="over")
        async with http_client(base_url=gateway.url.replace("ws://", "http://")) as client:
            await client.delete("/v1/streams/over")
        server.command("CONFIG", "SET", "maxmemory", "1")
        async with producer(gateway, "producer=p") as writing:
            await writing.say(*numbered(6, 6))
            await eventually(lambda: "OOM" in (gateway.hub.storage_failure or ""))
            gateway.hub.manager.closed_retention = 0.0
            await eventually(lambda: b":0" in server.command("EXISTS", "deltawire:{over}:events"))
            server.command("CONFIG", "SET", "maxmemory", "0")
            await writing.read_until("ack", producer_seq=6)


async def test_a_server_without_memory_left_keeps_sessions(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "RENEWAL", 0.01)
    async with gateway_on(server) as gateway, gateway_on(server) as other:
        sessions: list[Any] = [it.hub._engine._session for it in (gateway, other)]  # type: ignore[union-attr]
        server.command("CONFIG", "SET", "maxmemory", "1")
        since = time.monotonic()
        await eventually(lambda: all(it.lasts_until > since + TTL for it in sessions))
        assert len(await sessions[0].find_peers()) == 1
        server.command("CONFIG", "SET", "maxmemory", "0")


async def test_a_gateway_starts_on_a_full_server_and_takes_over_what_is_there(server: RedisServer) -> None:
    async with gateway_on(server) as gateway:
        await write(gateway, 1, 5)
        epoch = await expect_all(gateway, 5)
    with full(server):
        async with gateway_on(server) as gateway:
            await expect_all(gateway, 5, epoch)
            async with producer(gateway, "producer=p") as writing:
                await writing.say(*numbered(6, 6))
                await eventually(lambda: "OOM" in (gateway.hub.storage_failure or ""))
                server.command("CONFIG", "SET", "maxmemory", "0")
                await writing.read_until("ack", producer_seq=6)
            await expect_all(gateway, 6, epoch)


async def test_a_gateway_takes_over_on_a_full_server_when_the_other_was_killed(server: RedisServer) -> None:
    async with gateway_on(server) as two, ForkedChildren() as children, serving(children, engine_url=server.url) as one:
        await write(one, 1, 5)
        epoch = await expect_all(one, 5)
        one.process.kill()
        await one.process.wait()
        with full(server):
            await expect_all(two, 5, epoch)
            async with peer(two, "new/publish") as refused:
                assert "OOM" in (await refused.read())["message"], "a stream more is memory more"
        await eventually(lambda: not two.hub.storage_failure)
        await write(two, 6, 10)
        await expect_all(two, 10, epoch)


async def test_streams_that_nobody_asks_for_are_taken_over_on_a_full_server(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "RENEWAL", 0.02)
    monkeypatch.setattr(engine_module, "TTL", 0.05)
    async with gateway_on(server) as two:
        async with gateway_on(server) as one:
            await write(one, 1, 5)
            await eventually(lambda: two.hub._engine._session.has_peers)  # type: ignore[union-attr]
            server.command("CONFIG", "SET", "maxmemory", "1")
        await eventually(lambda: two.hub.manager.has("demo"))
        server.command("CONFIG", "SET", "maxmemory", "0")


async def test_a_gateway_that_has_lost_its_session_begins_it_again_on_a_full_server(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "RENEWAL", 0.01)
    async with gateway_on(server) as gateway:
        await write(gateway, 1, 5)
        key = f"deltawire:node:{gateway.hub._engine.describe()['node']}"  # type: ignore[union-attr]
        with full(server):
            server.command("DEL", key)
            await eventually(lambda: b":1" in server.command("EXISTS", key))
            await expect_all(gateway, 5)


async def test_a_full_server_without_the_functions_is_told_at_the_start(server: RedisServer) -> None:
    with full(server), pytest.raises(UnreachableError, match=r"the memory of .* is full"):
        async with gateway_on(server):
            pass


async def test_functions_of_older_gateways_stay_where_they_are(server: RedisServer) -> None:
    older = "#!lua name=deltawire_2\nredis.register_function('deltawire_2_x', function() return 7 end)"
    server.command("FUNCTION", "LOAD", older)
    async with gateway_on(server) as gateway:
        await write(gateway, 1, 5)
        assert server.command("FCALL", "deltawire_2_x", "0") == b":7\r\n"
