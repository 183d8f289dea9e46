"""When a worker is started, taken for hung, and left alone for a while."""

from __future__ import annotations

import pytest

from deltawire.gateway.workers.roster import HUNG_AFTER, LONGEST_PAUSE, PROVEN_AFTER, Place, State


@pytest.fixture
def place() -> Place:
    return Place(0)


def run_and_die(place: Place, now: float, for_seconds: float = 0.0) -> float:
    """How long the next process has to wait."""
    place.started()
    place.is_ready(now)
    place.died(now + for_seconds)
    return place.due_at - now - for_seconds


def test_a_place_is_filled_at_once(place: Place) -> None:
    assert place.is_due(0.0)
    place.started()
    assert place.state is State.STARTING
    assert not place.is_due(1.0)


def test_a_worker_that_died_once_is_replaced_at_once(place: Place) -> None:
    assert run_and_die(place, 100.0) == 0.0
    assert place.is_due(100.0)
    assert place.restarts == 1


def test_a_worker_that_dies_again_and_again_is_replaced_later_each_time(place: Place) -> None:
    pauses = [run_and_die(place, now) for now in range(100, 110)]
    assert pauses[:5] == [0.0, 0.25, 0.5, 1.0, 2.0]
    assert pauses[-1] == LONGEST_PAUSE
    assert place.restarts == 10


def test_a_worker_that_ran_for_long_has_shown_that_it_can(place: Place) -> None:
    run_and_die(place, 100.0)
    run_and_die(place, 110.0)
    assert run_and_die(place, 120.0, for_seconds=PROVEN_AFTER) == 0.0


def test_a_worker_that_left_as_it_was_asked_to_is_no_restart(place: Place) -> None:
    place.started()
    place.is_ready(100.0)
    place.leaves()
    place.left(101.0)
    assert (place.is_due(101.0), place.restarts) == (True, 0)


def test_a_worker_without_a_beat_for_long_hangs(place: Place) -> None:
    place.started()
    assert not place.is_hung(1e6), "opening a large database may take long, and blocks"
    place.is_ready(110.0)
    place.beat(120.0)
    assert not place.is_hung(120.0 + HUNG_AFTER - 1)
    assert place.is_hung(120.0 + HUNG_AFTER)
    place.leaves()
    assert place.is_hung(120.0 + HUNG_AFTER)
    place.died(200.0)
    assert not place.is_hung(1000.0)


def test_a_worker_that_is_being_killed_is_taken_for_hung_once(place: Place) -> None:
    place.started()
    place.is_ready(110.0)
    place.given_up()
    assert not place.is_hung(110.0 + HUNG_AFTER)
    place.died(150.0)
    place.started()
    place.is_ready(160.0)
    assert place.is_hung(160.0 + HUNG_AFTER)
