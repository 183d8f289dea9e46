"""The callback handler with models of LangChain; `tests/test_sdks.py` runs this where LangChain is installed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from deltawire.gateway.client import Publisher, Subscriber
from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import Data, Error, MessageStop, Thinking, ToolDelta, Usage
from tests.support.sdk_answers import STREAM, ids_of, read, text_of

pytest.importorskip("langchain_core")

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from deltawire.gateway.integrations.langchain import AnswerCancelled, StreamHandler

CALL = {"name": "get", "args": '{"a":', "id": "t", "index": 0, "type": "tool_call_chunk"}
REST = {"name": None, "args": "1}", "id": None, "index": 0, "type": "tool_call_chunk"}
COUNTS = {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}
CHUNKS = [
    AIMessageChunk([{"type": "reasoning", "reasoning": "Hm"}]),
    AIMessageChunk("grüße "),
    AIMessageChunk([{"type": "text", "text": "🌍"}]),
    AIMessageChunk("", tool_call_chunks=[CALL]),
    AIMessageChunk("", tool_call_chunks=[REST]),
    AIMessageChunk("", response_metadata={"finish_reason": "tool_calls"}, usage_metadata=COUNTS),
]


class Model(BaseChatModel):  # type: ignore[misc]  # LangChain is not installed where types are checked
    """A model that yields chunks; an exception is raised in its place, and an event is waited for."""

    streaming: bool = False
    chunks: list[Any]
    asked: list[int] = []  # noqa: RUF012 - a field of pydantic, which copies it

    @property
    def _llm_type(self) -> str:
        return "test"

    def _generate(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        for number, chunk in enumerate(self.chunks):
            self.asked.append(number)
            if isinstance(chunk, Exception):
                raise chunk
            if isinstance(chunk, asyncio.Event):
                await chunk.wait()
            else:
                yield ChatGenerationChunk(message=chunk)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway(Settings(port=0, drain_timeout=0)) as running:
        yield running


async def stop_of(url: str) -> tuple[list[Data], MessageStop]:
    """The events of the first message, and its stop."""
    events = await read(url)
    assert isinstance(events[-1], MessageStop)
    return events, events[-1]


async def test_what_a_model_streams_is_published(gateway: Gateway) -> None:
    async with Publisher(gateway.url, STREAM) as publisher:
        answer = await Model(streaming=True, chunks=CHUNKS, callbacks=[StreamHandler(publisher)]).ainvoke("Hi")
    events, stop = await stop_of(gateway.url)
    assert answer.text == text_of(events) == "grüße 🌍"
    assert "".join(data.thinking for data in events if isinstance(data, Thinking)) == "Hm"
    arguments = "".join(data.partial_json for data in events if isinstance(data, ToolDelta))
    assert json.loads(arguments) == {"a": 1}
    [usage] = [data for data in events if isinstance(data, Usage)]
    assert (usage.prompt_tokens, usage.completion_tokens, stop.stop_reason) == (3, 5, "tool_calls")


async def test_each_call_of_a_model_is_a_message(gateway: Gateway) -> None:
    async with Publisher(gateway.url, STREAM) as publisher:
        model = Model(streaming=True, chunks=CHUNKS, callbacks=[StreamHandler(publisher)])
        for _ in range(2):
            await model.ainvoke("Hi")
    first, second = ids_of(await read(gateway.url, upto=2))
    assert first != second


async def test_a_call_that_fails_is_told_to_readers(gateway: Gateway) -> None:
    async with Publisher(gateway.url, STREAM) as publisher:
        model = Model(
            streaming=True, chunks=[*CHUNKS[:2], RuntimeError("sk-secret")], callbacks=[StreamHandler(publisher)]
        )
        with pytest.raises(RuntimeError, match="sk-secret"):
            await model.ainvoke("Hi")
    events, stop = await stop_of(gateway.url)
    assert stop.stop_reason == "error"
    [error] = [data for data in events if isinstance(data, Error)]
    assert "sk-secret" not in error.error


async def test_a_readers_cancel_ends_the_call(gateway: Gateway) -> None:
    goes_on = asyncio.Event()
    async with Publisher(gateway.url, STREAM) as publisher:
        handler = StreamHandler(publisher)
        model = Model(streaming=True, chunks=[CHUNKS[1], goes_on, *([CHUNKS[2]] * 1000)], callbacks=[handler])
        call = asyncio.create_task(model.ainvoke("Hi"))
        async with Subscriber(gateway.url, STREAM) as reader:
            await anext(reader)
            assert await reader.signal("cancel") == 1
            events, stop = await stop_of(gateway.url)
            goes_on.set()
            with pytest.raises(AnswerCancelled):
                await call
    assert (text_of(events), stop.stop_reason) == ("grüße ", "cancelled")
    assert len(model.asked) == 3, "the model was left at the next chunk"
