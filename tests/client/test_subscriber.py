"""The subscriber against a scripted gateway: each event once, whatever happens to the connection."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response

from gateway.client import GatewayUnreachable, NotDelivered, ProtocolFault, Refused, Subscriber, connection
from gateway.client.backoff import Backoff
from protocol.codec import MSGPACK
from protocol.events import Event, EventType
from protocol.messages import CaughtUp, Gap, Problem, Signal, StreamEnd
from protocol.position import Position
from tests.client.fakes import AT_ONCE, FakeGateway, Script, closing, cut, frames, stay, text

Message = dict[str, Any]


def subscribed(after: int = 0, epoch: str = "e1") -> Message:
    return {
        "type": "subscribed",
        "stream": "demo",
        "epoch": epoch,
        "floor": 1,
        "head": 9,
        "after": after,
        "policy": "coalesce",
        "buffer": 100,
        "recovered": True,
        "closed": False,
    }


def event(seq: int, first: int | None = None) -> Message:
    folded = {} if first is None else {"first": first}
    return {"type": "text_delta", **folded, "seq": seq, "timestamp": "2026-11-22T11:00:00Z", "data": {"text": f"{seq}"}}


def events(first: int, last: int) -> list[Message]:
    return [event(seq) for seq in range(first, last + 1)]


CAUGHT_UP = {"type": "caught_up", "seq": 0}


def ending(seq: int) -> Script:
    return frames({"type": "stream_end", "seq": seq, "reason": "closed"}, then=closing(1000))


def subscriber(gateway: FakeGateway, **arguments: Any) -> Subscriber:
    return Subscriber(gateway.url, "demo", backoff=AT_ONCE, **arguments)


async def seqs(source: Subscriber) -> list[int]:
    return [item.seq async for item in source if isinstance(item.seq, int)]


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


@settings(max_examples=25, deadline=None)
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
        with pytest.raises(GatewayUnreachable, match="closed with 4003: too much to hold"):
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
        with pytest.raises(ProtocolFault, match="no message"):
            await seqs(source)


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

    async with FakeGateway(flood) as gateway, asyncio.timeout(10):
        async with subscriber(gateway) as source:
            async for _ in source:
                break
        assert await closed_with == 1000


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


async def test_a_server_that_speaks_another_protocol_is_a_fault() -> None:
    async with FakeGateway(stay, subprotocols=()) as gateway:
        with pytest.raises(ProtocolFault, match="does not speak deltawire"):
            async with subscriber(gateway):
                pass


async def test_messagepack_is_spoken_when_asked_for() -> None:
    async def play(peer: ServerConnection) -> None:
        assert peer.subprotocol == "deltawire.v1.msgpack"
        for message in (subscribed(), event(1), {"type": "stream_end", "seq": 1, "reason": "closed"}):
            await peer.send(MSGPACK.encode(message))
        await peer.close()

    async with FakeGateway(play) as gateway, subscriber(gateway, codec=MSGPACK) as source:
        assert await seqs(source) == [1]
