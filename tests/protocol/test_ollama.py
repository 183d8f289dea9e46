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
from deltawire.protocol.providers import Ollama

STARTED = MessageStart("ollama-1", "m", "ollama")
STOPPED = MessageStop("ollama-1", "stop")
TEXT = [ContentStart(0, "text"), TextDelta("a", 0), ContentEnd(0)]


def translate(*lines: dict[str, Any] | bytes) -> list[Data]:
    translator = Ollama()
    out: list[Data] = []
    for line in lines:
        out += translator.feed(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
    return out + translator.finish()


def said(**message: Any) -> dict[str, Any]:
    return {"model": "m", "message": {"role": "assistant", **message}, "done": False}


def done(reason: str | None = "stop", **fields: Any) -> dict[str, Any]:
    return {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": reason} | fields


def extension(name: str, data: dict[str, Any]) -> Extension:
    return Extension("ollama", name, data)


def test_a_whole_answer_becomes_its_events() -> None:
    assert translate(
        said(content="", thinking="Hm"),
        said(content="Hel"),
        said(content="lo"),
        said(tool_calls=[{"function": {"name": "get", "arguments": {"a": 1}}}]),
        done(prompt_eval_count=3, eval_count=5, total_duration=7, load_duration=0),
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
        Usage(3, 5, 8),
        extension("total_duration", {"total_duration": 7}),
        extension("load_duration", {"load_duration": 0}),
        STOPPED,
    ]


def test_text_without_a_chat_is_read_as_well() -> None:
    lines = [
        {"model": "m", "response": "a", "done": False},
        {"model": "m", "response": "", "done": True, "context": [1]},
    ]
    assert translate(*lines) == [
        STARTED,
        *TEXT,
        extension("context", {"context": [1]}),
        MessageStop("ollama-1", "unknown"),
    ]
    assert translate({"model": "m", "thinking": "Hm", "response": "", "done": False})[1:3] == [
        ContentStart(0, "thinking"),
        Thinking("Hm", 0),
    ]


def test_an_answer_that_comes_whole_is_one_line() -> None:
    whole = done() | {"message": {"role": "assistant", "content": "a"}}
    assert translate(json.dumps(whole, indent=1).encode()) == [STARTED, *TEXT, STOPPED]


def test_calls_in_parallel_are_calls_of_their_own_also_where_they_are_equal() -> None:
    call = {"function": {"index": 0, "name": "f", "arguments": {}}}
    out = translate(said(tool_calls=[call, {**call, "id": "c"}]), said(tool_calls=[call]), done())
    assert [data for data in out if isinstance(data, (ContentStart, ToolDelta))] == [
        ContentStart(0, "tool_use", name="f"),
        ToolDelta(0, "{}"),
        ContentStart(1, "tool_use", "c", "f"),
        ToolDelta(1, "{}"),
        ContentStart(2, "tool_use", name="f"),
        ToolDelta(2, "{}"),
    ]


def test_what_a_call_has_beside_name_and_arguments_is_an_extension() -> None:
    rest = {"function": {"novel": 1}, "type": "function"}
    out = translate(said(tool_calls=[{"function": {"name": "f", "arguments": "[1]", "novel": 1}, "type": "function"}]))
    assert out[2:4] == [ToolDelta(0, "[1]"), ContentEnd(0)]
    assert out[4] == extension("tool_calls", {"index": 0, "message": {"tool_calls": [rest]}})


def test_the_time_of_the_first_line_is_told_and_no_other() -> None:
    times = [f"2026-01-02T03:04:05.{number}Z" for number in (123, 123456789)]
    lines = [said(content="a") | {"created_at": created} for created in times]
    assert [data for data in translate(*lines, done(created_at=times[1])) if isinstance(data, Extension)] == [
        extension("created_at", {"created_at": times[0]})
    ]
    odd = translate(*lines, done(created_at="yesterday"))
    assert extension("created_at", {"created_at": "yesterday"}) in odd


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"message": {"images": ["aGk="]}}, "images"),
        ({"message": {"novel": {"x": 1}}}, "novel"),
    ],
)
def test_what_else_a_message_has_is_an_extension(fields: dict[str, Any], name: str) -> None:
    out = translate({"model": "m", "done": False} | fields, done())
    assert out[1:-1] == [extension(name, {"index": 0, "message": fields["message"]})]


def test_what_else_a_line_has_is_an_extension_and_constants_are_told_once() -> None:
    line = said(content="a") | {"logprobs": [{"token": "a"}], "remote_host": "h"}
    out = translate(line, line, done())
    assert [data.name for data in out if isinstance(data, Extension)] == ["logprobs", "remote_host", "logprobs"]


def test_a_failure_amid_an_answer_is_its_stop_reason() -> None:
    out = translate(said(content="a"), {"error": "the model ran away"})
    assert out == [
        STARTED,
        *TEXT[:2],
        Error("the model ran away"),
        TEXT[2],
        MessageStop("ollama-1", "error"),
    ]


def test_a_failure_in_place_of_an_answer_is_an_error() -> None:
    assert translate({"error": "model 'x' not found"}) == [Error("model 'x' not found")]


@pytest.mark.parametrize("reason", ["length", "load"])
def test_an_answer_stops_for_its_reason(reason: str) -> None:
    assert translate(said(content="a"), done(reason))[-1] == MessageStop("ollama-1", reason)


def test_a_stream_that_just_ends_is_closed_as_incomplete() -> None:
    assert translate(said(content="a")) == [STARTED, *TEXT, MessageStop("ollama-1", "incomplete")]


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_line_that_is_cut_off_is_kept_as_text(cut: int) -> None:
    last = json.dumps(said(content="b")).encode()[:cut]
    out = translate(said(content="a"), last)
    assert out == [
        STARTED,
        *TEXT[:2],
        extension("unparsed", {"event": "", "text": last.decode()}),
        TEXT[2],
        MessageStop("ollama-1", "incomplete"),
    ]


def test_a_line_that_is_torn_costs_itself_and_no_other() -> None:
    out = translate(said(content="a"), b'{"model":"m","message":{"con\n', said(content="b"), done())
    assert [data.text for data in out if isinstance(data, TextDelta)] == ["a", "b"]
    assert [data.code for data in out if isinstance(data, Error)] == ["unreadable"]
    assert out[-1] == MessageStop("ollama-1", "error")


def test_after_the_end_of_an_answer_another_one_may_follow() -> None:
    out = translate(said(content="a"), done(), said(content="b"), done("length"))
    assert [data for data in out if isinstance(data, (MessageStart, MessageStop))] == [
        STARTED,
        STOPPED,
        MessageStart("ollama-2", "m", "ollama"),
        MessageStop("ollama-2", "length"),
    ]


def test_lines_in_server_sent_events_are_read_as_well() -> None:
    body = b"".join(b"data: %b\n\n" % json.dumps(line).encode() for line in (said(content="a"), done()))
    assert translate(body) == [STARTED, *TEXT, STOPPED]
