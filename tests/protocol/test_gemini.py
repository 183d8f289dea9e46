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
from deltawire.protocol.providers import Gemini

STARTED = MessageStart("r-1", "m", "gemini")
STOPPED = MessageStop("r-1", "STOP")
TEXT = [ContentStart(0, "text"), TextDelta("a", 0), ContentEnd(0)]


def sse(*payloads: dict[str, Any]) -> bytes:
    return b"".join(b"data: %b\r\n\r\n" % json.dumps(payload).encode() for payload in payloads)


def translate(*payloads: dict[str, Any] | bytes) -> list[Data]:
    translator = Gemini()
    out: list[Data] = []
    for payload in payloads:
        out += translator.feed(payload if isinstance(payload, bytes) else sse(payload))
    return out + translator.finish()


def chunk(*parts: dict[str, Any], finish: str | None = None, **fields: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0} | fields
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "responseId": "r-1", "modelVersion": "m"}


def inside(*payloads: dict[str, Any]) -> list[Data]:
    """What payloads become between the start and the stop of an answer that ends well."""
    out = translate(*payloads, chunk(finish="STOP"))
    assert (out[0], out[-1]) == (STARTED, STOPPED)
    return out[1:-1]


def call(**fields: Any) -> dict[str, Any]:
    return {"functionCall": fields}


def piece(path: str, **value: Any) -> dict[str, Any]:
    return {"jsonPath": path, **value}


def extension(name: str, data: dict[str, Any]) -> Extension:
    return Extension("gemini", name, data)


def test_a_whole_answer_becomes_its_events() -> None:
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 5, "thoughtsTokenCount": 2, "totalTokenCount": 10}
    assert translate(
        chunk({"text": "Hm", "thought": True}),
        chunk({"text": "Hel"}),
        chunk({"text": "lo"}, call(name="get", args={"a": 1})),
        chunk({"text": "."}, finish="STOP") | {"usageMetadata": usage},
    ) == [
        STARTED,
        ContentStart(0, "thinking"),
        Thinking("Hm", 0),
        ContentEnd(0),
        ContentStart(1, "text"),
        TextDelta("Hel", 1),
        TextDelta("lo", 1),
        ContentEnd(1),
        ContentStart(2, "tool_use", name="get"),
        ToolDelta(2, '{"a":1}'),
        ContentEnd(2),
        ContentStart(3, "text"),
        TextDelta(".", 3),
        ContentEnd(3),
        Usage(3, 7, 10, reasoning_tokens=2),
        STOPPED,
    ]


def test_calls_in_parallel_are_calls_of_their_own_also_where_they_are_equal() -> None:
    expected = []
    for index in range(3):
        expected += [ContentStart(index, "tool_use", name="f"), ToolDelta(index, "{}"), ContentEnd(index)]
    same = call(name="f", args={})
    assert inside(chunk(same, same), chunk(call(name="f"))) == expected


@pytest.mark.parametrize(
    ("args", "arguments"),
    [({"a": None}, '{"a":null}'), ([1], "[1]"), ('{"a":1}', '{"a":1}'), ({"a": "ü"}, '{"a":"ü"}')],
)
def test_arguments_are_the_json_of_an_object_or_whatever_else_they_are(args: object, arguments: str) -> None:
    assert inside(chunk(call(id="c", name="f", args=args)))[:2] == [
        ContentStart(0, "tool_use", "c", "f"),
        ToolDelta(0, arguments),
    ]


def test_arguments_in_pieces_are_told_when_the_call_is_complete() -> None:
    assert inside(
        chunk(call(name="f", willContinue=True)),
        chunk(call(partialArgs=[piece("$.a", stringValue="x", willContinue=True)], willContinue=True)),
        chunk({"text": "meanwhile", "thought": True}),
        chunk(call(partialArgs=[piece("$.a", stringValue="y"), piece("$.b[0].c", numberValue=2.0)], willContinue=True)),
        chunk(call()),
        chunk(call(name="g", partialArgs=[piece("$.d", boolValue=True), piece("$['e']", nullValue="NULL_VALUE")])),
    ) == [
        ContentStart(0, "tool_use", name="f"),
        ContentStart(1, "thinking"),
        Thinking("meanwhile", 1),
        ToolDelta(0, '{"a":"xy","b":[{"c":2}]}'),
        ContentEnd(0),
        ContentEnd(1),
        ContentStart(2, "tool_use", name="g"),
        ToolDelta(2, '{"d":true,"e":null}'),
        ContentEnd(2),
    ]


@pytest.mark.parametrize("end", [[], [chunk(finish="MAX_TOKENS")], [chunk(call(name="g"))]])
def test_nobody_takes_the_arguments_of_a_call_that_is_cut_off_for_all_there_are(end: list[dict[str, Any]]) -> None:
    out = translate(chunk(call(name="f", willContinue=True, partialArgs=[piece("$.a", stringValue="x")])), *end)
    told = extension("functionCall", {"index": 0, "functionCall": {"partialArgs": {"a": "x"}}})
    assert out[:3] == [STARTED, ContentStart(0, "tool_use", name="f"), told]
    assert ToolDelta(0, '{"a":"x"}') not in out
    assert ContentEnd(0) in out


def test_a_piece_of_arguments_that_has_no_place_is_an_extension() -> None:
    odd = [piece("$", stringValue="x"), piece("$.a", novel=1), "odd"]
    out = inside(chunk(call(name="f", partialArgs=[*odd, piece("$.b", stringValue="y")])))
    assert out[1:3] == [extension("partialArgs", {"index": 0, "partialArgs": odd}), ToolDelta(0, '{"b":"y"}')]


def test_candidates_are_choices() -> None:
    def both(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
        return {**first, "candidates": [*first["candidates"], {**second["candidates"][0], "index": 1}]}

    assert translate(
        both(chunk({"text": "a"}), chunk({"text": "b"})),
        both(chunk({"text": "c"}, finish="STOP"), chunk({"text": "d"}, finish="SAFETY")),
    ) == [
        STARTED,
        ContentStart(0, "text"),
        TextDelta("a", 0),
        ContentStart(0, "text", choice=1),
        TextDelta("b", 0, 1),
        TextDelta("c", 0),
        TextDelta("d", 0, 1),
        ContentEnd(0),
        ContentEnd(0, 1),
        STOPPED,
        MessageStop("r-1", "SAFETY", 1),
    ]


def test_candidates_without_an_index_are_numbered_by_their_place() -> None:
    several = chunk({"text": "a"}, finish="STOP")["candidates"] * 2
    several = [{name: value for name, value in candidate.items() if name != "index"} for candidate in several]
    out = translate({"responseId": "r-1", "modelVersion": "m", "candidates": several})
    assert [data for data in out if isinstance(data, MessageStop)] == [STOPPED, MessageStop("r-1", "STOP", 1)]


def test_usage_is_told_when_it_changes_and_its_details_once() -> None:
    details = {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": 3}], "trafficType": "ON_DEMAND"}
    first = {"promptTokenCount": 3, "totalTokenCount": 3, **details}
    last = {"promptTokenCount": 3, "candidatesTokenCount": 5, "cachedContentTokenCount": 2, **details}
    out = inside(*(chunk({"text": "a"}) | {"usageMetadata": usage} for usage in (first, first, last)))
    assert [data for data in out if not isinstance(data, (TextDelta, ContentStart, ContentEnd))] == [
        Usage(3, 0, 3),
        extension("usage", details),
        Usage(3, 5, 8, cached_tokens=2),
    ]


def test_tokens_of_tools_in_the_prompt_count_with_it_and_are_shown() -> None:
    usage = {"promptTokenCount": 3, "toolUsePromptTokenCount": 4, "candidatesTokenCount": 1, "totalTokenCount": 8}
    out = inside(chunk({"text": "a"}) | {"usageMetadata": usage})
    assert out[2:4] == [Usage(7, 1, 8), extension("usage", {"toolUsePromptTokenCount": 4})]


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ({"text": "", "thoughtSignature": "c2ln"}, "thoughtSignature"),
        ({"inlineData": {"mimeType": "image/png", "data": "aGk="}}, "inlineData"),
        ({"executableCode": {"language": "PYTHON", "code": "1"}}, "executableCode"),
        ({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}, "codeExecutionResult"),
        ({"inlineData": {"data": "aGk="}, "thought": True}, "inlineData"),
        ({"text": 7}, "text"),
        ({"functionCall": "odd"}, "functionCall"),
    ],
)
def test_a_part_of_any_other_sort_is_an_extension(part: dict[str, Any], name: str) -> None:
    rest = {field: value for field, value in part.items() if value != ""}
    assert inside(chunk(part)) == [extension(name, {"index": 0, "content": {"parts": [rest]}})]


def test_what_else_a_candidate_has_is_an_extension_and_told_when_it_changes() -> None:
    ratings = [{"category": "c", "probability": "LOW"}]
    assert inside(
        chunk({"text": "a"}, safetyRatings=ratings),
        chunk({"text": "b"}, safetyRatings=ratings, groundingMetadata={"webSearchQueries": ["q"]}),
    ) == [
        ContentStart(0, "text"),
        TextDelta("a", 0),
        extension("safetyRatings", {"index": 0, "safetyRatings": ratings}),
        TextDelta("b", 0),
        extension("groundingMetadata", {"index": 0, "groundingMetadata": {"webSearchQueries": ["q"]}}),
        ContentEnd(0),
    ]


def test_a_finish_reason_on_every_chunk_ends_one_block_once() -> None:
    out = translate(*(chunk({"text": text}, finish="STOP") for text in ("a", "b", "c")))
    assert out == [
        STARTED,
        ContentStart(0, "text"),
        *(TextDelta(text, 0) for text in "abc"),
        ContentEnd(0),
        STOPPED,
    ]


def test_no_reason_is_no_finish() -> None:
    out = translate(chunk({"text": "a"}, finish="FINISH_REASON_UNSPECIFIED"))
    assert out == [STARTED, *TEXT, MessageStop("r-1", "incomplete")]


def test_a_stream_that_just_ends_is_closed_as_incomplete() -> None:
    assert translate(chunk({"text": "a"})) == [STARTED, *TEXT, MessageStop("r-1", "incomplete")]


def test_a_prompt_that_is_blocked_stops_for_that() -> None:
    feedback = {"blockReason": "PROHIBITED_CONTENT", "safetyRatings": [{"category": "c"}]}
    assert translate({"promptFeedback": feedback, "responseId": "r-1", "modelVersion": "m"}) == [
        STARTED,
        extension("promptFeedback", {"promptFeedback": feedback}),
        MessageStop("r-1", "PROHIBITED_CONTENT"),
    ]


def test_an_error_amid_an_answer_is_its_stop_reason() -> None:
    error = {"error": {"code": 429, "message": "No", "status": "RESOURCE_EXHAUSTED", "details": [{"x": 1}]}}
    out = translate(chunk({"text": "a"}), error)
    assert out == [
        STARTED,
        *TEXT[:2],
        Error("No", "429", retryable=True),
        extension("error", {"error": {"status": "RESOURCE_EXHAUSTED", "details": [{"x": 1}]}}),
        TEXT[2],
        MessageStop("r-1", "error"),
    ]


def test_a_body_that_is_one_array_is_read_as_well() -> None:
    chunks = [chunk({"text": "a"}), chunk(finish="STOP")]
    body = json.dumps(chunks, indent=2).replace("},\n  {", "}\n,\r\n{").encode()
    assert translate(body) == [STARTED, *TEXT, STOPPED]
    error = [{"error": {"code": 400, "message": "No", "status": "INVALID_ARGUMENT"}}]
    assert translate(json.dumps(error, indent=2).encode())[0] == Error("No", "400", retryable=False)


def test_another_response_begins_another_message_once_the_first_has_finished() -> None:
    second = chunk({"text": "b"}, finish="STOP") | {"responseId": "r-2"}
    out = translate(chunk({"text": "a"}, finish="STOP"), second)
    assert [data for data in out if isinstance(data, (MessageStart, MessageStop))] == [
        STARTED,
        STOPPED,
        MessageStart("r-2", "m", "gemini"),
        MessageStop("r-2", "STOP"),
    ]
    same = translate(chunk({"text": "a"}), second)
    assert [data for data in same if isinstance(data, (MessageStart, MessageStop))] == [STARTED, STOPPED]


def test_an_answer_without_an_id_has_one_that_is_made() -> None:
    out = translate({"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}]})
    assert (out[0], out[-1]) == (MessageStart("gemini-1", provider="gemini"), MessageStop("gemini-1", "STOP"))
