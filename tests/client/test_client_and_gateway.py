"""The clients with the real gateway: cuts, a restart, several readers, refusals."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from deltawire.gateway.client import (
    EventRefused,
    Fenced,
    Publisher,
    Refused,
    StreamClosed,
    StreamFull,
    StreamNotFound,
    Subscriber,
)
from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.codec import JSON, MSGPACK, Codec
from deltawire.protocol.events import (
    ContentStart,
    Data,
    Event,
    EventType,
    Extension,
    MessageStart,
    MessageStop,
    TextDelta,
    TextDeltaEvent,
    Usage,
)
from deltawire.protocol.messages import Gap, Policy, Problem
from deltawire.protocol.position import Position
from tests.support.fakes import AT_ONCE
from tests.support.waiting import DEADLINE


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway(Settings(port=0)) as running:
        yield running


def publisher(gateway: Gateway, **arguments: Any) -> Publisher:
    return Publisher(gateway.url, "demo", backoff=AT_ONCE, **arguments)


def subscriber(gateway: Gateway, **arguments: Any) -> Subscriber:
    return Subscriber(gateway.url, "demo", backoff=AT_ONCE, **arguments)


async def read_text(source: Subscriber) -> str:
    async with source:
        return "".join([item.data.text async for item in source if isinstance(item, Event)])


async def publish_text(target: Publisher, words: list[str]) -> None:
    async with target:
        for word in words:
            await target.send(TextDelta(word))
        await target.close_stream()


WORDS = [f"{number} " for number in range(300)]


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
async def test_live_late_and_unfolded_readers_read_the_same_text(gateway: Gateway, codec: Codec) -> None:
    live = asyncio.create_task(read_text(subscriber(gateway, codec=codec)))
    blocking = asyncio.create_task(read_text(subscriber(gateway, codec=codec, policy=Policy.BLOCK, buffer=5)))
    await publish_text(publisher(gateway, codec=codec), WORDS)
    late = await read_text(subscriber(gateway, codec=codec))
    assert {await live, await blocking, late} == {"".join(WORDS)}


@pytest.mark.parametrize(
    "asked", [{"policy": Policy.BLOCK}, {"policy": Policy.COALESCE, "buffer": 1}, {"interval": 1}], ids=str
)
async def test_cut_again_and_again_every_event_is_read_once(gateway: Gateway, asked: dict[str, Any]) -> None:
    reader = asyncio.create_task(read_text(subscriber(gateway, retry_for=None, **asked)))
    cuts = 0
    async with publisher(gateway, window=20, retry_for=None) as target:
        for number, word in enumerate(WORDS):
            await target.send(TextDelta(word))
            if number % 25 == 7:
                gateway.abort()
                cuts += 1
        await target.close_stream()
    assert cuts == 12
    assert await reader == "".join(WORDS)


async def test_both_survive_a_restart_of_the_gateway_and_the_reader_is_told_what_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deltawire.gateway.client.connection.retry_after", lambda _: 0.0)  # a drain says 1 to 5 s
    told: list[str] = []
    items: list[Event | Gap] = []
    five = asyncio.Event()

    async def read(source: Subscriber) -> None:
        async with source:
            async for item in source:
                items.append(item)
                if item.seq == 5:
                    five.set()

    async with Gateway(Settings(port=0)) as before:
        port = before.port
        reader = asyncio.create_task(read(subscriber(before, policy=Policy.BLOCK)))
        target = publisher(before, on_reconnect=lambda reason, _: told.append(reason))
        await target.__aenter__()
        for number in range(1, 6):
            await target.send(TextDelta(str(number)))
        await five.wait()
        epoch = target.epoch
    async with Gateway(Settings(port=port)):
        for number in range(6, 11):
            await target.send(TextDelta(str(number)))
        await target.close_stream()
        await target.__aexit__(None, None, None)
        await reader
    texts = [item.data.text if isinstance(item, Event) else item.reason for item in items]
    assert texts == [*"12345", "epoch_changed", "6", "7", "8", "9", "10"]
    assert target.epoch != epoch
    assert told[0].startswith("closed with 1001")


async def test_resuming_from_a_kept_position_gives_exactly_what_is_missing(gateway: Gateway) -> None:
    await publish_text(publisher(gateway), ["a", "b", "c", "d"])
    async with subscriber(gateway, policy=Policy.BLOCK) as source:
        async for item in source:
            if item.seq == 2:
                break
        position = source.position
    assert position is not None
    assert position.seq == 2
    assert await read_text(subscriber(gateway, position=position)) == "cd"


async def test_a_reader_of_some_types_sees_only_those(gateway: Gateway) -> None:
    async with publisher(gateway) as target:
        for data in (MessageStart("m"), TextDelta("x"), Usage(1, 2, 3), MessageStop("m", "end_turn")):
            await target.send(data)
        await target.close_stream()
    async with subscriber(gateway, types=[EventType.USAGE]) as source:
        assert [item.data async for item in source if isinstance(item, Event)] == [Usage(1, 2, 3)]
        assert source.position is not None
        assert source.position.seq == 4


async def test_a_reader_of_some_blocks_sees_only_those(gateway: Gateway) -> None:
    wanted: list[Data] = [
        ContentStart(2, kind="refusal", choice=1),
        TextDelta("a", 2, 1, "refusal"),
        Extension("q", "n", 1),
    ]
    others: list[Data] = [TextDelta("b"), ContentStart(2, choice=1, kind="text"), Extension("p", "m", 1)]
    async with publisher(gateway) as target:
        for data in (*wanted, *others):
            await target.send(data)
        await target.close_stream()
    asked: dict[str, Any] = {"index": [2], "choice": [1], "kind": ["refusal"], "extension": ["p/n", "q"]}
    async with subscriber(gateway, **asked) as source:
        assert [item.data async for item in source if isinstance(item, Event)] == wanted
        assert source.position is not None
        assert source.position.seq == 6


async def test_a_signal_reaches_the_publisher_and_the_audience_is_known(gateway: Gateway) -> None:
    async with publisher(gateway) as target, subscriber(gateway) as source:
        assert await source.signal("cancel", {"by": "a test"}) == 1
        signal = await anext(aiter(target.signals()))
        assert (signal.name, signal.data) == ("cancel", {"by": "a test"})


async def test_a_newer_generation_takes_over(gateway: Gateway) -> None:
    async with publisher(gateway, producer="proxy") as old:
        await old.send(TextDelta("old"))
        await old.flush()
        async with publisher(gateway, producer="proxy", generation=1) as new:
            await new.send(TextDelta("new"))
            await new.close_stream()
        with pytest.raises(Fenced, match="newer generation"):
            await asyncio.wait_for(_send_until_refused(old), DEADLINE)
    assert await read_text(subscriber(gateway)) == "oldnew"


async def test_a_full_stream_is_told_to_a_publisher_that_does_not_wait(gateway: Gateway) -> None:
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    small.setblocking(False)
    await asyncio.get_running_loop().sock_connect(small, ("127.0.0.1", gateway.port))
    target = f"{gateway.url}/v1/streams/demo/subscribe?policy=block&buffer=1"
    async with connect(target, sock=small, max_queue=1, close_timeout=0) as stalled:
        assert b"subscribed" in await stalled.recv(decode=False)
        assert b"caught_up" in await stalled.recv(decode=False)
        async with publisher(gateway, on_full="reject") as producer:
            with pytest.raises(StreamFull):
                await asyncio.wait_for(_send_until_refused(producer, "x" * 60_000), DEADLINE)
            accepted = producer.acked
            stalled.transport.abort()
            await stalled.wait_closed()
            await _send_when_there_is_room(producer)
            assert producer.acked == accepted + 1
            await producer.close_stream()
    assert len(await read_text(subscriber(gateway))) == accepted * 60_000 + 1


async def _send_when_there_is_room(target: Publisher) -> None:
    async with asyncio.timeout(DEADLINE):
        while True:
            with suppress(StreamFull):
                return await target.send(TextDelta("!"))


async def test_a_closed_stream_takes_no_events(gateway: Gateway) -> None:
    await publish_text(publisher(gateway), ["x"])

    async def publish() -> None:
        async with publisher(gateway) as target:
            await _send_until_refused(target)

    with pytest.raises(StreamClosed, match="closed"):
        await asyncio.wait_for(publish(), DEADLINE)


async def _send_until_refused(target: Publisher, text: str = "?") -> None:
    while True:
        await target.send(TextDelta(text))
        await target.flush()


async def test_a_stream_that_is_not_there_is_not_made_where_none_is_to_be(gateway: Gateway) -> None:
    with pytest.raises(StreamNotFound, match="no stream 'demo'"):
        async with Subscriber(gateway.url, "demo", create=False):
            pass
    assert gateway.hub.count() == 0


async def test_a_position_ahead_of_the_stream_is_refused(gateway: Gateway) -> None:
    with pytest.raises(Refused, match="beyond the head") as caught:
        await read_text(subscriber(gateway, position=Position("", 99)))
    assert caught.value.code == 4504


async def test_arrays_too_big_for_this_gateway_lose_only_the_event_that_is_too_big_by_itself() -> None:
    words = [*WORDS, "x" * 2000, *WORDS]
    async with Gateway(Settings(port=0, max_message=1024)) as small:
        async with publisher(small) as target:
            for word in words:
                await target.send(TextDelta(word))
            with pytest.raises(EventRefused, match="over max_message"):
                await target.flush()
            await target.close_stream()
        assert await read_text(subscriber(small)) == "".join([*WORDS, *WORDS])


async def test_an_event_too_big_for_this_gateway_ends_nothing_when_the_publisher_knows_the_limit() -> None:
    async with Gateway(Settings(port=0, max_message=1024)) as small:
        async with publisher(small, max_message=1024) as target:
            with pytest.raises(EventRefused, match="the limit is 1024"):
                await target.send(TextDelta("x" * 1024))
            for word in WORDS:
                await target.send(TextDelta(word))
            await target.close_stream()
        assert await read_text(subscriber(small)) == "".join(WORDS)


async def test_a_restarted_producer_is_not_given_acks_for_what_its_predecessor_had_on_the_way(gateway: Gateway) -> None:
    async with connect(f"{gateway.url}/v1/streams/demo/publish?producer=p", proxy=None) as predecessor:
        await predecessor.recv()
        async with publisher(gateway, producer="p") as successor:
            late = [TextDeltaEvent(data=TextDelta("late"), producer_seq=number) for number in (1, 2)]
            await predecessor.send(JSON.encode(late), text=True)
            with suppress(ConnectionClosed):
                while True:
                    answer = JSON.decode_to_producer(await predecessor.recv(decode=False))
            assert isinstance(answer, Problem)
            assert (answer.code, predecessor.close_code) == ("fenced", 4500)
            await successor.send(TextDelta("mine"))
            await successor.close_stream()
    assert await read_text(subscriber(gateway)) == "mine"


async def test_a_refusal_says_which_event_it_is_about_though_the_gateway_could_not_read_that() -> None:
    async with Gateway(Settings(port=0, max_message=1024)) as small, Publisher(small.url, "demo") as publisher:
        await publisher.send(TextDelta(text="a"))
        await publisher.flush()
        await publisher.send(TextDelta(text="b" * 2000))
        with pytest.raises(EventRefused) as refused:
            await publisher.flush()
        assert refused.value.problem.producer_seq == 2
