"""Two nodes are asked for the same stream at the same moment: one becomes its owner, and the other relays to it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack

import httpx

from deltawire.gateway.hub.committing import CommittingDispatcher
from deltawire.gateway.server import Gateway
from tests.nodes.together import http, is_owner, nodes_on
from tests.support.on_redis import expect_all, gateway_on, write
from tests.support.peers import Message, Peer, consumer, peer, producer, publish, text_delta
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.waiting import eventually

pytestmark = needs_redis


async def at_once(server: RedisServer, nodes: Sequence[Gateway], *asking: Awaitable[object]) -> None:
    """Have all nodes look for the stream before any of them has claimed it."""
    server.signal(signal.SIGSTOP)
    try:
        tasks = [asyncio.ensure_future(it) for it in asking]
        dispatchers = [it for it in (node.hub.dispatcher for node in nodes) if isinstance(it, CommittingDispatcher)]
        await eventually(lambda: all("demo" in it._ownership._locating for it in dispatchers))
    finally:
        server.signal(signal.SIGCONT)
    await asyncio.gather(*tasks)


async def test_producers_of_one_new_stream_at_two_nodes_are_both_ready_and_both_acked(server: RedisServer) -> None:
    async with nodes_on(server) as nodes, AsyncExitStack() as stack:
        await at_once(server, nodes, *(publishing(stack, node) for node in nodes))
        assert sorted(map(is_owner, nodes)) == [False, True]
        async with consumer(nodes[0], "policy=disconnect") as reading:
            events = [it for it in await reading.read_until("caught_up") if it["type"] == "text_delta"]
            assert [it["seq"] for it in events] == [1, 2]


async def publishing(stack: AsyncExitStack, node: Gateway) -> None:
    writing = await stack.enter_async_context(producer(node))
    await publish(writing, text_delta("x"), upto=1)


async def test_readers_of_one_new_stream_at_two_nodes_follow_the_same_one(server: RedisServer) -> None:
    async with nodes_on(server) as nodes, AsyncExitStack() as stack:
        readings: list[Peer] = []

        async def follow(node: Gateway) -> None:
            readings.append(await stack.enter_async_context(consumer(node)))
            await readings[-1].read_until("caught_up")

        await at_once(server, nodes, *map(follow, nodes))
        assert sorted(map(is_owner, nodes)) == [False, True]
        await write(nodes[0], 1, 3)
        for reading in readings:
            await reading.read_until("text_delta", seq=3)


async def test_of_two_that_create_a_stream_one_is_told_that_it_exists(server: RedisServer) -> None:
    async with nodes_on(server) as nodes, http(nodes[0]) as one, http(nodes[1]) as two:
        statuses: list[int] = []

        async def create(client: httpx.AsyncClient) -> None:
            statuses.append((await client.put("/v1/streams/demo")).status_code)

        await at_once(server, nodes, create(one), create(two))
        assert sorted(statuses) == [201, 409]


async def test_who_takes_over_a_stream_at_the_same_moment_as_another_relays_to_it(server: RedisServer) -> None:
    async with nodes_on(server) as nodes:
        async with gateway_on(server) as gone:
            await write(gone, 1, 5)
            epoch = await expect_all(gone, 5)
        await at_once(server, nodes, *(expect_all(node, 5, epoch) for node in nodes))
        assert sorted(map(is_owner, nodes)) == [False, True]


async def test_who_can_not_be_relayed_is_told_who_has_the_stream_and_to_try_again(server: RedisServer) -> None:
    nowhere = "ws://127.0.0.1:1"
    async with nodes_on(server, advertise_url=nowhere) as nodes:
        heard: list[Message] = []

        async def ask(node: Gateway) -> None:
            async with peer(node, "demo/publish") as it:
                heard.append(await it.read())

        await at_once(server, nodes, *map(ask, nodes))
        assert sorted(map(is_owner, nodes)) == [False, True]
        ready, problem = sorted(heard, key=lambda it: it["type"] != "ready")
        assert (ready["type"], problem["code"], problem["retryable"]) == ("ready", "overloaded", True)
        assert nowhere in problem["message"]
