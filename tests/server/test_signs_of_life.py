"""Signs of life that a page can see: heartbeats, and pings it sends itself (SPEC §5.8)."""

from __future__ import annotations

import asyncio

import pytest

from deltawire.gateway.server import Gateway
from tests.server.conftest import StartGateway
from tests.server.stalling import consumers_of
from tests.support.peers import consumer, producer, publish, text_delta, types_of
from tests.support.waiting import eventually


async def test_a_consumer_that_asks_for_heartbeats_gets_one_after_another(gateway: Gateway) -> None:
    async with consumer(gateway, "heartbeat=5") as reading, producer(gateway) as writing:
        await reading.read_until("caught_up")
        await publish(writing, text_delta("Hi"), upto=1)
        [serving] = consumers_of(gateway)
        for _ in range(2):
            timer = serving._heartbeat_timer
            assert timer is not None
            assert 0 < timer.when() - asyncio.get_running_loop().time() < 6
            timer.cancel()
            serving._send_heartbeat()  # as the timer does
        assert types_of(await reading.read_until("heartbeat")) == ["text_delta", "heartbeat"]
        assert await reading.read() == {"type": "heartbeat", "head": 1}
    await eventually(lambda: not gateway._connections, "that it has gone")
    assert serving._heartbeat_timer is not None
    assert serving._heartbeat_timer.cancelled()


async def test_nobody_else_gets_heartbeats(gateway: Gateway) -> None:
    async with consumer(gateway) as reading:
        await reading.read_until("caught_up")
        [serving] = consumers_of(gateway)
        assert serving._heartbeat_timer is None


async def test_a_socket_that_accepts_nothing_is_sent_no_heartbeat(gateway: Gateway) -> None:
    async with consumer(gateway, "heartbeat=300") as reading:
        await reading.read_until("caught_up")
        [serving] = consumers_of(gateway)
        serving.pause()
        serving._send_heartbeat()
        serving.resume()
        serving._send_heartbeat()
        await reading.say({"type": "ping"})
        assert types_of(await reading.read_until("pong")) == ["heartbeat", "pong"]


@pytest.mark.parametrize("query", ["heartbeat=301", "heartbeat=-1", "heartbeat=0.5", "heartbeat=yes"])
async def test_a_heartbeat_out_of_bounds_is_a_bad_request(gateway: Gateway, query: str) -> None:
    async with consumer(gateway, query) as reading:
        [problem] = await reading.read_all()
    assert problem["code"] == "bad_request"
    assert "'heartbeat'" in problem["message"]


async def test_a_ping_is_answered_with_its_id_whoever_sends_it(gateway: Gateway) -> None:
    async with consumer(gateway) as reading, producer(gateway) as writing:
        await reading.read_until("caught_up")
        await reading.say({"type": "ping"}, {"type": "ping", "id": "7"})
        assert [await reading.read() for _ in range(2)] == [{"type": "pong"}, {"type": "pong", "id": "7"}]
        await writing.say({"type": "ping", "id": "p"})
        assert (await writing.read_until("pong"))[-1] == {"type": "pong", "id": "p"}


async def test_pings_cost_nothing_of_what_a_consumer_may_signal(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(signal_rate=1)  # two at once
    async with consumer(gateway) as reading:
        await reading.read_until("caught_up")
        await reading.say(*[{"type": "ping"}] * 2, *[{"type": "signal", "name": "cancel"}] * 2)
        messages = await reading.read_until("signal_result")
        assert types_of([*messages, await reading.read()]) == ["pong", "pong", "signal_result", "signal_result"]


@pytest.mark.parametrize("side", ["consumer", "producer"])
async def test_too_many_pings_are_too_many(start_gateway: StartGateway, side: str) -> None:
    gateway = await start_gateway(signal_rate=1)
    async with consumer(gateway) if side == "consumer" else producer(gateway) as it:
        await it.say(*[{"type": "ping"}] * 3)
        messages = await it.read_all()
    assert types_of(messages).count("pong") == 2
    assert messages[-1]["code"] == "rate_limited"
    assert it.code == 4002


async def test_what_is_no_ping_counts_however_short_it_is(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(signal_rate=1)
    async with consumer(gateway) as it:
        await it.say("x", "x" * 200, "x")
        messages = await it.read_all()
    assert [it["code"] for it in messages if it["type"] == "problem"] == ["unknown_message"] * 2 + ["rate_limited"]
