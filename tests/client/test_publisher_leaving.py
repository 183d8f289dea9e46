"""How a publisher ends: its stream, itself, or by force."""

from __future__ import annotations

import asyncio

import pytest
from websockets.asyncio.server import ServerConnection

from deltawire.gateway.client import NotDelivered
from deltawire.gateway.client import publisher as publisher_module
from deltawire.protocol.events import TextDelta
from tests.client.publishing import numbers, publisher, send_numbers
from tests.support.fakes import FakeGateway, FakeLog, closing, cut


async def test_closing_the_stream_is_confirmed() -> None:
    log = FakeLog()
    async with FakeGateway(log.serving()) as gateway, publisher(gateway) as target:
        await send_numbers(target, 1, 3)
        await target.close_stream()
        assert log.closed
        with pytest.raises(NotDelivered, match="ended"):
            await target.send(TextDelta("4"))
    assert log.texts == numbers(1, 3)


async def test_nothing_is_taken_while_the_stream_is_being_closed() -> None:
    log, asked, go = FakeLog(), asyncio.Event(), asyncio.Event()

    async def play(peer: ServerConnection) -> None:
        await peer.send(log.ready())
        log.take(await peer.recv())
        asked.set()
        await go.wait()

    async with FakeGateway(play) as gateway, publisher(gateway) as target:
        closing_stream = asyncio.create_task(target.close_stream())
        await asked.wait()
        with pytest.raises(NotDelivered, match="ended"):
            await target.send(TextDelta("1"))
        go.set()
        await closing_stream


async def test_closing_the_stream_survives_a_lost_confirmation() -> None:
    log = FakeLog()

    async def close_and_cut(peer: ServerConnection) -> None:
        await peer.send(log.ready())
        log.take(await peer.recv())
        await cut(peer)

    async with FakeGateway(close_and_cut, closing(4501, "closed already")) as gateway:
        async with publisher(gateway) as target:
            await target.close_stream()
        assert len(gateway.requests) == 2
    assert log.closed


async def test_leaving_by_an_exception_does_not_wait_for_acks() -> None:
    async def silent(peer: ServerConnection) -> None:
        await peer.send(FakeLog().ready())
        await peer.wait_closed()

    async def publish(gateway: FakeGateway) -> None:
        async with publisher(gateway) as target:
            await target.send(TextDelta("1"))
            raise LookupError

    async with FakeGateway(silent) as gateway:
        with pytest.raises(LookupError):
            await publish(gateway)


async def test_leaving_a_gateway_that_acks_nothing_says_what_may_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "LEAVE_TIMEOUT", 0.01)

    async def silent(peer: ServerConnection) -> None:
        await peer.send(FakeLog().ready())
        await peer.wait_closed()

    async with FakeGateway(silent) as gateway:
        with pytest.raises(NotDelivered, match="2 events were sent and never acked"):
            async with publisher(gateway) as target:
                await send_numbers(target, 1, 2)


async def test_a_cancelled_publisher_leaves_nothing_running() -> None:
    before, sending = asyncio.all_tasks(), asyncio.Event()

    async def silent(peer: ServerConnection) -> None:
        await peer.send(FakeLog().ready())
        await peer.wait_closed()

    async def publish(gateway: FakeGateway) -> None:
        async with publisher(gateway, window=1) as target:
            await target.send(TextDelta("1"))
            sending.set()
            await target.send(TextDelta("2"))

    async with FakeGateway(silent) as gateway:
        task = asyncio.create_task(publish(gateway))
        await sending.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert asyncio.all_tasks() == before


async def test_cancelling_while_connecting_leaves_nothing_running() -> None:
    before, connected = asyncio.all_tasks(), asyncio.Event()

    async def mute(peer: ServerConnection) -> None:
        connected.set()
        await peer.wait_closed()

    async def publish(gateway: FakeGateway) -> None:
        async with publisher(gateway):
            raise AssertionError("never ready")

    async with FakeGateway(mute) as gateway:
        task = asyncio.create_task(publish(gateway))
        await connected.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert asyncio.all_tasks() == before
