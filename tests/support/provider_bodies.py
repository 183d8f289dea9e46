"""A body of each provider's format, and what tests of all translators have to know of a format."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ANTHROPIC: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 5, "service_tier": "s"}},
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ü 🌍"}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "tool_use", "id": "t", "name": "n", "input": {"a": 1}},
    },
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": "E"},
        "usage": {"output_tokens": 9},
    },
    {"type": "error", "error": {"type": "api_error", "message": "No"}},
    {"type": "message_stop"},
]

OPENAI_CHAT: list[dict[str, Any]] = [
    {"id": "c-1", "model": "m", "created": 1, "choices": [{"index": 0, "delta": {"role": "assistant"}}]},
    {
        "id": "c-1",
        "choices": [{"index": 0, "delta": {"reasoning": "Hm"}, "logprobs": {"content": [{"token": "x"}]}}],
    },
    {"id": "c-1", "choices": [{"index": 1, "delta": {"content": "grüße 🌍"}}]},
    {
        "id": "c-1",
        "choices": [
            {"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "t", "function": {"arguments": "{}"}}]}},
        ],
    },
    {"id": "c-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "service_tier": "default"},
    {"error": {"message": "No", "code": 502}},
    {"id": "c-1", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 9, "audio_tokens": 0}},
]

OPENAI_RESPONSES: list[dict[str, Any]] = [
    {"type": "response.created", "sequence_number": 0, "response": {"id": "r-1", "model": "m", "store": True}},
    {
        "type": "response.output_item.added",
        "sequence_number": 1,
        "output_index": 0,
        "item": {"id": "rs-1", "type": "reasoning", "summary": []},
    },
    {
        "type": "response.reasoning_summary_text.delta",
        "sequence_number": 2,
        "output_index": 0,
        "summary_index": 0,
        "item_id": "rs-1",
        "delta": "Hm",
    },
    {
        "type": "response.output_item.done",
        "output_index": 0,
        "item": {
            "id": "rs-1",
            "type": "reasoning",
            "encrypted_content": "e",
            "summary": [{"type": "summary_text", "text": "Hm"}],
        },
    },
    {
        "type": "response.content_part.added",
        "output_index": 1,
        "content_index": 0,
        "part": {"type": "output_text", "text": "", "annotations": []},
    },
    {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "grüße 🌍"},
    {
        "type": "response.output_item.added",
        "output_index": 2,
        "item": {"id": "fc-1", "type": "function_call", "call_id": "t", "name": "n", "arguments": ""},
    },
    {"type": "response.function_call_arguments.delta", "output_index": 2, "item_id": "fc-1", "delta": "{}"},
    {"type": "response.web_search_call.searching", "output_index": 3, "item_id": "ws-1"},
    {"type": "error", "code": "server_error", "message": "No"},
    {
        "type": "response.failed",
        "response": {
            "id": "r-1",
            "status": "failed",
            "error": {"code": "server_error", "message": "No"},
            "usage": {"input_tokens": 5, "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 2}, "x": 1},
        },
    },
]

GEMINI: list[dict[str, Any]] = [
    {
        "candidates": [{"content": {"parts": [{"text": "Hm", "thought": True}], "role": "model"}}],
        "modelVersion": "m",
        "responseId": "g-1",
    },
    {
        "candidates": [{"index": 1, "content": {"parts": [{"text": "grüße 🌍"}]}, "finishReason": "STOP"}],
        "responseId": "g-1",
    },
    {
        "candidates": [
            {
                "content": {"parts": [{"functionCall": {"id": "t", "name": "n", "args": {"a": 1}}}]},
                "safetyRatings": [{"category": "c"}],
            }
        ],
        "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 9, "trafficType": "x"},
    },
    {
        "candidates": [
            {"content": {"parts": [{"functionCall": {"name": "f", "willContinue": True}, "thoughtSignature": "s"}]}}
        ]
    },
    {
        "candidates": [
            {"content": {"parts": [{"functionCall": {"partialArgs": [{"jsonPath": "$.a", "stringValue": "ü"}]}}]}}
        ]
    },
    {"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}]},
    {"error": {"message": "No", "code": 503, "status": "UNAVAILABLE"}},
]

OLLAMA: list[dict[str, Any]] = [
    {"model": "m", "created_at": "2026-01-02T03:04:05.678Z", "message": {"role": "assistant", "thinking": "Hm"}},
    {"model": "m", "message": {"role": "assistant", "content": "grüße 🌍"}, "done": False},
    {
        "model": "m",
        "message": {
            "role": "assistant",
            "tool_calls": [{"function": {"index": 0, "name": "n", "arguments": {"a": 1}}}],
        },
        "logprobs": [{"token": "x"}],
    },
    {"error": "No"},
    {
        "model": "m",
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": "stop",
        "total_duration": 7,
        "prompt_eval_count": 5,
        "eval_count": 9,
    },
]

AI_SDK: list[dict[str, Any]] = [
    {"type": "start", "messageId": "a-1", "messageMetadata": {"x": 1}},
    {"type": "start-step"},
    {"type": "reasoning-start", "id": "r"},
    {"type": "reasoning-delta", "id": "r", "delta": "Hm", "providerMetadata": {"p": {"s": "x"}}},
    {"type": "reasoning-end", "id": "r"},
    {"type": "text-start", "id": "0"},
    {"type": "text-delta", "id": "0", "delta": "grüße 🌍"},
    {"type": "tool-input-start", "toolCallId": "t", "toolName": "n", "dynamic": True},
    {"type": "tool-input-delta", "toolCallId": "t", "inputTextDelta": '{"a":1}'},
    {"type": "tool-input-available", "toolCallId": "t", "toolName": "n", "input": {"a": 1}},
    {"type": "tool-output-available", "toolCallId": "t", "output": {"b": 2}},
    {"type": "data-x", "data": {"c": 3}},
    {"type": "error", "errorText": "No"},
    {
        "type": "finish",
        "finishReason": "stop",
        "messageMetadata": {"usage": {"inputTokens": 5, "outputTokens": 9, "novel": 1}},
    },
]

AG_UI: list[dict[str, Any]] = [
    {"type": "RUN_STARTED", "threadId": "th", "runId": "run-1", "timestamp": 1},
    {"type": "REASONING_MESSAGE_START", "messageId": "r", "role": "reasoning"},
    {"type": "REASONING_MESSAGE_CONTENT", "messageId": "r", "delta": "Hm"},
    {"type": "REASONING_MESSAGE_END", "messageId": "r"},
    {"type": "TEXT_MESSAGE_START", "messageId": "m-1", "role": "assistant"},
    {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m-1", "delta": "grüße 🌍", "rawEvent": {"x": 1}},
    {"type": "TOOL_CALL_START", "toolCallId": "t", "toolCallName": "n", "parentMessageId": "m-1"},
    {"type": "TOOL_CALL_ARGS", "toolCallId": "t", "delta": "{}"},
    {"type": "TOOL_CALL_RESULT", "messageId": "m-2", "toolCallId": "t", "content": "b"},
    {"type": "TEXT_MESSAGE_CHUNK", "messageId": "m-3", "delta": "x"},
    {"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/x", "value": 1}]},
    {"type": "error", "message": "No"},
    {
        "type": "RUN_FINISHED",
        "threadId": "th",
        "runId": "run-1",
        "result": "b",
        "usage": [{"model": "m", "inputTokens": 5, "outputTokens": 9}],
    },
]


def type_of(chunk: dict[str, Any]) -> str:
    return str(chunk.get("type", ""))


def error_of(chunk: dict[str, Any]) -> str:
    return "error" if "error" in chunk else ""


def nothing(_chunk: dict[str, Any]) -> str:
    return ""


@dataclass(frozen=True)
class Form:
    """One format.

    Attributes:
        name: as `deltawire publish --format` has it.
        provider: as events name it.
        chunks: one answer, which uses most of what the format has, and an error.
        delta: the chunk with a piece of text.
        event: what a chunk is called, on its `event:` line.
        end: what ends a body.
        has_lines: whether bodies are JSON lines.
    """

    name: str
    provider: str
    chunks: list[dict[str, Any]]
    delta: Callable[[str], dict[str, Any]]
    event: Callable[[dict[str, Any]], str] = nothing
    end: bytes = b""
    has_lines: bool = False

    def frame(self, text: str, event: str = "") -> bytes:
        """A chunk's JSON as it is sent."""
        if self.has_lines:
            return f"{text}\n".encode()
        return (f"event: {event}\n" if event else "").encode() + f"data: {text}\n\n".encode()

    def encode(self, *chunks: dict[str, Any]) -> bytes:
        """Chunks as they are sent."""
        return b"".join(
            self.frame(json.dumps(chunk, ensure_ascii=False, separators=(",", ":")), self.event(chunk))
            for chunk in chunks
        )

    @property
    def body(self) -> bytes:
        """The answer, as it is sent."""
        return self.encode(*self.chunks) + self.end

    @property
    def clean(self) -> list[dict[str, Any]]:
        """The answer without its error."""
        return [chunk for chunk in self.chunks if "error" not in chunk and chunk.get("type") != "error"]

    @property
    def unfinished(self) -> list[dict[str, Any]]:
        """The answer up to where something says that it ends, or fails."""
        ends = ('"error', "finish", "stop_reason", "response.failed", "done_reason", "RUN_FINISHED")
        place = next(n for n, chunk in enumerate(self.chunks) if any(word in json.dumps(chunk) for word in ends))
        return self.chunks[:place]


FORMS = {
    form.name: form
    for form in (
        Form(
            "anthropic-sse",
            "anthropic",
            ANTHROPIC,
            lambda text: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
            type_of,
        ),
        Form(
            "openai-chat-sse",
            "openai",
            OPENAI_CHAT,
            lambda text: {"choices": [{"delta": {"content": text}}]},
            error_of,
            end=b"data: [DONE]\n\n",
        ),
        Form(
            "openai-responses-sse",
            "openai",
            OPENAI_RESPONSES,
            lambda text: {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": text},
            type_of,
        ),
        Form(
            "gemini-sse",
            "gemini",
            GEMINI,
            lambda text: {"candidates": [{"content": {"parts": [{"text": text}]}}]},
        ),
        Form("ollama-ndjson", "ollama", OLLAMA, lambda text: {"message": {"content": text}}, has_lines=True),
        Form(
            "ai-sdk-sse",
            "ai-sdk",
            AI_SDK,
            lambda text: {"type": "text-delta", "id": "0", "delta": text},
            end=b"data: [DONE]\n\n",
        ),
        Form(
            "ag-ui-sse",
            "ag-ui",
            AG_UI,
            lambda text: {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m-1", "delta": text},
        ),
    )
}
"""By the name of the format."""
