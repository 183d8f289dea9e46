from __future__ import annotations

import json
from typing import Any

import pytest

from deltawire.protocol.events import (
    ContentEnd,
    ContentStart,
    Data,
    Error,
    Extension,
    MessageStart,
    MessageStop,
    TextDelta,
    Thinking,
    ToolDelta,
    Usage,
)
from deltawire.protocol.providers import AISDK

START = {"type": "start", "messageId": "m-1"}
FINISH = {"type": "finish", "finishReason": "stop"}
STARTED = MessageStart("m-1", provider="ai-sdk")
STOPPED = MessageStop("m-1", "stop")
DONE = b"data: [DONE]\n\n"


def translate(*payloads: dict[str, Any] | bytes) -> list[Data]:
    translator = AISDK()
    out: list[Data] = []
    for payload in payloads:
        body = payload if isinstance(payload, bytes) else b"data: %b\n\n" % json.dumps(payload).encode()
        out += translator.feed(body)
    return out + translator.finish()


def inside(*payloads: dict[str, Any]) -> list[Data]:
    """What payloads become between the start and the stop of a message that finishes."""
    out = translate(START, *payloads, FINISH, DONE)
    assert (out[0], out[-1]) == (STARTED, STOPPED)
    return out[1:-1]


def chunk(kind: str, part_id: str = "0", **fields: Any) -> dict[str, Any]:
    return {"type": kind, "id": part_id, **fields}


def tool(kind: str, call_id: Any = "c", **fields: Any) -> dict[str, Any]:
    return {"type": f"tool-{kind}", "toolCallId": call_id, **fields}


def extension(name: str, data: dict[str, Any]) -> Extension:
    return Extension("ai-sdk", name, data)


def test_a_whole_answer_becomes_its_events() -> None:
    assert inside(
        chunk("reasoning-start", "r"),
        chunk("reasoning-delta", "r", delta="Hm"),
        chunk("reasoning-end", "r"),
        chunk("text-start"),
        chunk("text-delta", delta="Hel"),
        chunk("text-delta", delta=""),
        chunk("text-delta", delta="lo"),
        chunk("text-end"),
        tool("input-start", toolName="get"),
        tool("input-delta", inputTextDelta='{"a":'),
        tool("input-delta", inputTextDelta=" 1}"),
        tool("input-available", toolName="get", input={"a": 1}),
    ) == [
        ContentStart(0, "thinking", "r"),
        Thinking("Hm", 0),
        ContentEnd(0),
        ContentStart(1, "text", "0"),
        TextDelta("Hel", 1),
        TextDelta("lo", 1),
        ContentEnd(1),
        ContentStart(2, "tool_use", "c", "get"),
        ToolDelta(2, '{"a":'),
        ToolDelta(2, " 1}"),
        ContentEnd(2),
    ]


def test_parts_in_parallel_are_blocks_of_their_own() -> None:
    assert inside(
        chunk("text-start", "a"),
        chunk("text-start", "b"),
        tool("input-start", toolName="f"),
        chunk("text-delta", "b", delta="x"),
        tool("input-delta", inputTextDelta="[]"),
        chunk("text-delta", "a", delta="y"),
        chunk("text-end", "a"),
    ) == [
        ContentStart(0, "text", "a"),
        ContentStart(1, "text", "b"),
        ContentStart(2, "tool_use", "c", "f"),
        TextDelta("x", 1),
        ToolDelta(2, "[]"),
        TextDelta("y", 0),
        ContentEnd(0),
        ContentEnd(1),
        ContentEnd(2),
    ]


def test_an_id_that_comes_again_is_another_block_but_not_one_of_another_sort() -> None:
    text = (chunk("text-start"), chunk("text-delta", delta="a"), chunk("text-end"))
    thinking = (chunk("reasoning-start"), chunk("reasoning-delta", delta="b"))
    out = inside(*text, *thinking, *text)
    assert [(data.index, data.kind) for data in out if isinstance(data, ContentStart)] == [
        (0, "text"),
        (1, "thinking"),
        (2, "text"),
    ]


@pytest.mark.parametrize(
    ("given", "arguments"),
    [({"a": "ü"}, '{"a":"ü"}'), ({}, "{}"), ("free text", "free text"), ([1], "[1]"), (7, "7")],
)
def test_an_input_that_comes_whole_is_told_whole(given: object, arguments: str) -> None:
    assert inside(tool("input-available", toolName="f", input=given)) == [
        ContentStart(0, "tool_use", "c", "f"),
        ToolDelta(0, arguments),
        ContentEnd(0),
    ]
    assert inside(tool("input-start", toolName="f"), tool("input-available", toolName="f", input=given))[
        1
    ] == ToolDelta(0, arguments)


def test_an_input_that_differs_from_its_deltas_is_an_extension() -> None:
    out = inside(
        tool("input-start", toolName="f"),
        tool("input-delta", inputTextDelta='{"a":1'),
        tool("input-available", toolName="g", input={"a": 2}),
    )
    assert out[2:] == [
        ContentEnd(0),
        extension("tool-input-available", tool("input-available", toolName="g", input={"a": 2})),
    ]


def test_an_input_that_is_refused_ends_its_block_and_says_why() -> None:
    out = inside(tool("input-start", toolName="f"), tool("input-error", toolName="f", input="x", errorText="No"))
    assert out == [
        ContentStart(0, "tool_use", "c", "f"),
        ToolDelta(0, "x"),
        ContentEnd(0),
        extension("tool-input-error", tool("input-error", errorText="No")),
    ]


def test_what_the_events_of_a_tool_repeat_is_told_once() -> None:
    same = {"dynamic": True, "title": "T", "providerMetadata": {"p": {"x": 1}}}
    out = inside(tool("input-start", toolName="f", **same), tool("input-available", toolName="f", input={}, **same))
    assert [data for data in out if isinstance(data, Extension)] == [
        extension("tool-input-start", tool("input-start", **same))
    ]


@pytest.mark.parametrize(
    "payload",
    [
        {"type": "start-step"},
        {"type": "finish-step"},
        {"type": "reset-step"},
        {"type": "source-url", "sourceId": "s", "url": "u"},
        {"type": "file", "url": "data:", "mediaType": "image/png"},
        {"type": "data-weather", "id": "d", "data": {"x": 1}, "transient": True},
        {"type": "custom", "kind": "a.b"},
        tool("output-available", output={"x": 1}),
        tool("output-error", errorText="No"),
        tool("approval-request", approvalId="a"),
        {"type": "message-metadata", "messageMetadata": {"x": 1}},
        {"type": "message-metadata", "messageMetadata": "odd"},
        {"type": "novel", "x": 1},
        chunk("text-end", citations=[{"x": 1}]),
        chunk("text-delta", delta=7),
    ],
)
def test_what_has_no_event_is_an_extension_with_the_whole_of_it(payload: dict[str, Any]) -> None:
    assert inside(payload) == [extension(payload["type"], payload)]


def test_what_a_delta_has_beside_its_text_is_an_extension_that_says_where_it_belongs() -> None:
    out = inside(chunk("text-delta", delta="a", providerMetadata={"p": {"x": 1}}))
    assert out[:3] == [
        ContentStart(0, "text", "0"),
        TextDelta("a", 0),
        extension("text-delta", chunk("text-delta", providerMetadata={"p": {"x": 1}})),
    ]


@pytest.mark.parametrize("name", ["usage", "totalUsage"])
def test_usage_in_metadata_is_usage(name: str) -> None:
    usage = {"inputTokens": 3, "outputTokens": 5, "totalTokens": 8, "cachedInputTokens": 1, "reasoningTokens": 2}
    details = {
        "inputTokens": 3,
        "outputTokens": 5,
        "inputTokenDetails": {"cacheReadTokens": 1},
        "outputTokenDetails": {"reasoningTokens": 2},
    }
    for given in (usage, details):
        out = translate(START, FINISH | {"messageMetadata": {name: given}})
        assert out == [STARTED, Usage(3, 5, 8, 1, 2), STOPPED]


@pytest.mark.parametrize("reason", ["length", "content-filter", "tool-calls", "error", "interrupted", "other"])
def test_a_message_stops_for_its_reason(reason: str) -> None:
    assert translate(START, {"type": "finish", "finishReason": reason})[-1] == MessageStop("m-1", reason)


def test_a_message_that_finishes_without_a_reason_has_none_that_is_known() -> None:
    assert translate(START, {"type": "finish"})[-1] == MessageStop("m-1", "unknown")
    assert translate(START, {"type": "error", "errorText": "No"}, {"type": "finish"})[-1] == MessageStop("m-1", "error")


def test_a_message_that_is_aborted_was_cancelled() -> None:
    assert translate(START, chunk("text-delta", delta="a"), {"type": "abort", "reason": "user"}, DONE)[-3:] == [
        extension("abort", {"type": "abort", "reason": "user"}),
        ContentEnd(0),
        MessageStop("m-1", "cancelled"),
    ]


def test_an_error_is_an_error() -> None:
    assert translate(START, {"type": "error", "errorText": "No"}, DONE) == [
        STARTED,
        Error("No"),
        MessageStop("m-1", "error"),
    ]
    assert translate({"type": "error", "error": {"message": "No", "code": "c"}}) == [Error("No", "c")]


@pytest.mark.parametrize("end", [b"", DONE])
def test_a_stream_that_just_ends_is_closed_as_incomplete(end: bytes) -> None:
    assert translate(START, chunk("text-delta", delta="a"), end)[-1] == MessageStop("m-1", "incomplete")


def test_no_reason_vouches_for_an_answer_that_is_torn() -> None:
    out = translate(START, b'data: {"torn\n\n', FINISH, DONE)
    assert out[-2:] == [extension("finish", FINISH), MessageStop("m-1", "error")]


def test_a_message_whose_start_is_missing_or_has_no_id_is_made() -> None:
    assert translate(chunk("text-delta", delta="a"), FINISH)[0] == MessageStart("ai-sdk-1", provider="ai-sdk")
    assert translate({"type": "start"}, FINISH)[0] == MessageStart("ai-sdk-1", provider="ai-sdk")
    late = translate(chunk("text-delta", delta="a"), START, FINISH)
    assert late[3] == extension("start", START)
    assert late[-1] == MessageStop("ai-sdk-1", "stop")


def test_another_start_begins_another_message_if_it_has_another_id() -> None:
    out = translate(START, {"type": "start"}, START, {"type": "start", "messageId": "m-2"}, FINISH)
    assert out == [
        STARTED,
        MessageStop("m-1", "incomplete"),
        MessageStart("m-2", provider="ai-sdk"),
        MessageStop("m-2", "stop"),
    ]


def test_an_end_without_a_message_is_an_extension() -> None:
    assert translate(FINISH) == [extension("finish", FINISH)]
    abort = {"type": "abort", "reason": "user"}
    assert translate(abort) == [extension("abort", abort)]
