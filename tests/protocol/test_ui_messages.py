"""One message as the AI SDK's UI message stream: every part begins, goes on and ends, whatever the events leave out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from deltawire.protocol.codec import JSON
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
from deltawire.protocol.messages import CaughtUp, Gap, Problem, StreamEnd
from deltawire.protocol.ui_messages import MAX_INPUT, UiMessage
from tests.support.answers import events, framed

START = MessageStart("m1")
STOP = MessageStop("m1", "end_turn")
AROUND = [{"type": "start", "messageId": "m1"}, {"type": "start-step"}]


def chunks_of(body: bytes) -> list[Any]:
    """The chunks of a body; the mark of its end as text."""
    lines = [event.removeprefix("data: ") for event in body.decode().split("\n\n") if event]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def converted(*events: Data) -> list[Any]:
    return chunks_of(UiMessage().convert(framed(events)))


def test_an_answer_in_blocks_has_a_part_for_each() -> None:
    chunks = converted(
        START,
        ContentStart(0, kind="thinking"),
        Thinking("Hm", 0),
        ContentEnd(0),
        ContentStart(1, kind="text"),
        TextDelta("Hel", 1),
        TextDelta("lo", 1),
        ContentEnd(1),
        ContentStart(2, kind="tool_use", id="c1", name="weather"),
        ToolDelta(2, '{"city":'),
        ToolDelta(2, '"Rome"}'),
        ContentEnd(2),
        Usage(1, 2, 3, reasoning_tokens=1),
        MessageStop("m1", "tool_use"),
    )
    called = {"toolCallId": "c1", "toolName": "weather"}
    usage = {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3, "reasoningTokens": 1}
    assert chunks == [
        *AROUND,
        {"type": "reasoning-start", "id": "part-2"},
        {"type": "reasoning-delta", "id": "part-2", "delta": "Hm"},
        {"type": "reasoning-end", "id": "part-2"},
        {"type": "text-start", "id": "part-5"},
        {"type": "text-delta", "id": "part-5", "delta": "Hel"},
        {"type": "text-delta", "id": "part-5", "delta": "lo"},
        {"type": "text-end", "id": "part-5"},
        {"type": "tool-input-start", **called},
        {"type": "tool-input-delta", "toolCallId": "c1", "inputTextDelta": '{"city":'},
        {"type": "tool-input-delta", "toolCallId": "c1", "inputTextDelta": '"Rome"}'},
        {"type": "tool-input-available", **called, "input": {"city": "Rome"}},
        {"type": "message-metadata", "messageMetadata": {"usage": usage}},
        {"type": "finish-step"},
        {"type": "finish", "finishReason": "tool-calls"},
        "[DONE]",
    ]


def test_bare_text_is_a_message() -> None:
    assert converted(TextDelta("a"), TextDelta("b"), STOP) == [
        {"type": "start"},
        {"type": "start-step"},
        {"type": "text-start", "id": "part-1"},
        {"type": "text-delta", "id": "part-1", "delta": "a"},
        {"type": "text-delta", "id": "part-1", "delta": "b"},
        {"type": "text-end", "id": "part-1"},
        {"type": "finish-step"},
        {"type": "finish", "finishReason": "stop"},
        "[DONE]",
    ]


def test_a_delta_without_index_goes_on_with_the_block_that_has_begun() -> None:
    types = [it["type"] for it in converted(START, ContentStart(0, kind="text"), TextDelta("a"), ContentEnd(0))]
    assert types[2:] == ["text-start", "text-delta", "text-end"]


def test_a_part_ends_where_another_kind_takes_its_index() -> None:
    types = [it["type"] for it in converted(START, Thinking("a"), TextDelta("b"))]
    for index in (UNSET, 0):
        types = [it["type"] for it in converted(START, Thinking("a", index), TextDelta("b", index))]
        assert types[2:] == ["reasoning-start", "reasoning-delta", "reasoning-end", "text-start", "text-delta"]
    types = [it["type"] for it in converted(START, Thinking("a", 0), TextDelta("b", 1))]
    assert types[2:] == ["reasoning-start", "reasoning-delta", "text-start", "text-delta"]


@pytest.mark.parametrize(
    ("pieces", "kind", "value"),
    [
        ([], "tool-input-available", {}),
        (["[1]"], "tool-input-available", [1]),
        (['{"a":'], "tool-input-error", '{"a":'),
        (["x" * MAX_INPUT, "y"], "tool-input-error", None),
    ],
)
def test_arguments_are_parsed_or_told_to_be_wrong(pieces: list[str], kind: str, value: object) -> None:
    message = UiMessage()
    start = ContentStart(0, kind="tool_use", id="c", name="n")
    message.convert(framed([START, start, *(ToolDelta(0, piece) for piece in pieces)]))
    assert message.held_bytes == min(MAX_INPUT, sum(map(len, pieces)))
    *_, last = chunks_of(message.convert(framed([ContentEnd(0)])))
    assert (last["type"], last["input"]) == (kind, value)
    assert message.held_bytes == 0


def test_a_call_without_name_or_id_has_some() -> None:
    [*_, start, delta] = converted(START, ToolDelta(3, "{"))
    assert start == {"type": "tool-input-start", "toolCallId": "part-2", "toolName": "tool"}
    assert delta["toolCallId"] == "part-2"


@pytest.mark.parametrize(
    ("stop_reason", "chunk"),
    [
        ("max_tokens", {"type": "finish", "finishReason": "length"}),
        ("refusal", {"type": "finish", "finishReason": "content-filter"}),
        ("producer_lost", {"type": "finish", "finishReason": "error"}),
        ("pause_turn", {"type": "finish", "finishReason": "other"}),
        ("cancelled", {"type": "abort", "reason": "cancelled"}),
    ],
)
def test_the_reason_of_the_end_is_in_the_words_of_the_sdk(stop_reason: str, chunk: dict[str, str]) -> None:
    assert converted(START, MessageStop("m1", stop_reason))[-2:] == [chunk, "[DONE]"]


def test_only_the_first_alternative_is_shown() -> None:
    texts = converted(START, TextDelta("a", choice=0), TextDelta("b", choice=1), MessageStop("m1", "stop", 1))
    assert [it["delta"] for it in texts if it["type"] == "text-delta"] == ["a"]
    assert texts[-1] != "[DONE]"


def test_an_error_is_told() -> None:
    assert converted(START, Error("overloaded"))[-1] == {"type": "error", "errorText": "overloaded"}


def test_what_has_no_place_in_the_message_is_data_that_passes() -> None:
    [*_, extension] = converted(START, Extension("p", "n", {"a": 1}))
    assert extension == {
        "type": "data-extension",
        "data": {"provider": "p", "name": "n", "data": {"a": 1}},
        "transient": True,
    }
    gap = JSON.frame(Gap(first=1, seq=3, reason="evicted"))
    [chunk] = chunks_of(UiMessage().convert(gap))
    assert chunk["data"] == {"first": 1, "seq": 3, "reason": "evicted"}


def test_nothing_follows_the_end_of_the_message() -> None:
    message = UiMessage()
    body = message.convert(framed([START, STOP, MessageStart("m2"), TextDelta("x")]))
    assert message.is_done
    assert body.endswith(b"data: [DONE]\n\n")
    assert b"m2" not in body


def test_a_stream_that_ends_within_the_message_is_an_error_and_an_empty_one_is_not() -> None:
    end = JSON.frame(StreamEnd(seq=2, reason="closed"))
    assert [it if it == "[DONE]" else it["type"] for it in chunks_of(UiMessage().convert(end))] == ["[DONE]"]
    chunks = chunks_of(UiMessage().convert(framed([START, TextDelta("a")]) + end))
    assert [chunks[-2]["type"], chunks[-1]] == ["error", "[DONE]"]


def test_a_problem_that_passes_is_left_to_the_lost_connection_and_another_is_told() -> None:
    message = UiMessage()
    assert message.convert(JSON.frame(Problem(code="shutting_down", message="bye", retryable=True))) == b""
    assert not message.is_done
    body = message.convert(JSON.frame(Problem(code="forbidden", message="no", retryable=False)))
    assert chunks_of(body) == [{"type": "error", "errorText": "no"}, "[DONE]"]


def test_a_reader_that_seeks_the_latest_message_says_nothing_before_it_has_caught_up() -> None:
    older, latest = [START, TextDelta("old"), STOP], [MessageStart("m2"), TextDelta("new")]
    message = UiMessage(seeks=True)
    assert message.convert(framed([*older, *latest])) == b""
    assert message.held_bytes > 0
    chunks = chunks_of(message.convert(JSON.frame(CaughtUp(seq=5)) + framed([TextDelta("er"), STOP], 6)))
    assert chunks[0] == {"type": "start", "messageId": "m2"}
    assert [it["delta"] for it in chunks[:-1] if it["type"] == "text-delta"] == ["new", "er"]
    complete = UiMessage(seeks=True)
    assert complete.convert(framed(older)) == b""
    assert not complete.is_done
    assert chunks_of(complete.convert(JSON.frame(CaughtUp(seq=3))))[-1] == "[DONE]"
    assert complete.is_done


@given(st.lists(events, max_size=20), st.integers(0, 20))
def test_whatever_the_events_are_parts_begin_go_on_and_end_in_order(answer: list[Data], cut: int) -> None:
    message = UiMessage()
    whole = [*answer, STOP]
    chunks = chunks_of(message.convert(framed(whole[:cut])) + message.convert(framed(whole[cut:], cut + 1)))
    assert [it if it == "[DONE]" else it["type"] for it in chunks][-3:] == ["finish-step", "finish", "[DONE]"]
    assert chunks[0]["type"] == "start"
    begun: set[str] = set()
    for chunk in chunks[:-1]:
        kind, _, step = chunk["type"].rpartition("-")
        name = chunk.get("id") or chunk.get("toolCallId")
        if name is None:
            continue
        if step == "start":
            assert name not in begun
            begun.add(name)
        else:
            assert name in begun, chunk
        if step in ("end", "available", "error"):
            begun.remove(name)
        assert kind in ("text", "reasoning", "tool-input")
    assert begun == set()
    assert message.held_bytes == 0
    for kind, field in ((TextDelta, "text"), (Thinking, "thinking")):
        said = "".join(getattr(data, field) for data in answer if isinstance(data, kind))
        name = "text-delta" if kind is TextDelta else "reasoning-delta"
        assert "".join(it["delta"] for it in chunks[:-1] if it["type"] == name) == said


@given(st.lists(events, max_size=20))
def test_it_says_the_same_at_once_and_event_by_event(answer: list[Data]) -> None:
    one, other = UiMessage(), UiMessage()
    bit_by_bit = b"".join(other.convert(framed([data], seq)) for seq, data in enumerate(answer, 1))
    assert one.convert(framed(answer)) == bit_by_bit
