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
from deltawire.protocol.providers import OpenAIResponses

CREATED = {"type": "response.created", "response": {"id": "resp_1", "object": "response", "model": "m"}}
COMPLETED = {"type": "response.completed", "response": {"id": "resp_1", "status": "completed"}}
STARTED = MessageStart("resp_1", "m", "openai")
STOPPED = MessageStop("resp_1", "completed")


def translate(*payloads: dict[str, Any] | bytes) -> list[Data]:
    translator = OpenAIResponses()
    out: list[Data] = []
    for number, payload in enumerate(payloads):
        if isinstance(payload, bytes):
            out += translator.feed(payload)
        else:
            body = json.dumps({"sequence_number": number} | payload)
            out += translator.feed(f"event: {payload.get('type')}\ndata: {body}\n\n".encode())
    return out + translator.finish()


def inside(*payloads: dict[str, Any]) -> list[Data]:
    """What payloads become between the start and the stop of a response that completes."""
    out = translate(CREATED, *payloads, COMPLETED)
    assert (out[0], out[-1]) == (STARTED, STOPPED)
    return out[1:-1]


def event(kind: str, output: Any = 0, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "output_index": output, **fields}


def item(change: str, output: Any = 0, **fields: Any) -> dict[str, Any]:
    return event(f"output_item.{change}", output, item=fields)


def part(change: str, output: Any = 0, number: Any = 0, **fields: Any) -> dict[str, Any]:
    return event(f"content_part.{change}", output, content_index=number, part=fields)


def delta(kind: str, text: str, output: int = 0, **fields: Any) -> dict[str, Any]:
    return event(f"{kind}.delta", output, delta=text, **fields)


def extension(name: str, data: dict[str, Any]) -> Extension:
    return Extension("openai", name, data)


def test_a_whole_answer_becomes_its_events() -> None:
    assert inside(
        item("added", 0, type="reasoning", summary=[], status="in_progress"),
        event("reasoning_summary_part.added", 0, summary_index=0, part={"type": "summary_text", "text": ""}),
        delta("reasoning_summary_text", "Hm", summary_index=0),
        event("reasoning_summary_text.done", 0, summary_index=0, text="Hm"),
        event("reasoning_summary_part.done", 0, summary_index=0, part={"type": "summary_text", "text": "Hm"}),
        item("done", 0, type="reasoning", summary=[{"type": "summary_text", "text": "Hm"}]),
        item("added", 1, type="message", content=[], role="assistant", status="in_progress"),
        part("added", 1, type="output_text", text="", annotations=[]),
        delta("output_text", "Hel", 1, content_index=0, obfuscation="x"),
        delta("output_text", "lo", 1, content_index=0, logprobs=[]),
        event("output_text.done", 1, content_index=0, text="Hello"),
        part("done", 1, type="output_text", text="Hello", annotations=[]),
        item("done", 1, type="message", role="assistant", content=[{"type": "output_text", "text": "Hello"}]),
        item("added", 2, type="function_call", call_id="call_1", name="get", arguments=""),
        delta("function_call_arguments", '{"a":', 2),
        delta("function_call_arguments", "1}", 2),
        event("function_call_arguments.done", 2, arguments='{"a":1}'),
        item("done", 2, type="function_call", call_id="call_1", name="get", arguments='{"a":1}', status="completed"),
    ) == [
        ContentStart(0, "thinking"),
        Thinking("Hm", 0),
        ContentEnd(0),
        ContentStart(1, "text"),
        TextDelta("Hel", 1),
        TextDelta("lo", 1),
        ContentEnd(1),
        ContentStart(2, "tool_use", "call_1", "get"),
        ToolDelta(2, '{"a":'),
        ToolDelta(2, "1}"),
        ContentEnd(2),
    ]


def test_parallel_calls_and_parts_are_blocks_of_their_own() -> None:
    assert inside(
        item("added", 0, type="function_call", call_id="a", name="f"),
        item("added", 1, type="function_call", call_id="b", name="g"),
        delta("function_call_arguments", "[1", 0),
        delta("function_call_arguments", "[2", 1),
        delta("function_call_arguments", "]", 0),
        delta("function_call_arguments", "]", 1),
        delta("output_text", "x", 2, content_index=0),
        delta("output_text", "y", 2, content_index=1),
        delta("reasoning_text", "z", 3, content_index=0),
    ) == [
        ContentStart(0, "tool_use", "a", "f"),
        ContentStart(1, "tool_use", "b", "g"),
        ToolDelta(0, "[1"),
        ToolDelta(1, "[2"),
        ToolDelta(0, "]"),
        ToolDelta(1, "]"),
        ContentStart(2, "text"),
        TextDelta("x", 2),
        ContentStart(3, "text"),
        TextDelta("y", 3),
        ContentStart(4, "thinking"),
        Thinking("z", 4),
        *(ContentEnd(index) for index in range(5)),
    ]


def test_a_refusal_is_a_text_of_its_own_kind() -> None:
    assert inside(
        part("added", type="refusal", refusal=""),
        delta("refusal", "No", content_index=0),
        event("refusal.done", content_index=0, refusal="No"),
        part("done", type="refusal", refusal="No"),
    ) == [ContentStart(0, "refusal"), TextDelta("No", 0), ContentEnd(0)]


@pytest.mark.parametrize(
    ("kind", "field", "text", "block"),
    [
        ("custom_tool_call", "input", "free text", "tool_use"),
        ("mcp_call", "arguments", '{"a":1}', "mcp_call"),
    ],
)
def test_other_calls_have_arguments_too(kind: str, field: str, text: str, block: str) -> None:
    assert inside(
        item("added", type=kind, call_id="c", name="n"),
        delta(f"{kind}_{field}", text),
        event(f"{kind}_{field}.done", **{field: text}),
        item("done", type=kind, call_id="c", name="n", **{field: text}),
    ) == [ContentStart(0, block, "c", "n"), ToolDelta(0, text), ContentEnd(0)]


def test_code_is_the_argument_of_its_call() -> None:
    out = inside(
        item("added", type="code_interpreter_call", id="ci_1", code="", container_id="cntr"),
        delta("code_interpreter_call_code", 'print("'),
        delta("code_interpreter_call_code", 'ü🌍\ud83d"'),
        delta("code_interpreter_call_code", "\ude00)\n"),
        event("code_interpreter_call_code.done", code='print("ü🌍\ud83d"\ude00)\n'),
        event("code_interpreter_call.completed", item_id="ci_1"),
        item("done", type="code_interpreter_call", id="ci_1", code='print("ü🌍\ud83d"\ude00)\n', container_id="cntr"),
    )
    assert out[0] == ContentStart(0, "code_interpreter_call", "ci_1")
    text = "".join(data.partial_json for data in out if isinstance(data, ToolDelta))
    assert json.loads(text) == {"code": 'print("ü🌍\ud83d"\ude00)\n'}
    assert [data.name for data in out if isinstance(data, Extension)] == [
        "code_interpreter_call",
        "response.code_interpreter_call.completed",
    ]


def test_an_item_of_any_other_type_is_a_block_of_that_kind() -> None:
    action = {"type": "search", "query": "q"}
    assert inside(
        item("added", type="web_search_call", id="ws_1", status="in_progress"),
        event("web_search_call.searching", item_id="ws_1", sequence_number=7),
        item("done", type="web_search_call", id="ws_1", status="completed", action=action),
    ) == [
        ContentStart(0, "web_search_call", "ws_1"),
        extension(
            "response.web_search_call.searching",
            {"type": "response.web_search_call.searching", "output_index": 0, "item_id": "ws_1"},
        ),
        extension("web_search_call", {"output_index": 0, "item": {"type": "web_search_call", "action": action}}),
        ContentEnd(0),
    ]


def test_what_comes_whole_is_told_whole() -> None:
    message = [{"type": "output_text", "text": "Hi"}, {"type": "refusal", "refusal": "No"}]
    assert inside(
        item("added", 0, type="function_call", call_id="c", name="f", arguments="{}"),
        item("done", 1, type="message", content=message),
        item("done", 2, type="reasoning", content=[{"type": "reasoning_text", "text": "Hm"}]),
        item("done", 3, type="function_call", call_id="d", name="g", arguments={"a": 1}),
    ) == [
        ContentStart(0, "tool_use", "c", "f"),
        ToolDelta(0, "{}"),
        ContentStart(1, "text"),
        TextDelta("Hi", 1),
        ContentStart(2, "refusal"),
        TextDelta("No", 2),
        ContentEnd(1),
        ContentEnd(2),
        ContentStart(3, "thinking"),
        Thinking("Hm", 3),
        ContentEnd(3),
        ContentStart(4, "tool_use", "d", "g"),
        ToolDelta(4, '{"a":1}'),
        ContentEnd(4),
        ContentEnd(0),
    ]


def test_a_response_that_comes_whole_is_as_if_it_came_in_events() -> None:
    response = {
        "id": "resp_1",
        "object": "response",
        "model": "m",
        "status": "completed",
        "output": [{"type": "message", "id": "m_1", "content": [{"type": "output_text", "text": "Hi"}]}],
        "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    }
    expected = [
        STARTED,
        ContentStart(0, "text"),
        TextDelta("Hi", 0),
        extension("message", {"output_index": 0, "item": {"type": "message", "id": "m_1"}}),
        ContentEnd(0),
        Usage(1, 2, 3),
        STOPPED,
    ]
    assert translate(json.dumps(response, indent=1).encode()) == expected
    assert translate({"type": "response.completed", "response": response}) == expected


def test_of_an_end_that_repeats_everything_only_news_are_told() -> None:
    done = {"type": "message", "id": "m_1", "content": [{"type": "output_text", "text": "Hello"}]}
    out = translate(
        CREATED,
        delta("output_text", "Hel", item_id="m_1"),
        {"type": "response.completed", "response": {"id": "resp_1", "output": [{**done, "novel": 1}], "store": True}},
    )
    assert out[1:] == [
        ContentStart(0, "text"),
        TextDelta("Hel", 0),
        extension(
            "response.output_text.delta", {"type": "response.output_text.delta", "output_index": 0, "item_id": "m_1"}
        ),
        TextDelta("lo", 0),
        extension("message", {"output_index": 0, "item": {"type": "message", "novel": 1}}),
        ContentEnd(0),
        extension("response.completed", {"type": "response.completed", "response": {"store": True}}),
        STOPPED,
    ]


def test_a_whole_text_that_differs_from_what_was_told_is_an_extension() -> None:
    out = inside(delta("output_text", "Hello"), event("output_text.done", content_index=0, text="Jello"))
    assert out[2] == extension(
        "response.output_text.done",
        {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "Jello"},
    )


def test_what_the_response_repeats_is_told_when_it_changes() -> None:
    state = {"id": "resp_1", "model": "m", "status": "in_progress", "tools": [{"type": "x"}], "service_tier": "auto"}
    out = translate(
        {"type": "response.created", "response": state},
        {"type": "response.in_progress", "response": state},
        {"type": "response.completed", "response": {**state, "status": "completed", "service_tier": "default"}},
    )
    assert out[1:] == [
        extension(
            "response.created",
            {"type": "response.created", "response": {"tools": [{"type": "x"}], "service_tier": "auto"}},
        ),
        extension("response.completed", {"type": "response.completed", "response": {"service_tier": "default"}}),
        STOPPED,
    ]


def test_annotations_are_told_once() -> None:
    note = {"type": "url_citation", "url": "u"}
    text = {"type": "output_text", "text": "a", "annotations": [note]}
    out = inside(
        delta("output_text", "a", content_index=0),
        event("output_text.annotation.added", content_index=0, annotation_index=0, annotation=note),
        part("done", **text),
        item("done", type="message", content=[text]),
    )
    assert [data.name for data in out if isinstance(data, Extension)] == ["response.output_text.annotation.added"]


def test_an_annotation_that_is_added_changes_no_event_before_it() -> None:
    text = {"type": "output_text", "text": "a", "annotations": [{"url": "u"}]}
    added = event("output_text.annotation.added", content_index=0, annotation={"url": "v"})
    out = inside(part("done", **text), added, part("done", **text | {"annotations": [{"url": "u"}, {"url": "v"}]}))
    assert [data.data for data in out if isinstance(data, Extension)] == [
        {
            "output_index": 0,
            "content_index": 0,
            "part": {"type": "output_text", "annotations": [{"url": "u"}]},
        },
        added,
    ]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ({"type": "response.completed", "response": {"id": "resp_1"}}, "completed"),
        ({"type": "response.incomplete", "response": {"incomplete_details": {"reason": "max_output_tokens"}}}, None),
        ({"type": "response.incomplete", "response": {"status": "incomplete"}}, "incomplete"),
        ({"type": "response.cancelled", "response": {"status": "cancelled"}}, "cancelled"),
        ({"type": "response.completed", "response": {"status": "failed", "error": {"message": "No"}}}, "error"),
    ],
)
def test_a_response_stops_for_its_reason(end: dict[str, Any], reason: str | None) -> None:
    assert translate(CREATED, end)[-1] == MessageStop("resp_1", reason or "max_output_tokens")


def test_usage_has_its_details() -> None:
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 15,
    }
    out = translate(CREATED, {"type": "response.completed", "response": {"id": "resp_1", "usage": usage}})
    assert out == [STARTED, Usage(10, 5, 15, cached_tokens=4, reasoning_tokens=2), STOPPED]


@pytest.mark.parametrize(
    "error",
    [
        {"type": "error", "error": {"type": "error", "code": "server_error", "message": "No"}},
        {"type": "error", "code": "server_error", "message": "No", "param": None},
    ],
)
def test_an_error_is_told_once_nested_or_flat(error: dict[str, Any]) -> None:
    failed = {"id": "resp_1", "status": "failed", "error": {"code": "server_error", "message": "No"}}
    out = translate(CREATED, error, {"type": "response.failed", "response": failed})
    told = [data for data in out if not isinstance(data, Extension)]
    assert told == [STARTED, Error("No", "server_error", retryable=True), MessageStop("resp_1", "error")]


def test_the_error_of_a_failed_response_is_told_where_no_other_event_has_it() -> None:
    failed = {"id": "resp_1", "status": "failed", "error": {"code": "rate_limit_exceeded", "message": "No"}}
    assert translate(CREATED, {"type": "response.failed", "response": failed}) == [
        STARTED,
        Error("No", "rate_limit_exceeded", retryable=True),
        MessageStop("resp_1", "error"),
    ]
    assert translate(CREATED, {"type": "response.failed", "response": {}})[1] == Error(
        "the provider says that the response failed, and not why", UNSET
    )


def test_a_stream_that_just_ends_is_closed_as_incomplete() -> None:
    assert translate(CREATED, delta("output_text", "a"))[-2:] == [ContentEnd(0), MessageStop("resp_1", "incomplete")]
    assert translate(CREATED, {"type": "error", "message": "No"})[-1] == MessageStop("resp_1", "error")


def test_no_reason_vouches_for_an_answer_that_is_torn() -> None:
    end = {"type": "response.incomplete", "response": {"incomplete_details": {"reason": "content_filter"}}}
    out = translate(CREATED, b'data: {"torn\n\n', end)
    assert out[-1] == MessageStop("resp_1", "error")
    assert out[-2] == extension("response.incomplete", end)


def test_another_response_begins_another_message() -> None:
    second = {"type": "response.created", "response": {"id": "resp_2"}}
    assert translate(CREATED, second, {"type": "response.completed", "response": {"id": "resp_2"}}) == [
        STARTED,
        MessageStop("resp_1", "incomplete"),
        MessageStart("resp_2", provider="openai"),
        MessageStop("resp_2", "completed"),
    ]


def test_an_end_that_comes_twice_begins_no_other_message() -> None:
    out = translate(CREATED, COMPLETED, COMPLETED)
    assert [type(data) for data in out] == [MessageStart, MessageStop, Extension]


def test_events_without_a_start_belong_to_a_message_that_is_made() -> None:
    assert translate(delta("output_text", "a"), CREATED, COMPLETED) == [
        MessageStart("openai-1", provider="openai"),
        ContentStart(0, "text"),
        TextDelta("a", 0),
        extension("response.created", {"type": "response.created", "response": {"id": "resp_1", "model": "m"}}),
        ContentEnd(0),
        MessageStop("openai-1", "completed"),
    ]


def test_an_event_without_an_index_is_about_the_item_with_its_id_or_the_last_one() -> None:
    first, second = delta("output_text", "a", item_id="i"), delta("output_text", "b", 1, item_id="j")
    by_id, last = delta("output_text", "c", item_id="i"), delta("output_text", "d")
    del by_id["output_index"], last["output_index"]
    out = inside(first, second, by_id, last)
    assert [(data.text, data.index) for data in out if isinstance(data, TextDelta)] == [
        ("a", 0),
        ("b", 1),
        ("c", 0),
        ("d", 0),
    ]


def test_an_id_that_changes_with_each_event_is_told_a_few_times() -> None:
    out = inside(*(delta("output_text", "a", item_id=f"i{number}") for number in range(100)))
    assert len([data for data in out if isinstance(data, Extension)]) == 4


def test_a_call_that_is_named_after_its_arguments_stays_one_call() -> None:
    late = item("added", type="function_call", call_id="c", name="f", arguments="")
    assert inside(delta("function_call_arguments", "{}"), late) == [
        ContentStart(0, "tool_use"),
        ToolDelta(0, "{}"),
        extension("function_call", {**late, "item": {"type": "function_call", "call_id": "c", "name": "f"}}),
        ContentEnd(0),
    ]


def test_signs_of_life_say_nothing() -> None:
    assert inside({"type": "keepalive"}, {"type": "ping"}) == []
    assert inside({"type": "keepalive", "novel": 1}) == [extension("keepalive", {"type": "keepalive", "novel": 1})]
