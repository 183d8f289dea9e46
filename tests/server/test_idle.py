"""Connections nobody uses (SPEC §8: 4004), on a time that is led on by leaps."""

from __future__ import annotations

import asyncio

import pytest

from deltawire.protocol.codes import CloseCode, ProblemCode
from tests.server.conftest import StartGateway
from tests.support.peers import consumer, producer, publish, text_delta
from tests.support.waiting import eventually

HOUR = 3600.0
MOMENT = 0.001


@pytest.mark.hears(ProblemCode.IDLE, CloseCode.IDLE)
async def test_an_unused_connection_ends_with_idle_and_where_to_resume(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(idle_timeout=HOUR)
    async with producer(gateway) as writing, consumer(gateway) as reading:
        await publish(writing, text_delta("a"), text_delta("b"), upto=2)
        await reading.read_until("text_delta", seq=2)
        gateway._housekeeping.sweep(gateway.hub.now() + 2 * HOUR)  # the end of one uses the stream of the other
        read, written = await asyncio.gather(reading.read_all(), writing.read_all())
    assert (read[-1]["code"], read[-1]["retryable"], read[-1]["resume_after"]) == ("idle", True, 2)
    assert "idle_timeout" in read[-1]["message"]
    assert reading.code == 4004
    assert [message["code"] for message in written if message["type"] == "problem"] == ["idle"]
    assert writing.code == 4004


async def test_a_stream_that_flows_keeps_its_connections_and_pongs_do_not(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(idle_timeout=HOUR)

    async def tick() -> float:
        """A moment after everything so far, and before everything that is yet to come."""
        now = gateway.hub.now()
        await eventually(lambda: gateway.hub.now() > now + 2 * MOMENT)
        return now + MOMENT

    async with consumer(gateway) as reading:
        async with producer(gateway) as writing:
            unused = await tick()
            for seq in (1, 2):
                await publish(writing, text_delta("x"), upto=seq)
                await reading.read_until("text_delta", seq=seq)
                gateway._housekeeping.sweep(unused + HOUR)
            assert writing.code is None
        await eventually(lambda: len(gateway._connections) == 1)
        used = await tick()
        await reading.connection.pong()
        [connection] = gateway._connections
        await eventually(lambda: connection.last_heard > used)
        gateway._housekeeping.sweep(used + HOUR)
        assert (await reading.read_all())[-1]["code"] == "idle"


async def test_a_consumer_may_be_idle_for_ever_by_default(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    async with consumer(gateway) as reading:
        await reading.read_until("caught_up")
        gateway._housekeeping.sweep(gateway.hub.now() + 1e6)
        await reading.say({"type": "signal", "name": "still here"})
        await reading.read_until("signal_result")
