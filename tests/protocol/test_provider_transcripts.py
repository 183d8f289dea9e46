"""Recorded provider streams: what translators make of them equals what a plain reading of their JSON finds."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec import UNSET

from deltawire.protocol.codec import JSON
from deltawire.protocol.events import (
    ContentEnd,
    ContentStart,
    Data,
    Extension,
    MessageStart,
    MessageStop,
    TextDelta,
    make_event,
)
from deltawire.protocol.providers import TRANSLATORS, AnthropicMessages, OpenAIResponses
from tests.support.transcripts import (
    format_of,
    payloads,
    split_randomly,
    told_by_events,
    told_by_transcript,
    transcripts,
)


def translate(path: Path, *chunks: bytes) -> list[Data]:
    translator = TRANSLATORS[format_of(path)]()
    return [data for chunk in chunks for data in translator.feed(chunk)] + translator.finish()


@transcripts
def test_events_tell_what_the_transcript_tells(path: Path) -> None:
    told = told_by_events(translate(path, path.read_bytes()))
    assert told == told_by_transcript(path)
    assert told.text or told.thinking or told.tools or told.errors


@pytest.mark.thorough
@transcripts
def test_random_splits_give_the_same_events(path: Path) -> None:
    body = path.read_bytes()
    whole = translate(path, body)
    for seed in range(5):
        assert translate(path, *split_randomly(body, Random(seed))) == whole, f"seed {seed}"


def strings_of(value: Any) -> set[str]:
    """All strings within a JSON value, but for keys, and for what says nothing."""
    if isinstance(value, dict):
        return set().union(*(strings_of(item) for name, item in value.items() if name not in FIELDS_THAT_SAY_NOTHING))
    if isinstance(value, list):
        return set().union(*map(strings_of, value))
    return {value} if isinstance(value, str) else set()


FIELDS_THAT_SAY_NOTHING = {"role", "object", "status", "created_at", "obfuscation"}
DROPPED = {"message", "function", ""}
TYPES_WITH_AN_EVENT = {
    *AnthropicMessages.HANDLERS,
    *OpenAIResponses.HANDLERS,
    *("text_delta", "thinking_delta", "input_json_delta", "output_text", "summary_text"),
}


@transcripts
def test_every_string_of_the_transcript_is_somewhere_in_the_events(path: Path) -> None:
    events = translate(path, path.read_bytes())
    told: set[str] = set()
    for data in events:
        told |= strings_of(data.data if isinstance(data, Extension) else json.loads(JSON.encode(data)))
    answer = told_by_events(events)
    arguments = [arguments for _, arguments in answer.tools.values()]
    whole = [*answer.text.values(), *answer.thinking.values(), *strings_of(arguments)]
    missing = strings_of(payloads(path)) - told - DROPPED - TYPES_WITH_AN_EVENT
    assert {
        text for text in missing if not any(text in it for it in whole) and not is_json_of(text, arguments)
    } == set()


def is_json_of(text: str, values: list[Any]) -> bool:
    """Whether a text is the JSON of one of some objects."""
    return text.startswith("{") and json.loads(text) in values


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


@pytest.mark.thorough
@transcripts
def test_a_transcript_cut_anywhere_is_closed_as_incomplete_or_ended(path: Path) -> None:
    body = path.read_bytes()
    ends = {*told_by_transcript(path).stops.values(), "incomplete"}
    for cut in range(0, len(body), max(1, len(body) // 50)):
        events = translate(path, body[:cut])
        starts = [data for data in events if isinstance(data, MessageStart)]
        stops = [data for data in events if isinstance(data, MessageStop)]
        assert len(starts) == len(stops)
        assert {data.stop_reason for data in stops} <= ends
        assert not stops or events[-1] is stops[-1]
