"""Gateways of several workers that store their streams on one Redis server, and relay to each other."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from itertools import islice

import httpx
import pytest

from deltawire.gateway.client import Publisher, Subscriber
from deltawire.protocol.events import Event, MessageStart, MessageStop, TextDelta
from tests.support.on_redis import expect_all, write
from tests.support.ports import free_port
from tests.support.processes import wait_logged
from tests.support.redis_server import RedisServer
from tests.support.waiting import DEADLINE
from tests.workers.gateways import Many, StartWorkers, streams_of

STREAMS = [stream for worker in (0, 1) for stream in islice(streams_of(worker), 3)]

StartNode = Callable[..., Awaitable[Many]]


@pytest.fixture
def start_node(server: RedisServer, start_workers: StartWorkers) -> StartNode:
    """Start a gateway of two workers to which others on the server relay."""

    async def start_node(*arguments: str) -> Many:
        port = free_port()
        where = (f"--port={port}", f"--engine-url={server.url}", f"--advertise-url=ws://127.0.0.1:{port}")
        return await start_workers(*where, "--drain-timeout=2", *arguments)

    return start_node


async def listed(client: httpx.AsyncClient, gateway: Many) -> list[str]:
    return [info["id"] for info in (await client.get(f"{gateway.http}/v1/streams")).json()]


def owner_of(server: RedisServer, stream: str) -> bytes:
    return server.command("HGET", f"deltawire:{{{stream}}}:state", "owner")


async def test_every_worker_of_each_gateway_owns_streams_that_are_reached_through_both(
    start_node: StartNode, server: RedisServer, client: httpx.AsyncClient
) -> None:
    one, two = await start_node(), await start_node()
    for stream in STREAMS:
        await write(one.served, 1, 5, stream=stream)
    assert len({owner_of(server, stream) for stream in STREAMS}) == 2, "a node for each worker"
    for stream in STREAMS:
        await expect_all(two.served, 5, stream=stream)
        await write(two.served, 6, 10, stream=stream)
        await expect_all(one.served, 10, stream=stream)
    await write(two.served, 1, 3, stream="other")
    for gateway in (one, two):
        assert await listed(client, gateway) == sorted([*STREAMS, "other"])


async def test_streams_are_found_again_by_another_number_of_workers(start_node: StartNode) -> None:
    one = await start_node()
    for stream in STREAMS:
        await write(one.served, 1, 5, stream=stream)
    one.served.process.terminate()
    assert await one.served.process.wait() == 0
    again = await start_node("--workers=3")
    for stream in STREAMS:
        await expect_all(again.served, 5, stream=stream)
        await write(again.served, 6, 10, stream=stream)


async def test_workers_that_are_replaced_leave_their_streams_to_the_next(start_node: StartNode) -> None:
    one = await start_node()
    for stream in STREAMS:
        await write(one.served, 1, 5, stream=stream)
    one.served.process.send_signal(signal.SIGUSR2)
    for _ in (0, 1):
        await wait_logged(one.served.process, "worker.started")
    for stream in STREAMS:
        await expect_all(one.served, 5, stream=stream)
        await write(one.served, 6, 10, stream=stream)


@pytest.mark.parametrize("worker", [0, 1])
async def test_a_worker_that_is_killed_in_the_middle_of_an_answer_costs_no_event(
    start_node: StartNode, worker: int
) -> None:
    one, two = await start_node(), await start_node()
    stream, unharmed = next(streams_of(worker)), next(streams_of(1 - worker))
    await write(one.served, 1, 1, stream=unharmed)

    async def follow(url: str) -> list[str]:
        texts = []
        async with Subscriber(url, stream) as subscriber:
            async for item in subscriber:
                assert isinstance(item, Event), f"a gap: {item}"
                if isinstance(item.data, TextDelta):
                    texts.append(item.data.text)
        return texts

    async with (
        asyncio.timeout(DEADLINE),
        asyncio.TaskGroup() as tasks,
        Publisher(one.served.url, stream, producer="p") as publisher,
    ):
        await publisher.send(MessageStart("m"))
        await publisher.flush()
        following = [tasks.create_task(follow(it.served.url)) for it in (one, two)]
        for number in range(300):
            await publisher.send(TextDelta(text=f"{number} "))
            if number == 150:
                await publisher.flush()
                os.kill(one.pids[worker], signal.SIGKILL)
        await publisher.send(MessageStop("m", "stop"))
        await publisher.close_stream()
        assert publisher.lost == 0
    for texts in following:
        assert "".join(texts.result()) == "".join(f"{number} " for number in range(300))
    assert (await wait_logged(one.served.process, "worker.died"))["worker"] == worker
    await write(two.served, 2, 2, stream=unharmed)


async def test_an_address_s_limit_holds_over_workers_for_clients_that_are_relayed(start_node: StartNode) -> None:
    one, two = await start_node("--max-connections-per-address=4"), await start_node()
    stream = next(streams_of(1))
    await write(one.served, 1, 1, stream=stream)
    readers = []
    for _ in range(4):
        peer = await two.open()
        assert b" 101 " in await peer.upgrade(f"/v1/streams/{stream}/subscribe?policy=block")
        await peer.read_until("caught_up")
        readers.append(peer)
    late = await two.open()
    assert b" 429 " in await late.upgrade(f"/v1/streams/{stream}/subscribe?policy=block")
    readers[0].close()
    await two.wait_room(stream, "?policy=block")
