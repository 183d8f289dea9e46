"""The subscriber against a scripted gateway that refuses, or speaks nonsense: what is tried again, and for how long."""

from __future__ import annotations

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Response

from deltawire.gateway.client import GatewayUnreachable, ProtocolFault, Refused, Subscriber
from deltawire.gateway.client.backoff import Backoff
from deltawire.protocol.messages import Problem
from deltawire.protocol.position import Position
from tests.client.subscribing import ending, event, seqs, subscribed, subscriber
from tests.support.fakes import FakeGateway, closing, cut, frames, stay, text


async def test_an_absent_gateway_is_one_clear_line() -> None:
    async with FakeGateway() as gateway:
        url = gateway.url
    with pytest.raises(GatewayUnreachable, match=f"^no gateway at {url}: connection refused$"):
        async with Subscriber(url, "demo", retry_for=0):
            pass


async def test_a_gateway_that_is_busy_is_asked_again_and_the_program_is_told() -> None:
    told: list[tuple[str, float]] = []
    busy = Response(503, "Service Unavailable", Headers(), b'{"detail":"the gateway is full"}')
    limited = Response(429, "Too Many Requests", Headers(), b"")
    async with (
        FakeGateway(busy, limited, frames(subscribed(), then=ending(0))) as gateway,
        subscriber(gateway, on_reconnect=lambda reason, delay: told.append((reason, delay))) as source,
    ):
        assert await seqs(source) == []
    assert told == [("HTTP 503: the gateway is full", 0), ("HTTP 429: Too Many Requests", 0)]


async def test_a_refusal_before_the_upgrade_is_not_tried_again() -> None:
    denied = Response(403, "Forbidden", Headers(), b'{"detail":"not your stream"}')
    async with FakeGateway(denied) as gateway:
        with pytest.raises(Refused, match="not your stream") as caught:
            async with subscriber(gateway):
                pass
        assert caught.value.code == 403
        assert len(gateway.requests) == 1


async def test_a_refusal_in_band_is_not_tried_again_and_carries_the_problem() -> None:
    told = {"type": "problem", "code": "position_ahead", "message": "9 is beyond the head", "retryable": False}
    async with FakeGateway(frames(told, then=closing(4504))) as gateway:
        with pytest.raises(Refused, match="9 is beyond the head") as caught:
            async with subscriber(gateway, position=Position("e1", 9)):
                pass
        assert caught.value.code == 4504
        assert isinstance(caught.value.problem, Problem)
        assert len(gateway.requests) == 1


async def test_a_refusal_in_the_middle_raises_from_the_iteration() -> None:
    script = frames(subscribed(), event(1), then=closing(4503, "forbidden"))
    async with FakeGateway(script) as gateway, subscriber(gateway) as source:
        iterator = aiter(source)
        assert (await anext(iterator)).seq == 1
        with pytest.raises(Refused, match="forbidden"):
            await anext(iterator)


async def test_a_gateway_that_accepts_and_closes_for_ever_is_given_up() -> None:
    overloaded = {"type": "problem", "code": "overloaded", "message": "too much to hold", "retryable": True}
    async with FakeGateway(frames(overloaded, then=closing(4003))) as gateway:
        says = f"^the gateway at {gateway.url} can't serve this now: closed with 4003: too much to hold$"
        with pytest.raises(GatewayUnreachable, match=says):
            async with subscriber(gateway, retry_for=0):
                pass


@pytest.mark.parametrize(
    "payload", ["", "not json", '{"type":"text_delta"}', '{"type":"text_delta","seq":1,"data":{"text":5}}', "[]"]
)
async def test_what_is_no_message_is_a_fault_of_the_gateway(payload: str) -> None:
    async def play(peer: ServerConnection) -> None:
        await peer.send(text(subscribed()))
        await peer.send(payload)
        await peer.wait_closed()

    async with FakeGateway(play) as gateway, subscriber(gateway) as source:
        with pytest.raises(ProtocolFault, match="an invalid message"):
            await seqs(source)


async def test_waits_grow_until_something_is_delivered() -> None:
    delays: list[float] = []
    nothing, something = frames(subscribed(), then=cut), frames(subscribed(), event(1), then=cut)
    scripts = [nothing, nothing, nothing, something, frames(subscribed(1), then=ending(1))]
    async with FakeGateway(*scripts) as gateway:
        patient = Backoff(initial=0.0001, longest=1)
        source = Subscriber(gateway.url, "demo", backoff=patient, on_reconnect=lambda _, delay: delays.append(delay))
        async with source:
            assert await seqs(source) == [1]
    for delay, longest in zip(delays, (0.0001, 0.0002, 0.0004, 0.0001), strict=True):
        assert longest / 10 <= delay <= longest


async def test_a_refusal_says_when_to_ask_again() -> None:
    delays: list[float] = []
    busy = Response(503, "Service Unavailable", Headers({"Retry-After": "3"}), b"")

    def give_up(_: str, delay: float) -> None:
        delays.append(delay)
        raise EOFError

    async with FakeGateway(busy) as gateway:
        with pytest.raises(EOFError):
            await subscriber(gateway, on_reconnect=give_up).__aenter__()
    assert 3 <= delays[0] <= 4.5


async def test_a_server_that_speaks_another_protocol_is_a_fault() -> None:
    async with FakeGateway(stay, subprotocols=()) as gateway:
        with pytest.raises(ProtocolFault, match="does not speak deltawire"):
            async with subscriber(gateway):
                pass
