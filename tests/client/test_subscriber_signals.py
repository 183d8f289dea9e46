"""A subscriber's signals, and the answers to them."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from msgspec import UNSET
from websockets.asyncio.server import ServerConnection

from deltawire.gateway.client import NotDelivered
from deltawire.protocol.messages import Signal
from deltawire.protocol.position import Position
from tests.client.subscribing import Message, ending, event, events, seqs, subscribed, subscriber
from tests.support.fakes import FakeGateway, Script, cut, frames, stay, text


def answering_signals(before_answer: list[Message]) -> Script:
    """Answers each signal that two producers got it, after some other messages."""

    async def play(peer: ServerConnection) -> None:
        await peer.send(text(subscribed()))
        async for payload in peer:
            signal = msgspec.json.decode(payload, type=Signal)
            for message in before_answer:
                await peer.send(text(message))
            await peer.send(text({"type": "signal_result", "id": "of another", "delivered": 9}))
            await peer.send(text({"type": "signal_result", "id": signal.id, "delivered": 2}))

    return play


async def test_a_signal_returns_how_many_producers_got_it_and_keeps_the_events_that_came_meanwhile() -> None:
    async with FakeGateway(answering_signals(events(1, 40))) as gateway, subscriber(gateway) as source:
        assert await source.signal("cancel", {"why": "bored"}) == 2
        iterator = aiter(source)
        assert [(await anext(iterator)).seq for _ in range(40)] == list(range(1, 41))
        assert source.position == Position("e1", 40)


async def test_a_signal_works_while_another_task_reads() -> None:
    async with FakeGateway(answering_signals(events(1, 2))) as gateway, subscriber(gateway) as source:
        reader = asyncio.create_task(seqs(source))
        await asyncio.sleep(0)
        assert await source.signal("cancel") == 2
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader


async def test_a_signal_that_a_lost_connection_swallowed_is_not_delivered() -> None:
    async def swallow(peer: ServerConnection) -> None:
        await peer.send(text(subscribed()))
        await peer.recv()
        await cut(peer)

    async with (
        FakeGateway(swallow, frames(subscribed(), event(1), then=stay)) as gateway,
        subscriber(gateway) as source,
    ):
        with pytest.raises(NotDelivered):
            await source.signal("cancel")
        assert (await anext(aiter(source))).seq == 1


async def test_a_signal_after_the_end_is_not_delivered() -> None:
    async with FakeGateway(frames(subscribed(), then=ending(0))) as gateway, subscriber(gateway) as source:
        assert await seqs(source) == []
        with pytest.raises(NotDelivered):
            await source.signal("cancel")


@pytest.mark.parametrize(("name", "data", "reason"), [("", UNSET, "name"), ("cancel", object(), "object")])
async def test_a_signal_that_can_not_be_sent_is_a_value_error(name: str, data: object, reason: str) -> None:
    async with FakeGateway(frames(subscribed(), then=stay)) as gateway, subscriber(gateway) as source:
        with pytest.raises(ValueError, match=reason):
            await source.signal(name, data)


async def test_a_signal_that_the_end_of_the_stream_overtakes_is_not_delivered() -> None:
    async def end(peer: ServerConnection) -> None:
        await peer.send(text(subscribed()))
        await peer.recv()
        await ending(0)(peer)

    async with FakeGateway(end) as gateway, subscriber(gateway) as source:
        with pytest.raises(NotDelivered, match="ended before"):
            await source.signal("cancel")
        assert await seqs(source) == []
        assert source.ended is not None
