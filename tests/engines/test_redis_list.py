"""The list of all streams on a Redis server: it has every stream that is there, however gateways come together."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deltawire.gateway.engines.redis import claiming, keeping
from deltawire.gateway.engines.redis.keys import Keys
from deltawire.gateway.engines.redis.library import call
from tests.support.on_redis import expect_all, gateway_on, write
from tests.support.peers import producer, publish, text_delta
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.waiting import eventually

pytestmark = needs_redis


async def test_a_stream_stays_on_the_list_if_it_was_created_while_another_gateway_looked(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "RENEWAL", 0.02)
    real, looked, created = claiming._ask_owners, asyncio.Event(), asyncio.Event()

    async def ask_owners(*args: Any) -> Any:
        owners = await real(*args)
        if not looked.is_set():
            looked.set()
            await created.wait()
        return owners

    server.command("ZADD", "deltawire:streams", "1", "demo")  # as of a gateway that ended before it created the stream
    async with gateway_on(server) as one:
        server.command("ZADD", "deltawire:streams", "1", "demo")
        monkeypatch.setattr(claiming, "_ask_owners", ask_owners)
        starting = asyncio.create_task(_start_and_leave(server))
        await looked.wait()
        await write(one, 1, 3)
        created.set()
        await starting
    async with gateway_on(server) as three:
        assert [it.id for it in three.hub.list_info()] == ["demo"]
        await expect_all(three, 3)


async def _start_and_leave(server: RedisServer) -> None:
    async with gateway_on(server):
        pass


async def test_what_is_on_the_list_and_nowhere_else_is_taken_off(server: RedisServer) -> None:
    server.command("ZADD", "deltawire:streams", "1", "gone")
    await _start_and_leave(server)
    assert server.command("ZCARD", "deltawire:streams") == b":0\r\n"


async def test_a_stream_that_another_gateway_has_stays_on_the_list_when_it_is_deleted_here(server: RedisServer) -> None:
    async with gateway_on(server, closed_retention=0) as gateway:
        await write(gateway, 1, 3)
        server.command("HSET", "deltawire:{demo}:state", "term", "99999999999999")  # another has claimed it
        gateway.hub.close("demo")
        await eventually(lambda: not gateway.hub.manager.has("demo"))
    assert server.command("ZRANGE", "deltawire:streams", "0", "-1") == b"*1\r\n$4\r\ndemo\r\n"


async def test_a_stream_that_is_taken_over_is_on_the_list_again(server: RedisServer) -> None:
    async with gateway_on(server) as gateway:
        await write(gateway, 1, 3)
    server.command("DEL", "deltawire:streams")
    async with gateway_on(server) as gateway:
        await expect_all(gateway, 3)
    assert server.command("ZRANGE", "deltawire:streams", "0", "-1") == b"*1\r\n$4\r\ndemo\r\n"


async def test_a_large_stream_is_looked_at_in_several_calls_when_it_is_claimed(server: RedisServer) -> None:
    async with gateway_on(server) as gateway, producer(gateway) as writing:
        for n in range(1, 101):  # an entry each
            await publish(writing, text_delta("x" * 60_000), upto=n)
        stored = gateway.hub.info("demo").stored_bytes
    reply = server.command(*map(str, call("summary", Keys("deltawire").of_stream("demo"), "-")))
    assert reply.endswith(b"(80-1\r\n"), "it says where to go on"
    async with gateway_on(server) as gateway:
        info = gateway.hub.info("demo")
        assert (info.floor, info.head, info.stored_bytes) == (1, 100, stored)
