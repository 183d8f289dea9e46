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
from deltawire.protocol.providers import AnthropicMessages

START = {"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "m-1"}}
STOP = {"type": "message_stop"}
STARTED = MessageStart("msg_1", "m-1", "anthropic")


def sse(*payloads: dict[str, Any]) -> bytes:
    return b"".join(f"event: {item['type']}\ndata: {json.dumps(item)}\n\n".encode() for item in payloads)


def translate(*payloads: dict[str, Any] | bytes) -> list[Data]:
    translator = AnthropicMessages()
    out: list[Data] = []
    for payload in payloads:
        out += translator.feed(payload if isinstance(payload, bytes) else sse(payload))
    return out + translator.finish()


def inside(*payloads: dict[str, Any] | bytes) -> list[Data]:
    """What payloads become between the start and the stop of a message."""
    out = translate(START, *payloads, STOP)
    assert (out[0], out[-1].type) == (STARTED, "message_stop")
    return out[1:-1]


def block(index: int, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": fields}


def delta(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def end(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def message_delta(stop_reason: str | None, **fields: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": stop_reason, "stop_sequence": None}, **fields}


def extension(name: str, data: dict[str, Any]) -> Extension:
    return Extension("anthropic", name, data)


def test_a_whole_answer_becomes_its_events() -> None:
    assert translate(
        START,
        block(0, type="thinking", thinking="", signature=""),
        {"type": "ping"},
        delta(0, "thinking_delta", thinking="Hm"),
        end(0),
        block(1, type="text", text=""),
        delta(1, "text_delta", text="Hello"),
        delta(1, "text_delta", text=""),
        end(1),
        block(2, type="tool_use", id="toolu_1", name="get", input={}),
        delta(2, "input_json_delta", partial_json=""),
        delta(2, "input_json_delta", partial_json='{"a":'),
        delta(2, "input_json_delta", partial_json="1}"),
        end(2),
        message_delta("tool_use", usage={"input_tokens": 3, "output_tokens": 5}),
        STOP,
    ) == [
        STARTED,
        ContentStart(0, "thinking"),
        Thinking("Hm", 0),
        ContentEnd(0),
        ContentStart(1, "text"),
        TextDelta("Hello", 1),
        ContentEnd(1),
        ContentStart(2, "tool_use", "toolu_1", "get"),
        ToolDelta(2, '{"a":'),
        ToolDelta(2, "1}"),
        ContentEnd(2),
        Usage(3, 5, 8),
        MessageStop("msg_1", "tool_use"),
    ]


def test_what_a_block_brings_at_its_start_is_its_first_delta() -> None:
    assert inside(block(0, type="text", text="Hi"), end(0))[1] == TextDelta("Hi", 0)
    assert inside(block(0, type="thinking", thinking="Hm"), end(0))[1] == Thinking("Hm", 0)
    assert inside(block(0, type="server_tool_use", id="s", name="n", input={"q": ""}), end(0)) == [
        ContentStart(0, "server_tool_use", "s", "n"),
        ToolDelta(0, '{"q":""}'),
        ContentEnd(0),
    ]


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        (delta(0, "signature_delta", signature="c2ln"), "signature_delta"),
        (delta(0, "citations_delta", citation={"type": "page", "start": 0}), "citations_delta"),
        (delta(0, "compaction_delta", content="summary"), "compaction_delta"),
        (delta(0, "novel_delta"), "novel_delta"),
        ({"type": "novel_event", "novel": True}, "novel_event"),
        ({"type": "novel_event"}, "novel_event"),
        ({"type": "ping", "novel": 1}, "ping"),
        ({"type": "content_block_delta", "index": "zero", "delta": {"type": "text_delta", "text": "x"}}, "text_delta"),
        ({"type": "content_block_start", "content_block": {"type": "text"}}, "content_block_start"),
        ({"type": "content_block_stop", "index": -1}, "content_block_stop"),
        ({"type": "message_delta", "delta": {"stop_sequence": "END"}}, "message_delta"),
        ({"type": "message_delta", "delta": {"stop_details": {"type": "refusal"}}}, "message_delta"),
        ({"type": "message_delta", "context_management": {"applied_edits": [1]}}, "message_delta"),
        ({"type": "message_delta", "usage": "wrong"}, "message_delta"),
    ],
)
def test_what_has_no_event_is_an_extension_with_the_whole_of_it(payload: dict[str, Any], name: str) -> None:
    assert inside(payload) == [extension(name, payload)]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"type": "redacted_thinking", "data": "x" * 35_000}, "redacted_thinking"),
        ({"type": "web_search_tool_result", "tool_use_id": "t", "content": [{"url": "u"}]}, "web_search_tool_result"),
        ({"type": "text", "text": 7}, "text"),
        ({"type": "tool_use", "input": "wrong"}, "tool_use"),
    ],
)
def test_what_arrives_whole_in_a_block_start_is_an_extension_inside_the_block(
    fields: dict[str, Any], kind: str
) -> None:
    payload = block(4, **fields)
    assert inside(payload, end(4)) == [ContentStart(4, kind), extension(kind, payload), ContentEnd(4)]


def test_only_what_no_event_says_is_in_the_extension() -> None:
    payload = block(0, type="tool_use", id="t", name="n", input={"a": 1}, caller={"type": "direct"})
    rest = block(0, type="tool_use", caller={"type": "direct"})
    assert inside(payload, end(0))[2] == extension("tool_use", rest)
    started = {"type": "message_start", "message": {**START["message"], "container": {"id": "c"}}}  # type: ignore[dict-item]
    assert translate(started)[1] == extension(
        "message_start", {"type": "message_start", "message": {"type": "message", "container": {"id": "c"}}}
    )


def test_what_is_left_of_a_message_stop_comes_before_it() -> None:
    out = translate(START, {"type": "message_stop", "metrics": {"latency": 1}})
    assert out[1:] == [
        extension("message_stop", {"type": "message_stop", "metrics": {"latency": 1}}),
        MessageStop("msg_1", "unknown"),
    ]


def test_usage_is_cumulative_field_by_field_and_told_when_it_changes() -> None:
    usage = {"input_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 20, "output_tokens": 1}
    started = {"type": "message_start", "message": {"id": "msg_1", "model": "m-1", "usage": usage}}
    out = translate(
        started,
        message_delta(None, usage={"output_tokens": 1}),
        message_delta("end_turn", usage={"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}}),
        STOP,
    )
    assert out == [
        STARTED,
        Usage(30, 1, 31, cached_tokens=20),
        Usage(30, 9, 39, cached_tokens=20, reasoning_tokens=4),
        MessageStop("msg_1", "end_turn"),
    ]


def test_a_stop_reason_stands_when_a_later_delta_has_none() -> None:
    assert translate(START, message_delta("max_tokens"), message_delta(None), STOP)[-1] == MessageStop(
        "msg_1", "max_tokens"
    )


def test_the_whole_usage_survives_where_it_says_more_than_the_counts() -> None:
    usage = {"input_tokens": 1, "cache_creation_input_tokens": 5, "output_tokens": 2}
    tier = {"output_tokens": 2, "service_tier": "standard", "server_tool_use": {"web_search_requests": 1}}
    assert inside(
        message_delta(None, usage=usage), message_delta(None, usage=tier), message_delta(None, usage=tier)
    ) == [Usage(6, 2, 8), extension("usage", usage), extension("usage", tier)]


@pytest.mark.parametrize("count", [-1, 2**60, True, "seven", [7]])
def test_a_count_that_cannot_be_one_is_kept_but_not_counted(count: object) -> None:
    usage = {"input_tokens": count, "output_tokens": 3}
    assert inside(message_delta(None, usage=usage)) == [Usage(0, 3, 3), extension("usage", usage)]
    assert inside(message_delta(None, usage={"input_tokens": count})) == [extension("usage", {"input_tokens": count})]


@pytest.mark.parametrize("count", ["7", 7.0, "7.0"])
def test_a_count_may_be_written_as_a_float_or_as_text(count: object) -> None:
    assert inside(message_delta(None, usage={"input_tokens": count})) == [Usage(7, 0, 7)]
    assert inside(message_delta(None, usage={"input_tokens": 6.5}))[0] == Usage(7, 0, 7)


@pytest.mark.parametrize(
    ("kind", "retryable"),
    [("overloaded_error", True), ("invalid_request_error", False), ("novel_error", UNSET)],
)
def test_an_error_says_whether_another_try_is_worth_it(kind: str, retryable: object) -> None:
    error = {"type": "error", "error": {"type": kind, "message": "No"}}
    out = translate(START, block(0, type="text", text="a"), error)
    assert out[-3:] == [Error("No", kind, retryable), ContentEnd(0), MessageStop("msg_1", "error")]  # type: ignore[arg-type]


def test_an_error_without_a_message_or_as_text_is_still_an_error() -> None:
    assert translate({"type": "error", "error": "boom"}) == [Error("boom")]
    assert translate(b"event: error\ndata: {}\n\n") == [Error("the provider sent an error without a message")]
    flat = b'event: error\ndata: {"type": "overloaded_error", "message": "No"}\n\n'
    assert translate(flat) == [Error("No", "overloaded_error", retryable=True)]
    text = "event: error\ndata: upstream timeout\n\n"
    assert translate(text.encode()) == [
        Error("the provider sent an error that is not a JSON object"),
        extension("unparsed", {"event": "error", "text": "upstream timeout"}),
    ]


def test_what_an_error_says_beyond_message_and_type_is_an_extension() -> None:
    error = {"type": "error", "error": {"type": "api_error", "message": "m" * 6000}, "request_id": "req_1"}
    assert translate(error) == [
        Error("the provider sent an error without a message", "api_error", retryable=True),
        extension("error", error),
    ]


def test_a_message_that_stops_after_an_error_without_a_reason_stops_with_error() -> None:
    error = {"type": "error", "error": {"type": "api_error", "message": "No"}}
    assert translate(START, error, STOP)[-1] == MessageStop("msg_1", "error")


def test_a_json_error_body_in_place_of_a_stream_is_an_error() -> None:
    body = json.dumps({"type": "error", "error": {"type": "authentication_error", "message": "No key"}}, indent=2)
    assert translate(body.encode()) == [Error("No key", "authentication_error", retryable=False)]


def test_a_stream_that_just_ends_is_closed_as_incomplete_and_its_reason_kept() -> None:
    out = translate(START, block(0, type="text", text=""), message_delta("end_turn"))
    assert out[1:] == [
        ContentStart(0, "text"),
        extension("message_delta", {"delta": {"stop_reason": "end_turn"}}),
        ContentEnd(0),
        MessageStop("msg_1", "incomplete"),
    ]


def test_an_event_cut_off_in_the_middle_is_kept_as_text() -> None:
    assert translate(START, b'data: {"type":"content_bl')[1:] == [
        extension("unparsed", {"event": "", "text": '{"type":"content_bl'}),
        MessageStop("msg_1", "incomplete"),
    ]


def test_a_second_message_start_ends_the_first_message() -> None:
    second = {"type": "message_start", "message": {"id": "msg_2"}}
    assert translate(START, block(0, type="text"), second, block(0, type="text"), STOP) == [
        STARTED,
        ContentStart(0, "text"),
        ContentEnd(0),
        MessageStop("msg_1", "incomplete"),
        MessageStart("msg_2", provider="anthropic"),
        ContentStart(0, "text"),
        ContentEnd(0),
        MessageStop("msg_2", "unknown"),
    ]


def test_a_start_that_comes_late_begins_no_other_message() -> None:
    usage = {"input_tokens": 3}
    late = {"type": "message_start", "message": {**START["message"], "usage": usage}}  # type: ignore[dict-item]
    begun = (block(0, type="text", text=""), delta(0, "text_delta", text="a"))
    rest = (delta(0, "text_delta", text="b"), end(0), message_delta("end_turn"), STOP)
    told = extension(
        "message_start", {"type": "message_start", "message": {"type": "message", "id": "msg_1", "model": "m-1"}}
    )
    assert translate(*begun, late, *rest) == [
        MessageStart("anthropic-1", provider="anthropic"),
        ContentStart(0, "text"),
        TextDelta("a", 0),
        Usage(3, 0, 3),
        told,
        TextDelta("b", 0),
        ContentEnd(0),
        MessageStop("anthropic-1", "end_turn"),
    ]
    for place in range(1, 7):
        events = [*begun, *rest]
        out = translate(*events[:place], late, *events[place:])
        assert [type(data) for data in out if isinstance(data, (MessageStart, MessageStop))] == [
            MessageStart,
            MessageStop,
        ]
        assert MessageStop("anthropic-1", "end_turn") in out
        assert any(isinstance(data, Extension) for data in out)


def test_a_start_after_the_stop_of_a_message_without_one_is_of_the_next_if_that_comes() -> None:
    text = delta(0, "text_delta", text="a")
    out = translate(text, STOP, START, {"type": "ping"}, text, STOP)
    assert [data for data in out if isinstance(data, (MessageStart, MessageStop))] == [
        MessageStart("anthropic-1", provider="anthropic"),
        MessageStop("anthropic-1", "unknown"),
        STARTED,
        MessageStop("msg_1", "unknown"),
    ]


@pytest.mark.parametrize("second", [START, {"type": "message_start"}])
def test_a_start_that_comes_twice_begins_no_other_message(second: dict[str, Any]) -> None:
    text = (block(0, type="text", text="a"), end(0))
    assert translate(START, *text, second, block(1, type="text", text="b"), message_delta("end_turn"), STOP) == [
        STARTED,
        ContentStart(0, "text"),
        TextDelta("a", 0),
        ContentEnd(0),
        ContentStart(1, "text"),
        TextDelta("b", 1),
        ContentEnd(1),
        MessageStop("msg_1", "end_turn"),
    ]


@pytest.mark.parametrize("index", [[1], {"a": 1}, "one", None])
def test_an_index_that_is_none_after_a_second_start_is_no_defect(index: object) -> None:
    other = {"type": "message_start", "message": {"id": "msg_2"}}
    odd = {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": "b"}}
    out = translate(START, block(0, type="text", text="a"), other, odd, message_delta("end_turn"), STOP)
    assert out[-1] == MessageStop("msg_1", "end_turn")


def test_a_start_with_another_id_is_of_the_message_if_that_goes_on_after_it() -> None:
    other = {"type": "message_start", "message": {"id": "msg_2"}}
    told = extension("message_start", {"type": "message_start", "message": {"id": "msg_2"}})
    first = block(0, type="text", text="a")
    goes_on = [
        (START, other, first),
        (START, first, other, delta(0, "text_delta", text="b")),
        (START, first, other, {"type": "ping"}, end(0)),
        (START, first, other, block(1, type="text")),
        (START, first, end(0), other, message_delta("end_turn")),
    ]
    for payloads in goes_on:
        out = translate(*payloads, message_delta("end_turn"), STOP)
        assert (out[0], out[-1]) == (STARTED, MessageStop("msg_1", "end_turn"))
        assert told in out
    for payloads in [(START, first, other), (START, first, end(0), other, first), (START, first, other, START)]:
        out = translate(*payloads)
        assert MessageStop("msg_1", "incomplete") in out
        assert MessageStart("msg_2", provider="anthropic") in out


def test_a_message_that_comes_whole_is_told_as_if_it_came_in_events() -> None:
    content = [
        {"type": "thinking", "thinking": "Hm", "signature": "c2ln"},
        {"type": "text", "text": "Hello"},
        {"type": "tool_use", "id": "t", "name": "n", "input": {"a": 1}},
    ]
    whole = {**START["message"], "content": content, "stop_reason": "tool_use", "usage": {"output_tokens": 5}}  # type: ignore[dict-item]
    expected = [
        STARTED,
        ContentStart(0, "thinking"),
        Thinking("Hm", 0),
        extension("thinking", block(0, type="thinking", signature="c2ln")),
        ContentEnd(0),
        ContentStart(1, "text"),
        TextDelta("Hello", 1),
        ContentEnd(1),
        ContentStart(2, "tool_use", "t", "n"),
        ToolDelta(2, '{"a":1}'),
        ContentEnd(2),
        Usage(0, 5, 5),
        MessageStop("msg_1", "tool_use"),
    ]
    assert translate(json.dumps(whole, indent=2).encode()) == expected
    assert translate(f"data: {json.dumps(whole)}\n\n".encode()) == expected


def test_halves_of_a_character_in_two_deltas_of_a_block_are_joined() -> None:
    body = sse(
        START, block(0, type="text"), delta(0, "text_delta", text="a\ud83c"), delta(0, "text_delta", text="\udf0d")
    )
    raw = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\xe2\x82"}}\n\n'
    assert [data.text for data in translate(body, raw, raw) if isinstance(data, TextDelta)] == [
        "a",
        "🌍",
        "\ufffd",
        "\ufffd",
    ]


def test_a_message_of_which_a_part_is_torn_stops_with_error_whatever_it_says() -> None:
    torn = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"te}\n\n'
    out = translate(START, torn, message_delta("end_turn"), STOP)
    assert out[1] == Error(
        'a part of the provider\'s answer can\'t be read: {"type":"content_block_delta","index":0,"delta":{"type":"te}',
        "unreadable",
    )
    assert out[-2:] == [
        extension("message_delta", {"delta": {"stop_reason": "end_turn"}}),
        MessageStop("msg_1", "error"),
    ]


def test_arguments_may_be_an_object() -> None:
    out = inside(block(0, type="tool_use", id="t", name="n"), delta(0, "input_json_delta", partial_json={"a": 1}))
    assert out[1] == ToolDelta(0, '{"a":1}')
    assert inside(block(0, type="tool_use", input='{"a":1}'))[1] == ToolDelta(0, '{"a":1}')


def test_thinking_within_text_is_told_apart_on_request() -> None:
    translator = AnthropicMessages(inline_thinking=True)
    body = sse(START, block(0, type="text", text="<thi"), delta(0, "text_delta", text="nk>Hm</think>Hello<"), end(0))
    assert translator.feed(body)[1:] == [
        ContentStart(0, "text"),
        Thinking("Hm", 0),
        TextDelta("Hello", 0),
        TextDelta("<", 0),
        ContentEnd(0),
    ]


def test_missing_starts_are_made_and_stops_of_nothing_ignored() -> None:
    assert translate(end(3), STOP, delta(1, "text_delta", text="a")) == [
        MessageStart("anthropic-1", provider="anthropic"),
        ContentStart(1, "text"),
        TextDelta("a", 1),
        ContentEnd(1),
        MessageStop("anthropic-1", "incomplete"),
    ]


def test_a_block_started_twice_ends_in_between() -> None:
    out = inside(block(0, type="text", text="a"), block(0, type="text", text="b"))
    assert [data.type for data in out] == ["content_start", "text_delta", "content_end"] * 2


def test_done_ends_the_message_and_noise_says_nothing() -> None:
    assert translate(START, b"data: [DONE]\n\n", b"event: ping\n\n", b": comment\n\ndata:\n\n") == [
        STARTED,
        MessageStop("msg_1", "incomplete"),
    ]


def test_an_event_name_stands_in_for_a_missing_type() -> None:
    assert translate(b'event: novel\ndata: {"a":1}\n\n') == [extension("novel", {"a": 1})]
    assert translate(b'data: {"a":1}\n\n') == [extension("unnamed", {"a": 1})]
