"""Reverse proxies as they are shipped, in front of gateways: everything passes at once, and to the right one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deltawire.gateway.client import Publisher
from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import TextDelta
from tests.support.asking import http_client
from tests.support.fakes import AT_ONCE
from tests.support.peers import consumer
from tests.support.proxies import Running, proxy

SETTINGS = Settings(port=0, drain_timeout=0, trusted_proxies="127.0.0.1", max_connections_per_address=4)
NAMES = [f"chat-{number}" for number in range(8)]


@pytest.fixture
async def nodes() -> AsyncIterator[list[Gateway]]:
    async with Gateway(SETTINGS) as one, Gateway(SETTINGS) as other:
        yield [one, other]


@pytest.fixture(params=["nginx", "haproxy", pytest.param("caddy", marks=pytest.mark.installs)])
async def front(request: pytest.FixtureRequest, nodes: list[Gateway], tmp_path: Path) -> AsyncIterator[Running]:
    async with proxy(request.param, tmp_path, [node.port for node in nodes]) as running:
        yield running


async def test_events_and_bodies_pass_before_there_are_more(front: Running) -> None:
    has_arrived = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b'{"type":"text_delta","data":{"text":"one"}}\n'
        await has_arrived.wait()  # as a server-sent event, while this body goes on
        yield b'{"type":"text_delta","data":{"text":"two"}}\n{"type":"close_stream"}\n'

    async with http_client(base_url=f"http://127.0.0.1:{front.port}/v1/streams/demo/") as client:
        async with asyncio.TaskGroup() as tasks, client.stream("GET", "sse") as reading:
            head = {"Content-Type": "application/x-ndjson"}
            publishing = tasks.create_task(client.post("events", content=body(), headers=head))
            told = []
            async for line in reading.aiter_lines():
                if "text_delta" in line:
                    told.append(line)
                    has_arrived.set()
        assert (publishing.result().status_code, len(told)) == (200, 2)


async def test_all_connections_of_a_stream_go_to_one_node(front: Running, nodes: list[Gateway]) -> None:
    counts: list[int] = []
    for number in range(1, 65):  # all of them are at one node by chance once in 2 ** 63
        name = f"chat-{number}"
        async with Publisher(front.url, name, backoff=AT_ONCE) as target:
            await target.send(TextDelta(name))
        async with consumer(front, stream=name) as reading:
            assert (await reading.read_until("text_delta"))[-1]["data"]["text"] == name
        counts = [node.hub.count() for node in nodes]
        assert sum(counts) == number
        if number >= len(NAMES) and all(counts):  # which node gets a stream depends on the ports of both
            break
    assert all(counts), "each has some of the streams"


async def test_limits_count_the_address_of_the_client(front: Running) -> None:
    held = [await connect(front, "127.0.0.7") for _ in range(4)]
    assert [status for status, _ in held] == [101] * 4
    spoofed = await connect(front, "127.0.0.7", "X-Forwarded-For: 192.0.2.1\r\n")
    other = await connect(front, "127.0.0.8")
    assert (spoofed[0], other[0]) == (429, 101)
    for _, it in (*held, spoofed, other):
        it.close()


async def test_metrics_are_not_shown(front: Running) -> None:
    async with http_client() as client:
        assert (await client.get(f"http://127.0.0.1:{front.port}/metrics")).status_code == 404


async def test_another_node_takes_over_from_one_that_ends(front: Running, nodes: list[Gateway]) -> None:
    nodes[0]._admission.is_draining = True
    for name in NAMES:
        async with Publisher(front.url, name, backoff=AT_ONCE) as target:
            await target.send(TextDelta(name))
    assert nodes[1].hub.count() == len(NAMES)


async def connect(front: Running, source: str, headers: str = "") -> tuple[int, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port, local_addr=(source, 0))
    request = (
        f"GET /v1/streams/demo/subscribe HTTP/1.1\r\nHost: gateway\r\n{headers}Upgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ZGVsdGF3aXJlIGJlbmNoIQ==\r\n\r\n"
    )
    writer.write(request.encode())
    return int((await reader.readuntil(b"\r\n\r\n")).split()[1]), writer
