"""Memory: what connections hold counts, and those that hold most go before the kernel ends everything."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from deltawire.gateway.client import GatewayUnreachable, Publisher, Subscriber
from deltawire.gateway.hub import fair_queue
from deltawire.gateway.server import housekeeping
from deltawire.gateway.server.connection.memory import SHED_OVER, choose, connection_cost
from deltawire.gateway.server.connection.producer import Producer
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.events import TextDelta
from tests.server.conftest import StartGateway
from tests.support.certificates import make_certificates
from tests.support.peers import consumer, producer, publish, text_delta
from tests.support.rawpeer import TEXT, frame, raw_peer
from tests.support.waiting import eventually, turn

MIB = 1024 * 1024


def test_those_that_hold_most_go_and_no_more_than_needed() -> None:
    holdings = [(SHED_OVER, "a"), (10 * SHED_OVER, "b"), (3 * SHED_OVER, "c")]
    assert choose(holdings, 0) == []
    assert choose(holdings, 1) == ["b"]
    assert choose(holdings, 10 * SHED_OVER + 1) == ["b", "c"]


def test_idle_ones_are_left_alone_whatever_is_needed() -> None:
    assert choose([(SHED_OVER - 1, "idle")] * 100, 1 << 40) == []


@pytest.mark.parametrize("sends", [False, True])
@pytest.mark.parametrize("has_tls", [False, True])
async def test_a_connection_is_counted_by_its_kind(
    start_gateway: StartGateway, tmp_path: Path, *, has_tls: bool, sends: bool
) -> None:
    files = make_certificates(tmp_path)
    gateway = await start_gateway(**(files.settings if has_tls else {}))
    client = Publisher if sends else Subscriber
    async with client(gateway.url, "demo", tls=files.context() if has_tls else None):
        await eventually(lambda: gateway._connections)
        [connection] = gateway._connections
        assert connection.held_bytes == connection_cost(has_tls=has_tls, sends=sends)


async def test_a_connection_whose_kind_finds_no_room_is_refused(start_gateway: StartGateway, tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    gateway = await start_gateway(**files.settings, memory_limit=MIB)
    gateway.hub.deadlines.remove(gateway._housekeeping)
    gateway.hub.manager.elsewhere = MIB - connection_cost(has_tls=True, sends=True) + 1 - gateway.hub.manager.bytes
    with pytest.raises(GatewayUnreachable, match="memory_limit"):
        await Publisher(gateway.url, "demo", tls=files.context(), retry_for=0).__aenter__()
    async with Subscriber(gateway.url, "demo", tls=files.context(), retry_for=0):
        pass


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
    async with consumer(gateway):
        manager.memory_limit = manager.bytes - 1
        assert "memory_limit" in (gateway._admission._not_ready() or "")
    await eventually(lambda: gateway._admission._not_ready() is None, "that who left is counted no more")
    await eventually(lambda: not manager.elsewhere, "that nothing is counted for who has gone")


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


async def test_nobody_is_refused_while_a_round_counts_what_others_hold(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round takes several turns of the loop where there are many connections, or the machine is slow."""
    monkeypatch.setattr(housekeeping, "PER_TURN", 1)
    monkeypatch.setattr(fair_queue, "STEP_SLICE", 0.0)
    gateway = await start_gateway(memory_limit=4 * MIB)
    gateway.hub.deadlines.remove(gateway._housekeeping)
    healthy = gateway.hub.create("demo")
    async with consumer(gateway), AsyncExitStack() as stack:  # a stream that is followed is not evicted
        for _ in range(8):
            greedy = await stack.enter_async_context(raw_peer(gateway.port, "/v1/streams/other/publish"))
            await greedy.send(frame(TEXT, b"x" * (MIB - 1))[:-1])  # a message that is all but whole
        await eventually(lambda: sum(it.held_bytes for it in gateway._accepted) > 8 * (MIB - 1), "that all is held")
        gateway._housekeeping.sweep(gateway.hub.now())
        while gateway._housekeeping._left:
            healthy.send_nowait(TextDelta("x"))
            await turn(1)
        healthy.send_nowait(TextDelta("x"))
        await turn()
        assert gateway.hub.tally.problems[ProblemCode.OVERLOADED] == 5, "no more than needed"


async def test_nobody_is_refused_for_messages_of_others_that_wait(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are counted at once, and not by rounds."""
    gateway = await start_gateway(memory_limit=4 * MIB, max_message=MIB)
    gateway.hub.deadlines.remove(gateway._housekeeping)
    healthy = gateway.hub.create("demo")
    hold = Producer._hold

    def note(it: Producer) -> None:
        hold(it)
        healthy.send_nowait(TextDelta("x"))

    monkeypatch.setattr(Producer, "_hold", note)
    monkeypatch.setattr(gateway._reading, "has_time", lambda *_: False)
    monkeypatch.setattr(gateway._reading, "enter", lambda *_: None)
    async with consumer(gateway), AsyncExitStack() as stack:  # a stream that is followed is not evicted
        for _ in range(8):
            greedy = await stack.enter_async_context(raw_peer(gateway.port, "/v1/streams/other/publish"))
            await greedy.read_until("ready")
            await greedy.send(frame(TEXT, b"x" * (MIB - 100)))
        await eventually(lambda: gateway.hub.tally.problems[ProblemCode.OVERLOADED] == 5, "that no more is held")
        assert gateway.hub.tally.faults == 0


async def test_what_readers_that_stand_still_hold_is_free_at_once_and_no_more_of_them_are_ended(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway(memory_limit=4 * MIB)
    gateway.hub.deadlines.remove(gateway._housekeeping)
    healthy = gateway.hub.create("demo")
    ended = gateway.hub.tally.problems
    async with consumer(gateway), AsyncExitStack() as stack:
        for _ in range(32):
            await stack.enter_async_context(raw_peer(gateway.port, "/v1/streams/demo/subscribe", receive_buffer=4096))
        for _ in range(4):
            healthy.send_nowait(TextDelta("x" * (MIB // 4)))
            await turn()
        assert sum(it.held_bytes for it in gateway._accepted) > 4 * MIB
        gateway._housekeeping.sweep(gateway.hub.now())
        healthy.send_nowait(TextDelta("x"))
        await eventually(lambda: ended[ProblemCode.OVERLOADED], "that some are ended")
        await turn()
        first = ended[ProblemCode.OVERLOADED]
        gateway._housekeeping.sweep(gateway.hub.now())
        healthy.send_nowait(TextDelta("x"))
        await turn()
        assert ended[ProblemCode.OVERLOADED] == first, "the first ones were enough"
