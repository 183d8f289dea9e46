"""The publisher against a scripted gateway that refuses, or speaks nonsense: who is told, and what is tried again."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Response

from deltawire.gateway.client import (
    EventRefused,
    Fenced,
    GatewayUnreachable,
    ProtocolFault,
    Publisher,
    Refused,
    StreamClosed,
    StreamFull,
)
from deltawire.gateway.client.backoff import Backoff
from deltawire.protocol.events import Data, Extension, TextDelta, Usage, make_event
from tests.client.publishing import numbers, problem, publisher, send_numbers
from tests.support.fakes import FakeGateway, FakeLog, NotingBackoff, Script, closing, frames, stay, text
from tests.support.waiting import DEADLINE


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (TextDelta(5), "Expected `str`"),  # type: ignore[arg-type]
        (TextDelta(object()), "unsupported"),  # type: ignore[arg-type]
        (TextDelta("half a pair: \ud83d"), "surrogates not allowed"),
        (Usage(1, 2, -3), "Expected `int` >= 0"),
        (Extension("p", "n", math.nan), "not finite"),
        (Extension("p", "n", object()), "no form for"),
        (Extension("p", "n", b"bytes"), "no form for"),
        (TextDelta("x" * 65_536), "the limit is 65536"),
    ],
)
async def test_what_the_gateway_would_refuse_is_refused_at_once(item: Data, reason: str) -> None:
    log = FakeLog()
    async with FakeGateway(log.serving()) as gateway, publisher(gateway) as target:
        with pytest.raises(EventRefused, match=reason):
            await target.send(item)
        await send_numbers(target, 1, 1)
        await target.flush()
    assert log.texts == ["1"]


async def test_an_event_with_a_place_in_another_stream_is_refused() -> None:
    relayed = make_event(TextDelta("x"))
    relayed.seq = 7
    async with FakeGateway(FakeLog().serving()) as gateway, publisher(gateway) as target:
        with pytest.raises(EventRefused, match="given by the gateway"):
            await target.send(relayed)


def refusing(log: FakeLog, code: str, refused: str) -> Script:
    """Refuses the event with one text; then serves as ever, holes included."""

    async def play(peer: ServerConnection) -> None:
        await peer.send(log.ready())
        async for payload in peer:
            decoded = msgspec.json.decode(payload)
            for event in decoded if isinstance(decoded, list) else [decoded]:
                if event["data"]["text"] == refused and event["producer_seq"] == log.last + 1:
                    await peer.send(problem(code, event["producer_seq"]))
                else:
                    await peer.send(log.take(msgspec.json.encode(event)) or "")

    return play


async def test_a_full_stream_is_told_to_the_send_it_happened_to_and_the_publisher_stays_usable() -> None:
    log = FakeLog()
    async with FakeGateway(refusing(log, "stream_full", "2")) as gateway:
        async with publisher(gateway, on_full="reject") as target:
            await send_numbers(target, 1, 1)
            with pytest.raises(StreamFull, match="stream_full"):
                await target.send(TextDelta("2"))
            await send_numbers(target, 3, 4)
        assert len(gateway.requests) == 1
        assert gateway.requests[0].endswith("&on_full=reject")
    assert log.texts == ["1", "3", "4"]


async def test_rejecting_sends_of_many_tasks_each_learn_their_own_fate() -> None:
    log = FakeLog()
    async with (
        FakeGateway(refusing(log, "stream_full", "2")) as gateway,
        publisher(gateway, on_full="reject") as target,
    ):
        sends = [target.send(TextDelta(number)) for number in numbers(1, 4)]
        fates = await asyncio.gather(*sends, return_exceptions=True)
    assert [type(fate) for fate in fates] == [type(None), StreamFull, type(None), type(None)]
    assert log.texts == ["1", "3", "4"]


async def test_an_event_refused_in_the_middle_of_many_is_dropped_alone_and_told_at_the_next_flush() -> None:
    log = FakeLog()
    scripts = [refusing(log, "invalid_event", "3") for _ in range(2)]
    async with FakeGateway(*scripts) as gateway, publisher(gateway) as target:
        await send_numbers(target, 1, 9)
        with pytest.raises(EventRefused, match="invalid_event"):
            await target.flush()
        await target.flush()
    assert log.texts == ["1", "2", "4", "5", "6", "7", "8", "9"]


async def test_each_refusal_of_many_events_is_progress() -> None:
    """Every one needs a new connection, where others were on their way behind it: together more than patience lasts."""
    backoff = NotingBackoff()
    log = FakeLog()

    async def refuse(peer: ServerConnection) -> None:
        await peer.send(log.ready())
        async for payload in peer:
            decoded = msgspec.json.decode(payload)
            for event in decoded if isinstance(decoded, list) else [decoded]:
                await peer.send(problem("invalid_event", event["producer_seq"]))

    async with (
        FakeGateway(*[refuse] * 9) as gateway,
        Publisher(gateway.url, "demo", backoff=backoff) as target,
    ):
        sends = [target.send(TextDelta(number)) for number in numbers(1, 9)]
        fates = await asyncio.gather(*sends, return_exceptions=True)
        refused = [fate for fate in fates if isinstance(fate, EventRefused)]
        while len(refused) < 9:
            with pytest.raises(EventRefused) as told:
                await target.flush()
            refused.append(told.value)
    assert set(backoff.attempts) == {0}


@pytest.mark.parametrize("code", ["sequence_gap", "invalid_event"])
async def test_a_refusal_that_fits_no_single_event_is_settled_on_a_new_connection(code: str) -> None:
    log = FakeLog()

    async def refuse_all(peer: ServerConnection) -> None:
        await peer.send(log.ready())
        await peer.recv()
        await peer.send(problem(code))
        await peer.wait_closed()

    async with FakeGateway(refuse_all, log.serving()) as gateway, publisher(gateway) as target:
        await send_numbers(target, 1, 9)
        await target.flush()
        assert len(gateway.requests) == 2
    assert log.texts == numbers(1, 9)


async def test_a_gateway_that_does_not_know_what_it_was_sent_is_a_fault() -> None:
    log = FakeLog()

    async def play(peer: ServerConnection) -> None:
        await peer.send(log.ready())
        await peer.recv()
        await peer.send(problem("unknown_message"))
        await peer.wait_closed()

    async with FakeGateway(play) as gateway:
        with pytest.raises(ProtocolFault, match="unknown_message!"):
            async with publisher(gateway) as target:
                await target.close_stream()


@pytest.mark.parametrize("item", ["x", None, {"type": "text_delta"}])
async def test_what_is_no_event_is_a_type_error_that_says_what_is_expected(item: Any) -> None:
    publisher = Publisher("ws://127.0.0.1:1", "demo")
    with pytest.raises(TypeError, match="expected data such as TextDelta, or an Event of it, got "):
        await publisher.send(item)


@pytest.mark.parametrize(("code", "kind"), [(4500, Fenced), (4501, StreamClosed), (4503, Refused), (1009, Refused)])
async def test_a_final_refusal_raises_from_send_and_flush_and_is_not_tried_again(
    code: int, kind: type[Refused]
) -> None:
    log = FakeLog()

    async def play(peer: ServerConnection) -> None:
        await peer.send(log.ready())
        await peer.recv()
        await peer.send(text({"type": "problem", "code": "final", "message": "that is it", "retryable": False}))
        await peer.close(code)

    async def publish(gateway: FakeGateway) -> None:
        async with publisher(gateway) as target:
            await target.send(TextDelta("1"))
            with pytest.raises(kind, match="that is it"):
                await target.flush()
            with pytest.raises(kind, match="that is it"):
                await target.send(TextDelta("2"))

    async with FakeGateway(play) as gateway:
        with pytest.raises(kind, match="that is it"):
            await publish(gateway)
        assert len(gateway.requests) == 1


async def test_a_refusal_at_the_door_raises_when_entering() -> None:
    async with FakeGateway(frames(then=closing(4501, "the stream is closed"))) as gateway:
        with pytest.raises(StreamClosed, match="the stream is closed"):
            async with publisher(gateway):
                pass


async def test_an_absent_gateway_is_one_clear_line() -> None:
    async with FakeGateway() as gateway:
        url = gateway.url
    with pytest.raises(GatewayUnreachable, match=f"^no gateway at {url}: connection refused$"):
        async with Publisher(url, "demo", retry_for=0):
            pass


async def test_a_busy_gateway_is_asked_again_and_the_program_is_told() -> None:
    told: list[str] = []
    log, busy = FakeLog(), Response(503, "Service Unavailable", Headers(), b"")
    async with (
        FakeGateway(busy, log.serving(1), log.serving()) as gateway,
        publisher(gateway, on_reconnect=lambda reason, _: told.append(reason)) as target,
    ):
        await send_numbers(target, 1, 1)
        await target.flush()
        await send_numbers(target, 2, 2)
    assert told == ["HTTP 503: Service Unavailable", "the connection was lost"]


async def test_an_event_that_breaks_the_gateway_each_time_is_given_up() -> None:
    log = FakeLog()

    async def fall(peer: ServerConnection) -> None:
        await peer.send(log.ready())
        await peer.recv()
        await peer.close(1011, "oops")

    async with FakeGateway(fall) as gateway:
        with pytest.raises(GatewayUnreachable, match="closed with 1011: oops"):
            async with publisher(gateway, retry_for=0) as target:
                await target.send(TextDelta("1"))


async def test_waits_grow_while_the_gateway_is_ready_but_takes_nothing() -> None:
    delays: list[float] = []
    log = FakeLog()

    async def fall(peer: ServerConnection) -> None:
        await peer.send(log.ready())
        await peer.recv()
        await peer.close(1011, "oops")

    async with FakeGateway(fall, fall, fall, log.serving(1), log.serving()) as gateway:
        patient = Backoff(initial=0.0001, longest=1)
        target = Publisher(gateway.url, "demo", backoff=patient, on_reconnect=lambda _, delay: delays.append(delay))
        async with target:
            await send_numbers(target, 1, 1)
            await target.flush()
            await send_numbers(target, 2, 2)
    for delay, longest in zip(delays, (0.0001, 0.0002, 0.0004, 0.0001), strict=True):
        assert longest / 10 <= delay <= longest
    assert log.texts == numbers(1, 2)


async def test_an_acked_event_nobody_sent_is_a_fault() -> None:
    log = FakeLog()
    ack = {"type": "ack", "seq": 9, "producer_seq": 9}
    async with FakeGateway(frames(msgspec.json.decode(log.ready()), ack, then=stay)) as gateway:
        with pytest.raises(ProtocolFault, match="same producer id"):
            async with publisher(gateway) as target:
                await asyncio.wait_for(target.close_stream(), DEADLINE)


@pytest.mark.parametrize("payload", ["", "nonsense", '{"type":"ready"}'])
async def test_what_is_no_message_is_a_fault(payload: str) -> None:
    async def play(peer: ServerConnection) -> None:
        await peer.send(payload)
        await peer.wait_closed()

    async with FakeGateway(play) as gateway:
        with pytest.raises(ProtocolFault, match="an invalid message"):
            async with publisher(gateway):
                pass
