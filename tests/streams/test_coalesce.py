"""Folding: lossless, bounded, and only of neighbours of one kind."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from deltawire.gateway.streams.coalesce import MAX_FOLDED_TEXT, Run, fold, kind_of, runs_of
from deltawire.protocol.codec import JSON, encode_event
from deltawire.protocol.events import (
    ContentEnd,
    ContentStart,
    Data,
    Error,
    Event,
    EventType,
    Extension,
    MessageStart,
    MessageStop,
    TextDelta,
    Thinking,
    ToolDelta,
    Usage,
)
from deltawire.protocol.framing import payload_start
from tests.support.reading import STAMP, delta_text

OTHERS: list[Data] = [
    ContentStart(0),
    ContentEnd(0),
    MessageStart("m"),
    MessageStop("m", "end"),
    Usage(1, 2, 3),
    Error("oops"),
    Extension("p", "n", {"text": "not a delta", "deep": [1, None, {"a": 1.5}]}),
]


def runs(*data: Data, first: int = 1) -> list[Run]:
    payloads = [encode_event(item, seq, STAMP) for seq, item in enumerate(data, first)]
    return list(runs_of([kind_of(item) for item in data], payloads, first))


def payload_of(run: Run) -> bytes:
    frame = run.encode(JSON)
    return frame[payload_start(frame) :]


def decode(run: Run) -> Event:
    event = JSON.decode_to_consumer(payload_of(run))
    assert isinstance(event, Event)
    return event


@pytest.mark.parametrize("item", OTHERS)
def test_only_deltas_are_of_a_kind_that_folds(item: Data) -> None:
    assert not kind_of(item).is_delta
    assert [run.payload is None for run in runs(item, item)] == [False, False]


@pytest.mark.parametrize("item", [TextDelta("a"), Thinking("a"), ToolDelta(0, "a")])
def test_every_delta_type_folds(item: Data) -> None:
    assert kind_of(item).is_delta
    (run,) = runs(item, item, item, first=5)
    event = decode(run)
    assert (event.first, event.seq) == (5, 7)
    assert delta_text(event.data) == "aaa"
    assert type(event.data) is type(item)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (TextDelta("a"), Thinking("a")),
        (TextDelta("a"), TextDelta("a", 0)),
        (TextDelta("a", 0), TextDelta("a", 1)),
        (TextDelta("a", 0, 0), TextDelta("a", 0, 1)),
        (TextDelta("a", 0), TextDelta("a", 0, 0)),
        (ToolDelta(0, "a"), ToolDelta(1, "a")),
        (ToolDelta(0, "a"), TextDelta("a", 0)),
    ],
)
def test_deltas_of_another_type_index_or_choice_do_not_fold(left: Data, right: Data) -> None:
    assert [(run.first, run.last) for run in fold(runs(left, right, left))] == [(1, 1), (2, 2), (3, 3)]


def test_equal_kinds_are_one_object() -> None:
    assert kind_of(TextDelta("a", 3, 1)) is kind_of(TextDelta("b", 3, 1))
    assert kind_of(ContentStart(1)) is kind_of(ContentStart(2))
    assert kind_of(TextDelta("a"))[:3] == (EventType.TEXT_DELTA, UNSET, UNSET)


def test_a_folded_event_carries_the_timestamp_of_its_last_delta() -> None:
    payloads = [encode_event(TextDelta("a"), seq, f"2026-11-22T11:00:0{seq}+02:00") for seq in (1, 2, 3)]
    (run,) = runs_of([kind_of(TextDelta("a"))] * 3, payloads, 1)
    assert b'"timestamp":"2026-11-22T11:00:03+02:00"' in run.encode(JSON)


def test_an_event_alone_keeps_its_bytes() -> None:
    payload = encode_event(TextDelta("é\u0001"), 9, STAMP)
    (run,) = fold(runs_of([kind_of(TextDelta("é"))], [payload], 9))
    assert payload_of(run) == payload


def test_the_folded_event_has_the_fields_of_its_deltas_and_first() -> None:
    (run,) = runs(ToolDelta(2, '{"a"', 1), ToolDelta(2, ":1}", 1), first=3)
    assert msgspec.json.decode(payload_of(run)) == {
        "type": "tool_delta",
        "first": 3,
        "seq": 4,
        "timestamp": STAMP,
        "data": {"index": 2, "partial_json": '{"a":1}', "choice": 1},
    }


def test_a_folded_frame_has_at_most_max_folded_text() -> None:
    folded = list(fold(runs(*[TextDelta("x" * 1_000)] * 100)))
    assert [len(run.text or "") for run in folded] == [65_000, 35_000]
    assert MAX_FOLDED_TEXT == 65_536


def test_a_delta_over_the_maximum_travels_alone() -> None:
    big = TextDelta("x" * (MAX_FOLDED_TEXT + 1))
    folded = list(fold(runs(TextDelta("a"), big, TextDelta("b"))))
    assert [(run.first, run.last) for run in folded] == [(1, 1), (2, 2), (3, 3)]


def test_folding_to_exactly_the_maximum_is_allowed() -> None:
    half = TextDelta("x" * (MAX_FOLDED_TEXT // 2))
    assert [(run.first, run.last) for run in fold(runs(half, half))] == [(1, 2)]
    assert [(run.first, run.last) for run in fold([*runs(half), *runs(half, first=2)])] == [(1, 2)]


def test_nothing_folds_into_nothing() -> None:
    assert list(fold([])) == []
    assert runs() == []


def test_runs_of_several_can_only_be_made_of_deltas() -> None:
    with pytest.raises(AssertionError, match="only deltas"):
        Run(kind_of(ContentEnd(0)), 1, 2, None, STAMP, None).encode(JSON)


texts = st.text(max_size=5)
maybe = st.sampled_from([UNSET, 0, 1])
deltas = st.one_of(
    st.builds(TextDelta, texts, maybe, maybe),
    st.builds(Thinking, texts, maybe, maybe),
    st.builds(ToolDelta, st.sampled_from([0, 1]), texts, maybe),
)


@given(st.lists(st.one_of(deltas, st.sampled_from(OTHERS)), max_size=30), st.integers(0, 30))
def test_invariant_4_folding_is_lossless_however_the_events_are_cut(data: list[Data], cut: int) -> None:
    folded = list(fold([*runs(*data[:cut]), *runs(*data[cut:], first=len(data[:cut]) + 1)]))
    assert [seq for run in folded for seq in range(run.first, run.last + 1)] == list(range(1, len(data) + 1))
    for run in folded:
        members = data[run.first - 1 : run.last]
        assert {kind_of(member) for member in members} == {run.kind}
        event = decode(run)
        if run.kind.is_delta:
            assert delta_text(event.data) == "".join(delta_text(member) or "" for member in members)
        else:
            assert event.data == members[0]
    neighbours = pairwise(folded)
    assert not any(left.kind == right.kind and left.kind.is_delta for left, right in neighbours), "as few as can be"
