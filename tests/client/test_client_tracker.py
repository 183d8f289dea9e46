"""What is news to a subscriber: tables, and cuts anywhere in a folded log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltawire.gateway.client.errors import ProtocolFault
from deltawire.gateway.client.tracker import Tracker
from deltawire.protocol.events import Event, TextDelta, TextDeltaEvent
from deltawire.protocol.messages import CaughtUp, Gap, GapReason, Policy, StreamEnd, Subscribed
from deltawire.protocol.position import Position


def subscribed(epoch: str = "e1", after: int = 0) -> Subscribed:
    return Subscribed(
        stream="demo",
        epoch=epoch,
        floor=1,
        head=9,
        after=after,
        policy=Policy.COALESCE,
        buffer=100,
        recovered=False,
        closed=False,
    )


def event(seq: int, first: int | None = None) -> Event:
    made = TextDeltaEvent(data=TextDelta("x"), seq=seq)
    if first is not None:
        made.first = first
    return made


def gap(first: int, seq: int, reason: GapReason = "dropped") -> Gap:
    return Gap(first=first, seq=seq, reason=reason)


def tracker_at(seq: int, *, filtered: bool = False) -> Tracker:
    tracker = Tracker(Position("e1", seq), filtered=filtered)
    tracker.accept(subscribed(after=seq))
    return tracker


@pytest.mark.parametrize(
    ("message", "is_news", "after"),
    [
        (event(6), True, 6),
        (event(8, first=6), True, 8),
        (gap(6, 7), True, 7),
        (gap(6, 7, "evicted"), True, 7),
        (event(5), False, 5),
        (event(4, first=2), False, 5),
        (gap(3, 5), False, 5),
        (CaughtUp(seq=5), True, 5),
        (StreamEnd(seq=5, reason="closed"), True, 5),
        (None, True, 5),
    ],
)
def test_after_five(message: Event | Gap | None, is_news: bool, after: int) -> None:  # noqa: FBT001 - a table
    tracker = tracker_at(5)
    assert tracker.accept(message) is is_news
    assert tracker.position == Position("e1", after)


@pytest.mark.parametrize("message", [event(7), gap(7, 8), event(6, first=5), gap(5, 6), event(9, first=1)])
def test_a_hole_or_half_a_frame_after_five_is_a_fault_of_the_gateway(message: Event | Gap) -> None:
    with pytest.raises(ProtocolFault):
        tracker_at(5).accept(message)


def test_a_message_of_an_unknown_type_may_have_been_an_event() -> None:
    tracker = tracker_at(5)
    assert tracker.accept(None)
    assert tracker.accept(event(7))
    with pytest.raises(ProtocolFault):
        tracker.accept(event(9))


def test_an_event_without_a_seq_is_a_fault_of_the_gateway() -> None:
    with pytest.raises(ProtocolFault, match="without a seq"):
        tracker_at(5).accept(TextDeltaEvent(data=TextDelta("x")))


def test_an_event_before_subscribed_is_a_fault_of_the_gateway() -> None:
    with pytest.raises(ProtocolFault, match="before the gateway said"):
        Tracker(None, filtered=False).accept(event(1))


def test_a_filtered_reader_may_miss_numbers_and_is_told_where_it_stands() -> None:
    tracker = tracker_at(5, filtered=True)
    assert tracker.accept(event(9))
    assert tracker.accept(CaughtUp(seq=12))
    assert tracker.position == Position("e1", 12)
    assert tracker.accept(StreamEnd(seq=15, reason="closed"))
    assert tracker.position == Position("e1", 15)


def test_a_reader_from_now_that_is_cut_before_any_event_resumes_where_it_began() -> None:
    tracker = Tracker(None, filtered=False)
    tracker.accept(subscribed(after=7))
    assert tracker.position == Position("e1", 7)


def test_a_position_without_an_epoch_takes_that_of_the_first_connection() -> None:
    tracker = Tracker(Position("", 7), filtered=False)
    tracker.accept(subscribed(after=7))
    assert tracker.accept(event(8))
    assert tracker.position == Position("e1", 8)


@pytest.mark.parametrize("seq", [0, 40])
def test_another_epoch_begins_with_its_gap_even_when_nothing_of_it_is_missing(seq: int) -> None:
    tracker = tracker_at(5)
    tracker.accept(subscribed("e2", after=0))
    assert tracker.accept(gap(1, seq, "epoch_changed"))
    assert tracker.position == Position("e2", seq)
    assert tracker.accept(event(seq + 1))


def test_a_cut_before_the_gap_of_another_epoch_resumes_in_the_old_one_so_that_the_gap_comes_again() -> None:
    tracker = tracker_at(5)
    tracker.accept(subscribed("e2", after=0))
    assert tracker.position == Position("e1", 5)


def test_an_event_of_another_epoch_without_its_gap_is_a_fault_of_the_gateway() -> None:
    tracker = tracker_at(5)
    tracker.accept(subscribed("e2", after=0))
    with pytest.raises(ProtocolFault):
        tracker.accept(event(1))


@given(st.lists(st.integers(1, 5)), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6))))
def test_folded_and_cut_anywhere_each_seq_is_news_once(widths: list[int], cuts: list[tuple[int, int]]) -> None:
    """A gateway sends a log in frames of these widths; each connection begins some frames early and brings a few."""
    ends = [sum(widths[: count + 1]) for count in range(len(widths))]
    log = [event(end, first=end - width + 1) for end, width in zip(ends, widths, strict=True)]
    tracker, seen, done = Tracker(None, filtered=False), list[int](), 0
    for back, count in [*cuts, (0, len(log))]:
        start = max(0, done - back)
        done = max(done, min(len(log), start + count))
        tracker.accept(subscribed(after=ends[start - 1] if start else 0))
        for frame in log[start : start + count]:
            if tracker.accept(frame):
                assert isinstance(frame.first, int)
                assert isinstance(frame.seq, int)
                seen.extend(range(frame.first, frame.seq + 1))
    assert seen == list(range(1, sum(widths) + 1))
