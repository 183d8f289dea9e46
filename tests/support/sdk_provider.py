"""A provider in this process: the answer that each SDK asks for, as the bytes of a body."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any, Self

from tests.support.serving import listening


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
        self._running = AsyncExitStack()
        self.url = ""
        self.was_left = False

    async def __aenter__(self) -> Self:
        self.url = f"http://127.0.0.1:{await self._running.enter_async_context(listening(self._answer))}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()

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
