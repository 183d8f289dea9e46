"""Recorded provider streams, and what they say: by a plain reading of their JSON, and by the events made of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec import UNSET, structs

from deltawire.protocol.events import (
    ContentStart,
    Data,
    Error,
    MessageStart,
    MessageStop,
    TextDelta,
    Thinking,
    ToolDelta,
    Usage,
)

FOLDER = Path(__file__).parents[3] / "shared" / "transcripts"
FORMATS = {
    "anthropic": "anthropic-sse",
    "openai-chat": "openai-chat-sse",
    "openai-responses": "openai-responses-sse",
    "gemini": "gemini-sse",
    "ollama": "ollama-ndjson",
}
FILES = sorted(path for provider in FORMATS for path in FOLDER.glob(f"{provider}/*"))

transcripts = pytest.mark.parametrize(
    "path",
    FILES or [pytest.param(None, marks=pytest.mark.skip(reason="no ../shared/transcripts beside the repository"))],
    ids=lambda path: f"{path.parent.name}/{path.stem}" if path else "absent",
)


def format_of(path: Path) -> str:
    """The name `deltawire publish --format` knows a transcript's format by."""
    return FORMATS[path.parent.name]


def split_randomly(body: bytes, random: Random) -> Iterator[bytes]:
    """A body in chunks from a byte to a packet."""
    start = 0
    while start < len(body):
        size = random.choice((1, 2, 3, 50, 1500))
        yield body[start : start + size]
        start += size


@dataclass
class Told:
    """What an answer says, however it was cut into events; texts and stop reasons by choice, tool calls by id."""

    message_id: str | None = None
    model: str | None = None
    text: dict[int, str] = field(default_factory=lambda: defaultdict(str))
    thinking: dict[int, str] = field(default_factory=lambda: defaultdict(str))
    tools: dict[str, tuple[str, Any]] = field(default_factory=dict)
    usage: dict[str, int] = field(default_factory=dict)
    stops: dict[int, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


class Calls:
    """Tool calls as they come in pieces."""

    def __init__(self) -> None:
        self._calls: dict[tuple[int, int], tuple[str, str]] = {}
        self._arguments: dict[tuple[int, int], str] = defaultdict(str)

    def begin(self, choice: int, index: int, call_id: str, name: str, arguments: Any) -> None:
        """A call that comes whole."""
        self.start(choice, index, call_id, name)
        self.add(choice, index, json.dumps(arguments))

    def start(self, choice: int, index: int, call_id: str, name: str) -> None:
        self._calls[choice, index] = (call_id, name)

    def add(self, choice: int, index: int, arguments: str) -> None:
        self._arguments[choice, index] += arguments

    def parse(self) -> dict[str, tuple[str, Any]]:
        """Name and arguments of each, by its id."""
        assert self._arguments.keys() <= self._calls.keys(), "arguments of a call that never started"
        assert len({call_id for call_id, _ in self._calls.values()}) == len(self._calls)
        return {call_id: (name, json.loads(self._arguments[key])) for key, (call_id, name) in self._calls.items()}


def told_by_events(events: Iterable[Data]) -> Told:
    """What an answer's events say, folded or not."""
    told, calls = Told(), Calls()
    for data in events:
        choice = getattr(data, "choice", UNSET) or 0
        match data:
            case MessageStart(message_id, model, provider):
                is_made = message_id.startswith(f"{provider}-")
                told.message_id, told.model = None if is_made else message_id, model or None
            case TextDelta(text):
                told.text[choice] += text
            case Thinking(thinking):
                told.thinking[choice] += thinking
            case ContentStart(index, "tool_use" | "code_interpreter_call" as kind, call_id, name):
                calls.start(choice, index, call_id or f"call {index}", name or kind)
            case ToolDelta(index, partial_json):
                calls.add(choice, index, partial_json)
            case Usage():
                told.usage = {name: count for name, count in structs.asdict(data).items() if count is not UNSET}
            case MessageStop(_, stop_reason):
                assert choice not in told.stops, "a choice stopped twice"
                told.stops[choice] = stop_reason
            case Error(error):
                told.errors.append(error)
            case _:
                pass
    told.tools = calls.parse()
    return told


def told_by_transcript(path: Path) -> Told:
    """What the provider's JSON says."""
    return _READERS[path.parent.name](payloads(path))


def payloads(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a transcript; each is on one line (its INDEX.md says so)."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [
        json.loads(line.removeprefix("data:"))
        for line in lines
        if line.startswith(("data:", "{")) and "[DONE]" not in line
    ]


def _told_by_anthropic(payloads: list[dict[str, Any]]) -> Told:
    told, calls = Told(), Calls()
    usage: dict[str, Any] = {}
    for payload in payloads:
        delta = payload.get("delta", {})
        if "text" in delta:
            told.text[0] += delta["text"]
        if "thinking" in delta:
            told.thinking[0] += delta["thinking"]
        usage |= payload.get("usage", {})
        if payload["type"] == "message_start":
            told.message_id, told.model = payload["message"]["id"], payload["message"]["model"]
            usage |= payload["message"]["usage"]
        elif payload["type"] == "content_block_start" and payload["content_block"]["type"] == "tool_use":
            calls.start(0, payload["index"], payload["content_block"]["id"], payload["content_block"]["name"])
        elif "partial_json" in delta:
            calls.add(0, payload["index"], delta["partial_json"])
        elif "stop_reason" in delta:
            told.stops[0] = delta["stop_reason"]
    told.tools = calls.parse()
    prompt = usage["input_tokens"] + usage["cache_creation_input_tokens"] + usage["cache_read_input_tokens"]
    told.usage = {
        "prompt_tokens": prompt,
        "completion_tokens": usage["output_tokens"],
        "total_tokens": prompt + usage["output_tokens"],
        "cached_tokens": usage["cache_read_input_tokens"],
    }
    if "output_tokens_details" in usage:
        told.usage["reasoning_tokens"] = usage["output_tokens_details"]["thinking_tokens"]
    return told


def _told_by_openai(payloads: list[dict[str, Any]]) -> Told:
    told, calls = Told(), Calls()
    for payload in payloads:
        if "error" in payload:
            told.errors.append(payload["error"]["message"])
            continue
        told.message_id, told.model = payload["id"], payload["model"]
        if usage := payload.get("usage"):
            counts = usage | usage.get("prompt_tokens_details", {}) | usage.get("completion_tokens_details", {})
            told.usage = {name: counts[name] for name in _OPENAI_COUNTS if name in counts}
        for choice in payload["choices"]:
            _read_choice(choice, told, calls)
    told.tools = calls.parse()
    if not told.stops:
        told.stops[0] = "error" if told.errors else "incomplete"
    return told


def _read_choice(choice: dict[str, Any], told: Told, calls: Calls) -> None:
    number, delta = choice["index"], choice["delta"]
    if text := (delta.get("content") or "") + (delta.get("refusal") or ""):
        told.text[number] += text
    if thinking := (delta.get("reasoning_content") or "") + (delta.get("reasoning") or ""):
        told.thinking[number] += thinking
    for call in delta.get("tool_calls", ()):
        if "id" in call:
            calls.start(number, call["index"], call["id"], call["function"]["name"])
        calls.add(number, call["index"], call["function"]["arguments"])
    if choice["finish_reason"]:
        told.stops[number] = choice["finish_reason"]


def _told_by_responses(payloads: list[dict[str, Any]]) -> Told:
    told, calls = Told(), Calls()
    for payload in payloads:
        match payload:
            case {"type": "response.output_text.delta", "delta": text}:
                told.text[0] += text
            case {"type": "response.reasoning_summary_text.delta", "delta": text}:
                told.thinking[0] += text
            case {
                "type": "response.output_item.done",
                "output_index": index,
                "item": {"type": "function_call"} as item,
            }:
                calls.begin(0, index, item["call_id"], item["name"], json.loads(item["arguments"]))
            case {"type": "response.output_item.done", "output_index": index, "item": {"code": code, "id": item_id}}:
                calls.begin(0, index, item_id, "code_interpreter_call", {"code": code})
            case {"type": "error", "error": {"message": message}}:
                told.errors.append(message)
            case {"response": {"id": response_id, "model": model, "status": status, "usage": usage}}:
                told.message_id, told.model = response_id, model
                if status != "in_progress":
                    told.stops[0] = {"failed": "error"}.get(status, status)
                for name, count in (usage or {}).items():
                    told.usage |= count if isinstance(count, dict) else {name: count}
    told.usage = _renamed(told.usage, input_tokens="prompt_tokens", output_tokens="completion_tokens")
    told.tools = calls.parse()
    return told


def _told_by_gemini(payloads: list[dict[str, Any]]) -> Told:
    told, calls = Told(), Calls()
    for payload in payloads:
        told.message_id, told.model = payload["responseId"], payload["modelVersion"]
        usage = payload["usageMetadata"]
        told.usage = {
            "prompt_tokens": usage["promptTokenCount"],
            "completion_tokens": usage["candidatesTokenCount"] + usage["thoughtsTokenCount"],
            "total_tokens": usage["totalTokenCount"],
            "reasoning_tokens": usage["thoughtsTokenCount"],
        }
        [candidate] = payload["candidates"]
        for part in candidate["content"]["parts"]:
            if part.get("text"):
                told.text[0] += part["text"]
            if call := part.get("functionCall"):
                calls.begin(0, 0, "call 0", call["name"], call["args"])
        if "finishReason" in candidate:
            told.stops[0] = candidate["finishReason"]
    told.tools = calls.parse()
    return told


def _told_by_ollama(payloads: list[dict[str, Any]]) -> Told:
    told = Told()
    for payload in payloads:
        told.model = payload["model"]
        told.text[0] += payload["message"]["content"]
        if payload["done"]:
            prompt, completion = payload["prompt_eval_count"], payload["eval_count"]
            told.usage = {"prompt_tokens": prompt, "completion_tokens": completion}
            told.usage["total_tokens"] = prompt + completion
            told.stops[0] = payload["done_reason"]
    return told


def _renamed(counts: dict[str, int], **names: str) -> dict[str, int]:
    return {names.get(name, name): count for name, count in counts.items()}


_OPENAI_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens")
_READERS = {
    "anthropic": _told_by_anthropic,
    "openai-chat": _told_by_openai,
    "openai-responses": _told_by_responses,
    "gemini": _told_by_gemini,
    "ollama": _told_by_ollama,
}
