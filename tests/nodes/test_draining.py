"""A node that drains gives its streams up before it tells anybody to leave: they go on at another node at once."""

from __future__ import annotations

import asyncio
import re
import signal
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import pytest

from deltawire.gateway.engines.redis import engine as engine_module
from deltawire.gateway.engines.redis import keeping
from deltawire.gateway.hub.ownership import Ownership
from deltawire.gateway.server import draining
from scripts.proof.numbered import KEEPING, STREAM, Writer
from tests.nodes.roaming import Reader, end_reading, publish_on
from tests.nodes.together import Processes, http, is_owner, node_on, processes_on
from tests.support.on_redis import set_engine_timeout, write
from tests.support.peers import Addressed, consumer, peer, producer, publish, text_delta, text_of
from tests.support.rawpeer import HANDSHAKE, RawPeer
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.soaking import lasting
from tests.support.waiting import eventually

pytestmark = needs_redis

LONG: dict[str, Any] = {"drain_timeout": 60, "send_timeout": 3600}
"""A drain that lasts for as long as somebody takes nothing."""


async def hold_up(node: Addressed) -> RawPeer:
    """A reader that takes nothing of more than fits into sockets: who serves it waits for it while draining."""
    stream = f"long-{uuid4().hex}"
    async with producer(node, stream=stream) as writing:
        await publish(writing, *(text_delta("x" * 60_000) for _ in range(10)), upto=10)
    raw = await RawPeer.connect(port_of(node), receive_buffer=4096)
    await raw.upgrade(f"/v1/streams/{stream}/subscribe?policy=coalesce")
    return raw


def port_of(node: Addressed) -> int:
    return int(node.url.rpartition(":")[2])


@pytest.mark.slow
async def test_under_load_streams_go_on_at_other_nodes_while_the_one_that_drains_waits_for_its_slowest_reader(
    server: RedisServer,
) -> None:
    writer, readers = Writer(pause=0.002), [Reader() for _ in range(4)]
    async with processes_on(server, 3, **KEEPING, **LONG) as processes, asyncio.TaskGroup() as tasks:
        turn = 0

        def pick() -> str:
            nonlocal turn
            turn += 1
            return processes.served[turn % 3].url  # the one that drains too

        publishing = tasks.create_task(publish_on(writer, pick))
        await eventually(lambda: writer.acked, "that the stream has its owner")
        following = [tasks.create_task(it.follow(pick)) for it in readers]
        for _ in range(lasting(2, 20)):
            leaving = owner_of(server, processes)
            assert leaving is not None
            stalled = await hold_up(processes.served[leaving])
            await acked_after(writer, writer.acked)
            processes.drain(leaving)
            await eventually(lambda: owner_of(server, processes) not in (leaving, None), "another owner")  # noqa: B023
            await acked_after(writer, writer.acked)
            assert processes.served[leaving].process.returncode is None, "it drains still"
            stalled.close()
            await processes.served[leaving].process.wait()
            await processes.restart(leaving)
        publishing.cancel()
        await end_reading(writer, readers, following, processes.served)
    assert writer.faults == []
    assert [it.faults for it in readers] == [[] for _ in readers]


async def acked_after(writer: Writer, before: int) -> None:
    await eventually(lambda: writer.acked > before + 500, "that it goes on")


def owner_of(server: RedisServer, processes: Processes) -> int | None:
    """The number of the node that owns the stream; None while nobody does."""
    owner = server.command("HGET", f"deltawire:{{{STREAM}}}:state", "owner").split(b"\r\n")[1].decode()
    session = server.command("GET", f"deltawire:node:{owner}")
    ports = [f":{port_of(it)}".encode() for it in processes.served]
    return next((number for number, port in enumerate(ports) if port in session), None)


async def test_whoever_is_told_to_leave_finds_the_stream_free_and_its_message_in_progress(server: RedisServer) -> None:
    async with node_on(server) as two, node_on(server, **LONG) as one, AsyncExitStack() as stack:
        writing = await stack.enter_async_context(producer(one, "producer=p", stream=STREAM))
        began = {"type": "message_start", "producer_seq": 1, "data": {"message_id": "m"}}
        await publish(writing, began, text_delta("a", producer_seq=2), upto=2)
        stalled = await hold_up(one)
        reading = await stack.enter_async_context(consumer(one, stream=STREAM))
        subscribed = (await reading.read_until("caught_up"))[0]
        leaving = asyncio.create_task(one.drain())
        for it in (writing, reading):
            assert ((await it.read_all())[-1]["code"], it.code) == ("shutting_down", 1001)
        async with peer(two, f"{STREAM}/publish?producer=p") as goes_on:
            ready = await goes_on.read()
            assert (ready["type"], ready["epoch"], ready["producer_seq"]) == ("ready", subscribed["epoch"], 2)
            stop = {"type": "message_stop", "producer_seq": 4, "data": {"message_id": "m", "stop_reason": "end_turn"}}
            await publish(goes_on, text_delta("b", producer_seq=3), stop, upto=4)
        async with consumer(two, f"after=2&epoch={subscribed['epoch']}", stream=STREAM) as again:
            resumed, *events, _ = await again.read_until("caught_up")
            assert (resumed["recovered"], text_of(events)) == (True, "b")
        assert (is_owner(one, STREAM), is_owner(two, STREAM), leaving.done()) == (False, True, False)
        async with http(one) as client:
            answer = await client.get(f"/v1/streams/{STREAM}")
            assert (answer.status_code, "shutting down" in answer.text) == (503, True)
        stalled.close()
        await leaving


def renewals(server: RedisServer) -> int:
    """How often sessions were renewed."""
    found = re.search(rb"cmdstat_zadd:calls=(\d+)", server.command("INFO", "commandstats"))
    return int(found[1]) if found else 0


async def test_a_node_that_drains_takes_nothing_over(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "RENEWAL", 0.02)
    monkeypatch.setattr(engine_module, "TTL", 0.05)
    async with node_on(server, **LONG) as one:
        await write(one, 1, 3, stream=STREAM)
        stalled = await hold_up(one)
        leaving = asyncio.create_task(one.drain())
        state = f"deltawire:{{{STREAM}}}:state"
        await eventually(lambda: server.command("HGET", state, "owner") == b"$0\r\n\r\n", "that it gives it up")
        before = renewals(server)
        await eventually(lambda: renewals(server) > before + 20, "that it might have looked for streams of nobody")
        assert server.command("HGET", state, "owner") == b"$0\r\n\r\n"
        stalled.close()
        await leaving


async def test_a_reader_who_is_behind_gets_the_rest_from_the_node_that_has_given_the_stream_up(
    server: RedisServer,
) -> None:
    async with node_on(server, **LONG) as one:
        for begin in range(1, 401, 50):
            async with producer(one, "producer=p", stream=STREAM) as writing:
                lines = (text_delta("x" * 20_000, producer_seq=number) for number in range(begin, begin + 50))
                await publish(writing, *lines, upto=begin + 49)
        raw = await RawPeer.connect(one.port, receive_buffer=4096)
        await raw.upgrade(f"/v1/streams/{STREAM}/subscribe?policy=disconnect")
        leaving = asyncio.create_task(one.drain())
        await eventually(lambda: not is_owner(one, STREAM), "that it gives it up")
        messages, code = await raw.read_ending()
        assert [it["seq"] for it in messages if it["type"] == "text_delta"] == list(range(1, 401))
        assert ([it for it in messages if it["type"] == "gap"], code) == ([], 1001)
        raw.close()
        await leaving


async def test_other_nodes_go_on_with_a_stream_before_the_first_reader_here_is_told_to_leave(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "CLOSES_A_SECOND", 1e-3)
    monkeypatch.setattr(draining, "TICK", 600.0)  # they are told one by one, and nobody waits for the second one
    async with node_on(server) as two, node_on(server, drain_timeout=1e6) as one, AsyncExitStack() as stack:
        readings = [await stack.enter_async_context(consumer(one, stream=STREAM)) for _ in range(20)]
        for reading in readings:
            await reading.read_until("caught_up")
        far = await stack.enter_async_context(consumer(two, stream=STREAM))
        await far.read_until("caught_up")
        leaving = asyncio.create_task(one.drain())
        await eventually(lambda: is_owner(two, STREAM), "that it follows the next owner, which it is itself")
        await write(two, 1, 3, stream=STREAM)
        assert text_of(await far.read_until("text_delta", seq=3)) == "1 2 3 "
        assert {reading.code for reading in readings} == {None}
        leaving.cancel()


async def test_a_drain_goes_on_while_the_server_is_away(server: RedisServer) -> None:
    async with node_on(server, drain_timeout=60) as one, consumer(one, stream=STREAM) as reading:
        await reading.read_until("caught_up")
        server.signal(signal.SIGSTOP)
        set_engine_timeout(one, 0.1)
        leaving = asyncio.create_task(one.drain())
        assert ((await reading.read_all())[-1]["code"], reading.code) == ("shutting_down", 1001)
        server.signal(signal.SIGCONT)
        await leaving


SSE = b"GET /v1/streams/new/sse HTTP/1.1\r\nHost: gateway\r\n\r\n"
POST = b"POST /v1/streams/new/events HTTP/1.1\r\nHost: gateway\r\nContent-Length: 0\r\n\r\n"
INFO = b"GET /v1/streams/new HTTP/1.1\r\nHost: gateway\r\n\r\n"


def websocket(path: str) -> bytes:
    return HANDSHAKE.format(path=f"/v1/streams/new/{path}", headers="").encode()


@pytest.mark.parametrize(
    ("step", "request_"),
    [
        pytest.param("locate", INFO, id="locate-info"),
        pytest.param("locate", SSE, id="locate-sse"),
        pytest.param("claim", SSE, id="claim-sse"),
        pytest.param("claim", POST, id="claim-post"),
        pytest.param("claim", websocket("subscribe"), id="claim-subscribe"),
        pytest.param("claim", websocket("publish"), id="claim-publish"),
    ],
)
async def test_whoever_waits_for_the_server_when_a_drain_begins_is_sent_elsewhere_at_once(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, step: str, request_: bytes
) -> None:
    asked = asyncio.Event()
    original = getattr(Ownership, step)

    def stop_first(ownership: Ownership, stream_id: str) -> Any:
        server.signal(signal.SIGSTOP)
        asked.set()
        return original(ownership, stream_id)

    async with node_on(server, engine_timeout=60) as one:
        raw = await RawPeer.connect(one.port)
        monkeypatch.setattr(Ownership, step, stop_first)
        await raw.send(request_)
        await asked.wait()
        leaving = asyncio.create_task(one.drain())
        answer = await raw.read_rest()
        assert (b" 503 " in answer, b"Retry-After" in answer, b"shutting down" in answer) == (True, True, True), answer
        raw.close()
        server.signal(signal.SIGCONT)
        await leaving
