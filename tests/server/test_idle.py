"""Connections nobody uses (SPEC §8: 4004)."""

from __future__ import annotations

import asyncio

from tests.server.conftest import StartGateway
from tests.server.peers import consumer, producer, publish, text_delta


async def test_an_unused_connection_ends_with_idle_and_where_to_resume(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(idle_timeout=0.8, ping_timeout=0.2)
    async with producer(gateway) as writing, consumer(gateway) as reading:
        await publish(writing, text_delta("a"), text_delta("b"), upto=2)
        read, written = await asyncio.gather(reading.read_all(), writing.read_all())
    assert (read[-1]["code"], read[-1]["retryable"], read[-1]["resume_after"]) == ("idle", True, 2)
    assert "idle_timeout" in read[-1]["message"]
    assert reading.code == 4004
    assert [message["code"] for message in written if message["type"] == "problem"] == ["idle"]
    assert writing.code == 4004


async def test_a_stream_that_flows_keeps_its_connections_and_pongs_do_not(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(idle_timeout=0.4, ping_interval=0.05, ping_timeout=5)
    loop = asyncio.get_running_loop()
    async with producer(gateway) as writing, consumer(gateway) as reading:
        began = loop.time()
        seq = 0
        while loop.time() - began < 1.0:
            seq += 1
            await publish(writing, text_delta("x"), upto=seq)
            await reading.read_until("text_delta", seq=seq)
        assert writing.code is None
        assert (await reading.read_all())[-1]["code"] == "idle"


async def test_a_consumer_may_be_idle_for_ever_by_default(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    async with consumer(gateway) as reading:
        await reading.read_until("caught_up")
        gateway._rounds.sweep(gateway.hub.now() + 1e6)
        await reading.say({"type": "signal", "name": "still here"})
        await reading.read_until("signal_result")
