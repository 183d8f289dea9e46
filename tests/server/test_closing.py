"""Connections that end: whoever ends them, in whatever order, the others notice nothing and nothing lingers."""

from __future__ import annotations

import asyncio

import pytest

from deltawire.gateway.server import Gateway
from deltawire.gateway.server.connection import sending
from deltawire.gateway.server.connection.producer import Producer
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.codes import CloseCode, ProblemCode
from deltawire.protocol.events import TextDelta
from deltawire.protocol.messages import Policy
from tests.server.conftest import StartGateway
from tests.support.peers import consumer, producer, publish, text_delta, text_of, types_of
from tests.support.rawpeer import CLOSE, frame, raw_peer, text
from tests.support.waiting import DEADLINE, eventually, turn


@pytest.fixture
def short_close_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "CLOSE_TIMEOUT", 0.05)


async def test_a_consumer_that_said_goodbye_and_lingers_takes_nothing_from_its_neighbours(gateway: Gateway) -> None:
    stream = gateway.hub.create("demo")
    async with (
        consumer(gateway) as before,
        raw_peer(gateway.port, "/v1/streams/demo/subscribe") as leaving,
        consumer(gateway) as after,
    ):
        for it in (before, after):
            await it.read_until("caught_up")
        await leaving.read_until("caught_up")
        await leaving.send(frame(CLOSE, b"\x03\xe8"))
        assert await leaving.read_frame() == (CLOSE, b"\x03\xe8")  # and it keeps its socket open
        for text_ in "abc":
            stream.send_nowait(TextDelta(text_))
            await turn()
        for it in (before, after):
            assert text_of(await it.read_until("text_delta", seq=3)) == "abc"


async def test_what_a_producer_sent_before_its_goodbye_is_appended(gateway: Gateway) -> None:
    async with consumer(gateway) as reading, producer(gateway) as other:
        await reading.read_until("caught_up")
        async with raw_peer(gateway.port, "/v1/streams/demo/publish") as leaving:
            await leaving.read_until("ready")
            await asyncio.gather(
                leaving.send(text(text_delta("a")) + text(text_delta("b")) + frame(CLOSE, b"\x03\xe8")),
                publish(other, text_delta("c"), upto=1),
            )
            got = await reading.read_until("text_delta") + await reading.read_until("text_delta")
            got += await reading.read_until("text_delta")
            assert sorted(text_of(got)) == ["a", "b", "c"]


async def test_nothing_fails_inside_when_a_producer_leaves_without_waiting_for_its_ack(
    gateway: Gateway, logs: list[dict[str, object]]
) -> None:
    async with raw_peer(gateway.port, "/v1/streams/demo/publish") as leaving:
        await leaving.read_until("ready")
        await leaving.send(text(text_delta("a")) + frame(CLOSE, b"\x03\xe8"))
        await eventually(lambda: gateway.hub.info("demo").head == 1)
        await turn()
    assert [entry for entry in logs if entry["log_level"] == "error"] == []


@pytest.fixture
def long_close_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "CLOSE_TIMEOUT", 2 * DEADLINE)


@pytest.mark.usefixtures("short_close_timeout")
@pytest.mark.parametrize(
    "parting",
    [frame(CLOSE, b"\x03\xe8"), b"\xff\xff\xff", frame(1, b"x" * (1 << 20) + b"y")],
    ids=["goodbye", "protocol error", "too big"],
)
async def test_a_peer_that_ends_the_websocket_but_keeps_the_socket_is_dropped(gateway: Gateway, parting: bytes) -> None:
    async with raw_peer(gateway.port, "/v1/streams/demo/subscribe") as lingering:
        await lingering.read_until("caught_up")
        await lingering.send(parting)
        await eventually(lambda: not gateway._connections, "dropping it")


@pytest.mark.usefixtures("short_close_timeout")
async def test_a_refused_peer_that_never_answers_the_close_is_dropped(gateway: Gateway) -> None:
    async with raw_peer(gateway.port, "/v1/streams/demo/subscribe?buffer=0") as deaf:
        assert types_of([await deaf.read_message()]) == ["problem"]
        await eventually(lambda: not gateway._connections, "dropping it")


@pytest.mark.usefixtures("long_close_timeout")
async def test_a_refused_producer_in_full_flow_is_let_go_as_soon_as_it_answers_the_close(gateway: Gateway) -> None:
    flow = text(text_delta("x")) * 500
    async with raw_peer(gateway.port, "/v1/streams/demo/publish?generation=x") as eager:
        await eager.send(flow)
        messages, code = await eager.read_ending()
        await eventually(lambda: not gateway._connections)
        assert (types_of(messages), code) == (["problem"], 4502)


@pytest.mark.usefixtures("long_close_timeout")
async def test_a_producer_held_by_a_slow_reader_still_takes_part_in_its_own_close(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    stream = gateway.hub.create("demo")
    async with raw_peer(gateway.port, "/v1/streams/demo/publish?producer=p") as held:
        await held.read_until("ready")
        async with stream.subscribe(SubscribeRequest(policy=Policy.BLOCK, buffer=1)) as slow:
            reading = asyncio.ensure_future(anext(slow))
            await turn()
            await held.send(b"".join(text(text_delta(letter)) for letter in "abcd"))
            await reading
            await eventually(lambda: len(stream) == 2)
            async with producer(gateway, "producer=p&generation=1"):
                messages, code = await held.read_ending()
                await eventually(lambda: len(gateway._connections) == 1)
                assert (messages[-1]["code"], code) == ("fenced", 4500)


@pytest.mark.hears(ProblemCode.GATEWAY_FAULT, CloseCode.GATEWAY_FAULT)
async def test_a_fault_of_the_gateway_is_1011_for_that_peer_alone(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, logs: list[dict[str, object]]
) -> None:
    def fail(_: Producer, payload: bytes, *, is_text: bool) -> None:
        raise RuntimeError(f"broken on purpose: {payload!r} {is_text}")

    async with consumer(gateway) as reading, producer(gateway) as writing:
        await reading.read_until("caught_up")
        with monkeypatch.context() as patch:
            patch.setattr(Producer, "receive", fail)
            await writing.say(text_delta("a"))
            problem = (await writing.read_all())[-1]
        assert (problem["code"], problem["retryable"], writing.code) == ("gateway_fault", True, 1011)
        assert "purpose" not in problem["message"]
        async with producer(gateway) as other:
            await publish(other, text_delta("b"), upto=1)
        assert text_of(await reading.read_until("text_delta")) == "b"
    assert [entry["log_level"] for entry in logs if entry["event"] == "connection.failed"] == ["error"]
