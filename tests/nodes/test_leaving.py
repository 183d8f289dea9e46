"""Clients that go, in their own ways or because they are told to; the event loops differ in what they notice of it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from tests.nodes.together import node_on, nodes_on
from tests.support.on_redis import expect_all, numbered, write
from tests.support.peers import consumer, producer, publish
from tests.support.rawpeer import RawPeer
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.waiting import eventually

pytestmark = needs_redis


async def test_clients_that_vanish_leave_nothing_behind(server: RedisServer) -> None:
    async with nodes_on(server) as (one, two):
        await write(one, 1, 3)
        for end in ("close", "reset"):
            raws = [await RawPeer.connect(two.port) for _ in range(10)]
            for raw in raws:
                await raw.upgrade("/v1/streams/demo/subscribe?policy=block")
                await raw.read_until("caught_up")
            assert len(two._nodes.relays) == 10
            for raw in raws:
                getattr(raw, end)()
            await eventually(lambda: not (one._connections or two._connections or len(two._nodes.relays)))
        await eventually(lambda: one.hub.manager.elsewhere == two.hub.manager.elsewhere == 0)
        assert (one._limits.connections, two._limits.connections) == (0, 0)


async def test_a_client_that_half_closes_gets_its_answer(server: RedisServer) -> None:
    async with nodes_on(server) as (one, two):
        await write(one, 1, 3)
        asking = await RawPeer.connect(two.port)
        await asking.send(b"GET /v1/streams/demo/events HTTP/1.1\r\n\r\n")
        asking.finish_sending()
        assert b" 200 " in await asking.read_head()
        assert len((await asking.read_rest()).splitlines()) == 3
        asking.close()


async def test_a_node_that_drains_sends_the_clients_it_relays_elsewhere_with_1001(server: RedisServer) -> None:
    async with node_on(server) as one:
        await write(one, 1, 3)
        async with AsyncExitStack() as stack:
            async with node_on(server, drain_timeout=5.0) as two:
                queries = ("policy=block", "", "policy=disconnect")
                peers = [await stack.enter_async_context(consumer(two, query)) for query in queries]
                for reading in peers:
                    await reading.read_until("caught_up")
                writing = await stack.enter_async_context(producer(two, "producer=p"))
                await publish(writing, *numbered(4, 5), upto=5)
                began = asyncio.get_running_loop().time()
            assert asyncio.get_running_loop().time() - began < 4.0, "nobody had to be waited for"
            for it in (*peers, writing):
                problem = (await it.read_all())[-1]
                assert (problem["code"], problem["retryable"], it.code) == ("shutting_down", True, 1001)
        await expect_all(one, 5)
        await eventually(lambda: not one._connections, "that the owner has seen them go")
