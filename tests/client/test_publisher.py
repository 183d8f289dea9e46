"""The publisher against a scripted gateway: every event in the stream once, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Response

from gateway.client import (
    EventRefused,
    Fenced,
    GatewayUnreachable,
    NotDelivered,
    ProtocolFault,
    Publisher,
    Refused,
    StreamClosed,
    StreamFull,
)
from gateway.client import publisher as publisher_module
from gateway.client.backoff import Backoff
from protocol.codec import MSGPACK
from protocol.events import Data, Event, Extension, TextDelta, Usage, make_event
from tests.client.fakes import AT_ONCE, FakeGateway, FakeLog, Script, closing, cut, frames, stay, text


def publisher(gateway: FakeGateway, **arguments: Any) -> Publisher:
    return Publisher(gateway.url, "demo", backoff=AT_ONCE, **arguments)


async def send_numbers(target: Publisher, first: int, last: int) -> None:
    for number in range(first, last + 1):
        await target.send(TextDelta(str(number)))


def numbers(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last + 1)]


def problem(code: str, number: int | None = None) -> str:
    about = {} if number is None else {"producer_seq": number}
    return text({"type": "problem", "code": code, "message": f"{code}!", "retryable": False, **about})


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


@settings(max_examples=25, deadline=None)
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
        assert (target.epoch, target.acked) == ("e2", 3)
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
    assert 0.00005 <= delays[0] <= 0.0001 <= delays[1] <= 0.0002 <= delays[2] <= 0.0004
    assert 0.00005 <= delays[3] <= 0.0001
    assert log.texts == numbers(1, 2)


async def test_an_acked_event_nobody_sent_is_a_fault() -> None:
    log = FakeLog()
    ack = {"type": "ack", "seq": 9, "producer_seq": 9}
    async with FakeGateway(frames(msgspec.json.decode(log.ready()), ack, then=stay)) as gateway:
        with pytest.raises(ProtocolFault, match="same producer id"):
            async with publisher(gateway) as target:
                await asyncio.wait_for(target.close_stream(), 5)


@pytest.mark.parametrize("payload", ["", "nonsense", '{"type":"ready"}'])
async def test_what_is_no_message_is_a_fault(payload: str) -> None:
    async def play(peer: ServerConnection) -> None:
        await peer.send(payload)
        await peer.wait_closed()

    async with FakeGateway(play) as gateway:
        with pytest.raises(ProtocolFault, match="no message"):
            async with publisher(gateway):
                pass


async def test_closing_the_stream_is_confirmed() -> None:
    log = FakeLog()
    async with FakeGateway(log.serving()) as gateway, publisher(gateway) as target:
        await send_numbers(target, 1, 3)
        await target.close_stream()
        assert log.closed
        with pytest.raises(NotDelivered, match="ended"):
            await target.send(TextDelta("4"))
    assert log.texts == numbers(1, 3)


async def test_nothing_is_taken_while_the_stream_is_being_closed() -> None:
    log, asked, go = FakeLog(), asyncio.Event(), asyncio.Event()

    async def play(peer: ServerConnection) -> None:
        await peer.send(log.ready())
        log.take(await peer.recv())
        asked.set()
        await go.wait()

    async with FakeGateway(play) as gateway, publisher(gateway) as target:
        closing_stream = asyncio.create_task(target.close_stream())
        await asked.wait()
        with pytest.raises(NotDelivered, match="ended"):
            await target.send(TextDelta("1"))
        go.set()
        await closing_stream


async def test_closing_the_stream_survives_a_lost_confirmation() -> None:
    log = FakeLog()

    async def close_and_cut(peer: ServerConnection) -> None:
        await peer.send(log.ready())
        log.take(await peer.recv())
        await cut(peer)

    async with FakeGateway(close_and_cut, closing(4501, "closed already")) as gateway:
        async with publisher(gateway) as target:
            await target.close_stream()
        assert len(gateway.requests) == 2
    assert log.closed


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


async def test_leaving_by_an_exception_does_not_wait_for_acks() -> None:
    async def silent(peer: ServerConnection) -> None:
        await peer.send(FakeLog().ready())
        await peer.wait_closed()

    async def publish(gateway: FakeGateway) -> None:
        async with publisher(gateway) as target:
            await target.send(TextDelta("1"))
            raise LookupError

    async with FakeGateway(silent) as gateway:
        with pytest.raises(LookupError):
            await publish(gateway)


async def test_leaving_a_gateway_that_acks_nothing_says_what_may_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "LEAVE_TIMEOUT", 0.01)

    async def silent(peer: ServerConnection) -> None:
        await peer.send(FakeLog().ready())
        await peer.wait_closed()

    async with FakeGateway(silent) as gateway:
        with pytest.raises(NotDelivered, match="2 events were sent and never acked"):
            async with publisher(gateway) as target:
                await send_numbers(target, 1, 2)


async def test_a_cancelled_publisher_leaves_nothing_running() -> None:
    before, sending = asyncio.all_tasks(), asyncio.Event()

    async def silent(peer: ServerConnection) -> None:
        await peer.send(FakeLog().ready())
        await peer.wait_closed()

    async def publish(gateway: FakeGateway) -> None:
        async with publisher(gateway, window=1) as target:
            await target.send(TextDelta("1"))
            sending.set()
            await target.send(TextDelta("2"))

    async with FakeGateway(silent) as gateway:
        task = asyncio.create_task(publish(gateway))
        await sending.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert asyncio.all_tasks() == before


async def test_cancelling_while_connecting_leaves_nothing_running() -> None:
    before, connected = asyncio.all_tasks(), asyncio.Event()

    async def mute(peer: ServerConnection) -> None:
        connected.set()
        await peer.wait_closed()

    async def publish(gateway: FakeGateway) -> None:
        async with publisher(gateway):
            raise AssertionError("never ready")

    async with FakeGateway(mute) as gateway:
        task = asyncio.create_task(publish(gateway))
        await connected.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert asyncio.all_tasks() == before


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
