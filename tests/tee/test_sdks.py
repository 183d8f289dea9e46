"""`tee` around the streams of real SDKs, each against a provider in this process.

Each test is skipped where its SDK is not installed; `tests/test_sdks.py` makes an environment that has them all.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import pytest
from msgspec import structs

from deltawire.gateway.client import Publisher
from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.gateway.tee import tee
from deltawire.protocol.events import Data, Error, Extension, MessageStart, MessageStop, Thinking, ToolDelta, Usage
from deltawire.protocol.providers import ANY, TRANSLATORS
from tests.support.sdk_answers import STREAM, read, text_of
from tests.support.waiting import eventually


def sse(*payloads: dict[str, Any], done: bool = False) -> list[bytes]:
    frames = [
        b"event: %b\ndata: %b\n\n" % (str(item.get("type", "message")).encode(), json.dumps(item).encode())
        for item in payloads
    ]
    return [*frames, b"data: [DONE]\n\n"] if done else frames


def chat(delta: dict[str, Any], **choice: Any) -> dict[str, Any]:
    choices = [{"index": 0, "delta": delta, "finish_reason": None} | choice]
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}


CALL = {"index": 0, "id": "t", "type": "function", "function": {"name": "get", "arguments": '{"a":'}}
USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
CHAT = sse(
    chat({"role": "assistant", "content": ""}),
    chat({"reasoning_content": "Hm"}),
    chat({"content": "grüße "}),
    chat({"content": "🌍"}),
    chat({"tool_calls": [CALL]}),
    chat({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
    chat({}, finish_reason="tool_calls"),
    chat({}) | {"choices": [], "usage": USAGE},
    done=True,
)

RESPONSE: dict[str, Any] = {
    "id": "r-1",
    "object": "response",
    "created_at": 1,
    "model": "m",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "status": "in_progress",
}
PART = {"type": "output_text", "text": "grüße 🌍", "annotations": []}
MESSAGE = {"id": "m-1", "type": "message", "role": "assistant", "status": "completed", "content": [PART]}
FUNCTION = {"id": "f-1", "type": "function_call", "call_id": "t", "name": "get", "arguments": '{"a":1}'}
REASONING = {"id": "g-1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]}


def numbered(*events: dict[str, Any]) -> list[bytes]:
    return sse(*({**event, "sequence_number": number} for number, event in enumerate(events)))


RESPONSES = numbered(
    {"type": "response.created", "response": RESPONSE},
    {"type": "response.output_item.added", "output_index": 0, "item": {**REASONING, "summary": []}},
    {
        "type": "response.reasoning_summary_part.added",
        "output_index": 0,
        "item_id": "g-1",
        "summary_index": 0,
        "part": {"type": "summary_text", "text": ""},
    },
    {
        "type": "response.reasoning_summary_text.delta",
        "output_index": 0,
        "item_id": "g-1",
        "summary_index": 0,
        "delta": "Hm",
    },
    {"type": "response.output_item.done", "output_index": 0, "item": REASONING},
    {"type": "response.output_item.added", "output_index": 1, "item": {**MESSAGE, "content": []}},
    {
        "type": "response.content_part.added",
        "output_index": 1,
        "item_id": "m-1",
        "content_index": 0,
        "part": {**PART, "text": ""},
    },
    *(
        {
            "type": "response.output_text.delta",
            "output_index": 1,
            "item_id": "m-1",
            "content_index": 0,
            "delta": delta,
            "logprobs": [],
        }
        for delta in ("grüße ", "🌍")
    ),
    {
        "type": "response.output_text.done",
        "output_index": 1,
        "item_id": "m-1",
        "content_index": 0,
        "text": "grüße 🌍",
        "logprobs": [],
    },
    {"type": "response.content_part.done", "output_index": 1, "item_id": "m-1", "content_index": 0, "part": PART},
    {"type": "response.output_item.done", "output_index": 1, "item": MESSAGE},
    {"type": "response.output_item.added", "output_index": 2, "item": {**FUNCTION, "arguments": ""}},
    {
        "type": "response.function_call_arguments.delta",
        "output_index": 2,
        "item_id": "f-1",
        "delta": '{"a":1}',
    },
    {
        "type": "response.function_call_arguments.done",
        "output_index": 2,
        "item_id": "f-1",
        "name": "get",
        "arguments": '{"a":1}',
    },
    {"type": "response.output_item.done", "output_index": 2, "item": FUNCTION},
    {
        "type": "response.completed",
        "response": {
            **RESPONSE,
            "status": "completed",
            "output": [REASONING, MESSAGE, FUNCTION],
            "usage": {
                "input_tokens": 3,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 5,
                "output_tokens_details": {"reasoning_tokens": 1},
                "total_tokens": 8,
            },
        },
    },
)

ANTHROPIC = sse(
    {
        "type": "message_start",
        "message": {
            "id": "msg-1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 3, "output_tokens": 1},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "grüße "}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "🌍"}},
    {"type": "content_block_stop", "index": 1},
    {
        "type": "content_block_start",
        "index": 2,
        "content_block": {"type": "tool_use", "id": "t", "name": "get", "input": {}},
    },
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"a":1}'}},
    {"type": "content_block_stop", "index": 2},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 5},
    },
    {"type": "message_stop"},
)


def candidate(*parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    content = {"parts": list(parts), "role": "model"}
    return {"candidates": [{"content": content, "index": 0} | fields], "modelVersion": "m", "responseId": "g-1"}


GEMINI = [
    b"data: %b\r\n\r\n" % json.dumps(item).encode()
    for item in (
        candidate({"text": "Hm", "thought": True}),
        candidate({"text": "grüße "}),
        candidate({"text": "🌍"}),
        candidate({"functionCall": {"name": "get", "args": {"a": 1}}, "thoughtSignature": "c2ln"}),
        candidate({"text": ""}, finishReason="STOP")
        | {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 5, "totalTokenCount": 8}},
    )
]

OLLAMA = [
    json.dumps({"model": "m", "created_at": "2026-01-02T03:04:05.678Z", "done": False} | item).encode() + b"\n"
    for item in (
        {"message": {"role": "assistant", "content": "", "thinking": "Hm"}},
        {"message": {"role": "assistant", "content": "grüße "}},
        {"message": {"role": "assistant", "content": "🌍"}},
        {
            "message": {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"name": "get", "arguments": {"a": 1}}}],
            }
        },
        {
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": "stop",
            "prompt_eval_count": 3,
            "eval_count": 5,
        },
    )
]


class Provider:
    """An HTTP server that answers every request with one body, and after it waits for the client to leave if asked."""

    def __init__(self, frames: list[bytes], *, stays: bool = False) -> None:
        self._frames = frames
        self._stays = stays
        self._server: asyncio.Server | None = None
        self.was_left = False

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        for frame in self._frames:
            writer.write(frame)
            await writer.drain()
        if self._stays:
            while await reader.read(65536):
                pass
            self.was_left = True
        writer.close()


def openai(url: str) -> Any:
    sdk = pytest.importorskip("openai")
    return sdk.AsyncOpenAI(api_key="sk-secret", base_url=f"{url}/v1", max_retries=0)


def anthropic(url: str) -> Any:
    sdk = pytest.importorskip("anthropic")
    return sdk.AsyncAnthropic(api_key="sk-secret", base_url=url, max_retries=0)


MESSAGES: list[Any] = [{"role": "user", "content": "Hi"}]


def openai_chat(url: str) -> Any:
    return openai(url).chat.completions.create(model="m", messages=MESSAGES, stream=True)


def openai_responses(url: str) -> Any:
    return openai(url).responses.create(model="m", input="Hi", stream=True)


def anthropic_messages(url: str) -> Any:
    return anthropic(url).messages.create(model="m", max_tokens=9, messages=MESSAGES, stream=True)


def gemini(url: str) -> Any:
    genai = pytest.importorskip("google.genai")
    options = genai.types.HttpOptions(base_url=url)
    client = genai.Client(api_key="sk-secret", http_options=options)
    return client.aio.models.generate_content_stream(model="m", contents="Hi")


def ollama(url: str) -> Any:
    sdk = pytest.importorskip("ollama")
    return sdk.AsyncClient(host=url).chat(model="m", messages=MESSAGES, stream=True)


Ask = Callable[[str], Any]
CASES: dict[str, tuple[str, list[bytes], Ask]] = {
    "openai chat": ("openai-chat-sse", CHAT, openai_chat),
    "openai responses": ("openai-responses-sse", RESPONSES, openai_responses),
    "anthropic": ("anthropic-sse", ANTHROPIC, anthropic_messages),
    "google": ("gemini-sse", GEMINI, gemini),
    "ollama": ("ollama-ndjson", OLLAMA, ollama),
}
sdks = pytest.mark.parametrize(("form", "frames", "ask"), CASES.values(), ids=CASES)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway(Settings(port=0, drain_timeout=0)) as running:
        yield running


def translate(form: str, frames: list[bytes]) -> list[Data]:
    translator = TRANSLATORS[form]()
    return translator.feed(b"".join(frames)) + translator.finish()


def without_ids(events: list[Data]) -> list[Data]:
    """Events without the ids of messages, which may be made for each answer."""
    return [
        structs.replace(data, message_id="…") if isinstance(data, (MessageStart, MessageStop)) else data
        for data in events
    ]


@sdks
@pytest.mark.parametrize("is_named", [True, False])
async def test_readers_get_what_the_body_says(
    gateway: Gateway, form: str, frames: list[bytes], ask: Ask, *, is_named: bool
) -> None:
    async with Provider(frames) as provider:
        async with tee(ask(provider.url), Publisher(gateway.url, STREAM), format=form if is_named else ANY) as teed:
            chunks = [item async for item in teed]
        assert (teed.dropped, teed.failure) == (0, None)
    assert len(chunks) > 4
    assert all(hasattr(item, "model_dump") for item in chunks), "models of the SDK"
    events = await read(gateway.url)
    assert without_ids(events) == without_ids(translate(form, frames))
    assert text_of(events) == "grüße 🌍"
    assert "".join(data.thinking for data in events if isinstance(data, Thinking)) == "Hm"
    arguments = "".join(data.partial_json for data in events if isinstance(data, ToolDelta))
    assert json.loads(arguments) == {"a": 1}
    [*_, usage] = [data for data in events if isinstance(data, Usage)]
    assert (usage.prompt_tokens, usage.completion_tokens) == (3, 5)


async def openai_chat_helper(url: str) -> AsyncIterator[Any]:
    async with openai(url).chat.completions.stream(model="m", messages=MESSAGES) as stream:
        async for item in stream:
            yield item


async def openai_responses_helper(url: str) -> AsyncIterator[Any]:
    async with openai(url).responses.stream(model="m", input="Hi") as stream:
        async for item in stream:
            yield item


async def anthropic_helper(url: str) -> AsyncIterator[Any]:
    async with anthropic(url).messages.stream(model="m", max_tokens=9, messages=MESSAGES) as stream:
        async for item in stream:
            yield item


@pytest.mark.parametrize(
    ("form", "frames", "ask"),
    [
        ("openai-chat-sse", CHAT, openai_chat_helper),
        ("openai-responses-sse", RESPONSES, openai_responses_helper),
        ("anthropic-sse", ANTHROPIC, anthropic_helper),
    ],
    ids=["openai chat", "openai responses", "anthropic"],
)
async def test_what_the_helper_of_an_sdk_adds_changes_nothing(
    gateway: Gateway, form: str, frames: list[bytes], ask: Ask
) -> None:
    async with Provider(frames) as provider:
        async for _ in tee(ask(provider.url), Publisher(gateway.url, STREAM)):
            pass
    assert await read(gateway.url) == translate(form, frames)


ERRORS = {
    "openai chat": [*CHAT[:3], b'data: {"error": {"message": "No", "type": "server_error", "code": 503}}\n\n'],
    "openai responses": [*RESPONSES[:2], *sse({"type": "error", "error": {"code": "server_error", "message": "No"}})],
    "anthropic": [*ANTHROPIC[:3], *sse({"type": "error", "error": {"type": "overloaded_error", "message": "No"}})],
    "google": [*GEMINI[:2], b'data: {"error": {"message": "No", "code": 503, "status": "UNAVAILABLE"}}\r\n\r\n'],
    "ollama": [*OLLAMA[:2], b'{"error": "No"}\n'],
}


@pytest.mark.parametrize("name", CASES)
async def test_an_error_amid_an_answer_is_told_as_the_body_tells_it(gateway: Gateway, name: str) -> None:
    form, _, ask = CASES[name]
    frames = ERRORS[name]
    async with Provider(frames) as provider:
        teed = tee(ask(provider.url), Publisher(gateway.url, STREAM))
        with pytest.raises(Exception, match="No"):
            async for _ in teed:
                pass
    events = await read(gateway.url)
    told = [data for data in events if isinstance(data, Error)]
    assert told == [data for data in translate(form, frames) if isinstance(data, Error)]
    assert isinstance(events[-1], MessageStop)
    assert events[-1].stop_reason == "error"
    assert "sk-secret" not in repr(events)


@sdks
async def test_a_program_that_leaves_leaves_the_provider(
    gateway: Gateway, form: str, frames: list[bytes], ask: Ask
) -> None:
    async with Provider(frames[:3], stays=True) as provider:
        async with tee(ask(provider.url), Publisher(gateway.url, STREAM), format=form) as teed:
            await anext(teed)
        await eventually(lambda: provider.was_left)
    events = await read(gateway.url)
    assert isinstance(events[-1], MessageStop)
    assert events[-1].stop_reason == "incomplete"


async def test_events_of_ag_ui_are_read_as_objects_and_as_encoded(gateway: Gateway) -> None:
    ag_ui = pytest.importorskip("ag_ui.core")
    encoder = pytest.importorskip("ag_ui.encoder").EventEncoder()
    chunks = [
        ag_ui.RunStartedEvent(thread_id="th", run_id="run"),
        ag_ui.ReasoningMessageStartEvent(message_id="r"),
        ag_ui.ReasoningMessageContentEvent(message_id="r", delta="Hm"),
        ag_ui.ReasoningMessageEndEvent(message_id="r"),
        ag_ui.TextMessageStartEvent(message_id="m"),
        ag_ui.TextMessageContentEvent(message_id="m", delta="grüße 🌍"),
        ag_ui.TextMessageEndEvent(message_id="m"),
        ag_ui.ToolCallChunkEvent(tool_call_id="t", tool_call_name="get", delta='{"a":1}'),
        ag_ui.StateDeltaEvent(delta=[{"op": "add", "path": "/x", "value": 1}]),
        ag_ui.RunFinishedEvent(
            thread_id="th",
            run_id="run",
            outcome=ag_ui.RunFinishedCancelledOutcome(),
            usage=[ag_ui.TokenUsage(input_tokens=3, output_tokens=5)],
        ),
    ]

    async def stream(items: list[Any]) -> AsyncIterator[Any]:
        for item in items:
            yield item

    async with Publisher(gateway.url, STREAM) as publisher:
        for items in (chunks, [encoder.encode(item) for item in chunks]):
            assert [item async for item in tee(stream(items), publisher)] == items
    events = await read(gateway.url, upto=2)
    assert events[: len(events) // 2] == events[len(events) // 2 :]
    assert text_of(events[: len(events) // 2]) == "grüße 🌍"
    assert events[-1] == MessageStop("run", "cancelled")
    assert {data.name for data in events if isinstance(data, Extension)} == {"RUN_STARTED", "STATE_DELTA"}
