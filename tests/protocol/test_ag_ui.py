from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import UNSET

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
from deltawire.protocol.providers import AGUI

START = {"type": "RUN_STARTED", "threadId": "th", "runId": "run"}
FINISH = {"type": "RUN_FINISHED", "threadId": "th", "runId": "run"}
STARTED = MessageStart("run", provider="ag-ui")
STOPPED = MessageStop("run", "success")


def translate(*payloads: dict[str, Any] | bytes) -> list[Data]:
    translator = AGUI()
    out: list[Data] = []
    for payload in payloads:
        body = payload if isinstance(payload, bytes) else b"data: %b\n\n" % json.dumps(payload).encode()
        out += translator.feed(body)
    return out + translator.finish()


def extension(name: str, data: dict[str, Any]) -> Extension:
    return Extension("ag-ui", name, data)


RUN = [STARTED, extension("RUN_STARTED", {"type": "RUN_STARTED", "threadId": "th"})]


def inside(*payloads: dict[str, Any]) -> list[Data]:
    """What payloads become between the start and the stop of a run that succeeds."""
    out = translate(START, *payloads, FINISH)
    assert (out[:2], out[-1]) == (RUN, STOPPED)
    return out[2:-1]


def text(change: str, message_id: str | None = "m", **fields: Any) -> dict[str, Any]:
    return {"type": f"TEXT_MESSAGE_{change}", "messageId": message_id, **fields}


def thinking(change: str, message_id: str | None = "r", **fields: Any) -> dict[str, Any]:
    return {"type": f"REASONING_MESSAGE_{change}", "messageId": message_id, **fields}


def call(change: str, call_id: str | None = "c", **fields: Any) -> dict[str, Any]:
    return {"type": f"TOOL_CALL_{change}", "toolCallId": call_id, **fields}


def test_a_whole_run_becomes_its_events() -> None:
    assert inside(
        thinking("START", role="reasoning"),
        thinking("CONTENT", delta="Hm", timestamp=1),
        thinking("END"),
        text("START", role="assistant"),
        text("CONTENT", delta="Hel"),
        text("CONTENT", delta="lo", timestamp=1.5),
        text("END"),
        call("START", toolCallName="get", parentMessageId="m"),
        call("ARGS", delta='{"a":'),
        call("ARGS", delta="1}"),
        call("END"),
    ) == [
        ContentStart(0, "thinking", "r"),
        Thinking("Hm", 0),
        ContentEnd(0),
        ContentStart(1, "text", "m"),
        TextDelta("Hel", 1),
        TextDelta("lo", 1),
        ContentEnd(1),
        ContentStart(2, "tool_use", "c", "get"),
        extension("TOOL_CALL_START", call("START", parentMessageId="m")),
        ToolDelta(2, '{"a":'),
        ToolDelta(2, "1}"),
        ContentEnd(2),
    ]


def test_parts_in_parallel_are_blocks_of_their_own() -> None:
    assert inside(
        call("START", "a", toolCallName="f"),
        call("START", "b", toolCallName="g"),
        call("ARGS", "a", delta="1"),
        call("ARGS", "b", delta="2"),
        call("END", "b"),
        text("CONTENT", delta="x"),
        call("END", "a"),
    ) == [
        ContentStart(0, "tool_use", "a", "f"),
        ContentStart(1, "tool_use", "b", "g"),
        ToolDelta(0, "1"),
        ToolDelta(1, "2"),
        ContentEnd(1),
        ContentStart(2, "text", "m"),
        TextDelta("x", 2),
        ContentEnd(0),
        ContentEnd(2),
    ]


def test_chunks_need_neither_start_nor_end() -> None:
    assert inside(
        text("CHUNK", delta="a", role="assistant"),
        text("CHUNK", None, delta="b"),
        text("CHUNK", "n", delta="c"),
        call("CHUNK", "a", toolCallName="f"),
        call("CHUNK", None, delta="1"),
        call("CHUNK", "b", toolCallName="g", delta="2"),
        call("CHUNK", "a", delta="3"),
        thinking("CHUNK", delta="Hm"),
        {"type": "CUSTOM", "name": "x", "value": 1},
        thinking("CHUNK", delta="?"),
    ) == [
        ContentStart(0, "text", "m"),
        TextDelta("a", 0),
        TextDelta("b", 0),
        ContentStart(1, "text", "n"),
        TextDelta("c", 1),
        ContentEnd(0),
        ContentEnd(1),
        ContentStart(2, "tool_use", "a", "f"),
        ToolDelta(2, "1"),
        ContentStart(3, "tool_use", "b", "g"),
        ToolDelta(3, "2"),
        ToolDelta(2, "3"),
        ContentEnd(3),
        ContentEnd(2),
        ContentStart(4, "thinking", "r"),
        Thinking("Hm", 4),
        extension("CUSTOM", {"type": "CUSTOM", "name": "x", "value": 1}),
        Thinking("?", 4),
        ContentEnd(4),
    ]


def test_thinking_of_versions_before_the_first_is_thinking() -> None:
    out = inside(
        {"type": "THINKING_TEXT_MESSAGE_START"},
        {"type": "THINKING_TEXT_MESSAGE_CONTENT", "delta": "Hm"},
        {"type": "THINKING_TEXT_MESSAGE_END"},
    )
    assert out == [ContentStart(0, "thinking"), Thinking("Hm", 0), ContentEnd(0)]


@pytest.mark.parametrize(
    "payload",
    [
        {"type": "STEP_STARTED", "stepName": "s"},
        {"type": "STATE_SNAPSHOT", "snapshot": {"x": 1}},
        {"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/x", "value": 1}]},
        {"type": "MESSAGES_SNAPSHOT", "messages": [{"id": "1", "role": "user", "content": "Hi"}]},
        {"type": "ACTIVITY_DELTA", "messageId": "a", "patch": [{"op": "add"}]},
        {"type": "RAW", "event": {"x": 1}, "source": "s"},
        {"type": "CUSTOM", "name": "n", "value": [1]},
        {"type": "REASONING_START", "messageId": "r"},
        {"type": "REASONING_ENCRYPTED_VALUE", "entityId": "e", "encryptedValue": "v"},
        {"type": "SUBAGENT_ERROR", "subagentRunId": "s", "message": "No"},
        call("RESULT", messageId="m", content="x", role="tool"),
        {"type": "novel", "x": 1},
        text("CONTENT", delta=7),
        text("END", "nobody's"),
    ],
)
def test_what_has_no_event_is_an_extension_with_the_whole_of_it(payload: dict[str, Any]) -> None:
    assert inside(payload) == [extension(payload["type"], payload)]


def test_what_the_events_of_a_part_repeat_is_told_when_it_changes() -> None:
    out = inside(
        text("START", role="user", subagentRunId="s"),
        text("CONTENT", delta="a", subagentRunId="s"),
        text("CONTENT", delta="b", subagentRunId="t", rawEvent={"x": 1}),
        text("CONTENT", delta="c", rawEvent={"x": 1}),
    )
    assert [data for data in out if isinstance(data, Extension)] == [
        extension("TEXT_MESSAGE_START", text("START", role="user", subagentRunId="s")),
        extension("TEXT_MESSAGE_CONTENT", text("CONTENT", subagentRunId="t", rawEvent={"x": 1})),
        extension("TEXT_MESSAGE_CONTENT", text("CONTENT", rawEvent={"x": 1})),
    ]


@pytest.mark.parametrize(
    ("outcome", "reason", "rest"),
    [
        (None, "success", None),
        ({"type": "success"}, "success", None),
        ({"type": "cancelled"}, "cancelled", None),
        ("interrupt", "interrupt", None),
        ({"type": "interrupt", "interrupts": [{"id": "i"}]}, "interrupt", {"interrupts": [{"id": "i"}]}),
    ],
)
def test_a_run_stops_with_its_outcome(outcome: object, reason: str, rest: dict[str, Any] | None) -> None:
    out = translate(START, FINISH | {"outcome": outcome, "result": 7})
    left = {"type": "RUN_FINISHED", "result": 7}
    if rest is not None:
        left["outcome"] = {"type": "interrupt", **rest}
    assert out[2:] == [extension("RUN_FINISHED", left), MessageStop("run", reason)]


def test_usage_of_several_models_is_added_up_and_shown() -> None:
    usage = [
        {"model": "a", "inputTokens": 1, "outputTokens": 2, "reasoningTokens": 1, "cachedInputTokens": 1},
        {"model": "b", "inputTokens": 10, "outputTokens": 20, "totalTokens": 30},
    ]
    assert translate(START, FINISH | {"usage": usage})[2:] == [
        Usage(11, 22, 33, cached_tokens=1, reasoning_tokens=1),
        extension("RUN_FINISHED", {"type": "RUN_FINISHED", "usage": usage}),
        STOPPED,
    ]
    plain = [{"inputTokens": 1, "outputTokens": 2}]
    assert translate(START, FINISH | {"usage": plain})[2:] == [Usage(1, 2, 3), STOPPED]


def test_a_run_that_fails_tells_why() -> None:
    error = {"type": "RUN_ERROR", "message": "No", "code": "c", "usage": [{"inputTokens": 1, "outputTokens": 2}]}
    assert translate(START, text("CONTENT", delta="a"), error)[4:] == [
        Error("No", "c"),
        Usage(1, 2, 3),
        ContentEnd(0),
        MessageStop("run", "error"),
    ]
    assert translate({"type": "RUN_ERROR", "message": "No"}) == [Error("No", UNSET)]
    assert translate(START, {"type": "RUN_ERROR"})[2] == Error(
        "the provider sent an error without a message", "RUN_ERROR"
    )


def test_a_stream_that_just_ends_is_closed_as_incomplete() -> None:
    assert translate(START, text("CONTENT", delta="a"))[-2:] == [ContentEnd(0), MessageStop("run", "incomplete")]


def test_no_outcome_vouches_for_a_run_that_is_torn() -> None:
    out = translate(START, b'data: {"torn\n\n', FINISH | {"outcome": "success"})
    assert out[-2:] == [
        extension("RUN_FINISHED", {"type": "RUN_FINISHED", "outcome": "success"}),
        MessageStop("run", "error"),
    ]


def test_another_run_begins_another_message() -> None:
    second = {"type": "RUN_STARTED", "threadId": "th", "runId": "two"}
    out = translate(START, second, {"type": "RUN_FINISHED", "runId": "two"}, START, FINISH)
    assert [data for data in out if isinstance(data, (MessageStart, MessageStop))] == [
        STARTED,
        MessageStop("run", "incomplete"),
        MessageStart("two", provider="ag-ui"),
        MessageStop("two", "success"),
        STARTED,
        STOPPED,
    ]


def test_a_run_whose_start_is_missing_is_made() -> None:
    assert translate(text("CONTENT", delta="a"), FINISH)[0] == MessageStart("ag-ui-1", provider="ag-ui")
    assert translate(FINISH) == [extension("RUN_FINISHED", FINISH)]
    late = translate(text("CONTENT", delta="a"), START, START, FINISH)
    assert [data for data in late if isinstance(data, (MessageStart, MessageStop))] == [
        MessageStart("ag-ui-1", provider="ag-ui"),
        MessageStop("ag-ui-1", "success"),
    ]
