"""Bodies that are made to cost much: the time for each format is linear in their bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from deltawire.protocol.providers import TRANSLATORS
from tests.support.provider_bodies import FORMS

Make = Callable[[int], list[dict[str, Any]]]


def item(change: str, number: int) -> dict[str, Any]:
    call = {"type": "function_call", "id": f"i{number}"}
    return {"type": f"response.output_item.{change}", "output_index": number, "item": call}


def candidate(*parts: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return {"candidates": [{"index": index, "content": {"parts": list(parts)}, "finishReason": "STOP"}]}


def call(**fields: Any) -> dict[str, Any]:
    return {"functionCall": {"willContinue": True, **fields}}


def part(number: int) -> dict[str, Any]:
    return {"type": "response.content_part.added", "content_index": number, "part": {"type": "output_text"}}


CASES: dict[str, tuple[str, Make]] = {
    "items that open": ("openai-responses-sse", lambda n: [item("added", n)]),
    "parts that open, items that end": ("openai-responses-sse", lambda n: [part(n), item("done", 1)]),
    "texts that come once more": (
        "openai-responses-sse",
        lambda _: [
            {"type": "response.output_text.delta", "delta": "x" * 50},
            {"type": "response.output_text.done", "text": "y"},
        ],
    ),
    "ids": ("openai-responses-sse", lambda n: [{"type": "response.refusal.delta", "item_id": f"{n}", "delta": "x"}]),
    "responses": ("openai-responses-sse", lambda n: [{"type": "response.created", "response": {"id": f"{n}"}}]),
    "pieces of arguments": (
        "gemini-sse",
        lambda n: [candidate(call(partialArgs=[{"jsonPath": f"$.a[{n}]", "stringValue": "x"}]))],
    ),
    "candidates": ("gemini-sse", lambda n: [candidate({"text": "x"}, index=n)]),
    "turns": ("gemini-sse", lambda n: [candidate({"text": "x", "thought": n % 2 == 0})]),
    "calls": ("ollama-ndjson", lambda _: [{"message": {"tool_calls": [{"function": {"name": "f"}}]}}]),
    "texts that open": ("ai-sdk-sse", lambda n: [{"type": "text-start", "id": f"{n}"}]),
    "inputs": (
        "ai-sdk-sse",
        lambda n: [
            {"type": "tool-input-delta", "toolCallId": "c", "inputTextDelta": "[" * 20},
            {"type": "tool-input-available", "toolCallId": f"{n}", "input": 1},
        ],
    ),
    "chunks": ("ag-ui-sse", lambda n: [{"type": "TEXT_MESSAGE_CHUNK", "messageId": f"{n}", "delta": "x"}]),
    "chunks of two sorts": (
        "ag-ui-sse",
        lambda _: [{"type": "TEXT_MESSAGE_CHUNK", "delta": "x"}, {"type": "TOOL_CALL_CHUNK", "delta": "x"}],
    ),
}


@pytest.mark.timed
@pytest.mark.parametrize(("name", "make"), CASES.values(), ids=CASES)
def test_time_is_linear_in_hostile_bodies(name: str, make: Make) -> None:
    def seconds(count: int) -> float:
        body = FORMS[name].encode(*(chunk for number in range(count) for chunk in make(number)))
        translator = TRANSLATORS[name]()
        start = time.thread_time()
        translator.feed(body)
        translator.finish()
        return time.thread_time() - start

    assert any(seconds(2400) < 0.05 + 24 * seconds(300) for _ in range(5)), "quadratic would be 64 times the work"
