"""A node follows a stream that another one owns once, and serves its own consumers as the owner would."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from deltawire.gateway.server import Gateway
from deltawire.gateway.streams.mirror import Mirror
from tests.nodes.together import http, is_owner, node_on, nodes_on, processes_on
from tests.support.on_redis import numbered, read, write
from tests.support.peers import Peer, consumer, peer, producer, publish, text_delta, text_of
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.waiting import eventually

pytestmark = needs_redis


def follows(gateway: Gateway) -> int:
    """How many streams of others a gateway follows."""
    return len(gateway._nodes.follows._follows)


def mirror_of(gateway: Gateway) -> Mirror:
    mirror = gateway._nodes.follows._follows["demo"].mirror
    assert mirror is not None
    return mirror


def messages_of(body: str) -> list[dict[str, Any]]:
    """The messages of an event stream."""
    return [json.loads(line.removeprefix("data: ")) for line in body.splitlines() if line.startswith("data: ")]


async def test_fifty_readers_of_another_node_s_stream_are_one_connection_to_its_owner(server: RedisServer) -> None:
    async with nodes_on(server) as (one, two), producer(one, "producer=p") as writing, AsyncExitStack() as stack:
        await publish(writing, *numbered(1, 5), upto=5)
        readings = [await stack.enter_async_context(consumer(two)) for _ in range(50)]
        for reading in readings:
            await reading.read_until("caught_up", seq=5)
        assert len(one._connections) == 2, "the producer and the follow"
        await publish(writing, *numbered(6, 10), upto=10)
        for reading in readings:
            await reading.read_until("text_delta", seq=10)
        assert (follows(two), len(two._nodes.relays), is_owner(two)) == (1, 0, False)
        await writing.read_until("audience", consumers=50)


async def test_live_late_filtered_folded_msgpack_and_sse_readers_get_the_owner_s_text(server: RedisServer) -> None:
    asked = ("policy=disconnect", "", "types=text_delta", "policy=drop_oldest&buffer=50", "interval=20", "after=3")
    async with nodes_on(server) as (one, two), producer(one, "producer=p") as writing, AsyncExitStack() as stack:
        await publish(writing, *numbered(1, 20), upto=20)
        pairs: list[tuple[Peer, Peer]] = []
        for query in asked:
            near, far = [await stack.enter_async_context(consumer(node, query)) for node in (one, two)]
            pairs.append((near, far))
        binary = [
            await stack.enter_async_context(peer(node, "demo/subscribe", "deltawire.v1.msgpack")) for node in (one, two)
        ]
        pairs.append((binary[0], binary[1]))
        async with http(one) as near_http, http(two) as far_http:
            streaming = [asyncio.create_task(it.get("/v1/streams/demo/sse")) for it in (near_http, far_http)]
            for near, far in pairs:
                for it in (near, far):
                    await it.read_until("caught_up")
            await publish(writing, *numbered(21, 40), upto=40)
            await writing.say({"type": "close_stream"})
            for near, far in pairs:
                texts = [text_of(await it.read_all()) for it in (near, far)]
                assert texts[0] == texts[1] == "".join(f"{number} " for number in range(21, 41))
                assert (near.code, far.code) == (1000, 1000)
            texts = [text_of(messages_of((await it).text)) for it in streaming]
            assert texts[0] == texts[1] == "".join(f"{number} " for number in range(1, 41))
        assert len(two._nodes.relays) == 0


async def test_the_same_event_has_the_same_bytes_at_every_node(server: RedisServer) -> None:
    async with nodes_on(server) as (one, two):
        await write(one, 1, 30)
        assert await read(two) == await read(one)
        assert follows(two) == 1
        frames = [stream.log.frames(0, 30) for stream in (one.hub.manager.get("demo"), mirror_of(two))]
        assert frames[0] == frames[1]
