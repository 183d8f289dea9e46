"""How a relayed connection ends: with its owner, with the node that relays it, or slowly."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import AsyncExitStack
from typing import Any

import pytest

from deltawire.gateway.server.relaying import nodes as nodes_module
from tests.nodes.together import answering, http, is_owner, node_on, nodes_on, processes_on
from tests.support.on_redis import expect_all, numbered, set_engine_timeout, write
from tests.support.peers import Peer, consumer, producer, publish, text_delta
from tests.support.rawpeer import RawPeer, raw_peer
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.waiting import eventually

pytestmark = needs_redis


async def test_the_owner_s_death_is_told_and_another_node_takes_over(server: RedisServer) -> None:
    async with processes_on(server, 1) as processes, node_on(server) as two:
        await write(processes.served[0], 1, 5)
        async with consumer(two, "policy=block") as reading, producer(two, "producer=p") as writing:
            await reading.read_until("caught_up")
            await publish(writing, *numbered(6, 10), upto=10)
            await reading.read_until("text_delta", seq=10)
            assert not is_owner(two)
            await processes.kill(0)
            for it in (reading, writing):
                problem = (await it.read_all())[-1]
                assert (problem["code"], problem["retryable"], it.code) == ("overloaded", True, 4003)
        await write(two, 11, 12)
        await expect_all(two, 12)
        assert is_owner(two)


async def test_requests_are_refused_for_later_while_the_owner_can_not_be_reached(server: RedisServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        nowhere = f"ws://127.0.0.1:{probe.getsockname()[1]}"
    async with node_on(server, advertise_url=nowhere) as one, node_on(server) as two, http(two) as client:
        await write(one, 1, 1)
        answer = await client.get("/v1/streams/demo")
        assert answer.status_code == 503
        assert "can't be reached" in answer.json()["detail"]
        async with consumer(two) as reading:
            problem = (await reading.read_all())[-1]
            assert (problem["code"], reading.code) == ("overloaded", 4003)
        assert two.hub.tally.relay_failures == 2


async def test_an_owner_that_stands_still_is_waited_for_no_longer_than_engine_timeout(server: RedisServer) -> None:
    async with processes_on(server, 1) as processes, node_on(server) as two:
        one = processes.served[0]
        await write(one, 1, 1)
        one.process.send_signal(signal.SIGSTOP)
        set_engine_timeout(two, 0.1)
        raw = await RawPeer.connect(two.port)
        assert b" 503 " in await raw.upgrade("/v1/streams/demo/publish")
        raw.close()
        async with consumer(two) as reading:
            problem = (await reading.read_all())[-1]
            assert (problem["code"], reading.code) == ("overloaded", 4003)
        set_engine_timeout(two)
        one.process.send_signal(signal.SIGCONT)
        await eventually(lambda: all(it.is_live for it in two._nodes.follows._follows.values()))
        await expect_all(two, 1)


async def test_a_request_to_an_owner_that_stands_still_is_refused_for_later_in_the_end(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes_module, "MAX_WAIT", 0)
    async with processes_on(server, 1) as processes, node_on(server) as two, http(two) as client:
        one = processes.served[0]
        await write(one, 1, 1)
        one.process.send_signal(signal.SIGSTOP)
        set_engine_timeout(two, 0.1)
        for method, path in (("GET", "demo/events?after=1&wait=1"), ("GET", "demo"), ("DELETE", "demo")):
            answer = await client.request(method, f"/v1/streams/{path}")
            assert (answer.status_code, "Retry-After" in answer.headers) == (503, True), path
        set_engine_timeout(two)
        one.process.send_signal(signal.SIGCONT)


async def test_an_owner_that_falls_silent_is_taken_for_gone(server: RedisServer) -> None:
    quick: dict[str, Any] = {"ping_interval": 0.5, "ping_timeout": 1.5}
    async with processes_on(server, 1) as processes, node_on(server, **quick) as two:
        one = processes.served[0]
        await write(one, 1, 1)
        async with consumer(two, "policy=block") as reading, http(two) as client:
            await reading.read_until("caught_up")
            waiting = asyncio.create_task(client.get("/v1/streams/demo/events?after=1&wait=30"))
            await eventually(lambda: len(two._nodes.relays) == 2)
            one.process.send_signal(signal.SIGSTOP)
            problem = (await reading.read_all())[-1]
            assert (problem["code"], reading.code) == ("overloaded", 4003)
            assert not waiting.done(), "an answer may be waited for"
            one.process.send_signal(signal.SIGCONT)
            await write(one, 2, 2)
            assert (await waiting).status_code == 200


HELLO = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "expected", "code"),
    [
        (b"", b" 503 ", None),
        (b"HTTP/1.1 10", b"HTTP/1.1 10", None),
        (HELLO, b" 101 ", 4003),
        (HELLO + b"\x81\x02{}", b" 101 ", 4003),
        (HELLO + b"\x81\x05{}", b" 101 ", None),
        (HELLO + b"\x81", b" 101 ", None),
        (HELLO + b"\x88\x02\x03\xe9", b" 101 ", 1001),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b" 404 ", None),
    ],
)
async def test_an_owner_that_breaks_off_leaves_no_client_with_half_a_frame(
    server: RedisServer, answer: bytes, expected: bytes, code: int | None
) -> None:
    async with answering(answer) as url, node_on(server, advertise_url=url) as one, node_on(server) as two:
        await write(one, 1, 1)
        raw = await RawPeer.connect(two.port)
        await raw.send(b"GET /v1/streams/demo/subscribe HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")
        if b"\r\n\r\n" not in answer and answer:
            assert await raw.read_rest() == answer
        else:
            assert expected in await raw.read_head()
            if expected == b" 101 ":
                assert (await raw.read_ending())[1] == code
        raw.close()
    assert len(two._nodes.relays) == 0


async def test_a_node_that_drains_cuts_between_two_frames_while_events_flow(server: RedisServer) -> None:
    async with node_on(server) as one, producer(one, "producer=p") as writing:
        await publish(writing, *numbered(1, 1), upto=1)

        async def flow() -> None:
            number = 1
            while True:
                number += 1
                await writing.say(text_delta("x" * 3000, producer_seq=number))
                await asyncio.sleep(0)

        async with AsyncExitStack() as stack:
            async with node_on(server, drain_timeout=5.0) as two:
                readings: list[Peer] = [
                    await stack.enter_async_context(consumer(two, query)) for query in ("", "policy=block") * 3
                ]
                flowing = asyncio.create_task(flow())
                for reading in readings:
                    await reading.read_until("text_delta", seq=20)
            for reading in readings:
                assert (await reading.read_all())[-1]["code"] == "shutting_down"
                assert reading.code == 1001
            flowing.cancel()


async def test_an_owner_that_drains_says_so_over_the_relay(server: RedisServer) -> None:
    async with node_on(server) as two:
        async with node_on(server, drain_timeout=5.0) as one:
            await write(one, 1, 3)
            reading_context = consumer(two, "policy=block")
            reading = await reading_context.__aenter__()
            await reading.read_until("caught_up")
        problem = (await reading.read_all())[-1]
        assert (problem["code"], problem["resume_after"], reading.code) == ("shutting_down", 3, 1001)
        await reading_context.__aexit__(None, None, None)
        await write(two, 4, 5)
        await expect_all(two, 5)


async def test_a_reader_that_takes_nothing_is_ended_by_the_node_it_has_reached(server: RedisServer) -> None:
    settings: dict[str, Any] = {"send_timeout": 0.5, "ping_interval": 3600}
    async with nodes_on(server, **settings) as (one, two), producer(one, "producer=p") as writing:
        await publish(writing, *numbered(1, 1), upto=1)
        async with raw_peer(two.port, "/v1/streams/demo/subscribe", receive_buffer=4096) as reading:
            await reading.read_until("caught_up")
            for number in range(2, 200):
                await publish(writing, text_delta("x" * 20_000, producer_seq=number), upto=number)
            assert two.hub.manager.elsewhere < 600_000
            await eventually(lambda: two.hub.tally.closes["1006", "gateway"])
