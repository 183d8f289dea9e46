"""The subscriber against a scripted gateway: each event once, whatever happens to the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from deltawire.gateway.client import ProtocolFault, Subscriber, connection
from deltawire.gateway.client.frames import Frame
from deltawire.protocol.codec import MSGPACK
from deltawire.protocol.events import Event, EventType
from deltawire.protocol.messages import CaughtUp, Gap, StreamEnd
from deltawire.protocol.position import Position
from tests.client.subscribing import ending, event, events, seqs, subscribed, subscriber
from tests.support.fakes import FakeGateway, NotingBackoff, Script, closing, cut, frames, stay, text
from tests.support.soaking import lasting


async def test_a_whole_stream_is_read_to_its_end() -> None:
    async with FakeGateway(frames(subscribed(), *events(1, 3), then=ending(3))) as gateway:
        async with subscriber(gateway) as source:
            assert source.subscribed is not None
            assert source.subscribed.epoch == "e1"
            assert await seqs(source) == [1, 2, 3]
            assert source.position == Position("e1", 3)
            assert source.ended == StreamEnd(seq=3, reason="closed")
            assert await seqs(source) == [], "the stream ended, so iterating again ends at once"
        assert len(gateway.requests) == 1


@pytest.mark.parametrize("end", [cut, closing(1001), closing(4000), closing(1011), closing(1000)])
async def test_a_connection_that_ends_before_the_stream_is_resumed(end: Script) -> None:
    first = frames(subscribed(), *events(1, 2), then=end)
    second = frames(subscribed(2), *events(3, 4), then=ending(4))
    async with FakeGateway(first, second) as gateway, subscriber(gateway) as source:
        assert await seqs(source) == [1, 2, 3, 4]
        assert gateway.requests[1] == "/v1/streams/demo/subscribe?after=2&epoch=e1"


async def test_what_comes_twice_is_yielded_once() -> None:
    first = frames(subscribed(), *events(1, 3), then=cut)
    second = frames(subscribed(1), *events(2, 4), then=ending(4))
    async with FakeGateway(first, second) as gateway, subscriber(gateway) as source:
        assert await seqs(source) == [1, 2, 3, 4]


async def test_a_position_that_has_moved_is_progress_and_what_comes_twice_is_none() -> None:
    backoff = NotingBackoff()
    moving = [frames(subscribed(after), event(after + 1), then=cut) for after in range(5)]
    stuck = [frames(subscribed(4), event(5), then=cut) for _ in range(3)]
    async with (
        FakeGateway(*moving, *stuck, frames(subscribed(5), then=ending(5))) as gateway,
        Subscriber(gateway.url, "demo", backoff=backoff) as source,
    ):
        assert await seqs(source) == [1, 2, 3, 4, 5]
    assert backoff.attempts == [0, 0, 0, 0, 0, 1, 2, 3]


@settings(max_examples=lasting(25, 250))
@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.lists(st.integers(0, 5), max_size=8))
def test_cut_after_any_number_of_frames_each_event_comes_once(widths: list[int], cuts: list[int]) -> None:
    ends = [sum(widths[: count + 1]) for count in range(len(widths))]
    log = [event(end, first=end - width + 1) for end, width in zip(ends, widths, strict=True)]

    def serving(count: int | None) -> Script:
        async def play(peer: ServerConnection) -> None:
            assert peer.request is not None
            after = int(peer.request.path.partition("after=")[2].partition("&")[0] or 0)
            rest = [frame for frame in log if frame["seq"] > after]
            end = ending(ends[-1]) if count is None else cut
            await frames(subscribed(after), *rest[:count], then=end)(peer)

        return play

    async def read() -> list[int]:
        async with (
            FakeGateway(*[serving(count) for count in cuts], serving(None)) as gateway,
            subscriber(gateway, retry_for=None) as source,
        ):
            return await seqs(source)

    assert asyncio.run(read()) == ends


async def test_a_restarted_gateway_yields_its_gap_and_the_new_epoch_is_followed() -> None:
    first = frames(subscribed(), *events(1, 5), then=cut)
    lost = {"type": "gap", "first": 1, "seq": 0, "reason": "epoch_changed"}
    second = frames(subscribed(0, "e2"), then=cut)
    third = frames(subscribed(0, "e2"), lost, *events(1, 2), then=cut)
    fourth = frames(subscribed(2, "e2"), event(3), then=ending(3))
    async with FakeGateway(first, second, third, fourth) as gateway, subscriber(gateway) as source:
        items = [item async for item in source]
        assert items[5] == Gap(first=1, seq=0, reason="epoch_changed")
        assert [item.seq for item in items] == [1, 2, 3, 4, 5, 0, 1, 2, 3]
        assert [path.partition("?")[2] for path in gateway.requests[1:]] == [
            "after=5&epoch=e1",
            "after=5&epoch=e1",
            "after=2&epoch=e2",
        ]


async def test_frames_are_every_payload_as_it_came_with_those_of_unknown_types() -> None:
    odd = {"type": "novelty", "payload": [1]}
    script = frames(subscribed(), odd, event(1), {"type": "caught_up", "seq": 1}, then=ending(1))
    async with FakeGateway(script) as gateway, subscriber(gateway) as source:
        seen = [frame async for frame in source.frames()]
    assert [msgspec.json.decode(frame.payload)["type"] for frame in seen] == [
        "subscribed",
        "novelty",
        "text_delta",
        "caught_up",
        "stream_end",
    ]
    assert seen[1].message is None
    assert isinstance(seen[2].message, Event)


def test_who_wants_to_be_told_of_urgent_events_must_say_which() -> None:
    with pytest.raises(ValueError, match="on_urgent: say which events with urgent"):
        Subscriber("ws://127.0.0.1:1", "demo", on_urgent=print)
    with pytest.raises(ValueError, match="'urgent': text_delta is a delta"):
        Subscriber("ws://127.0.0.1:1", "demo", urgent=[EventType.TEXT_DELTA])


async def test_what_comes_ahead_and_is_no_event_is_a_fault() -> None:
    script = frames(subscribed(), {"type": "urgent", "event": {"type": "error", "seq": "x"}}, then=stay)
    async with FakeGateway(script) as gateway, subscriber(gateway, urgent=[]) as source:
        with pytest.raises(ProtocolFault, match="invalid event ahead"):
            await anext(aiter(source))


async def test_caught_up_is_told_and_starts_over_with_each_connection() -> None:
    caught_up = {"type": "caught_up", "seq": 1}
    first = frames(subscribed(), event(1), caught_up, then=cut)
    second = frames(subscribed(1), event(2), caught_up, then=ending(2))
    async with FakeGateway(first, second) as gateway, subscriber(gateway) as source:
        states = [(type(frame.message), source.caught_up) async for frame in source.frames()]
    assert [caught for _, caught in states] == [False, False, True, False, False, True, True]
    assert [kind is CaughtUp for kind, _ in states].count(True) == 2


async def test_the_position_is_what_was_yielded_not_what_was_read() -> None:
    async with FakeGateway(frames(subscribed(), *events(1, 3), then=stay)) as gateway, subscriber(gateway) as source:
        async for item in source:
            assert source.position == Position("e1", item.seq)  # type: ignore[arg-type]
            if item.seq == 3:
                break


async def test_a_filtered_reader_resumes_from_where_the_gateway_accounted_for() -> None:
    first = frames(subscribed(), event(4), {"type": "caught_up", "seq": 7}, then=cut)
    second = frames(subscribed(7), then=ending(9))
    async with FakeGateway(first, second) as gateway, subscriber(gateway, types=[EventType.TEXT_DELTA]) as source:
        assert await seqs(source) == [4]
        assert gateway.requests == [
            "/v1/streams/demo/subscribe?types=text_delta",
            "/v1/streams/demo/subscribe?after=7&epoch=e1&types=text_delta",
        ]
        assert source.position == Position("e1", 9)


async def test_leaving_in_the_middle_of_a_flood_closes_at_once_and_cleanly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CLOSE_TIMEOUT", 60)  # so that it can't be what ends the wait
    closed_with: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def flood(peer: ServerConnection) -> None:
        await peer.send(text(subscribed()))
        with suppress(ConnectionClosed):
            for seq in range(1, 1000):
                await peer.send(text({**event(seq), "data": {"text": "x" * 50_000}}))
        closed_with.set_result(peer.close_code)

    async with FakeGateway(flood) as gateway, asyncio.timeout(30):
        async with subscriber(gateway) as source:
            async for _ in source:
                break
        assert await closed_with == 1000


async def test_a_cancelled_reader_leaves_nothing_running() -> None:
    before = asyncio.all_tasks()
    reading = asyncio.Event()

    async def read(gateway: FakeGateway) -> None:
        async with subscriber(gateway) as source:
            reading.set()
            await seqs(source)

    async with FakeGateway(frames(subscribed(), then=stay)) as gateway:
        task = asyncio.create_task(read(gateway))
        await reading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("of_frames", [False, True])
async def test_a_wait_that_is_cancelled_loses_nothing_and_ends_nothing(of_frames: bool) -> None:  # noqa: FBT001 - drawn
    is_wanted = asyncio.Semaphore(0)

    async def play(peer: ServerConnection) -> None:
        await peer.send(text(subscribed()))
        for number in (1, 2, 3):
            await is_wanted.acquire()
            await peer.send(text(event(number)))
        await ending(3)(peer)

    async with FakeGateway(play) as gateway, subscriber(gateway) as source:
        items: AsyncIterator[Frame | Event | Gap] = source.frames() if of_frames else aiter(source)
        if of_frames:
            await anext(items)  # `subscribed`
        for number in (1, 2, 3):
            waiting = asyncio.ensure_future(anext(items))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            is_wanted.release()
            item = await anext(items)
            message = item.message if isinstance(item, Frame) else item
            assert isinstance(message, Event)
            assert message.seq == number
        assert not [item async for item in source]


async def test_leaving_ends_the_iteration_of_another_task() -> None:
    async with FakeGateway(frames(subscribed(), event(1), then=stay)) as gateway:
        async with subscriber(gateway) as source:
            seen: list[int] = []
            one = asyncio.Event()

            async def read() -> None:
                async for item in source:
                    assert isinstance(item.seq, int)
                    seen.append(item.seq)
                    one.set()

            task = asyncio.create_task(read())
            await one.wait()
        await task
        assert seen == [1]
        assert len(gateway.requests) == 1


async def test_messagepack_is_spoken_when_asked_for() -> None:
    async def play(peer: ServerConnection) -> None:
        assert peer.subprotocol == "deltawire.v1.msgpack"
        for message in (subscribed(), event(1), {"type": "stream_end", "seq": 1, "reason": "closed"}):
            await peer.send(MSGPACK.encode(message))
        await peer.close()

    async with FakeGateway(play) as gateway, subscriber(gateway, codec=MSGPACK) as source:
        assert await seqs(source) == [1]
