"""Memory: what connections hold counts, and those that hold most go before the kernel ends everything."""

from __future__ import annotations

from contextlib import AsyncExitStack

from gateway.server.memory import CONNECTION_COST, SHED_OVER, choose
from protocol.codes import ProblemCode
from tests.server.conftest import StartGateway
from tests.server.peers import consumer, producer, publish, text_delta
from tests.server.rawpeer import TEXT, frame, raw_peer
from tests.server.waiting import eventually

MIB = 1024 * 1024


def test_those_that_hold_most_go_and_no_more_than_needed() -> None:
    holdings = [(SHED_OVER, "a"), (10 * SHED_OVER, "b"), (3 * SHED_OVER, "c")]
    assert choose(holdings, 0) == []
    assert choose(holdings, 1) == ["b"]
    assert choose(holdings, 10 * SHED_OVER + 1) == ["b", "c"]


def test_idle_ones_are_left_alone_whatever_is_needed() -> None:
    assert choose([(CONNECTION_COST, "idle")] * 100, 1 << 40) == []


async def test_connections_that_hold_too_much_together_are_ended_and_others_stay(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(memory_limit=MIB)
    async with (
        consumer(gateway) as reader,
        producer(gateway) as writing,
        raw_peer(gateway.port, "/v1/streams/demo/publish") as greedy,
    ):
        await greedy.read_until("ready")
        await greedy.send(frame(TEXT, b"x" * (MIB - 1))[:-1])  # a message that is all but whole
        messages, code = await greedy.read_ending()
        assert (messages[-1]["code"], code) == ("overloaded", 4003)
        assert f"memory_limit ({MIB} bytes)" in messages[-1]["message"]
        await eventually(lambda: gateway.hub.manager.bytes < MIB, "that its memory is free again")
        await publish(writing, text_delta("unharmed"), upto=1)
        assert (await reader.read_until("text_delta"))[-1]["seq"] == 1


async def test_a_gateway_without_memory_is_not_ready_and_is_again(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(memory_limit=MIB)
    manager = gateway.hub.manager
    assert gateway._admission._not_ready() is None
    manager.elsewhere = 2 * MIB
    assert "memory_limit" in (gateway._admission._not_ready() or "")
    await eventually(lambda: gateway._admission._not_ready() is None, "that the next count finds room")
    assert manager.elsewhere == 0


async def test_a_producer_that_goes_on_while_others_hold_too_much_is_not_the_one_that_is_ended(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway(memory_limit=4 * MIB, ping_timeout=0.2)
    async with AsyncExitStack() as stack:
        reader = await stack.enter_async_context(consumer(gateway))
        writing = await stack.enter_async_context(producer(gateway))
        for _ in range(6):
            greedy = await stack.enter_async_context(raw_peer(gateway.port, "/v1/streams/other/publish"))
            await greedy.send(frame(TEXT, b"x" * (MIB - 1))[:-1])  # and no answer to any close
        last = 0
        while gateway.hub.tally.problems[ProblemCode.OVERLOADED] < 3 or gateway.hub.manager.elsewhere > 4 * MIB:
            last += 1
            await publish(writing, text_delta("x" * 200), upto=last)
        for _ in range(100):
            last += 1
            await publish(writing, text_delta("x" * 200), upto=last)
        assert (await reader.read_until("text_delta", seq=last))[-1]["seq"] == last
        assert gateway.hub.tally.problems[ProblemCode.OVERLOADED] == 3, "no more than needed"
