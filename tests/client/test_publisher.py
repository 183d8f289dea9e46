"""The publisher against a scripted gateway: every event in the stream once, whatever happens to the connection."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection

from deltawire.gateway.client import Publisher
from deltawire.protocol.codec import MSGPACK
from deltawire.protocol.events import Event, TextDelta, make_event
from tests.client.publishing import numbers, publisher, send_numbers
from tests.support.fakes import FakeGateway, FakeLog, NotingBackoff, frames, stay
from tests.support.soaking import lasting


async def test_what_is_sent_is_acked_before_the_context_is_left() -> None:
    log = FakeLog()
    async with FakeGateway(log.serving()) as gateway:
        async with publisher(gateway) as target:
            await send_numbers(target, 1, 100)
        assert log.texts == numbers(1, 100)
        assert (target.acked, target.seq, target.epoch) == (100, 100, "e1")


async def test_events_that_queue_up_travel_in_arrays() -> None:
    log, sizes = FakeLog(), list[int]()

    async def play(peer: ServerConnection) -> None:
        await peer.send(log.ready())
        async for payload in peer:
            decoded = msgspec.json.decode(payload)
            sizes.append(len(decoded) if isinstance(decoded, list) else 1)
            await peer.send(log.take(payload) or "")

    async with FakeGateway(play) as gateway, publisher(gateway) as target:
        await send_numbers(target, 1, 130)
        await target.flush()
    assert sum(sizes) == 130
    assert max(sizes) == 64


async def test_every_publisher_without_an_id_makes_one_of_its_own() -> None:
    log = FakeLog()
    async with FakeGateway(log.serving(), log.serving()) as gateway:
        for _ in range(2):
            async with publisher(gateway):
                pass
        queries = {path.partition("?")[2] for path in gateway.requests}
    assert len(queries) == 2
    assert all(query.startswith("producer=") for query in queries)


async def test_an_explicit_producer_goes_on_where_an_earlier_program_stopped() -> None:
    log = FakeLog()
    async with FakeGateway(log.serving(), log.serving()) as gateway:
        for first in (1, 4):
            async with publisher(gateway, producer="proxy", generation=2) as target:
                await send_numbers(target, first, first + 2)
        assert gateway.requests == ["/v1/streams/demo/publish?producer=proxy&generation=2"] * 2
    assert log.texts == numbers(1, 6)


@settings(max_examples=lasting(25, 250))
@given(st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=8), st.integers(0, 30))
def test_cut_anywhere_every_event_is_in_the_stream_once(cuts: list[tuple[int, bool]], count: int) -> None:
    log = FakeLog()

    async def publish() -> None:
        scripts = [log.serving(served, answer_last=answered) for served, answered in cuts]
        async with (
            FakeGateway(*scripts, *[log.serving() for _ in range(2)]) as gateway,
            publisher(gateway, window=5, retry_for=None) as target,
        ):
            await send_numbers(target, 1, count)

    asyncio.run(publish())
    assert log.texts == numbers(1, count)


async def test_a_gateway_that_lost_its_memory_gets_what_it_never_acked_under_new_numbers() -> None:
    log = FakeLog()

    async def restart(peer: ServerConnection) -> None:
        log.forget("e2")
        await log.serving()(peer)

    async with (
        FakeGateway(log.serving(1), log.serving(1, answer_last=False), restart) as gateway,
        publisher(gateway) as target,
    ):
        await send_numbers(target, 1, 3)
        await target.flush()
        await send_numbers(target, 4, 6)
        await target.flush()
        assert (target.epoch, target.acked, target.lost) == ("e2", 3, 3)
    assert log.texts == numbers(4, 6)


async def test_send_waits_while_the_window_is_full() -> None:
    log, go = FakeLog(), asyncio.Event()

    async def reluctant(peer: ServerConnection) -> None:
        await peer.send(log.ready())
        await go.wait()
        async for payload in peer:
            await peer.send(log.take(payload) or "")

    async with FakeGateway(reluctant) as gateway, publisher(gateway, window=3) as target:
        await send_numbers(target, 1, 3)
        blocked = asyncio.create_task(target.send(TextDelta("4")))
        with pytest.raises(TimeoutError):
            await target.flush(timeout=0)
        assert not blocked.done()
        go.set()
        await blocked
        await target.flush()
    assert log.texts == numbers(1, 4)


async def test_an_event_may_carry_its_own_timestamp_and_its_number_is_the_publishers() -> None:
    log, got = FakeLog(), asyncio.get_running_loop().create_future()

    async def play(peer: ServerConnection) -> None:
        await peer.send(log.ready())
        payload = await peer.recv()
        got.set_result(msgspec.json.decode(payload))
        await peer.send(log.take(payload) or "")
        await peer.wait_closed()

    then = datetime(2026, 11, 22, 11, tzinfo=UTC)
    async with FakeGateway(play) as gateway, publisher(gateway) as target:
        await target.send(make_event(TextDelta("x"), timestamp=then, producer_seq=77))
    assert got.result() == {
        "type": "text_delta",
        "timestamp": "2026-11-22T11:00:00Z",
        "producer_seq": 1,
        "data": {"text": "x"},
    }


async def test_signals_and_the_audience_reach_the_program_until_it_leaves() -> None:
    log = FakeLog()
    ready = msgspec.json.decode(log.ready())
    script = frames(
        ready,
        {"type": "novelty"},
        {"type": "audience", "consumers": 3},
        {"type": "signal", "name": "cancel", "data": {"why": "bored"}},
        {"type": "signal", "name": "pause"},
        then=stay,
    )
    got: list[str] = []

    async def listen(target: Publisher, two: asyncio.Event) -> None:
        async for signal in target.signals():
            got.append(signal.name)
            if len(got) == 2:
                two.set()

    async with FakeGateway(script) as gateway:
        async with publisher(gateway) as target:
            two = asyncio.Event()
            listening = asyncio.create_task(listen(target, two))
            await two.wait()
            assert target.consumers == 3
        await listening
    assert got == ["cancel", "pause"]


async def test_messagepack_is_spoken_when_asked_for() -> None:
    async def play(peer: ServerConnection) -> None:
        assert peer.subprotocol == "deltawire.v1.msgpack"
        ready = msgspec.json.decode(FakeLog().ready())
        await peer.send(MSGPACK.encode(ready))
        event = MSGPACK.decode_from_producer(bytes(await peer.recv(decode=False)))
        assert isinstance(event, Event)
        assert (event.producer_seq, event.data.text) == (1, "1")
        await peer.send(MSGPACK.encode({"type": "ack", "seq": 1, "producer_seq": 1}))
        await peer.wait_closed()

    async with FakeGateway(play) as gateway, publisher(gateway, codec=MSGPACK) as target:
        await send_numbers(target, 1, 1)


async def test_numbers_that_have_moved_are_progress_though_no_ack_came() -> None:
    """Each connection takes an event and is cut before it can say so; the next one tells what was taken."""
    backoff = NotingBackoff()
    log = FakeLog()
    cuts = [log.serving(1, answer_last=False) for _ in range(10)]
    async with (
        FakeGateway(*cuts, log.serving()) as gateway,
        Publisher(gateway.url, "demo", window=1000, backoff=backoff) as target,
    ):
        await send_numbers(target, 1, 700)
        await target.flush()
    assert log.texts == numbers(1, 700)
    assert set(backoff.attempts) == {0}
