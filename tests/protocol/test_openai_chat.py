from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
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
from deltawire.protocol.providers import OpenAIChat

DONE = b"data: [DONE]\n\n"
STARTED = MessageStart("c-1", "m-1", "openai")


def sse(payload: dict[str, Any], name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(payload)}\n\n".encode()


def translate(*payloads: dict[str, Any] | bytes) -> list[Data]:
    translator = OpenAIChat()
    out: list[Data] = []
    for payload in payloads:
        out += translator.feed(payload if isinstance(payload, bytes) else sse(payload))
    return out + translator.finish()


def chunk(
    delta: dict[str, Any] | None = None, finish: str | None = None, index: int = 0, **choice: Any
) -> dict[str, Any]:
    """A chunk with one choice."""
    fields = {"index": index, "delta": delta or {}, "logprobs": None, "finish_reason": finish, **choice}
    return bare(choices=[fields])


def bare(**fields: Any) -> dict[str, Any]:
    """A chunk with its repeated fields."""
    return {"id": "c-1", "object": "chat.completion.chunk", "model": "m-1", "choices": [], **fields}


def inside(*payloads: dict[str, Any] | bytes) -> list[Data]:
    """What payloads become between the start and the stop of a message."""
    out = translate(*payloads, chunk(finish="stop"), DONE)
    assert (out[0], out[-1]) == (STARTED, MessageStop("c-1", "stop"))
    return out[1:-1]


def calls(*items: dict[str, Any]) -> dict[str, Any]:
    return chunk({"tool_calls": list(items)})


def call(index: int | None, arguments: str = "", call_id: str | None = None, name: str | None = None) -> dict[str, Any]:
    fields: dict[str, Any] = {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}
    return {key: value for key, value in fields.items() if value is not None}


def extension(name: str, data: dict[str, Any]) -> Extension:
    return Extension("openai", name, data)


def test_a_whole_answer_becomes_its_events_with_usage_before_the_stop() -> None:
    usage = {
        "prompt_tokens": 3,
        "completion_tokens": 5,
        "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    assert translate(
        chunk({"role": "assistant", "content": "", "refusal": None}),
        chunk({"content": "Hel", "obfuscation": ""}),
        chunk({"content": "lo"}) | {"obfuscation": "x7f"},
        chunk(finish="stop"),
        bare(usage=usage),
        DONE,
    ) == [
        STARTED,
        ContentStart(0, "text"),
        TextDelta("Hel", 0),
        TextDelta("lo", 0),
        ContentEnd(0),
        Usage(3, 5, 8, 1, 2),
        MessageStop("c-1", "stop"),
    ]


def test_a_change_of_kind_ends_one_block_and_begins_the_next() -> None:
    assert inside(
        chunk({"reasoning_content": "a", "content": None}),
        chunk({"reasoning": "b"}),
        chunk({"content": "c"}),
        chunk({"refusal": "d"}),
        chunk({"content": "e"}),
    ) == [
        ContentStart(0, "thinking"),
        Thinking("a", 0),
        Thinking("b", 0),
        ContentEnd(0),
        ContentStart(1, "text"),
        TextDelta("c", 1),
        ContentEnd(1),
        ContentStart(2, "refusal"),
        TextDelta("d", 2),
        ContentEnd(2),
        ContentStart(3, "text"),
        TextDelta("e", 3),
        ContentEnd(3),
    ]


def test_reasoning_sent_under_both_names_is_told_once() -> None:
    assert inside(chunk({"reasoning_content": "a", "reasoning": "a"}))[1:-1] == [Thinking("a", 0)]
    assert inside(chunk({"reasoning_content": "a", "reasoning": "b"}))[1:-1] == [
        Thinking("a", 0),
        extension("reasoning", {"index": 0, "delta": {"reasoning": "b"}}),
    ]


def test_parallel_tool_calls_stay_open_and_are_told_apart_by_their_index() -> None:
    assert inside(
        chunk({"content": "Look"}),
        calls(call(0, "", "call_a", "f") | {"type": "function"}, call(1, "", "call_b", "g")),
        calls(call(1, "{}")),
        calls(call(0, '{"x"')),
        calls(call(0, ":1}", "call_a", "f")),
    ) == [
        ContentStart(0, "text"),
        TextDelta("Look", 0),
        ContentEnd(0),
        ContentStart(1, "tool_use", "call_a", "f"),
        ContentStart(2, "tool_use", "call_b", "g"),
        ToolDelta(2, "{}"),
        ToolDelta(1, '{"x"'),
        ToolDelta(1, ":1}"),
        ContentEnd(1),
        ContentEnd(2),
    ]


def test_tool_calls_without_an_index_go_by_id_and_then_by_the_last_one() -> None:
    out = inside(
        calls(call(None, "1", "a", "f")), calls(call(None, "2")), calls(call(None, "3", "b")), calls(call(None, "4"))
    )
    assert [data for data in out if isinstance(data, ToolDelta)] == [
        ToolDelta(0, "1"),
        ToolDelta(0, "2"),
        ToolDelta(1, "3"),
        ToolDelta(1, "4"),
    ]


def test_a_new_id_under_an_old_index_is_a_new_call() -> None:
    out = inside(calls(call(0, "{}", "a", "f")), calls(call(0, "[]", "b", "f")))
    assert [data for data in out if isinstance(data, ToolDelta)] == [ToolDelta(0, "{}"), ToolDelta(1, "[]")]


def test_what_a_tool_call_says_later_or_beyond_is_an_extension() -> None:
    out = inside(calls(call(0, "{", None, "f")), calls(call(0, "}", "late", "longer")))
    assert out[-2] == extension(
        "tool_calls",
        {"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "late", "function": {"name": "longer"}}]}},
    )


def test_a_custom_call_has_its_input_as_arguments() -> None:
    custom = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": "x"}}
    assert inside(calls(custom)) == [
        ContentStart(0, "tool_use", "a", "f"),
        ToolDelta(0, "x"),
        extension("tool_calls", {"index": 0, "delta": {"tool_calls": [{"index": 0, "type": "custom"}]}}),
        ContentEnd(0),
    ]


def test_a_legacy_function_call_is_a_tool_call() -> None:
    assert inside(
        chunk({"function_call": {"name": "f", "arguments": ""}}), chunk({"function_call": {"arguments": "{}"}})
    ) == [ContentStart(0, "tool_use", name="f"), ToolDelta(0, "{}"), ContentEnd(0)]


def test_interleaved_choices_have_blocks_and_stops_of_their_own() -> None:
    assert translate(
        chunk({"content": "a"}),
        chunk({"content": "b"}, index=1),
        chunk(finish="length", index=1),
        chunk({"content": "c"}),
        chunk(finish="stop"),
    ) == [
        STARTED,
        ContentStart(0, "text"),
        TextDelta("a", 0),
        ContentStart(0, "text", choice=1),
        TextDelta("b", 0, 1),
        ContentEnd(0, 1),
        TextDelta("c", 0),
        ContentEnd(0),
        MessageStop("c-1", "stop"),
        MessageStop("c-1", "length", 1),
    ]


@pytest.mark.parametrize(
    ("choice", "name", "data"),
    [
        ({"logprobs": {"content": [{"token": "a", "logprob": -0.5}], "refusal": None}}, "logprobs",
         {"logprobs": {"content": [{"token": "a", "logprob": -0.5}]}}),
        ({"delta": {"audio": {"data": "AA=="}}}, "audio", {"delta": {"audio": {"data": "AA=="}}}),
        ({"delta": {"annotations": [{"url": "u"}]}}, "annotations", {"delta": {"annotations": [{"url": "u"}]}}),
        ({"delta": {"content": [{"type": "text"}]}}, "content", {"delta": {"content": [{"type": "text"}]}}),
        ({"delta": {"role": "tool"}}, "role", {"delta": {"role": "tool"}}),
        ({"delta": "wrong"}, "delta", {"delta": "wrong"}),
        ({"delta": {"tool_calls": [7]}}, "tool_calls", {"delta": {"tool_calls": [7]}}),
        ({"message": {"audio": "AA=="}}, "audio", {"message": {"audio": "AA=="}}),
        ({"message": "wrong"}, "message", {"message": "wrong"}),
        ({"finish_reason": 7}, "finish_reason", {"finish_reason": 7}),
        ({"": 1}, "unnamed", {"": 1}),
    ],
)  # fmt: skip
def test_what_has_no_event_is_an_extension_of_its_choice(
    choice: dict[str, Any], name: str, data: dict[str, Any]
) -> None:
    assert inside(bare(choices=[{"index": 0, **choice}])) == [extension(name, {"index": 0, **data})]


def test_an_index_that_cannot_be_one_is_kept_and_read_as_choice_0() -> None:
    assert inside(chunk(index="x")) == [extension("index", {"index": "x"})]  # type: ignore[arg-type]


def test_what_is_constant_in_a_stream_is_told_once_and_when_it_changes() -> None:
    first = bare(created=7, system_fingerprint="fp", service_tier="default", x_groq={"id": "r"})
    out = inside(first, first, first | {"system_fingerprint": "fp2", "model": "m-2", "id": "c-2"})
    groq = extension("x_groq", {"x_groq": {"id": "r"}})
    assert out == [
        extension("created", {"created": 7}),
        extension("system_fingerprint", {"system_fingerprint": "fp"}),
        extension("service_tier", {"service_tier": "default"}),
        groq,
        groq,
        extension("id", {"id": "c-2"}),
        extension("model", {"model": "m-2"}),
        extension("system_fingerprint", {"system_fingerprint": "fp2"}),
        groq,
        extension("id", {"id": "c-1"}),
        extension("model", {"model": "m-1"}),
    ]


def test_a_channel_is_told_when_it_changes() -> None:
    out = inside(*(chunk({"content": "a", "channel": channel}) for channel in ("analysis", "analysis", "final")))
    assert [data.data for data in out if isinstance(data, Extension)] == [
        {"index": 0, "delta": {"channel": "analysis"}},
        {"index": 0, "delta": {"channel": "final"}},
    ]


def test_usage_may_ride_on_the_finish_chunk_and_its_whole_is_kept_where_it_says_more() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "prompt_cache_hit_tokens": 0}
    out = translate(chunk(finish="stop") | {"usage": usage}, bare(usage=usage), DONE)
    assert out == [STARTED, Usage(3, 5, 8), extension("usage", usage), MessageStop("c-1", "stop")]


@pytest.mark.parametrize("usage", [{"prompt_tokens": "three"}, {"queue_time": 0.5}, "wrong"])
def test_usage_without_a_count_is_only_an_extension(usage: object) -> None:
    assert inside(bare(usage=usage)) == [
        extension("usage", usage if isinstance(usage, dict) else {"usage": usage}),
    ]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"message": "No", "code": "server_error"}, Error("No", "server_error", retryable=True)),
        ({"message": "No", "code": 502}, Error("No", "502", retryable=True)),
        ({"message": "No", "code": "novel"}, Error("No", "novel")),
        ({"message": "No", "type": "invalid_request_error"}, Error("No", "invalid_request_error", retryable=False)),
        ("No", Error("No")),
    ],
)
def test_an_error_in_a_chunk_is_an_error_and_usage_still_comes_before_the_stop(error: Any, expected: Error) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 0}
    assert translate(chunk({"content": "a"}), bare(error=error), bare(usage=usage), DONE) == [
        STARTED,
        ContentStart(0, "text"),
        TextDelta("a", 0),
        expected,
        Usage(1, 0, 1),
        ContentEnd(0),
        MessageStop("c-1", "error"),
    ]


def test_an_event_named_error_is_one_with_or_without_an_error_object() -> None:
    nested = {"error": {"message": "No", "code": "tool_use_failed", "type": "invalid_request_error", "status": 400}}
    assert translate(sse(nested, "error")) == [
        Error("No", "tool_use_failed", retryable=False),
        extension("error", {"error": {"type": "invalid_request_error", "status": 400}}),
    ]
    assert translate(sse({"message": "No", "code": 429}, "error")) == [Error("No", "429", retryable=True)]
    assert translate(sse({}, "error")) == [Error("the provider sent an error without a message")]


def test_a_finish_reason_stands_after_an_error_and_against_a_second_one() -> None:
    out = translate(chunk(finish="error") | {"error": {"message": "No"}}, chunk(finish="error"), chunk(finish="stop"))
    assert out == [
        STARTED,
        Error("No"),
        extension("finish_reason", {"index": 0, "finish_reason": "stop"}),
        MessageStop("c-1", "error"),
    ]


def test_a_finish_reason_on_every_chunk_ends_no_block_early_and_the_last_one_stands() -> None:
    assert translate(
        chunk({"content": "a"}, "stop"), chunk({}, "stop"), chunk({"content": "b"}, "length"), bare(usage={}), DONE
    ) == [
        STARTED,
        ContentStart(0, "text"),
        TextDelta("a", 0),
        TextDelta("b", 0),
        extension("finish_reason", {"index": 0, "finish_reason": "stop"}),
        ContentEnd(0),
        MessageStop("c-1", "length"),
    ]


def test_usage_on_every_chunk_with_a_finish_reason_is_told_between_the_deltas() -> None:
    pieces = [chunk({"content": text}, "stop") | {"usage": {"prompt_tokens": n}} for n, text in enumerate("ab", 1)]
    assert translate(*pieces, DONE)[1:] == [
        ContentStart(0, "text"),
        TextDelta("a", 0),
        Usage(1, 0, 1),
        TextDelta("b", 0),
        ContentEnd(0),
        Usage(2, 0, 2),
        MessageStop("c-1", "stop"),
    ]


def test_what_comes_after_the_end_of_the_blocks_is_in_blocks_of_its_own() -> None:
    out = inside(chunk({"content": "a"}, "stop"), bare(usage={"prompt_tokens": 1}), chunk({"content": "b"}))
    assert out == [
        ContentStart(0, "text"),
        TextDelta("a", 0),
        ContentEnd(0),
        Usage(1, 0, 1),
        ContentStart(1, "text"),
        TextDelta("b", 1),
        ContentEnd(1),
    ]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ((), "stop"),
        ((bare(error={"message": "No"}), DONE), "error"),
        ((b'data: {"id":"c-1","choices":[{"delta":{"content":"cu',), "incomplete"),
        ((b'data: {"id":"c-1","choices":[{"delta":{"content":"cu}\n\n', DONE), "error"),
        ((chunk({"content": "more"}),), "incomplete"),
        ((chunk({"content": "more"}), DONE), "stop"),
        ((b"data: [DON",), "stop"),
    ],
)
def test_a_finish_reason_amid_text_does_not_vouch_for_text_that_is_cut(end: tuple[Any, ...], reason: str) -> None:
    assert translate(chunk({"content": "a"}, "stop"), *end)[-1] == MessageStop("c-1", reason)


def test_a_stream_that_just_ends_is_closed_as_incomplete() -> None:
    assert translate(chunk({"content": "a"}))[-2:] == [ContentEnd(0), MessageStop("c-1", "incomplete")]
    assert translate(bare()) == [STARTED, MessageStop("c-1", "incomplete")]


def test_a_message_without_an_id_is_named_by_its_number() -> None:
    assert translate({"created": 7, "choices": [{}]})[:2] == [
        MessageStart("openai-1", UNSET, "openai"),
        extension("created", {"created": 7}),
    ]
    assert translate({"choices": [{}]}, DONE, {"choices": [{}]})[2] == MessageStart("openai-2", UNSET, "openai")


def test_what_comes_before_the_message_does_not_start_it() -> None:
    filters = [{"prompt_index": 0}]
    out = translate({"id": "", "choices": [], "prompt_filter_results": filters}, chunk(finish="stop"))
    assert out == [
        extension("prompt_filter_results", {"prompt_filter_results": filters}),
        STARTED,
        MessageStop("c-1", "stop"),
    ]


def test_a_json_error_body_in_place_of_a_stream_is_an_error() -> None:
    body = json.dumps({"error": {"message": "No key", "code": "invalid_api_key"}}, indent=2).encode()
    assert translate(body) == [Error("No key", "invalid_api_key", retryable=False)]


def test_the_name_of_an_event_is_told_when_it_changes() -> None:
    named = [sse(chunk({"content": "a"}), name) for name in ("novel", "novel", "message")]
    assert [data for data in inside(*named) if isinstance(data, Extension)] == [
        extension("event", {"event": "novel"}),
    ]


def test_comments_and_empty_data_say_nothing() -> None:
    assert translate(b": OPENROUTER PROCESSING\n\ndata:\n\n", DONE) == []


# What servers make of the format


def said(*payloads: dict[str, Any] | bytes) -> list[tuple[str, str]]:
    """The deltas inside a message, neighbours of one kind joined."""
    out: list[tuple[str, str]] = []
    for data in inside(*payloads):
        match data:
            case TextDelta(text) | Thinking(text):
                joined = out.pop()[1] if out and out[-1][0] == data.type else ""
                out.append((data.type, joined + text))
            case _:
                pass
    return out


THOUGHT = [("thinking", "Hm."), ("text_delta", "Hello")]


@pytest.mark.parametrize(
    "deltas",
    [
        [{"content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Hello"}]}],
        [{"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]}, {"content": "Hello"}],
        [{"content": [{"type": "reasoning", "text": "Hm."}, "Hel", {"type": "output_text", "text": {"value": "lo"}}]}],
        [{"content": {"type": "reasoning", "summary": [{"text": "Hm."}]}}, {"content": {"text": "Hello"}}],
        [{"reasoning_content": [{"type": "text", "text": "Hm."}], "content": {"parts": ["Hel", {"text": "lo"}]}}],
        [{"reasoning": {"content": "Hm."}, "content": "Hello"}],
        [{"reasoning_text": "Hm.", "content": "Hello"}],
        [{"thinking": "Hm.", "reasoning": "Hm.", "content": "Hello"}],
        [{"reasoning_details": [{"type": "reasoning.text", "text": "Hm.", "index": 0}], "content": "Hello"}],
        [
            {"reasoning": "Hm.", "reasoning_details": [{"type": "reasoning.summary", "summary": "Hm."}]},
            {"content": "Hello"},
        ],
    ],
)
def test_text_is_told_in_every_shape_and_leaves_nothing_else(deltas: list[dict[str, Any]]) -> None:
    assert said(*map(chunk, deltas)) == THOUGHT
    assert not any(isinstance(data, Extension) for data in inside(*map(chunk, deltas)))
    whole = [bare(choices=[{"index": 0, "message": {"role": "assistant", **delta}}]) for delta in deltas]
    assert said(*whole) == THOUGHT


def test_what_a_part_holds_beside_text_is_an_extension() -> None:
    parts = [{"type": "text", "text": "a", "signature": "s"}, {"type": "image_url", "image_url": {"url": "u"}}, 7]
    assert inside(chunk({"content": parts}))[2] == extension(
        "content",
        {"index": 0, "delta": {"content": [{"type": "text", "signature": "s"}, *parts[1:]]}},
    )
    details = [{"type": "reasoning.text", "text": "a", "format": "f"}]
    out = inside(*[chunk({"reasoning_details": details})] * 2)
    assert [data.data for data in out if isinstance(data, Extension)] == [
        {"index": 0, "delta": {"reasoning_details": [{"type": "reasoning.text", "format": "f"}]}}
    ]


def test_text_of_old_completions_is_text() -> None:
    old = [{"id": "c-1", "model": "m-1", "object": "text_completion", "choices": [{"index": 0, "text": "a"}]}]
    assert inside(*old)[1:-1] == [TextDelta("a", 0)]


def test_a_message_that_repeats_the_delta_or_all_of_the_answer_is_told_once() -> None:
    def both(delta: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
        return bare(choices=[{"index": 0, "delta": delta, "message": message}])

    role = {"role": "assistant"}
    call_a = {"id": "a", "function": {"name": "f", "arguments": "{}"}}
    pieces = [
        both({"content": text, "tool_calls": []} | role, {"content": text, "tool_calls": []} | role) for text in "ab"
    ]
    calling = chunk({"tool_calls": [call_a]})
    expected = [
        ContentStart(0, "text"),
        TextDelta("a", 0),
        TextDelta("b", 0),
        ContentEnd(0),
        ContentStart(1, "tool_use", "a", "f"),
        ToolDelta(1, "{}"),
        ContentEnd(1),
    ]
    assert inside(*pieces, calling) == expected
    assert inside(*pieces, calling, both({}, {"content": "ab", "tool_calls": [call_a]})) == expected
    assert said(*pieces, both({}, {"content": "abc"})) == [("text_delta", "abc")]
    other = inside(*pieces, both({}, {"content": "other"}))
    assert extension("content", {"index": 0, "message": {"content": "other"}}) in other


def test_usage_may_be_written_as_floats_or_as_text_and_stand_in_a_choice() -> None:
    usage = {"prompt_tokens": "3", "completion_tokens": 5.0, "total_tokens": "8.0"}
    assert inside(bare(usage=usage)) == [Usage(3, 5, 8)]
    assert inside(chunk(usage=usage)) == [Usage(3, 5, 8)]


def test_an_error_in_a_choice_is_an_error() -> None:
    out = translate(chunk({"content": "a"}), chunk(error={"message": "No", "code": 502}))
    assert out[3:] == [Error("No", "502", retryable=True), ContentEnd(0), MessageStop("c-1", "error")]


# Choices that are none


def counted(first: int, *texts: str, step: int = 1) -> list[dict[str, Any]]:
    """Chunks with one text each, whose ids and indices count up."""
    return [chunk({"content": text}, index=first + n * step) | {"id": f"c-{n + 1}"} for n, text in enumerate(texts)]


@pytest.mark.parametrize("first", [0, 1, 5, 127, 128, 1000])
@pytest.mark.parametrize("texts", ["ab", "abcd", "a" * 200])
def test_indices_that_count_up_with_the_ids_are_one_choice(first: int, texts: str) -> None:
    finish = chunk(finish="stop", index=first + len(texts)) | {"id": "c-last"}
    out = translate(*counted(first, *texts), finish, DONE)
    assert [data for data in out if not isinstance(data, TextDelta)] == [
        STARTED,
        ContentStart(0, "text"),
        ContentEnd(0),
        MessageStop("c-1", "stop"),
    ]
    assert "".join(data.text for data in out if isinstance(data, TextDelta)) == texts


@pytest.mark.parametrize("ids", [{"id": "c-1"}, {"id": None}])
@pytest.mark.parametrize("first", [0, 1, 196])
@pytest.mark.parametrize("texts", ["ab", "abcd", "a" * 200])
def test_indices_that_count_up_without_the_ids_are_one_choice(ids: dict[str, Any], first: int, texts: str) -> None:
    chunks = [chunk({"content": text}, index=first + n) | ids for n, text in enumerate(texts)]
    finish = chunk(finish="stop", index=first + len(texts)) | ids
    out = translate(*chunks, finish, DONE)
    assert [data.stop_reason for data in out if isinstance(data, MessageStop)] == ["stop"]
    assert {data.choice for data in out if isinstance(data, (TextDelta, MessageStop))} == {UNSET}
    assert "".join(data.text for data in out if isinstance(data, TextDelta)) == texts


@pytest.mark.parametrize("count", range(2, 9))
@pytest.mark.parametrize("delta", [{"role": "assistant"}, {"role": "assistant", "content": "x"}, {"content": "x"}])
def test_choices_that_begin_one_after_the_other_are_choices(count: int, delta: dict[str, Any]) -> None:
    begin = [chunk(delta, index=index) for index in range(count)]
    go_on = [chunk({"content": str(index)}, "stop", index=index) for index in range(count)]
    texts = dict.fromkeys(range(count), "")
    for data in translate(*begin, *go_on, DONE):
        if isinstance(data, TextDelta):
            texts[data.choice or 0] += data.text
    assert texts == {index: delta.get("content", "") + str(index) for index in range(count)}


def test_choices_that_come_back_are_choices_whatever_their_ids() -> None:
    for ids in (("c-1", "c-1", "c-1"), ("c-1", "c-2", "c-3")):
        chunks = [
            chunk({"content": f"{index}{turn}"}, index=index) | {"id": ids[index]}
            for turn in "ab"
            for index in (0, 1, 2)
        ]
        if len(set(ids)) > 1:
            del chunks[2::3]  # of three in a row with ids of their own, nothing shows that they are choices
        texts: dict[int, str] = {}
        for data in translate(*chunks, DONE):
            if isinstance(data, TextDelta):
                texts[data.choice or 0] = texts.get(data.choice or 0, "") + data.text
        assert texts == {index: f"{index}a{index}b" for index in range(3 if len(set(ids)) == 1 else 2)}


def test_a_choice_that_comes_first_with_another_index_waits_for_the_next_chunk() -> None:
    translator = OpenAIChat()
    assert translator.feed(sse(chunk({"content": "b"}, index=1))) == []
    assert translator.feed(sse(chunk({"content": "a"}))) == [
        STARTED,
        ContentStart(0, "text", choice=1),
        TextDelta("b", 0, 1),
        ContentStart(0, "text"),
        TextDelta("a", 0),
    ]


def test_a_second_answer_after_the_end_of_the_first_is_another_message() -> None:
    second = [chunk({"role": "assistant", "content": "b"}) | {"id": "c-2"}, chunk(finish="stop") | {"id": "c-2"}]
    out = translate(chunk({"content": "a"}), chunk(finish="stop"), *second, DONE)
    assert [data for data in out if isinstance(data, (MessageStart, MessageStop))] == [
        STARTED,
        MessageStop("c-1", "stop"),
        MessageStart("c-2", "m-1", "openai"),
        MessageStop("c-2", "stop"),
    ]


# Thinking within text


def test_thinking_within_text_is_told_apart_on_request() -> None:
    body = [chunk({"content": text}) for text in ("<th", "ink>Hm</thi", "nk>Hel", "lo <", "b>")]
    translator = OpenAIChat(inline_thinking=True)
    out = [data for payload in body for data in translator.feed(sse(payload))] + translator.finish()
    assert out[1:-1] == [
        ContentStart(0, "thinking"),
        Thinking("Hm", 0),
        ContentEnd(0),
        ContentStart(1, "text"),
        TextDelta("Hel", 1),
        TextDelta("lo ", 1),
        TextDelta("<b>", 1),
        ContentEnd(1),
    ]
    assert said(*body) == [("text_delta", "<think>Hm</think>Hello <b>")]


# Characters in halves


def test_halves_of_a_character_in_two_deltas_are_joined() -> None:
    def half(content: bytes, field: bytes = b"content") -> bytes:
        return b'data: {"id":"c-1","model":"m-1","choices":[{"index":0,"delta":{"%b":"%b"}}]}\n\n' % (field, content)

    assert said(half(b"a\\ud83c"), chunk({}), half(b"\\udf0db")) == [("text_delta", "a🌍b")]
    assert said(half(b"a\xf0"), half(b"\x9f\x8c"), half(b"\x8db")) == [("text_delta", "a🌍b")]
    assert said(half(b"\xed\xa0\xbc"), half(b"\xed\xbc\x8d")) == [("text_delta", "🌍")]
    assert said(half(b"a\\ud83c"), half(b"b")) == [("text_delta", "a\ufffdb")]
    assert said(half(b"a\\ud83c"), half(b"\\udf0d", b"reasoning")) == [
        ("text_delta", "a\ufffd"),
        ("thinking", "\ufffd"),
    ]
    assert said(half(b"a\xf0\x9f")) == [("text_delta", "a\ufffd")]
    assert inside(half(b"a\\ud83c"), calls(call(0, "{}", "a", "f")))[1:4] == [
        TextDelta("a", 0),
        TextDelta("\ufffd", 0),
        ContentEnd(0),
    ]


def test_a_name_or_an_unknown_field_with_half_a_character_costs_only_that() -> None:
    choice = b'{"index":0,"delta":{"content":"a","x\\udc00":"\\ud800"}}'
    body = b'data: {"id":"c\\ud83d","model":"m\xff","choices":[%b]}\n\n' % choice
    out = translate(body)
    assert out[0] == MessageStart("c\ufffd", "m\ufffd", "openai")
    assert out[3] == extension("x\ufffd", {"index": 0, "delta": {"x\ufffd": "\ufffd"}})


SAID: list[dict[str, Any]] = [
    chunk({"content": "a"}),
    chunk({"content": "b"}),
    chunk({"content": "b", "role": "assistant"}),
    chunk({"content": "b", "annotations": [1]}),
    chunk({"content": "\ud83d"}),
    chunk({"content": "\ude00"}),
    chunk({"content": "x" * 10_001}),
    chunk({"content": ""}),
    chunk({"content": None, "reasoning_content": "r"}),
    chunk({"content": "a", "reasoning": "r"}),
    chunk({"content": [{"type": "text", "text": "p"}]}),
    chunk({"refusal": "no"}),
    chunk({"content": "a"}, index=1),
    chunk({"content": "a"}, finish="stop"),
    chunk({"content": "a"}) | {"obfuscation": "zz"},
    chunk({"content": "a"}) | {"service_tier": "flex"},
    chunk({"content": "a"}) | {"id": "c-2"},
    chunk({"content": "a"}) | {"usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}},
    chunk({"content": "a"}) | {"error": {"message": "bad"}},
    chunk({"content": "a"}, message={"content": "a"}),
    chunk({"content": "a"}, logprobs={"content": [{"token": "a"}]}),
    calls({"index": 0, "id": "t-1", "function": {"name": "f", "arguments": "{}"}}),
    bare(usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}),
]


@given(st.lists(st.sampled_from([*SAID, DONE, b"data: {torn\n\n"]), max_size=12), st.booleans())
def test_a_chunk_that_is_like_the_one_before_is_told_as_any_other(payloads: list[Any], is_last: bool) -> None:  # noqa: FBT001 - drawn
    """A chunk that says only the text of the one before is read in less time: what comes of it must be the same."""
    twice = [payload for payload in payloads for _ in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deltawire.protocol.providers.openai_chat.read_plain", lambda _: None)
        expected = translate(*twice, *([DONE] if is_last else []))
    assert translate(*twice, *([DONE] if is_last else [])) == expected
