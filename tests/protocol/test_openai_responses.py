"""One message as a response of the Responses API: numbered events, the same for each reader, and what it is so far."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from deltawire.protocol.messages import CaughtUp, Gap, StreamEnd
from deltawire.protocol.openai_responses import ResponseReader
from tests.support.answers import events, framed

START = MessageStart("m1", model="m-large")
ANSWER: list[Data] = [
    START,
    Thinking("Hm", 0),
    ContentEnd(0),
    TextDelta("Hel", 1),
    TextDelta("lo", 1),
    ContentStart(2, kind="tool_use", id="c1", name="weather"),
    ToolDelta(2, '{"city":"Rome"}'),
    Usage(1, 2, 3, reasoning_tokens=1),
    MessageStop("m1", "tool_use"),
]


def events_of(body: bytes) -> list[dict[str, Any]]:
    """The events of a body; each is named by its type."""
    blocks = [block.split("\n") for block in body.decode().split("\n\n") if block]
    read = [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]
    assert all(name == event["type"] for name, event in read)
    return [event for _, event in read]


def read(answer: Iterable[Data], starting_after: int = -1) -> list[dict[str, Any]]:
    return events_of(ResponseReader("resp_1", starting_after).convert(framed(answer)))


def test_an_answer_has_an_item_for_each_part() -> None:
    got = read(ANSWER)
    assert [event["sequence_number"] for event in got] == list(range(len(got)))
    assert [event["type"].removeprefix("response.") for event in got] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_item.added",
        "function_call_arguments.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    response = got[-1]["response"]
    assert (response["id"], response["status"], response["model"]) == ("resp_1", "completed", "m-large")
    reasoning, message, call = response["output"]
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "Hm"}]
    assert message["content"][0]["text"] == "Hello"
    assert (call["call_id"], call["name"], call["arguments"]) == ("c1", "weather", '{"city":"Rome"}')
    assert response["usage"]["total_tokens"] == 3
    assert response["usage"]["output_tokens_details"] == {"reasoning_tokens": 1}


@given(st.lists(events, max_size=15), st.integers(-1, 60))
def test_a_reader_that_resumes_gets_exactly_what_is_left(answer: list[Data], starting_after: int) -> None:
    whole = read([*answer, MessageStop("m1", "end_turn")])
    rest = read([*answer, MessageStop("m1", "end_turn")], starting_after)
    assert rest == [event for event in whole if event["sequence_number"] > starting_after]
    assert [event["sequence_number"] for event in whole] == list(range(len(whole)))


@pytest.mark.parametrize(
    ("stop_reason", "kind", "status", "why"),
    [
        ("end_turn", "completed", "completed", None),
        ("max_tokens", "incomplete", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", "incomplete", {"reason": "content_filter"}),
        ("cancelled", "incomplete", "cancelled", None),
        ("producer_lost", "failed", "failed", None),
    ],
)
def test_the_reason_of_the_end_is_in_the_words_of_the_api(
    stop_reason: str, kind: str, status: str, why: dict[str, str] | None
) -> None:
    last = read([START, MessageStop("m1", stop_reason)])[-1]
    assert last["type"] == f"response.{kind}"
    assert (last["response"]["status"], last["response"]["incomplete_details"]) == (status, why)
    assert (last["response"]["error"] is not None) is (status == "failed")


def test_an_error_is_told_and_is_that_of_a_response_that_failed() -> None:
    *_, error, last = read([START, Error("overloaded"), MessageStop("m1", "error")])
    assert (error["type"], error["message"]) == ("error", "overloaded")
    assert last["response"]["error"] == {"code": "server_error", "message": "overloaded"}


def test_what_the_api_has_no_place_for_takes_no_number() -> None:
    without = read(ANSWER)
    assert [it["sequence_number"] for it in read([START, Extension("p", "n", 1), *ANSWER[1:]])] == [
        it["sequence_number"] for it in without
    ]


def test_where_events_are_missing_there_is_no_number_to_go_on_with() -> None:
    reader = ResponseReader("resp_1")
    got = events_of(reader.convert(framed([START]) + JSON.frame(Gap(first=2, seq=9, reason="evicted"))))
    assert got[-1]["type"] == "error"
    assert "2 to 9" in got[-1]["message"]
    assert reader.is_done


def test_a_stream_that_ends_within_the_message_is_an_error() -> None:
    got = events_of(ResponseReader("r").convert(framed([START]) + JSON.frame(StreamEnd(seq=1, reason="closed"))))
    assert got[-1]["type"] == "error"


def test_the_response_so_far_has_the_items_that_are_complete() -> None:
    reader = ResponseReader("resp_1", seeks=True)
    assert reader.response()["status"] == "queued"
    reader.convert(framed([*ANSWER[:-1]]))
    reader.convert(JSON.frame(CaughtUp(seq=8)))
    response = reader.response()
    assert (response["status"], len(response["output"])) == ("in_progress", 1)
    assert reader.held_bytes > 0
