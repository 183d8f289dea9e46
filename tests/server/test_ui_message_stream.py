"""The latest message of a stream for the AI SDK: replayed from its beginning, folded, then live (SPEC §9.4)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.gateway.server.connection.consumer import Consumer
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.events import (
    ContentEnd,
    ContentStart,
    Data,
    MessageStart,
    MessageStop,
    TextDelta,
    Thinking,
    ToolDelta,
)
from tests.server.conftest import StartGateway
from tests.server.eventsource import EventSource, event_source
from tests.server.test_event_streams import fill, is_over
from tests.support.minting import token, write_secret
from tests.support.peers import producer
from tests.support.waiting import eventually

STOP = MessageStop("m2", "end_turn")

BLOCKS: list[Data] = [
    MessageStart("m"),
    ContentStart(0, kind="text"),
    TextDelta("Hel", 0),
    ContentStart(1, kind="thinking"),
    Thinking("h", 1),
    ContentStart(2, kind="tool_use", id="t1", name="look"),
    ToolDelta(2, '{"a"'),
    ContentStart(3, kind="server_tool_use", id="t2", name="search"),
    ToolDelta(3, '{"b"'),
    ContentStart(4, kind="refusal"),
    TextDelta("n", 4),
    TextDelta("lo", 0),
    Thinking("m", 1),
    ToolDelta(2, ":1}"),
    ToolDelta(3, ":2}"),
    TextDelta("o", 4),
    ContentEnd(3),
    ContentEnd(2),
    ContentEnd(1),
    ContentEnd(0),
    ContentEnd(4),
    MessageStop("m", "end_turn"),
]
"""A message whose blocks interleave, so that nothing of it folds."""


def ui_messages(gateway: Gateway, query: str = "", **options: Any) -> Any:
    return event_source(gateway, query, endpoint="ui-message-stream", **options)


async def read_chunks(source: EventSource) -> list[dict[str, Any]]:
    """Every chunk up to the mark of the end."""
    events = await source.read_all()
    assert events[-1].data == "[DONE]"
    assert source.is_whole
    return [json.loads(event.data) for event in events[:-1]]


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(chunk["delta"] for chunk in chunks if chunk["type"] == "text-delta")


async def test_the_latest_message_is_replayed_folded_and_goes_on_live(gateway: Gateway) -> None:
    fill(gateway, "of the past")
    stream = gateway.hub.get("demo")
    stream.send_nowait(MessageStart("m2"))
    for letter in "abc":
        stream.send_nowait(TextDelta(letter))
    async with ui_messages(gateway) as source:
        assert source.status == 200
        assert source.headers["x-vercel-ai-ui-message-stream"] == "v1"
        assert source.headers["content-type"] == "text/event-stream"
        replayed = [json.loads((await source.read()).data) for _ in range(4)]
        assert replayed[0] == {"type": "start", "messageId": "m2"}
        assert replayed[3]["delta"] == "abc"
        await eventually(lambda: gateway.hub.info("demo").consumers == 1)
        for data in (TextDelta("d"), TextDelta("e"), STOP, MessageStart("m3")):
            stream.send_nowait(data)
            gateway.hub.flush()
        live = await read_chunks(source)
        assert text_of(live) == "de"
        assert live[-1] == {"type": "finish", "finishReason": "stop"}
    await is_over(gateway)
    assert gateway.hub.tally.closes["1000", "gateway"] == 1


async def test_a_message_that_is_complete_is_replayed_as_long_as_it_is_held(gateway: Gateway) -> None:
    fill(gateway, "The", " fox")
    for _ in range(2):
        async with ui_messages(gateway) as source:
            assert text_of(await read_chunks(source)) == "The fox"
        gateway.hub.close("demo")


async def test_the_beginning_of_a_message_longer_than_the_retention_is_there_folded(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway(retention_events=10)
    fill(gateway, *"abcdefghijklmnopqrstuvwxyz")
    async with ui_messages(gateway) as source:
        chunks = await read_chunks(source)
    assert chunks[0]["messageId"] == "m1"
    assert text_of(chunks) == "abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize("is_complete", [False, True])
async def test_after_a_restart_the_latest_message_is_found_again(tmp_path: Path, *, is_complete: bool) -> None:
    settings = Settings(port=0, drain_timeout=0.2, data_dir=str(tmp_path))
    async with Gateway(settings) as gateway:
        fill(gateway, "of the past")
        stream = gateway.hub.get("demo")
        for data in (MessageStart("m2"), TextDelta("He"), TextDelta("llo")):
            stream.send_nowait(data)
        if is_complete:
            stream.send_nowait(STOP)
    async with Gateway(settings) as gateway, ui_messages(gateway) as source:
        if not is_complete:
            await eventually(lambda: gateway.hub.info("demo").consumers == 1)
            gateway.hub.get("demo").send_nowait(STOP)
        chunks = await read_chunks(source)
    assert chunks[0] == {"type": "start", "messageId": "m2"}
    assert text_of(chunks) == "Hello"
    assert chunks[-1] == {"type": "finish", "finishReason": "stop"}


async def test_wherever_a_restart_falls_every_part_begins_and_ends_once(tmp_path: Path) -> None:
    settings = Settings(port=0, drain_timeout=0.2, data_dir=str(tmp_path))
    streams = [f"cut-{number}" for number in range(len(BLOCKS) + 1)]
    async with Gateway(settings) as gateway:
        for number, name in enumerate(streams):
            stream = gateway.hub.create(name)
            for data in BLOCKS[:number]:
                await stream.send(data)
    async with Gateway(settings) as gateway:
        read = []
        for number, name in enumerate(streams):
            for data in BLOCKS[number:]:
                await gateway.hub.get(name).send(data)
            async with ui_messages(gateway, stream=name) as source:
                read.append(await read_chunks(source))
    whole = read[0]  # all of it came after the restart
    assert [chunk["type"] for chunk in whole if chunk["type"].endswith(("-start", "-end", "-available"))] == [
        *["text-start", "reasoning-start", "tool-input-start", "tool-input-start", "text-start"],
        *["tool-input-available", "tool-input-available", "reasoning-end", "text-end", "text-end"],
    ]
    assert all(chunks == whole for chunks in read)


async def test_204_where_there_is_nothing_and_nobody_who_would_write(gateway: Gateway) -> None:
    async with ui_messages(gateway) as source:
        assert source.status == 204
    assert gateway.hub.count() == 0
    gateway.hub.create("demo")
    async with ui_messages(gateway) as source:
        assert source.status == 204
    gateway.hub.close("demo")
    async with ui_messages(gateway, "create=true") as source:
        assert source.status == 204


async def test_a_message_that_has_yet_to_begin_is_waited_for(gateway: Gateway) -> None:
    async with ui_messages(gateway, "create=true") as early, producer(gateway), ui_messages(gateway) as waiting:
        await eventually(lambda: gateway.hub.info("demo").consumers == 2)
        fill(gateway, "Hi")
        for source in (early, waiting):
            assert text_of(await read_chunks(source)) == "Hi"


async def test_it_is_one_read_for_readers_at_the_head(gateway: Gateway) -> None:
    stream = gateway.hub.create("demo")
    stream.send_nowait(MessageStart("m2"))
    async with ui_messages(gateway) as one, ui_messages(gateway) as other:
        for source in (one, other):
            await source.read()
        await eventually(
            lambda: all(isinstance(it.peer, Consumer) and it.peer._cohort is not None for it in gateway._connections),
            "that they are in a cohort",
        )
        stream.send_nowait(TextDelta("x"))
        stream.send_nowait(STOP)
        for source in (one, other):
            assert text_of(await read_chunks(source)) == "x"
    await is_over(gateway)


async def test_a_reader_that_is_lost_by_the_gateway_sees_that_it_is_not_the_end(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(drain_timeout=5.0)
    gateway.hub.create("demo").send_nowait(MessageStart("m2"))
    async with ui_messages(gateway) as source:
        await source.read()
        draining = asyncio.create_task(gateway.drain())
        await source.read_all()
        assert not source.is_whole
    await draining


@pytest.mark.hears(ProblemCode.OVERLOADED)
async def test_what_is_kept_of_tool_calls_counts(gateway: Gateway) -> None:
    stream = gateway.hub.create("demo")
    stream.send_nowait(MessageStart("m2"))
    async with ui_messages(gateway) as source:
        await source.read()
        [connection] = gateway._connections
        before = connection.held_bytes
        stream.send_nowait(ContentStart(0, kind="tool_use", name="n"))
        stream.send_nowait(ToolDelta(0, "x" * 5000))
        await source.read_until("message")
        await eventually(lambda: connection.held_bytes >= before + 5000)
    async with event_source(gateway) as sse:
        await sse.read_until("caught_up")
        [connection] = gateway._connections
        connection.shed("it holds too much")
        await sse.read_all()


@pytest.mark.parametrize("query", ["policy=block", "after=1", "interval=x", "create=yes"])
async def test_other_parameters_are_refused(gateway: Gateway, query: str) -> None:
    async with ui_messages(gateway, query) as source:
        assert source.status == 400


async def test_http_1_0_and_head(gateway: Gateway) -> None:
    fill(gateway, "Hi")
    async with ui_messages(gateway, version="HTTP/1.0") as source:
        assert "transfer-encoding" not in source.headers
        assert text_of(await read_chunks(source)) == "Hi"


async def test_a_token_must_allow_to_subscribe(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = await start_gateway(auth_key=write_secret(tmp_path))
    fill(gateway, "Hi")
    for allowed, status in ((token(subscribe=["demo"]), 200), (token(publish=["demo"]), 403)):
        async with ui_messages(gateway, headers=f"Authorization: Bearer {allowed}\r\n") as source:
            assert source.status == status


async def test_a_slow_reader_gets_all_of_it(gateway: Gateway) -> None:
    stream = gateway.hub.create("demo")
    stream.send_nowait(MessageStart("m2"))
    async with ui_messages(gateway, receive_buffer=4096) as source:
        await source.read()
        said = [f"{number}" * 500 for number in range(2000)]
        for text in said:
            stream.send_nowait(TextDelta(text))
            gateway.hub.flush()
        stream.send_nowait(STOP)
        assert text_of(await read_chunks(source)) == "".join(said)
