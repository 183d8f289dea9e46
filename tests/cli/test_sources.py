"""What `publish` makes of its input."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest

from deltawire.gateway.cli.publish.sources import CANCELLED, FAILED, MAX_LINE, EventsSource, TextSource, open_source
from deltawire.gateway.client.upstream import with_error
from deltawire.protocol.codec import JSON
from deltawire.protocol.events import Data, Error, Event, EventType, MessageStart, MessageStop, TextDelta
from deltawire.protocol.messages import Policy, Subscribed
from deltawire.protocol.providers import ANY
from tests.support.provider_bodies import FORMS


def text_of(items: list[Data]) -> str:
    return "".join(item.text for item in items if isinstance(item, TextDelta))


def read_text(chunks: list[bytes]) -> tuple[list[Data], list[str]]:
    warnings: list[str] = []
    source = TextSource(warnings.append)
    items = [item for chunk in chunks for item in source.feed(chunk)]
    return [*items, *source.finish()], warnings


def read_events(chunks: list[bytes]) -> tuple[list[Event], list[str]]:
    refusals: list[str] = []
    source = EventsSource(refusals.append)
    events = [event for chunk in chunks for event in source.feed(chunk)]
    return [*events, *source.finish()], refusals


def test_each_chunk_of_text_is_a_delta_between_start_and_stop() -> None:
    items, warnings = read_text([b"Hello ", b"world\n"])
    match items:
        case [
            MessageStart(message_id=started),
            TextDelta(text="Hello "),
            TextDelta(text="world\n"),
            MessageStop() as stop,
        ]:
            assert (stop.message_id, stop.stop_reason) == (started, "end_turn")
        case _:
            pytest.fail(f"unexpected {items}")
    assert warnings == []


def test_empty_input_is_no_answer() -> None:
    assert read_text([]) == ([], [])


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_character_cut_in_two_waits_for_its_other_half(size: int) -> None:
    text = "naïve 日本語 🎉 done"
    raw = text.encode()
    items, warnings = read_text([raw[start : start + size] for start in range(0, len(raw), size)])
    assert text_of(items) == text
    assert warnings == []


def test_what_is_not_utf8_is_replaced_and_said_once() -> None:
    items, warnings = read_text([b"a\xffb", b"c\xfe", "é".encode()[:1]])
    assert text_of(items) == "a\ufffdbc\ufffd\ufffd"
    assert len(warnings) == 1


LINES = [
    b'{"type":"text_delta","data":{"text":"one"}}',
    b"",
    b'{"type":"text_delta","timestamp":"2026-11-22T11:00:00Z","data":{"text":"two"}}\r',
    b'{"type":"usage","data":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}',
]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_lines_split_anywhere_give_the_same_events(end: bytes) -> None:
    raw = b"\n".join(LINES) + end
    dice = random.Random(7)
    chunks = []
    while raw:
        size = dice.randint(1, 9)
        chunks.append(raw[:size])
        raw = raw[size:]
    events, refusals = read_events(chunks)
    assert [event.data.type for event in events] == [EventType.TEXT_DELTA, EventType.TEXT_DELTA, EventType.USAGE]
    assert refusals == []


def test_a_timestamp_of_the_input_is_kept() -> None:
    events, _ = read_events([LINES[2]])
    assert events[0].timestamp == datetime(2026, 11, 22, 11, tzinfo=UTC)


SUBSCRIBED = Subscribed(
    stream="s",
    epoch="e",
    floor=1,
    head=2,
    after=0,
    policy=Policy.COALESCE,
    buffer=100,
    recovered=False,
    closed=False,
)


def test_a_recording_loses_its_control_messages_and_its_numbers() -> None:
    recording = [
        JSON.encode(SUBSCRIBED),
        b'{"type":"text_delta","first":1,"seq":2,"timestamp":"2026-11-22T11:00:00Z","data":{"text":"ab"}}',
        b'{"type":"gap","first":3,"seq":4,"reason":"evicted"}',
        b'{"type":"caught_up","seq":4}',
        b'{"type":"stream_end","seq":4,"reason":"closed"}',
    ]
    events, refusals = read_events([b"\n".join(recording)])
    assert [event.data for event in events] == [TextDelta(text="ab")]
    assert not events[0].seq
    assert not events[0].first
    assert refusals == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "truncated"),
        (b"7", "Expected `object`"),
        (b'[{"type":"text_delta","data":{"text":"x"}}]', "Expected `object`"),
        (b'{"type":"no_such","data":{}}', "unknown type"),
        (b'{"type":"text_delta","data":{"txt":"x"}}', "txt"),
        (b'{"type":"text_delta","data":{"text":"\xff"}}', "UTF-8"),
        (b'{"type":"close_stream"}', "--close"),
        (b'{"type":"extension","data":' + b"[" * 2000, ""),
    ],
)
def test_a_bad_line_is_refused_with_its_number_and_the_next_is_read(line: bytes, reason: str) -> None:
    events, refusals = read_events([LINES[0] + b"\n" + line + b"\n" + LINES[3]])
    assert len(events) == 2
    assert len(refusals) == 1
    assert refusals[0].startswith("line 2: ")
    assert reason in refusals[0]


def test_an_overlong_line_is_refused_without_being_kept() -> None:
    source = EventsSource((refusals := list[str]()).append)
    for _ in range(40):
        assert list(source.feed(b"x" * (MAX_LINE // 10))) == []
    assert len(list(source.feed(b"\n" + LINES[0] + b"\n"))) == 1
    assert refusals == [f"line 1: longer than {MAX_LINE} bytes"]
    assert list(source.finish()) == []


def test_an_overlong_last_line_is_refused_at_the_end() -> None:
    _, refusals = read_events([b"x" * (MAX_LINE + 1)])
    assert refusals == [f"line 1: longer than {MAX_LINE} bytes"]


def cancel(form: str, chunks: list[bytes], stop_reason: str = CANCELLED) -> list[Data]:
    """All that comes of an input that was cut short."""
    complaints: list[str] = []
    source = open_source(form, complaints.append, complaints.append)
    items = [item for chunk in chunks for item in source.feed(chunk)]
    items += source.cut_short(stop_reason)
    assert complaints == []
    return [item.data if isinstance(item, Event) else item for item in items]


def stops(items: list[Data]) -> list[tuple[str, str]]:
    return [(item.message_id, item.stop_reason) for item in items if isinstance(item, MessageStop)]


def test_cancelled_text_keeps_what_came_and_stops_with_cancelled() -> None:
    items = cancel("text", [b"Hello", b" world"])
    assert text_of(items) == "Hello world"
    assert [reason for _, reason in stops(items)] == ["cancelled"]
    assert cancel("text", []) == []


def line(kind: str, **data: str) -> bytes:
    return JSON.encode({"type": kind, "data": data}) + b"\n"


def test_cancelled_events_stop_every_message_in_progress() -> None:
    done = line("message_stop", message_id="a", stop_reason="end_turn")
    begun = [line("message_start", message_id=name) for name in "abc"]
    assert stops(cancel("events", [*begun, done])) == [("a", "end_turn"), ("b", "cancelled"), ("c", "cancelled")]


@pytest.mark.parametrize(("last", "count"), [(LINES[0], 1), (LINES[0][:-3], 0), (b"", 0)])
def test_of_cancelled_events_a_last_line_counts_if_it_is_whole(last: bytes, count: int) -> None:
    assert len(cancel("events", [last])) == count


def sse(*payloads: dict[str, Any]) -> list[bytes]:
    return [b"data: %b\n\n" % JSON.encode(payload) for payload in payloads]


BODIES = {
    "anthropic-sse": sse(
        {"type": "message_start", "message": {"id": "m", "model": "x"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
    ),
    "openai-chat-sse": sse({"id": "m", "model": "x", "choices": [{"index": 0, "delta": {"content": "Hello"}}]}),
}


@pytest.mark.parametrize("form", BODIES)
def test_a_cancelled_body_ends_its_message_with_cancelled(form: str) -> None:
    items = cancel(form, BODIES[form])
    assert text_of(items) == "Hello"
    assert stops(items) == [("m", "cancelled")]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("is_named", [True, False])
def test_a_cancelled_body_of_any_format_ends_with_cancelled(name: str, *, is_named: bool) -> None:
    form = FORMS[name]
    chunks = (
        [form.chunks[0], form.delta("Hello")] if name != "ollama-ndjson" else [form.delta("Hello") | {"done": False}]
    )
    items = cancel(name if is_named else ANY, [form.encode(chunk) for chunk in chunks])
    assert "Hello" in text_of(items)
    assert {reason for _, reason in stops(items)} == {"cancelled"}


def test_a_cancel_after_the_providers_own_stop_changes_nothing() -> None:
    finished = sse({"id": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    assert stops(cancel("openai-chat-sse", BODIES["openai-chat-sse"] + finished)) == [("m", "stop")]


@pytest.mark.parametrize("form", BODIES)
def test_the_body_of_a_command_that_failed_tells_so_inside_its_message(form: str) -> None:
    items = list(with_error(Error(error="status 3"), cancel(form, BODIES[form], FAILED)))
    assert stops([item for item in items if isinstance(item, MessageStop)]) == [("m", "error")]
    assert [type(item) for item in items[-2:]] == [Error, MessageStop]


def test_a_failure_without_a_message_is_told_alone() -> None:
    assert list(with_error(Error(error="status 3"), cancel("text", [], FAILED))) == [Error(error="status 3")]


def test_whoever_publishes_plain_text_as_events_is_told_once_how_to_publish_it() -> None:
    source = EventsSource((refusals := list[str]()).append)
    assert list(source.feed(b'{"type": "nonsense"}\nOnce upon\na time\n')) == []
    assert ["--format text" in refusal for refusal in refusals] == [False, True, False]
