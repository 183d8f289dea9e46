"""Who takes too long, on literal times: nobody for what another one is to do."""

from __future__ import annotations

import pytest

from deltawire.gateway.proxy.waits import Late, Waits

LIMIT = 10.0
START = 100.0
BEFORE = 0.0
"""Heard of a provider that has sent nothing yet."""


@pytest.fixture
def waits() -> Waits:
    return Waits(LIMIT, START)


@pytest.mark.parametrize(
    ("heard", "now", "late"),
    [
        (BEFORE, 109, None),
        (BEFORE, 110, Late.ANSWER),
        (105, 114, None),
        (105, 115, Late.ANSWER),
        (None, 999, None),
    ],
)
def test_a_provider_may_be_silent_for_so_long_unless_nothing_more_is_to_come(
    waits: Waits, heard: float | None, now: float, late: Late | None
) -> None:
    assert waits.look(now, heard, None) is late


@pytest.mark.parametrize(
    ("heard", "now", "late"),
    [(BEFORE, 112, None), (BEFORE, 113, Late.BODY), (108, 117, None), (108, 118, Late.BODY), (None, 999, None)],
)
def test_a_caller_is_late_with_its_body_unless_the_answer_comes_meanwhile(
    waits: Waits, heard: float | None, now: float, late: Late | None
) -> None:
    waits.call(103)
    assert waits.look(now, heard, None) is late


def test_the_time_that_a_body_takes_is_not_the_provider_s(waits: Waits) -> None:
    waits.call(101)
    waits.hear(109)
    assert waits.look(118, BEFORE, None) is None
    assert waits.look(119, BEFORE, None) is Late.ANSWER


def test_a_caller_is_late_who_took_nothing_between_two_looks(waits: Waits) -> None:
    waits.tell(100)
    assert waits.look(109, None, 7) is None
    assert waits.look(110, None, 7) is None, "nothing is known of before"
    assert waits.look(119, None, 7) is None
    assert waits.look(120, None, 6) is None
    assert waits.look(130, None, 6) is Late.TAKING


def test_where_nobody_can_tell_what_was_taken_it_is_late_at_the_first(waits: Waits) -> None:
    waits.tell(100)
    assert waits.look(110, None, None) is Late.TAKING


def test_what_was_left_of_one_part_says_nothing_of_the_next(waits: Waits) -> None:
    waits.tell(100)
    waits.look(110, None, 7)
    waits.told()
    assert not waits.is_telling
    assert waits.look(120, None, None) is None
    waits.tell(120)
    assert waits.is_telling
    assert waits.look(130, None, 7) is None


def test_a_provider_is_late_whatever_the_caller_has_yet_to_take(waits: Waits) -> None:
    waits.tell(108)
    assert waits.look(112, 102, 7) is Late.ANSWER


def test_a_caller_who_stalls_with_the_provider_is_late_after_twice_the_limit_all_the_same(waits: Waits) -> None:
    waits.tell(100)
    assert waits.look(110, 100, 7) is Late.ANSWER
    assert waits.look(waits.next_look(110, None), None, 7) is Late.TAKING
    assert waits.next_look(110, None) == 120


@pytest.mark.parametrize(
    ("heard", "telling", "then"),
    [
        (BEFORE, None, 110),
        (103, None, 113),
        (103, 102, 112),
        (103, 104, 113),
        (None, 104, 114),
        (None, None, 115),
        (BEFORE, 95, 110),  # late already: it was seen
    ],
)
def test_the_next_look_is_when_the_first_of_them_may_be_late(
    waits: Waits, heard: float | None, telling: float | None, then: float
) -> None:
    if telling is not None:
        waits.tell(telling)
    assert waits.next_look(105, heard) == then
