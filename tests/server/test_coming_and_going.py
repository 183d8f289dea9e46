"""Connections that come and go on one stream: whoever comes next finds everything in order."""

from __future__ import annotations

import asyncio
import gc
from typing import cast

import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.hub import Hub
from deltawire.gateway.hub.fair_queue import FairQueue
from deltawire.gateway.metrics.tally import Tally
from deltawire.gateway.server import Gateway
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.connection.consumer import Consumer
from deltawire.gateway.server.connection.record import Record
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.events import TextDelta
from deltawire.protocol.messages import Policy
from tests.server.conftest import StartGateway
from tests.support.peers import consumer, producer, publish, text_delta, types_of
from tests.support.rawpeer import CLOSE, RawPeer, frame, text
from tests.support.waiting import DEADLINE, eventually, turn


async def open_raw(gateway: Gateway, what: str, receive_buffer: int | None = None) -> RawPeer:
    """A connection to an endpoint of stream `demo` that nobody reads."""
    it = await RawPeer.connect(gateway.port, receive_buffer)
    assert b" 101 " in (await it.upgrade(f"/v1/streams/demo/{what}")).splitlines()[0]
    return it


async def test_a_dead_consumers_late_end_takes_nothing_from_its_successors(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(buffer_bytes=64 * 1024)
    stalled = await open_raw(gateway, "subscribe?policy=disconnect&buffer=1", 2048)
    big = text_delta("x" * 60_000)
    async with producer(gateway) as writing:
        for seq in range(1, 21):
            await publish(writing, big, upto=seq)
        counters = gateway.hub.manager.get("demo").counters
        await eventually(lambda: counters.disconnected == 1)
    async with producer(gateway) as writing:
        await writing.say(text_delta("again"))
        await writing.read_until("ack")
        stalled.close()  # only now is the connection of the disconnected consumer gone
        await eventually(lambda: gateway.hub.manager.get("demo").consumers == 0)
        async with consumer(gateway, "from=now") as reading:
            await reading.read_until("caught_up")
            await writing.say(text_delta("live"))
            await reading.read_until("text_delta")
            await reading.say({"type": "signal", "name": "cancel"})
            assert (await reading.read_until("signal_result"))[-1]["delivered"] == 1


async def test_a_fenced_producers_late_end_does_not_end_its_successors_message(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(lease=3600)
    start = {"type": "message_start", "data": {"message_id": "m"}}
    first = await open_raw(gateway, "publish?producer=p&generation=1")
    await first.send(text(start))
    await eventually(lambda: gateway.hub.manager.get("demo").log.head == 1)
    async with producer(gateway, "producer=p&generation=2"):
        pass
    async with producer(gateway, "producer=p&generation=2") as writing, consumer(gateway) as reading:
        await writing.say(text_delta("a"))
        await reading.read_until("text_delta")
        first.close()
        await eventually(lambda: gateway.hub.manager.get("demo").publishing == 1)
        gateway.hub.dispatcher.expire_leases(gateway.hub.now() + 3601)
        await writing.say({"type": "message_stop", "data": {"message_id": "m", "stop_reason": "end_turn"}})
        assert types_of(await reading.read_until("message_stop")) == ["message_stop"]


async def test_a_stream_that_is_forgotten_is_not_closed_again_nor_another_of_its_name(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway(closed_retention=0)
    async with producer(gateway) as old:
        gateway.hub.close("demo")
        await eventually(lambda: gateway.hub.count() == 0)
        async with consumer(gateway) as reading:
            await reading.read_until("caught_up")
            await old.say({"type": "close_stream"})
            assert [it["code"] for it in await old.read_all() if it["type"] == "problem"] == ["stream_closed"]
            assert old.code == 4501
            await reading.say({"type": "signal", "name": "still there?"})
            await reading.read_until("signal_result")


async def test_a_producer_that_reads_nothing_is_sent_no_signals_and_they_are_not_counted(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway(signal_rate=1_000)
    deaf = await open_raw(gateway, "publish", 2048)
    async with consumer(gateway) as reading:
        await reading.read_until("caught_up")
        delivered = []
        for _ in range(200):
            await reading.say({"type": "signal", "name": "cancel", "data": "x" * 60_000})
            delivered.append((await reading.read_until("signal_result"))[-1]["delivered"])
        assert delivered[0] == 1
        assert delivered[-1] == 0
        assert sum(delivered) < 20
    deaf.close()


async def test_consumers_that_stalled_and_died_are_forgotten(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    async with consumer(gateway, "from=now") as staying, producer(gateway) as writing:
        await staying.read_until("caught_up")
        stalled = [await open_raw(gateway, "subscribe?policy=disconnect&buffer=10000", 2048) for _ in range(5)]
        for seq in range(1, 9):
            await publish(writing, text_delta("x" * 60_000), upto=seq)
        for it in stalled:
            it.close()
        await eventually(lambda: gateway.hub.manager.get("demo").consumers == 1)
        await eventually(lambda: len(gateway._connections) == 2, "that their connections are gone")
        await turn()
        gc.collect()
        stream = gateway.hub.manager.get("demo")
        assert sum(isinstance(it, Consumer) and it.stream is stream for it in gc.get_objects()) == 1


async def test_a_block_consumer_that_never_stalls_makes_room_as_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its replay is over, its buffer full, and it empties it a chunk a turn: whoever waited meanwhile goes on."""
    monkeypatch.setattr("deltawire.gateway.server.connection.consumer.READS_IN_A_ROW", 1)
    async with Hub(Settings(block_timeout=60)) as hub:
        stream = hub.create("demo")
        for _ in range(20):
            stream.send_nowait(TextDelta("x" * 30_000))
        core = hub.manager.get("demo")
        request = SubscribeRequest(policy=Policy.BLOCK, buffer=1)
        connection = cast("GatewayConnection", EagerConnection())
        turnstile = FairQueue(connection.loop.call_soon)
        reader = Consumer(hub, connection, core.subscribe(request, now=hub.now()), turnstile)
        reader.start(heartbeat=0)
        for _ in range(3):
            stream.send_nowait(TextDelta("y" * 30_000))
        while core.has_room:  # noqa: ASYNC110 - it is full between two turns only
            await asyncio.sleep(0)
        assert await stream.send(TextDelta("z"), timeout=DEADLINE) == 24


class EagerConnection:
    """A socket that takes everything at once."""

    is_finished = False
    agent = None

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.record = Record(Tally())
        self.transport = self
        self.writer = self.write

    def write(self, _frames: bytes) -> None:
        pass


@pytest.mark.parametrize("by", ["the gateway", "a close of its own"])
async def test_a_block_consumer_that_was_ended_holds_nobody_up(start_gateway: StartGateway, by: str) -> None:
    gateway = await start_gateway(signal_rate=1e-3)
    ended = await open_raw(gateway, "subscribe?policy=block&buffer=1")
    if by == "the gateway":
        for _ in range(4):
            await ended.send(text({"type": "signal", "name": "cancel"}))
        await ended.read_until("problem", code="rate_limited")
    else:
        await ended.read_until("caught_up")
        await ended.send(frame(CLOSE, b"\x03\xe8"))
        assert (await ended.read_frame()) is not None
    stream = gateway.hub.get("demo")  # its socket stays open all the while
    for _ in range(5):
        await stream.send(TextDelta("x"), timeout=DEADLINE)
    assert stream.statistics().consumers == 0
    ended.close()
