"""Floods: what one peer may send, over real sockets; a flooder is told so and closed, its neighbours notice nothing."""

from __future__ import annotations

import asyncio

import pytest

from deltawire.gateway.server import Gateway
from deltawire.gateway.server.accepting.rate import MIN_BURST, SCRAP, FloodGuard
from deltawire.protocol.codes import CloseCode, ProblemCode
from tests.server.conftest import StartGateway
from tests.support.peers import consumer, producer, publish, text_delta
from tests.support.rawpeer import PING, PONG, TEXT, RawPeer, frame, raw_peer, text
from tests.support.waiting import DEADLINE, eventually

SIDES = {"subscribe": "caught_up", "publish": "ready"}


def scrap(payload: bytes = b"") -> bytes:
    return frame(0, payload, first=0x00)


async def ending(it: RawPeer) -> tuple[str, int | None]:
    """The last problem's message, and the close code."""
    messages, code = await it.read_ending()
    assert messages[-1]["code"] == "rate_limited"
    assert messages[-1]["retryable"] is True
    return messages[-1]["message"], code


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    "flood",
    [frame(PING) * 10_000, frame(PONG, b"x" * 125) * 10_000, frame(0, first=TEXT) + scrap() * 10_000],
    ids=["pings", "pongs", "fragments"],
)
async def test_frames_that_say_nothing_are_bounded_and_neighbours_unharmed(
    gateway: Gateway, side: str, flood: bytes
) -> None:
    async with (
        consumer(gateway, stream="other") as reader,
        producer(gateway, stream="other") as writing,
        raw_peer(gateway.port, f"/v1/streams/demo/{side}") as it,
    ):
        await it.read_until(SIDES[side])
        await it.send(flood)
        why, code = await ending(it)
        assert (code, "(control_rate)" in why) == (4002, True)
        await publish(writing, *[text_delta("x")] * 20, upto=20)
        assert (await reader.read_until("text_delta", seq=20))[-1]["seq"] == 20
        await eventually(lambda: len(gateway._accepted) == 2, "that the flooder is gone")


async def test_pings_below_the_rate_are_answered(gateway: Gateway) -> None:
    async with raw_peer(gateway.port, "/v1/streams/demo/subscribe") as it:
        await it.read_until("caught_up")
        await it.send(frame(PING, b"?") * 150)
        for _ in range(150):
            assert await it.read_frame() == (PONG, b"?")


async def test_pongs_to_a_peer_that_does_not_read_do_not_pile_up(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(control_rate=1e9)
    async with raw_peer(gateway.port, "/v1/streams/demo/publish", 4096) as it:
        await it.read_until("ready")
        [connection] = gateway._connections
        flooding = asyncio.create_task(it.send(frame(PING, b"x" * 125) * 100_000))
        await eventually(lambda: connection._reading_held_by, "that the gateway reads no more")
        assert connection.transport.get_write_buffer_size() < 512 * 1024, "the pongs of what was read at once"
        assert not flooding.done(), "the rest is the flooder's to keep"
        flooding.cancel()


@pytest.mark.hears(ProblemCode.RATE_LIMITED, CloseCode.RATE_LIMITED)
async def test_more_messages_than_the_rate_end_the_producer_and_nobody_else(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(message_rate=1.0)
    async with (
        consumer(gateway, stream="other") as reader,
        producer(gateway, stream="other") as writing,
        raw_peer(gateway.port, "/v1/streams/demo/publish") as it,
    ):
        await it.read_until("ready")
        await it.send(text(text_delta("x")) * 10_000)
        why, code = await ending(it)
        assert (code, "(message_rate)" in why) == (4002, True)
        await publish(writing, *[text_delta("x")] * 20, upto=20)
        assert (await reader.read_until("text_delta", seq=20))[-1]["seq"] == 20
    head = gateway.hub.info("demo").head
    assert 0 < head <= MIN_BURST + 2 * DEADLINE, "what was within the rate was appended"


async def test_a_producer_that_was_ended_for_a_flood_may_come_again(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(message_rate=1.0)
    async with raw_peer(gateway.port, "/v1/streams/demo/publish") as it:
        await it.send(text(text_delta("x")) * 10_000)
        await ending(it)
    async with producer(gateway) as writing:
        await publish(writing, text_delta("again"), upto=1)
    await eventually(lambda: gateway._limits.is_unused)


async def test_no_rate_is_no_limit(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(message_rate=0.0)
    async with producer(gateway) as writing:
        await publish(writing, *[text_delta("x")] * 6_000, upto=6_000)


# On literal times


def test_messages_are_judged_over_time_and_all_that_was_on_the_way_is_let_through() -> None:
    access = FloodGuard(1_000.0, 100.0, now=0.0)
    assert access.judge_messages(MIN_BURST, 0.0) == ""
    assert "1000 messages a second (message_rate)" in access.judge_messages(300, 0.0)
    assert access.judge_messages(900, 1.0) == ""
    for second in range(2, 20):
        assert access.judge_messages(1_000, float(second)) == ""


def test_long_pieces_of_a_message_and_its_last_one_are_no_scraps() -> None:
    access = FloodGuard(0.0, 1.0, now=0.0)
    for _ in range(1_000):
        assert access.judge_other(b"\x00" + b"x" * SCRAP, 0.0) == ""
        assert access.judge_other(b"\x80x", 0.0) == ""
    assert [bool(access.judge_other(b"\x89", 0.0)) for _ in range(3)] == [False, False, True]
    assert "(control_rate)" in access.judge_other(b"\x00x", 0.0)
    assert access.judge_other(b"\x89", 1.0) == ""
