"""The latest message of a stream as a response: read, resumed by number, cancelled (SPEC §9.5)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.events import MessageStart, MessageStop, TextDelta
from tests.server.conftest import StartGateway
from tests.server.eventsource import EventSource
from tests.server.stalling import SMALL_BUFFER, consumers_of, say
from tests.server.test_event_streams import fill, is_over
from tests.support.asking import http_client
from tests.support.rawpeer import RawPeer
from tests.support.waiting import eventually, turn


@asynccontextmanager
async def streaming(gateway: Gateway, query: str = "", receive_buffer: int | None = None) -> AsyncIterator[EventSource]:
    peer = await RawPeer.connect(gateway.port, receive_buffer)
    try:
        await peer.send(f"GET /v1/responses/demo?stream=true{query} HTTP/1.1\r\n\r\n".encode())
        yield EventSource(peer, await peer.read_head())
    finally:
        peer.close()


async def ask(gateway: Gateway, method: str, path: str) -> httpx.Response:
    async with http_client(base_url=f"http://127.0.0.1:{gateway.port}") as client:
        return await client.request(method, path)


def text_of(messages: list[dict[str, Any]]) -> str:
    return "".join(message["delta"] for message in messages if message["type"] == "response.output_text.delta")


async def test_the_latest_message_is_replayed_and_goes_on_live_with_numbers_without_a_hole(gateway: Gateway) -> None:
    fill(gateway, "of the past")
    stream = gateway.hub.get("demo")
    for data in (MessageStart("m2"), TextDelta("a"), TextDelta("b")):
        stream.send_nowait(data)
    async with streaming(gateway) as source:
        await eventually(lambda: gateway.hub.info("demo").consumers == 1)
        for end in (TextDelta("c"), MessageStop("m2", "end_turn")):
            stream.send_nowait(end)
            gateway.hub.flush()
        events = await source.read_all()
        assert source.is_whole
    messages = [event.message for event in events]
    assert [event.name for event in events] == [message["type"] for message in messages]
    assert text_of(messages) == "abc"
    assert [message["sequence_number"] for message in messages] == list(range(len(messages)))
    await is_over(gateway)
    async with streaming(gateway, "&starting_after=5") as source:
        assert [event.message for event in await source.read_all()] == messages[6:]
    assert (await ask(gateway, "GET", "/v1/responses/demo")).json() == messages[-1]["response"], "it is read folded"


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_after_a_restart_the_latest_message_is_found_again(tmp_path: Path, *, is_streamed: bool) -> None:
    settings = Settings(port=0, drain_timeout=0.2, data_dir=str(tmp_path))
    async with Gateway(settings) as gateway:
        fill(gateway, "of the past")
        fill(gateway, "Hello")
    async with Gateway(settings) as gateway:
        if is_streamed:
            async with streaming(gateway) as source:
                response = (await source.read_all())[-1].message["response"]
        else:
            response = (await ask(gateway, "GET", "/v1/responses/demo")).json()
        assert [item["content"][0]["text"] for item in response["output"]] == ["Hello"]
        await is_over(gateway)


async def test_an_answer_longer_than_the_retention_can_be_retrieved_but_not_streamed(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway(retention_events=10)
    fill(gateway, *"abcdefghijklmnopqrstuvwxyz")
    response = (await ask(gateway, "GET", "/v1/responses/demo")).json()
    assert response["output"][0]["content"][0]["text"] == "abcdefghijklmnopqrstuvwxyz"
    async with streaming(gateway) as source:
        [error] = await source.read_all()
        assert error.message["type"] == "error"


async def test_a_stream_without_a_message_is_a_response_that_waits(gateway: Gateway) -> None:
    gateway.hub.create("demo")
    response = (await ask(gateway, "GET", "/v1/responses/demo")).json()
    assert (response["id"], response["status"], response["output"]) == ("demo", "queued", [])
    async with streaming(gateway) as source:
        await eventually(lambda: gateway.hub.info("demo").consumers == 1)
        fill(gateway, "Hi")
        assert text_of([event.message for event in await source.read_all()]) == "Hi"


async def test_one_that_falls_too_far_behind_is_cut_off_and_resumes(gateway: Gateway) -> None:
    stream = gateway.hub.create("demo")
    stream.send_nowait(MessageStart("m2"))
    async with streaming(gateway, receive_buffer=SMALL_BUFFER) as source:
        await eventually(lambda: gateway.hub.info("demo").consumers == 1)
        [seen] = consumers_of(gateway)
        while not seen._is_stalled:
            stream.send_nowait(TextDelta("#" * 8000))
            gateway.hub.flush()
            await turn(3)
        say(stream, 10_001)
        events = [event.message for event in await source.read_all()]
        assert not source.is_whole
    assert gateway.hub.tally.problems[ProblemCode.SLOW_CONSUMER] == 1
    stream.send_nowait(MessageStop("m2", "end_turn"))
    async with streaming(gateway, f"&starting_after={events[-1]['sequence_number']}") as source:
        rest = [event.message for event in await source.read_all()]
    assert [message["sequence_number"] for message in events + rest] == list(range(len(events + rest)))
    assert text_of(events + rest) == rest[-1]["response"]["output"][0]["content"][0]["text"]


async def test_who_hangs_up_while_a_response_is_read_leaves_nothing_behind(gateway: Gateway) -> None:
    fill(gateway, *("x" for _ in range(5000)))
    for _ in range(20):
        peer = await RawPeer.connect(gateway.port)
        await peer.send(b"GET /v1/responses/demo HTTP/1.1\r\n\r\n")
        await turn(2)
        peer.reset()
    await is_over(gateway)
