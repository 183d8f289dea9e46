"""What is lost on the way comes again, once: acks, connections, whole crowds of them; and memory comes back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from deltawire.gateway.client import Publisher
from deltawire.gateway.client.backoff import Backoff
from deltawire.gateway.hub import fair_queue
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import TextDelta
from tests.server.stalling import stalled
from tests.support.peers import consumer, producer, publish, ranges_of, text_delta, text_of
from tests.support.rawpeer import RawPeer
from tests.support.serving import connected, listening, pass_on
from tests.support.waiting import DEADLINE, eventually

CROWD = 400
"""Clients that come back at once: two descriptors each in this process. `make bench SCENARIOS=K` does it with 5,000."""


class Swallower:
    """A proxy that lets everything pass but the first acks, on which it hangs up.

    Attributes:
        port: where it listens.
        acks: to swallow yet.
    """

    def __init__(self, gateway: Gateway, acks: int) -> None:
        self._gateway = gateway
        self.acks = acks
        self.port = 0

    async def accept(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        async with connected(self._gateway.port) as (far, to_far), asyncio.TaskGroup() as tasks:
            tasks.create_task(pass_on(near, to_far))
            await self._pass_answers(far, to_near)
            to_far.transport.abort()
            to_near.transport.abort()

    async def _pass_answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if b'"type":"ack"' in data and self.acks:
                self.acks -= 1
                return
            writer.write(data)


@asynccontextmanager
async def swallowing(gateway: Gateway, acks: int) -> AsyncIterator[Swallower]:
    swallower = Swallower(gateway, acks)
    async with listening(swallower.accept) as swallower.port:
        yield swallower


async def test_an_event_whose_ack_is_lost_is_acked_again_and_there_once(gateway: Gateway) -> None:
    words = [f"{number} " for number in range(20)]
    async with consumer(gateway, "policy=block") as reading, swallowing(gateway, acks=5) as between:
        async with Publisher(
            f"ws://127.0.0.1:{between.port}", "demo", backoff=Backoff(initial=0.001, longest=0.01)
        ) as writing:
            for word in words:
                await writing.send(TextDelta(text=word))
                await writing.flush()
            assert writing.acked == 20
        assert between.acks == 0, "so many were lost"
        messages = await reading.read_until("text_delta", seq=20)
        assert text_of(messages) == "".join(words)
    assert gateway.hub.info("demo").head == 20


async def _read_to(it: RawPeer, after: int, last: int) -> None:
    """What comes after a seq, up to another, is all there and there once."""
    ranges = ranges_of(await it.read_until("text_delta", seq=last))
    assert [first for _, first, _ in ranges] == [after + 1, *(seq + 1 for _, _, seq in ranges[:-1])]


async def test_a_crowd_that_loses_its_connections_at_once_resumes_and_nobody_misses_anything(gateway: Gateway) -> None:
    local = gateway.hub.create("demo")
    sources = [f"127.0.0.{2 + number % 8}" if sys.platform == "linux" else "" for number in range(CROWD)]

    async def come(source: str, after: int) -> RawPeer:
        it = await RawPeer.connect(gateway.port, source=source)
        head = await it.upgrade(f"/v1/streams/demo/subscribe?after={after}")
        assert b" 101 " in head
        return it

    async with consumer(gateway, "policy=drop_newest&buffer=10000") as neighbour:
        capacity = await asyncio.gather(*(come(source, 0) for source in sources))
        for _ in range(10):
            local.send_nowait(TextDelta("x"))
        await asyncio.gather(*(_read_to(it, 0, 10) for it in capacity))
        for it in capacity:
            it.close()
        coming = asyncio.gather(*(come(source, 10) for source in sources))
        while not coming.done():
            local.send_nowait(TextDelta("x"))
            await asyncio.sleep(0)
        last = local.send_nowait(TextDelta("last"))
        capacity = coming.result()
        await asyncio.gather(*(_read_to(it, 10, last) for it in capacity))
        for it in capacity:
            it.close()
        seen = ranges_of(await neighbour.read_until("text_delta", seq=last))
        assert [seq for kind, _, seq in seen if kind == "text_delta"] == list(range(1, last + 1))
    await eventually(lambda: not gateway._connections)


async def test_a_crowd_whose_network_fails_is_taken_leave_of_a_few_at_a_time(
    gateway: Gateway, logs: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fair_queue, "STEP_SLICE", 0.0)  # one at a time, then

    def count_ended() -> int:
        return sum(entry["event"] == "consumer.ended" for entry in logs)

    local = gateway.hub.create("demo")
    async with consumer(gateway) as neighbour:
        capacity = [await RawPeer.connect(gateway.port) for _ in range(64)]
        for it in capacity:
            await it.upgrade("/v1/streams/demo/subscribe")
        await eventually(lambda: gateway.hub.info("demo").consumers == len(capacity) + 1)
        for it in capacity:
            it.reset()
        ended = [0]
        while ended[-1] < len(capacity):
            await asyncio.sleep(0)
            ended.append(count_ended())
        assert max(after - before for before, after in pairwise(ended)) <= 2
        assert gateway.hub.info("demo").consumers == 1
        local.send_nowait(TextDelta("x"))
        assert text_of(await neighbour.read_until("text_delta")) == "x"
    assert not [entry for entry in logs if entry["event"] == "connection.failed"]


async def test_a_dead_consumers_memory_is_back_long_before_any_timeout(gateway: Gateway) -> None:
    async with consumer(gateway, stream="other") as neighbour, producer(gateway, stream="other") as writing:
        before = len(gateway._connections)
        async with stalled(gateway, "policy=coalesce&buffer=10") as slow:
            held = max(connection.held_bytes for connection in gateway._connections)
            assert held > 32 * 1024, "its write buffer is full"
            slow.raw.close()
            assert min(gateway.settings.send_timeout, gateway.settings.ping_interval) > DEADLINE
            await eventually(lambda: len(gateway._connections) == before, "that it is gone")
        await publish(writing, text_delta("unharmed"), upto=1)
        assert (await neighbour.read_until("text_delta"))[-1]["seq"] == 1
    assert all(connection.held_bytes < held for connection in gateway._connections)
