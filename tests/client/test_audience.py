"""What a program learns while it has nothing to send: that nobody follows, that nothing can be sent any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection

from deltawire.gateway.client import Fenced, Publisher
from deltawire.protocol.codes import CloseCode
from tests.support.fakes import AT_ONCE, FakeGateway, FakeLog, closing, cut, frames, stay, text


class Clock:
    """The event loop's clock, put forward by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now = asyncio.get_running_loop().time()
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self._now)

    async def advance(self, seconds: float) -> None:
        """What is due by then has run."""
        self._now += seconds
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Peer:
    """A gateway that tells a publisher how many follow; each telling is over when the publisher has heard it."""

    def __init__(self) -> None:
        self._connection: asyncio.Queue[ServerConnection] = asyncio.Queue()
        self._signals: AsyncIterator[object] | None = None

    async def play(self, peer: ServerConnection) -> None:
        await peer.send(FakeLog().ready())
        self._connection.put_nowait(peer)
        await peer.wait_closed()

    async def tell(self, target: Publisher, *counts: int) -> None:
        peer = await self._connection.get()
        for count in counts:
            await peer.send(text({"type": "audience", "consumers": count}))
        await peer.send(text({"type": "signal", "name": "heard"}))
        self._signals = self._signals or target.signals()
        await anext(self._signals)
        self._connection.put_nowait(peer)

    async def cut(self) -> None:
        await cut(await self._connection.get())


@asynccontextmanager
async def waiting_alone(peer: Peer, connections: int = 1) -> AsyncIterator[tuple[Publisher, asyncio.Task[None]]]:
    """A publisher that may lose all connections but the last, and a wait until it is alone for 30 seconds."""
    async with (
        FakeGateway(*[peer.play] * connections) as gateway,
        Publisher(gateway.url, "demo", backoff=AT_ONCE) as target,
        asyncio.TaskGroup() as tasks,
    ):
        yield target, tasks.create_task(target.wait_alone(30))


async def test_who_was_followed_and_is_not_any_more_is_alone(clock: Clock) -> None:
    peer = Peer()
    async with waiting_alone(peer) as (target, waiting):
        await peer.tell(target, 2)
        await clock.advance(31)
        await peer.tell(target, 1, 0)
        await clock.advance(29)
        assert not waiting.done()
        await clock.advance(2)
        assert waiting.done()


async def test_before_the_first_consumer_nobody_is_alone(clock: Clock) -> None:
    peer = Peer()
    async with waiting_alone(peer) as (target, waiting):
        assert target.consumers == 0
        await peer.tell(target)
        await clock.advance(31)
        assert not waiting.done()
        waiting.cancel()


async def test_who_comes_back_makes_the_time_begin_anew(clock: Clock) -> None:
    peer = Peer()
    async with waiting_alone(peer) as (target, waiting):
        await peer.tell(target, 1)
        await peer.tell(target, 0)
        await clock.advance(20)
        await peer.tell(target, 1)
        await peer.tell(target, 0)
        await clock.advance(20)
        assert not waiting.done()
        await clock.advance(11)
        assert waiting.done()


async def test_a_lost_connection_makes_the_time_begin_anew(clock: Clock) -> None:
    peer = Peer()
    async with waiting_alone(peer, connections=2) as (target, waiting):
        await peer.tell(target, 1)
        await peer.tell(target, 0)
        await clock.advance(20)
        await peer.cut()
        await peer.tell(target)
        await clock.advance(20)
        assert not waiting.done()
        await clock.advance(11)
        assert waiting.done()


async def test_waiting_ends_when_the_publisher_leaves() -> None:
    async with FakeGateway(Peer().play) as gateway, asyncio.TaskGroup() as tasks:
        async with Publisher(gateway.url, "demo") as target:
            waits = [tasks.create_task(target.wait_ended()), tasks.create_task(target.wait_alone(0))]
            await asyncio.sleep(0)
            assert not any(waiting.done() for waiting in waits)
        await asyncio.wait(waits)


async def test_waiting_ends_when_the_stream_is_closed() -> None:
    async with FakeGateway(FakeLog().serving()) as gateway, Publisher(gateway.url, "demo") as target:
        await target.close_stream()
        await target.wait_ended()
        await target.wait_alone(600)


async def test_a_publisher_that_fails_is_told_to_who_waits_and_has_nothing_to_send() -> None:
    script = frames(msgspec.json.decode(FakeLog().ready()), then=closing(CloseCode.FENCED))
    async with FakeGateway(script) as gateway, Publisher(gateway.url, "demo") as target:
        with pytest.raises(Fenced):
            await target.wait_ended()
        with pytest.raises(Fenced):
            await target.wait_alone(600)


async def test_without_a_connection_the_audience_is_unknown() -> None:
    peer = Peer()
    reasons: asyncio.Queue[str] = asyncio.Queue()
    async with (
        FakeGateway(peer.play, stay) as gateway,
        Publisher(
            gateway.url, "demo", backoff=AT_ONCE, on_reconnect=lambda reason, _: reasons.put_nowait(reason)
        ) as target,
    ):
        await peer.tell(target, 3)
        assert target.consumers == 3
        await peer.cut()
        await reasons.get()
        assert target.consumers is None
