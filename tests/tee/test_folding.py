"""Adjacent deltas of one block become one event while they wait."""

from __future__ import annotations

import pytest

from deltawire.gateway.tee.folding import EVENT_COST, MAX_FOLDED, cost, fold
from deltawire.protocol.events import ContentEnd, Data, Extension, TextDelta, Thinking, ToolDelta


@pytest.mark.parametrize(
    ("events", "folded"),
    [
        ([], []),
        ([TextDelta("a"), TextDelta("b"), TextDelta("c")], [TextDelta("abc")]),
        ([TextDelta("a", 1, 2, "x"), TextDelta("b", 1, 2, "x")], [TextDelta("ab", 1, 2, "x")]),
        ([Thinking("a"), Thinking("b"), TextDelta("c")], [Thinking("ab"), TextDelta("c")]),
        ([ToolDelta(0, "{"), ToolDelta(0, "}"), ToolDelta(1, "{")], [ToolDelta(0, "{}"), ToolDelta(1, "{")]),
    ],
)
def test_deltas_of_one_block_are_joined(events: list[Data], folded: list[Data]) -> None:
    assert fold(events) == folded


@pytest.mark.parametrize(
    "events",
    [
        [TextDelta("a", 0), TextDelta("b", 1)],
        [TextDelta("a", 0, 0), TextDelta("b", 0, 1)],
        [TextDelta("a"), TextDelta("b", kind="x")],
        [TextDelta("a", 0), ContentEnd(0), TextDelta("b", 0)],
        [Extension("p", "n", 1), Extension("p", "n", 1)],
        [TextDelta("a" * MAX_FOLDED), TextDelta("b")],
    ],
)
def test_others_are_not(events: list[Data]) -> None:
    assert fold(events) == events


def test_an_event_costs_its_text_and_a_place() -> None:
    assert cost(ContentEnd(0)) == EVENT_COST
    assert cost(TextDelta("a" * 1000)) > EVENT_COST + 1000
    assert cost(Extension("p", "n", {"x": "a" * 1000})) > EVENT_COST + 1000
