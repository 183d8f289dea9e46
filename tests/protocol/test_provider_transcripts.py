"""Recorded provider streams: what translators make of them equals what a plain reading of their JSON finds."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec import UNSET

from protocol.codec import JSON
from protocol.events import (
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
    make_event,
)
from protocol.providers import TRANSLATORS

FOLDER = Path(__file__).parents[3] / "shared" / "transcripts"
FORMATS = {"anthropic": "anthropic-sse", "openai-chat": "openai-chat-sse"}
FILES = sorted(path for provider in FORMATS for path in FOLDER.glob(f"{provider}/*.sse"))

transcripts = pytest.mark.parametrize(
    "path",
    FILES or [pytest.param(None, marks=pytest.mark.skip(reason="no ../shared/transcripts beside the repository"))],
    ids=lambda path: f"{path.parent.name}/{path.stem}" if path else "absent",
)
Told = dict[str, Any]


def translate(path: Path, *chunks: bytes) -> list[Data]:
    translator = TRANSLATORS[FORMATS[path.parent.name]]()
    return [data for chunk in chunks for data in translator.feed(chunk)] + translator.finish()


def payloads(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a transcript; each is on one line (its INDEX.md says so)."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [
        json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:") and "[DONE]" not in line
    ]


def nothing_told() -> Told:
    return {
        "text": "",
        "thinking": "",
        "tools": {},
        "usage": None,
        "stops": [],
        "errors": [],
        "id": None,
        "model": None,
    }


def told_by_events(events: list[Data]) -> Told:
    told = nothing_told()
    tools: dict[int, list[Any]] = {}
    for data in events:
        match data:
            case MessageStart(message_id, model):
                told |= {"id": message_id, "model": model}
            case TextDelta(text):
                told["text"] += text
            case Thinking(thinking):
                told["thinking"] += thinking
            case ContentStart(index, "tool_use"):
                tools[index] = [data.id, data.name, ""]
            case ToolDelta(index, partial_json):
                tools[index][2] += partial_json
            case Usage():
                told["usage"] = (data.prompt_tokens, data.completion_tokens, data.total_tokens)
            case MessageStop():
                told["stops"].append(data.stop_reason)
            case Error(error):
                told["errors"].append(error)
            case _:
                pass
    told["tools"] = {call_id: (name, json.loads(arguments)) for call_id, name, arguments in tools.values()}
    return told


def told_by_anthropic(path: Path) -> Told:
    told = nothing_told()
    usage: dict[str, int] = {}
    blocks: dict[int, dict[str, Any]] = {}
    arguments: dict[int, str] = defaultdict(str)
    for payload in payloads(path):
        delta = payload.get("delta", {})
        told["text"] += delta.get("text", "")
        told["thinking"] += delta.get("thinking", "")
        usage |= payload.get("usage", {})
        if payload["type"] == "message_start":
            told |= {"id": payload["message"]["id"], "model": payload["message"]["model"]}
            usage |= payload["message"]["usage"]
        elif payload["type"] == "content_block_start":
            blocks[payload["index"]] = payload["content_block"]
        elif "partial_json" in delta:
            arguments[payload["index"]] += delta["partial_json"]
        elif "stop_reason" in delta:
            told["stops"].append(delta["stop_reason"])
    tools = {index: block for index, block in blocks.items() if block["type"] == "tool_use"}
    told["tools"] = {block["id"]: (block["name"], json.loads(arguments[index])) for index, block in tools.items()}
    prompt = usage["input_tokens"] + usage["cache_creation_input_tokens"] + usage["cache_read_input_tokens"]
    told["usage"] = (prompt, usage["output_tokens"], prompt + usage["output_tokens"])
    return told


def told_by_openai(path: Path) -> Told:
    told = nothing_told()
    calls: dict[int, list[Any]] = {}
    for payload in payloads(path):
        if "error" in payload:
            told["errors"].append(payload["error"]["message"])
            continue
        told |= {"id": payload["id"], "model": payload["model"]}
        if usage := payload.get("usage"):
            told["usage"] = (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"])
        for choice in payload["choices"]:
            delta = choice["delta"]
            told["text"] += (delta.get("content") or "") + (delta.get("refusal") or "")
            told["thinking"] += (delta.get("reasoning_content") or "") + (delta.get("reasoning") or "")
            for call in delta.get("tool_calls", ()):
                function = call["function"]
                entry = calls.setdefault(call["index"], [call.get("id"), function.get("name"), ""])
                entry[2] += function["arguments"]
            told["stops"] += [choice["finish_reason"]] if choice["finish_reason"] else []
    told["tools"] = {call_id: (name, json.loads(arguments)) for call_id, name, arguments in calls.values()}
    told["stops"] = told["stops"] or ["error" if told["errors"] else "incomplete"]
    return told


READERS = {"anthropic": told_by_anthropic, "openai-chat": told_by_openai}


@transcripts
def test_events_tell_what_the_transcript_tells(path: Path) -> None:
    told = told_by_events(translate(path, path.read_bytes()))
    assert told == READERS[path.parent.name](path)
    assert told["text"] or told["thinking"] or told["tools"]


@transcripts
def test_random_splits_give_the_same_events(path: Path) -> None:
    body = path.read_bytes()
    whole = translate(path, body)
    for seed in range(5):
        random = Random(seed)
        chunks, start = [], 0
        while start < len(body):
            size = random.choice((1, 2, 3, 50, 1500))
            chunks.append(body[start : start + size])
            start += size
        assert translate(path, *chunks) == whole, f"seed {seed}"


def strings_of(value: Any) -> set[str]:
    """All strings within a JSON value, keys left out."""
    if isinstance(value, dict):
        return set().union(*map(strings_of, value.values()))
    if isinstance(value, list):
        return set().union(*map(strings_of, value))
    return {value} if isinstance(value, str) else set()


DROPPED = {"message", "assistant", "function", "chat.completion.chunk", "ping", ""}
TYPES_WITH_AN_EVENT = {
    *("message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta"),
    *("message_stop", "text_delta", "thinking_delta", "input_json_delta", "ping"),
}


@transcripts
def test_every_string_of_the_transcript_is_somewhere_in_the_events(path: Path) -> None:
    events = translate(path, path.read_bytes())
    told: set[str] = set()
    for data in events:
        told |= strings_of(data.data if isinstance(data, Extension) else json.loads(JSON.encode(data)))
    missing = strings_of(payloads(path)) - told - DROPPED - TYPES_WITH_AN_EVENT
    assert missing == set()


@transcripts
def test_events_are_valid_and_every_block_and_message_that_starts_ends(path: Path) -> None:
    events = translate(path, path.read_bytes())
    for data in events:
        JSON.decode_from_producer(JSON.encode(make_event(data)))
    assert isinstance(events[0], MessageStart)
    assert isinstance(events[-1], MessageStop)
    started = [data.index for data in events if isinstance(data, ContentStart)]
    assert sorted(data.index for data in events if isinstance(data, ContentEnd)) == started
    assert all(data.choice is UNSET for data in events if isinstance(data, TextDelta))


@transcripts
def test_a_transcript_cut_anywhere_is_closed_as_incomplete_or_ended(path: Path) -> None:
    body = path.read_bytes()
    ends = {*READERS[path.parent.name](path)["stops"], "incomplete"}
    for cut in range(0, len(body), max(1, len(body) // 50)):
        events = translate(path, body[:cut])
        starts = [data for data in events if isinstance(data, MessageStart)]
        stops = [data for data in events if isinstance(data, MessageStop)]
        assert len(starts) == len(stops)
        assert {data.stop_reason for data in stops} <= ends
        assert not stops or events[-1] is stops[-1]
