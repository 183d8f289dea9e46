"""Long answers over plain HTTP: to peers that read, that read slowly, that do not, and that go."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from unittest.mock import Mock

import pytest

from deltawire.gateway.server import Gateway
from deltawire.gateway.server.connection.progress import look
from deltawire.gateway.server.connection.replying import REPLY_COST, Reply
from deltawire.gateway.server.http.routes import PAGE_BYTES
from deltawire.gateway.server.responses import PIECE
from deltawire.protocol.events import TextDelta
from tests.server.conftest import StartGateway
from tests.support.asking import http_client
from tests.support.peers import consumer
from tests.support.rawpeer import RawPeer
from tests.support.waiting import eventually

EVENTS = 1500
SIZE = 1000
PAGE = "/v1/streams/demo/events?limit=10000"
REQUEST = f"GET {PAGE} HTTP/1.1\r\nHost: gateway\r\n\r\n".encode()
SMALL = 4096
"""Bytes of a receive buffer that a page does not fit."""

MIB = 1024 * 1024


def fill(gateway: Gateway, events: int = EVENTS) -> None:
    stream = gateway.hub.create("demo")
    for number in range(events):
        stream.send_nowait(TextDelta(f"{number} ".ljust(SIZE, "x")))


def replying(gateway: Gateway) -> int:
    return sum(it.is_replying for it in gateway._accepted)


@asynccontextmanager
async def unread(gateway: Gateway, count: int = 1, request: bytes = REQUEST) -> AsyncIterator[list[RawPeer]]:
    """Peers that asked for a page, and do not read it."""
    peers = [await RawPeer.connect(gateway.port, SMALL) for _ in range(count)]
    try:
        for it in peers:
            await it.send(request)
        await eventually(lambda: replying(gateway) == count, "that all are being answered")
        yield peers
    finally:
        for it in peers:
            it.close()


async def test_a_page_of_many_pieces_comes_whole(gateway: Gateway) -> None:
    fill(gateway)
    seqs: list[int] = []
    async with http_client(base_url=gateway.url.replace("ws", "http")) as client:
        while body := (await client.get(PAGE, params={"after": seqs[-1] if seqs else 0, "limit": 10000})).text:
            assert len(body) <= PAGE_BYTES
            seqs += [json.loads(line)["seq"] for line in body.splitlines()]
    assert seqs == list(range(1, EVENTS + 1))


async def test_http_1_0_gets_a_page_without_chunks(gateway: Gateway) -> None:
    fill(gateway)
    it = await RawPeer.connect(gateway.port)
    await it.send(REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"))
    head, body = await it.read_head(), await it.read_rest()
    it.close()
    assert b"chunked" not in head
    assert [json.loads(line)["seq"] for line in body.splitlines()] == list(range(1, body.count(b"\n") + 1))
    assert PIECE < len(body) <= PAGE_BYTES


async def test_a_peer_that_half_closes_behind_its_request_gets_the_whole_page(gateway: Gateway) -> None:
    fill(gateway)
    it = await RawPeer.connect(gateway.port, SMALL)
    await it.send(REQUEST)
    it.finish_sending()
    await it.read_head()
    assert (await it.read_rest()).endswith(b"0\r\n\r\n")
    it.close()


@pytest.mark.parametrize("is_reset", [True, False], ids=["reset", "closed"])
async def test_a_page_that_is_aborted_leaves_nothing_to_the_collector(gateway: Gateway, *, is_reset: bool) -> None:
    fill(gateway)
    gc.collect()
    gc.disable()
    try:
        async with unread(gateway, 10) as peers:
            connections = [weakref.ref(it) for it in gateway._accepted]
            assert len(connections) == 10
            for it in peers:
                if is_reset:
                    it.reset()
                else:
                    it.close()
            await eventually(lambda: not any(it() for it in connections), "that no connection is left")
    finally:
        gc.enable()


async def test_an_answer_nobody_reads_costs_a_piece_and_is_counted(gateway: Gateway) -> None:
    fill(gateway)
    before = gateway.hub.manager.elsewhere
    async with unread(gateway, 20):
        assert gateway.hub.manager.elsewhere >= before + 20 * REPLY_COST, "at once, not by the next round"
        held = sum(it.held_bytes for it in gateway._accepted)
        assert held <= 20 * REPLY_COST
    await eventually(lambda: gateway.hub.manager.elsewhere <= before, "that nothing is counted any more")


async def test_unread_answers_that_take_the_memory_there_is_are_refused_and_shed(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(memory_limit=4 * MIB, retention_bytes=2 * MIB)
    fill(gateway)
    async with AsyncExitStack() as stack, consumer(gateway):  # a stream that is followed is not evicted
        statuses = []
        for _ in range(60):
            it = await RawPeer.connect(gateway.port, SMALL)
            stack.callback(it.close)
            await it.send(REQUEST)
            statuses.append((await it.read_head()).split(b" ")[1])
        assert {b"200", b"503"} == set(statuses)
        assert sum(it.held_bytes for it in gateway._accepted if not it.is_finished) <= 4 * MIB
        assert replying(gateway) > 10
        gateway.hub.manager.memory_limit = 3 * MIB
        gateway._housekeeping.sweep(gateway.hub.now())
        await eventually(lambda: gateway.hub.manager.bytes <= 3 * MIB, "that who holds most was shed")
        assert [it for it in gateway._accepted if it.peer is not None], "and nobody else"


async def test_unread_answers_leave_room_for_events(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(memory_limit=4 * MIB)
    gateway.hub.deadlines.remove(gateway._housekeeping)
    fill(gateway)
    healthy = gateway.hub.get("demo")
    async with AsyncExitStack() as stack, consumer(gateway):
        head = b" 200 "
        while b" 200 " in head and gateway.hub.manager.bytes + REPLY_COST <= 4 * MIB:
            it = await RawPeer.connect(gateway.port, SMALL)
            stack.callback(it.close)
            await it.send(REQUEST)
            head = await it.read_head()
        for _ in range(2 * REPLY_COST // SIZE):
            healthy.send_nowait(TextDelta("x" * SIZE))


async def test_who_reads_a_page_steadily_may_take_longer_than_any_timeout(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await start_gateway(handshake_timeout=10.0, send_timeout=200.0)
    gateway.hub.deadlines.remove(gateway._housekeeping)  # it would set the time back that leaps here
    fill(gateway)
    async with unread(gateway) as (it,):
        (connection,) = gateway._accepted
        ahead = 0.0
        real = gateway.hub.now
        monkeypatch.setattr(connection, "loop", Mock(wraps=connection.loop, time=lambda: real() + ahead))
        for _ in range(19):
            taken = look(connection.transport).taken
            while await it._receive() and look(connection.transport).taken == taken:
                pass  # what it reads was on its way before
            ahead += 20.0
            gateway._handshakes.sweep(real() + ahead)
            connection.abort_stalled_reply(real() + ahead, 200.0)
            await asyncio.sleep(0)
        monkeypatch.undo()
        assert (await it.read_rest()).endswith(b"0\r\n\r\n")


async def test_who_takes_nothing_of_a_page_is_given_up_after_send_timeout(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(send_timeout=5.0)
    fill(gateway)
    async with unread(gateway):
        (connection,) = gateway._accepted
        await eventually(lambda: connection.paused, "that its socket takes no more")
        connection.stalled_for(gateway.hub.now())
        connection.abort_stalled_reply(gateway.hub.now() + 4.0, 5.0)
        assert not connection.transport.is_closing()
        connection.abort_stalled_reply(gateway.hub.now() + 5.5, 5.0)
        await eventually(lambda: not gateway._accepted, "that it is gone")


async def test_a_page_ends_early_where_the_stream_lets_go_of_what_would_follow(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(retention_events=EVENTS)
    fill(gateway)
    async with unread(gateway) as (it,):
        stream = gateway.hub.get("demo")
        for _ in range(EVENTS):
            stream.send_nowait(TextDelta("new"))
        await it.read_head()
        body = await it.read_rest()
    assert body.endswith(b"0\r\n\r\n"), "whole all the same"
    assert b'"seq":1,' in body
    assert b"new" not in body
    assert body.count(b'"seq":') < EVENTS


async def test_a_fault_while_a_page_is_made_cuts_it_off(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(gateway)
    take, taken = Reply.take, list[bytes]()

    def fail_third(reply: Reply) -> tuple[bytes, bool]:
        if len(taken) == 2:
            raise RuntimeError("a fault")
        data, is_last = take(reply)
        taken.append(data)
        return data, is_last

    monkeypatch.setattr(Reply, "take", fail_third)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(REQUEST)
    answer = b""
    async with asyncio.timeout(3):
        with suppress(ConnectionResetError):  # cut, one way or the other
            while data := await reader.read(PIECE):
                answer += data
    writer.close()
    _, _, body = answer.partition(b"\r\n\r\n")
    assert b"".join(taken).startswith(body), "nothing else is in it"
    await eventually(lambda: not gateway._accepted, "that its connection has gone")
