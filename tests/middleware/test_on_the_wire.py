"""Middleware in a gateway: late and live readers see the same, and producers have acks of what is appended alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from msgspec import json, msgpack

from deltawire.gateway.client import EventRefused, Publisher, Subscriber
from deltawire.gateway.config import Settings
from deltawire.gateway.engines.sqlite import SqliteEngine
from deltawire.gateway.hub import Hub
from deltawire.gateway.middleware import SECRETS, Context, drop, make_middleware, redact, split_thinking
from deltawire.gateway.middleware.configuring import Stages
from deltawire.gateway.server import Gateway
from deltawire.protocol.errors import StreamError, is_invalid
from deltawire.protocol.events import Data, Event, EventType, MessageStart, MessageStop, TextDelta, Thinking
from deltawire.protocol.messages import Policy
from tests.support.asking import http_client
from tests.support.loop import VirtualLoop
from tests.support.peers import consumer, peer, producer, publish, text_delta, text_of, types_of
from tests.support.waiting import eventually

START = {"type": "message_start", "data": {"message_id": "m"}}
STOP = {"type": "message_stop", "data": {"message_id": "m", "stop_reason": "end_turn"}}
LONG = 10.0
"""Seconds of `max_delay` that no test waits for."""


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


@asynccontextmanager
async def serving(*stages: Any, max_delay: float = LONG, **settings: Any) -> AsyncIterator[Gateway]:
    chosen = Settings(port=0, drain_timeout=0.5, **settings)
    wanted: dict[str, Stages] = {"demo*": stages}
    async with Hub(chosen, make_middleware(wanted, max_delay)) as hub, Gateway(chosen, hub) as gateway:
        yield gateway


def refuse_bad(data: Data, _: Context) -> Iterable[Data]:
    if isinstance(data, TextDelta) and data.text == "bad":
        raise ValueError("the text was bad")
    return [data]


async def test_late_and_live_readers_see_the_same_and_its_digest_is_right() -> None:
    async with serving(split_thinking()) as gateway, Subscriber(gateway.url, "demo", policy=Policy.BLOCK) as live:
        async with Publisher(gateway.url, "demo") as publisher:
            for data in (MessageStart("m"), *map(TextDelta, ("<th", "ink>so", "</think>", "it", " is"))):
                await publisher.send(data)
            await publisher.send(MessageStop("m", "end_turn"))
            await publisher.close_stream()
        seen = [it.data async for it in live if isinstance(it, Event)]
        assert live.proven == 1
        async with Subscriber(gateway.url, "demo", policy=Policy.BLOCK) as late:
            again = [it.data async for it in late if isinstance(it, Event)]
            assert late.proven == 1
    assert seen == again
    assert seen[1:4] == [Thinking("so"), TextDelta("it"), TextDelta(" is")]


@pytest.mark.parametrize("subprotocol", ["deltawire.v1.json", "deltawire.v1.msgpack"])
async def test_what_comes_from_a_socket_is_redacted(subprotocol: str) -> None:
    pytest.importorskip("re2", reason="needs the extra: pip install 'deltawire[redact]'")
    encode = json.encode if subprotocol.endswith("json") else msgpack.encode
    key = "sk-abcdefghijklmnopqrstuvwxyz"
    deltas = [
        text_delta(f"my {key[:9]}"),
        text_delta(f"{key[9:]} is"),
        {"type": "thinking", "data": {"thinking": key}},
        {"type": "tool_delta", "data": {"index": 0, "partial_json": key}},
        {"type": "error", "data": {"error": key}},
        {"type": "extension", "data": {"provider": "p", "name": "n", "data": {"k": [key]}}},
    ]
    async with serving(redact(SECRETS)) as gateway, peer(gateway, "demo/publish", subprotocol) as writing:
        payloads = [encode(it) for it in (START, *deltas, STOP)]
        await writing.say(*(it.decode() if subprotocol.endswith("json") else it for it in payloads))
        await eventually(lambda: gateway.hub.info("demo").head == 8)
        async with consumer(gateway) as reading:
            messages = await reading.read_until("caught_up")
    assert text_of(messages) == "my [redacted] is"
    assert "sk-" not in str(messages)
    assert str(messages).count("[redacted]") == 5


async def test_other_streams_have_no_middleware() -> None:
    async with serving(drop([EventType.TEXT_DELTA])) as gateway:
        assert gateway.hub.create("demo-1")
        async with producer(gateway, stream="other") as writing, consumer(gateway, stream="other") as reading:
            await publish(writing, text_delta("a"), upto=1)
            assert text_of(await reading.read_until("text_delta")) == "a"


async def test_what_is_held_back_is_acked_when_it_is_appended() -> None:
    async with serving(split_thinking()) as gateway, producer(gateway, "producer=p") as writing:
        await publish(writing, text_delta("a", producer_seq=1), upto=1)
        await writing.say(text_delta("b<", producer_seq=2), text_delta("b<", producer_seq=2))
        await writing.say({"type": "text_delta"})  # a problem is the answer, and no ack
        assert types_of(await writing.read_until("problem"))[-1:] == ["problem"]
        assert gateway.hub.info("demo").head == 1
        await writing.say(text_delta("c", producer_seq=3))
        ack = (await writing.read_until("ack", producer_seq=3))[-1]
        assert ack["seq"] == 3


async def test_an_event_that_is_sent_again_goes_through_once() -> None:
    async with serving(split_thinking()) as gateway:
        async with producer(gateway, "producer=p") as writing:
            await writing.say(text_delta("a", producer_seq=1), text_delta("<", producer_seq=2))
            await writing.say(text_delta("<", producer_seq=2), text_delta("b", producer_seq=3))
            await writing.read_until("ack", producer_seq=3)
        async with consumer(gateway) as reading:
            assert text_of(await reading.read_until("caught_up")) == "a<b"


async def test_a_hole_behind_what_is_held_back_names_the_next_number() -> None:
    async with serving(split_thinking()) as gateway, producer(gateway, "producer=p") as writing:
        await writing.say(text_delta("<", producer_seq=1), text_delta("x", producer_seq=3))
        problem = (await writing.read_until("problem"))[-1]
        assert (problem["code"], problem["expected"]) == ("sequence_gap", 2)


async def test_a_producer_that_is_gone_leaves_nothing_behind_and_goes_on_after_it() -> None:
    async with serving(split_thinking()) as gateway:
        async with producer(gateway, "producer=p") as writing:
            await writing.say(START | {"producer_seq": 1}, text_delta("a<", producer_seq=2))
            await eventually(lambda: gateway.hub.info("demo").head == 1)
        await eventually(lambda: gateway.hub.info("demo").head == 2)
        async with peer(gateway, "demo/publish?producer=p") as again:
            assert (await again.read())["producer_seq"] == 2


async def test_a_second_connection_of_a_producer_is_told_of_what_the_first_has_sent() -> None:
    async with serving(split_thinking()) as gateway, producer(gateway, "producer=p") as first:
        await publish(first, text_delta("a", producer_seq=1), upto=1)
        await first.say(text_delta("<", producer_seq=2))
        await first.say({"type": "text_delta"})
        await first.read_until("problem")
        async with peer(gateway, "demo/publish?producer=p") as second:
            assert (await second.read())["producer_seq"] == 2
        assert (await first.read_until("ack"))[-1]["producer_seq"] == 2


async def test_what_one_producer_holds_back_another_one_may_let_out() -> None:
    async with (
        serving(split_thinking()) as gateway,
        producer(gateway, "producer=p") as first,
        producer(gateway, "producer=q") as second,
    ):
        await first.say(text_delta("a<", producer_seq=1))
        await first.say({"type": "text_delta"})
        await first.read_until("problem")
        await second.say(text_delta("x", producer_seq=1))
        assert (await first.read_until("ack"))[-1] == {"type": "ack", "seq": 1, "producer_seq": 1}
        assert (await second.read_until("ack"))[-1] == {"type": "ack", "seq": 2, "producer_seq": 1}


async def test_what_is_dropped_is_acked_all_the_same() -> None:
    async with serving(drop([EventType.TEXT_DELTA])) as gateway, producer(gateway, "producer=p") as writing:
        await writing.say(text_delta("a", producer_seq=1), text_delta("b", producer_seq=2))
        assert (await writing.read_until("ack", producer_seq=2))[-1]["seq"] == 0
        assert gateway.hub.tally.middleware_dropped == 2


async def test_a_refused_event_is_told_of_and_the_next_one_has_its_number(logs: list[Any]) -> None:
    async with serving(refuse_bad) as gateway, producer(gateway, "producer=p") as writing:
        await writing.say([text_delta("a", producer_seq=1), text_delta("bad", producer_seq=2)])
        problem = (await writing.read_until("problem"))[-1]
        assert (problem["code"], problem["producer_seq"]) == ("invalid_event", 2)
        assert problem["message"] == ("[1] the middleware's stage `refuse_bad` failed on this event, so it is refused")
        await writing.say(text_delta("bad", producer_seq=2), text_delta("b", producer_seq=2))
        await writing.read_until("ack", producer_seq=2)
        assert gateway.hub.tally.middleware_failures == 2
    told = [it for it in logs if it["event"] == "middleware.failed"]
    assert [(it["stage"], it["on_error"], it["error"]) for it in told] == [("refuse_bad", "refuse", "ValueError")]
    assert "was bad" not in str(logs)


async def test_a_publisher_goes_on_after_an_event_that_middleware_refuses() -> None:
    async with serving(refuse_bad) as gateway, Publisher(gateway.url, "demo") as publisher:
        for text in ("a", "bad", "b"):
            await publisher.send(TextDelta(text))
        with pytest.raises(EventRefused, match="stage `refuse_bad` failed"):
            await publisher.flush()
        await publisher.flush()
        assert gateway.hub.info("demo").head == 2


async def test_a_program_is_told_of_a_refusal() -> None:
    async with Hub(middleware=make_middleware({"demo": [refuse_bad]})) as hub:
        with pytest.raises(StreamError, match="stage `refuse_bad`") as caught:
            hub.create("demo").send_nowait(TextDelta("bad"))
        assert is_invalid(caught.value)


async def test_a_program_gets_the_seq_of_what_its_event_became() -> None:
    async with Hub(middleware=make_middleware({"*": [split_thinking()]}, LONG)) as hub:
        stream = hub.create("demo")
        sent = [await stream.send(TextDelta(text)) for text in ("a", "<think>b</think>c", "<", "d")]
        assert sent == [1, 3, 3, 4], "what was held back comes with what decides it"
        stream.send_nowait(TextDelta("<"))
        stream.close()
        assert stream.statistics().head == 5


def test_what_is_held_back_is_let_out_in_time() -> None:
    loop = VirtualLoop()

    async def begin() -> Hub:
        hub = Hub(middleware=make_middleware({"demo": [split_thinking()]}, 0.25))
        await hub.__aenter__()
        hub.create("demo").send_nowait(TextDelta("a<"))
        return hub

    hub = loop.finish(begin())
    loop.advance(0.24)
    assert hub.info("demo").head == 0
    loop.advance(0.06)
    assert hub.info("demo").head == 1
    loop.finish(hub.__aexit__(None, None, None), within=1.0)
    loop.close()
    assert loop.failures == []


async def test_an_ack_follows_what_was_let_out_in_time() -> None:
    async with serving(split_thinking(), max_delay=0.01) as gateway, producer(gateway, "producer=p") as writing:
        await writing.say(text_delta("a<", producer_seq=1))
        assert (await writing.read_until("ack"))[-1] == {"type": "ack", "seq": 1, "producer_seq": 1}


async def test_a_gateway_that_stops_lets_out_and_acks_what_is_held_back() -> None:
    async with serving(split_thinking()) as gateway, producer(gateway, "producer=p") as writing:
        await writing.say(text_delta("a<", producer_seq=1), {"type": "text_delta"})
        await writing.read_until("problem")
        async with asyncio.TaskGroup() as group:
            group.create_task(gateway.drain())
            assert (await writing.read_all())[0] == {"type": "ack", "seq": 1, "producer_seq": 1}


async def test_a_gateway_that_stops_stores_what_is_held_back(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"data_dir": str(tmp_path), "sync": "off"}
    async with serving(split_thinking(), **settings) as gateway, producer(gateway, "producer=p") as writing:
        await writing.say(text_delta("a<", producer_seq=1), {"type": "text_delta"})
        await writing.read_until("problem")
        await gateway.hub.create("demo-2").send(TextDelta("b<"))
        await gateway.drain()
    async with serving(split_thinking(), **settings) as gateway:
        async with peer(gateway, "demo/publish?producer=p") as again:
            assert (await again.read())["producer_seq"] == 1
        for stream, text in (("demo", "a<"), ("demo-2", "b<")):
            async with consumer(gateway, stream=stream) as reading:
                assert text_of(await reading.read_until("caught_up")) == text


async def test_what_is_held_back_is_neither_acked_nor_stored_before_it_is_appended(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"data_dir": str(tmp_path), "sync": "off"}
    async with serving(split_thinking(), **settings) as gateway, producer(gateway, "producer=p") as writing:
        await publish(writing, text_delta("a", producer_seq=1), upto=1)
        await writing.say(text_delta("b<", producer_seq=2), {"type": "text_delta"})
        await writing.read_until("problem")
        stream = gateway.hub.manager.get("demo")
        assert [(it.last, stream.head) for it in stream.producers.states()] == [(1, 1)]
        await writing.say(text_delta("c", producer_seq=3))
        await writing.read_until("ack", producer_seq=3)
    async with serving(split_thinking(), **settings) as gateway, peer(gateway, "demo/publish?producer=p") as again:
        assert (await again.read())["producer_seq"] == 3


async def test_the_number_of_an_event_that_was_dropped_is_stored(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"data_dir": str(tmp_path), "sync": "off"}
    stage = drop([EventType.TEXT_DELTA])
    async with serving(stage, **settings) as gateway, producer(gateway, "producer=p") as writing:
        await writing.say(START | {"producer_seq": 1}, text_delta("b", producer_seq=2))
        await writing.read_until("ack", producer_seq=2)
    async with serving(stage, **settings) as gateway, peer(gateway, "demo/publish?producer=p") as again:
        assert (await again.read())["producer_seq"] == 2


async def test_nothing_is_taken_while_nothing_can_be_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(split_thinking(), data_dir=str(tmp_path), sync="off") as gateway:
        stream = gateway.hub.create("demo")
        monkeypatch.setattr(SqliteEngine, "failure", property(lambda _: "the disk is full"))
        with pytest.raises(StreamError, match="the disk is full"):
            stream.send_nowait(TextDelta("a<"))
        monkeypatch.undo()


async def test_a_lost_message_ends_behind_what_was_held_back_of_it() -> None:
    async with serving(split_thinking(), lease=0.2) as gateway, consumer(gateway) as reading:
        async with producer(gateway, "producer=p") as writing:
            await publish(writing, START, upto=1)
            await writing.say(text_delta("a<"))
        messages = await reading.read_until("message_stop")
    assert text_of(messages) == "a<"
    assert messages[-1]["data"]["stop_reason"] == "producer_lost"


async def test_a_hub_without_middleware_appends_as_ever() -> None:
    async with Hub() as hub:
        assert "append" not in vars(hub.dispatcher)
        assert hub.manager.make_screen is None


async def test_an_event_goes_through_once_however_many_read() -> None:
    seen = 0

    def count(data: Data, _: Context) -> Iterable[Data]:
        nonlocal seen
        seen += 1
        return [data]

    async def read(gateway: Gateway) -> None:
        async with consumer(gateway) as reading:
            assert text_of(await reading.read_until("message_stop")) == "a<b"

    async with (
        serving(count, split_thinking()) as gateway,
        producer(gateway, "producer=p") as writing,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(5):
            group.create_task(read(gateway))
        await eventually(lambda: gateway.hub.info("demo").consumers == 5)
        await writing.say(START, text_delta("a<"), text_delta("b"), STOP)
    assert seen == 4


async def test_a_publisher_is_told_of_an_event_that_was_dropped_and_goes_on() -> None:
    async with serving(split_thinking(), refuse_bad) as gateway, Publisher(gateway.url, "demo") as publisher:
        for text in ("bad<", "c"):
            await publisher.send(TextDelta(text))
        with pytest.raises(EventRefused, match="it had been held back"):
            await publisher.flush()
        await publisher.send(TextDelta("d"))
        await publisher.flush()
        assert publisher.acked == 3
        assert gateway.hub.info("demo").head == 2


async def test_a_request_is_answered_with_what_was_dropped_of_it() -> None:
    async with serving(split_thinking(), refuse_bad) as gateway, http_client() as client:
        url = f"http://127.0.0.1:{gateway.port}/v1/streams/demo/events"
        answer = await client.post(url, json=[text_delta("bad<"), text_delta("c")])
        told = answer.json()
    assert (answer.status_code, told["seq"]) == (400, 1)
    assert [(it["code"], it.get("line")) for it in told["problems"]] == [("event_dropped", None)]
