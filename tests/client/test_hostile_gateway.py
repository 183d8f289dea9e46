"""A gateway that means harm: no client hangs, grows without bound or fails with what is no error of its own."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Response

from deltawire.gateway.client import GatewayUnreachable, NotDelivered, ProtocolFault, Publisher, Refused, Subscriber
from deltawire.gateway.client import connection as connections
from deltawire.gateway.client import subscriber as subscribers
from deltawire.protocol.events import TextDelta
from tests.client.publishing import publisher
from tests.client.subscribing import event, subscribed, subscriber
from tests.support.fakes import FakeGateway, FakeLog, Script, closing, frames, stay, text
from tests.support.waiting import eventually

DEEP = b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}"
REFUSALS = {
    "a status nobody knows": Response(599, "", Headers()),
    "a status of nginx": Response(499, "", Headers()),
    "a body that is deep": Response(HTTPStatus.FORBIDDEN, "Forbidden", Headers(), DEEP),
    "a redirect to TLS": Response(HTTPStatus.FOUND, "Found", Headers(Location="wss://127.0.0.1:1/")),
    "a redirect to a port that is none": Response(HTTPStatus.FOUND, "Found", Headers(Location="ws://127.0.0.1:99999/")),
    "a redirect to a host that is none": Response(HTTPStatus.FOUND, "Found", Headers(Location="ws://[zz/")),
    "a redirect to itself": Response(HTTPStatus.FOUND, "Found", Headers(Location="/v1/streams/demo/subscribe")),
}


async def follow(gateway: FakeGateway) -> None:
    async with subscriber(gateway) as events:
        async for _ in events:
            pass


async def publish(gateway: FakeGateway) -> None:
    async with publisher(gateway) as target:
        await target.wait_ended()


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("client", [follow, publish])
async def test_any_refusal_is_told(client: Any, refusal: str) -> None:
    async with FakeGateway(*[REFUSALS[refusal]] * 3) as gateway:
        with pytest.raises(Refused):
            await client(gateway)
        assert len(gateway.requests) == 1


@pytest.mark.parametrize(
    ("status", "hint"), [(HTTPStatus.UPGRADE_REQUIRED, "Upgrade"), (HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP/1.0")]
)
async def test_what_only_a_proxy_can_have_done_is_said_of_the_proxy(status: HTTPStatus, hint: str) -> None:
    async with FakeGateway(Response(status, status.phrase, Headers())) as gateway:
        with pytest.raises(Refused, match=f"proxy.*{hint}"):
            await follow(gateway)


def writing(data: bytes, times: int) -> Script:
    """A script that greets, then writes the same bytes so many times, and reads nothing."""

    async def play(peer: ServerConnection) -> None:
        assert peer.request is not None
        await peer.send(FakeLog().ready() if "publish" in peer.request.path else text(subscribed()))
        peer.transport.pause_reading()
        with suppress(ConnectionError):
            for _ in range(times):
                if peer.transport.is_closing():
                    return
                peer.transport.write(data)
                await peer.drain()
                await asyncio.sleep(0)
            peer.transport.resume_reading()
            await peer.wait_closed()

    return play


async def test_pings_whose_answers_are_not_read_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_UNSENT", 64 * 1024)
    async with FakeGateway(writing((b"\x89\x7d" + b"p" * 125) * 500, 1_000)) as gateway, asyncio.timeout(20):
        with pytest.raises(Refused, match="404"):  # it connected anew
            await follow(gateway)


@pytest.mark.parametrize("client", [follow, publish])
async def test_fragments_without_end_are_a_fault_of_the_gateway(client: Any) -> None:
    async with FakeGateway(writing(b"\x01\x00" + b"\x00\x00" * 10_000, 1)) as gateway:
        with pytest.raises(ProtocolFault, match="fragments"):
            await client(gateway)


def deaf(until: asyncio.Event) -> Script:
    """A script that says it is ready, then reads nothing until it is told to hang up."""

    async def play(peer: ServerConnection) -> None:
        await peer.send(FakeLog().ready())
        peer.transport.pause_reading()
        await until.wait()
        peer.transport.abort()

    return play


async def send_much(target: Publisher) -> None:
    for _ in range(500):  # 25 MB: more than both kernels' buffers
        await target.send(TextDelta("x" * 50_000))


async def test_a_gateway_that_takes_nothing_any_more_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    over = asyncio.Event()
    monkeypatch.setattr(connections, "SEND_TIMEOUT", 0.2)
    monkeypatch.setattr(connections, "CLOSE_TIMEOUT", 0.1)

    async def publish_much(gateway: FakeGateway) -> None:
        async with publisher(gateway, retry_for=0.1) as target:
            await send_much(target)
            await target.flush()

    async with FakeGateway(*[deaf(over)] * 3) as gateway:
        async with asyncio.timeout(10):
            with pytest.raises((GatewayUnreachable, Refused)):
                await publish_much(gateway)
        over.set()


async def test_leaving_a_gateway_that_takes_nothing_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    over = asyncio.Event()
    monkeypatch.setattr(connections, "CLOSE_TIMEOUT", 0.1)

    async def leave(gateway: FakeGateway) -> None:
        async with publisher(gateway) as target:
            await send_much(target)
            await eventually(lambda: target._session.window.in_flight, "that its writer has begun")
            raise ZeroDivisionError

    async with FakeGateway(deaf(over)) as gateway:
        async with asyncio.timeout(5):
            with pytest.raises(ZeroDivisionError):
                await leave(gateway)
        over.set()


async def test_what_comes_before_the_answer_to_a_signal_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscribers, "MAX_KEPT", 100_000)
    talk = [event(seq) for seq in range(1, 1000)]
    async with FakeGateway(frames(subscribed(), *talk, then=stay)) as gateway, subscriber(gateway) as events:
        with pytest.raises(NotDelivered, match="too much came"):
            await events.signal("cancel")
        assert [(await anext(events)).seq for _ in range(200)] == list(range(1, 201))


FLOODS = {
    "gaps that stand still": {"type": "gap", "first": 1, "seq": 0, "reason": "dropped"},
    "caught_up": {"type": "caught_up", "seq": 2**53 - 1},
    "subscribed": subscribed(after=5),
    "problems": {"type": "problem", "code": "overloaded", "message": "m", "retryable": True},
    "results": {"type": "signal_result", "delivered": 1, "id": "nobody's"},
    "what nobody knows": {"type": "news"},
    "the same event": event(1),
}


async def read_on(events: Subscriber, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await anext(events)


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_of_what_changes_nothing_leaves_the_reader_its_place_and_its_timeouts(flood: str) -> None:
    script = frames(subscribed(), event(1), *[FLOODS[flood]] * 2000, event(2), then=stay)
    async with FakeGateway(script) as gateway, subscriber(gateway) as events:
        assert [(await anext(events)).seq for _ in range(2)] == [1, 2]
        with pytest.raises(TimeoutError):
            await read_on(events, 0.05)


BROKEN = {
    "a frame that begins before": event(5, first=1),
    "a hole": event(9),
    "a gap that overlaps": {"type": "gap", "first": 1, "seq": 9, "reason": "dropped"},
    "a gap behind a hole": {"type": "gap", "first": 8, "seq": 9, "reason": "dropped"},
    "a seq too large": event(2**53),
    "a seq below zero": event(-1),
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_numbers_that_can_not_be_are_a_fault_of_the_gateway(broken: str) -> None:
    async with FakeGateway(frames(subscribed(), event(1), event(2), BROKEN[broken], then=stay)) as gateway:
        with pytest.raises(ProtocolFault):
            await follow(gateway)


REFUSED_UNSENT = {"type": "problem", "code": "invalid_event", "message": "no", "retryable": False, "producer_seq": 7}
ACKS = {
    "more than was sent": {"type": "ack", "seq": 9, "producer_seq": 9},
    "as many as there can be": {"type": "ack", "seq": 1, "producer_seq": 2**53 - 1},
    "none": {"type": "ack", "seq": 1, "producer_seq": 0},
    "less than none": {"type": "ack", "seq": 1, "producer_seq": -1},
    "too many to count": {"type": "ack", "seq": 1, "producer_seq": 2**64},
    "a refusal of what was not sent": REFUSED_UNSENT,
}


@pytest.mark.parametrize("ack", ACKS)
async def test_acks_of_what_was_never_sent_are_a_fault_of_the_gateway(ack: str) -> None:
    async def play(peer: ServerConnection) -> None:
        await peer.send(FakeLog().ready())
        await peer.recv()
        await peer.send(text(ACKS[ack]))
        await peer.wait_closed()

    async def publish_one(gateway: FakeGateway) -> None:
        async with publisher(gateway) as target:
            await target.send(TextDelta("a"))
            await target.flush()

    async with FakeGateway(play) as gateway:
        with pytest.raises(ProtocolFault):
            await publish_one(gateway)


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 3000, 3999, 4500, 4999])
@pytest.mark.parametrize("client", [follow, publish])
async def test_codes_that_say_no_are_asked_once(client: Any, code: int) -> None:
    hello = FakeLog().ready if client is publish else lambda: text(subscribed())

    async def play(peer: ServerConnection) -> None:
        await peer.send(hello())
        await closing(code)(peer)

    async with FakeGateway(play, play) as gateway:
        with pytest.raises(Refused, match=str(code)):
            await client(gateway)
        assert len(gateway.requests) == 1
