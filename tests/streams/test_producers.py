"""Producers: repeats, holes and generations."""

from __future__ import annotations

import pytest

from deltawire.gateway.streams.producers import MAX_REMEMBERED, Producers, Writer
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError


def appended(writer: Writer, number: int, seq: int) -> None:
    """Note what a publication notes when an event is appended."""
    writer.last, writer.seq = number, seq


def test_a_producer_that_comes_back_goes_on_where_it_was() -> None:
    producers = Producers()
    appended(producers.open("p", 2), 1, 10)
    back = producers.open("p", 2)
    assert (back.last, back.seq) == (1, 10)


def test_invariant_3_only_the_latest_connection_of_a_generation_goes_on_with_its_numbers() -> None:
    producers = Producers()
    before = producers.open("p", 2)
    appended(before, 1, 10)
    back = producers.open("p", 2)
    assert [producers.is_latest(it) for it in (before, back)] == [False, True]
    assert (back.last, back.seq) == (1, 10)
    assert producers.is_current(before)


def test_invariant_3_a_higher_generation_starts_anew_and_ends_the_older_one() -> None:
    producers = Producers()
    older = producers.open("p", 1)
    appended(older, 1, 10)
    newer = producers.open("p", 5)
    assert (newer.last, newer.generation) == (0, 5)
    assert not producers.is_current(older)
    assert producers.is_current(newer)


def test_invariant_3_an_older_generation_is_fenced_every_time() -> None:
    producers = Producers()
    newest = producers.open("p", 5)
    for generation in (4, 0):
        with pytest.raises(WireError, match=rf"'p'.*generation 5.*generation {generation}") as refusal:
            producers.open("p", generation)
        assert refusal.value.code is ProblemCode.FENCED
    assert producers.is_current(newest)


def test_producers_do_not_touch_each_other() -> None:
    producers = Producers()
    one, other = producers.open("one", 0), producers.open("other", 9)
    appended(one, 1, 10)
    assert other.last == 0
    assert producers.is_current(one)


def test_producers_without_an_id_are_each_their_own_and_never_fenced() -> None:
    producers = Producers()
    one, other = producers.open(None, 3), producers.open(None, 0)
    appended(one, 1, 10)
    assert other.last == 0
    for it in (one, other):
        assert producers.is_current(it)
        assert producers.is_latest(it)


def test_the_producer_that_came_longest_ago_is_forgotten_first() -> None:
    producers = Producers()
    for number in range(MAX_REMEMBERED):
        appended(producers.open(f"p{number}", 0), 1, 10)
    producers.open("p0", 0)  # came again
    producers.open("one too many", 0)
    assert producers.open("p0", 0).last == 1
    assert producers.open("p1", 0).last == 0
    assert len(producers._known) == MAX_REMEMBERED


def test_a_forgotten_producer_that_still_publishes_is_current() -> None:
    producers = Producers()
    forgotten = producers.open("p", 7)
    for number in range(MAX_REMEMBERED):
        producers.open(f"p{number}", 0)
    assert producers.is_current(forgotten)
