"""Back-off: a table of literal times."""

from __future__ import annotations

import pytest

from deltawire.gateway.client.backoff import Backoff, Retries

BACKOFF = Backoff(initial=1, longest=10)


@pytest.mark.parametrize(
    ("attempt", "chance", "delay"),
    [(0, 0, 1), (1, 0, 2), (3, 0, 8), (4, 0, 10), (5000, 0, 10), (0, 1, 0.1), (4, 0.5, 5.5)],
)
def test_waits_double_up_to_the_longest_and_the_dice_take_at_most_nine_tenths(
    attempt: int, chance: float, delay: float
) -> None:
    assert BACKOFF.delay(attempt, chance) == pytest.approx(delay)


def test_the_last_wait_ends_with_the_time_and_then_it_gives_up() -> None:
    retries = Retries(BACKOFF, retry_for=5)
    assert [retries.wait_after_failure(now, 0) for now in (100, 101, 103, 105)] == [1, 2, 2, None]


def test_retry_for_zero_never_waits() -> None:
    assert Retries(BACKOFF, retry_for=0).wait_after_failure(100, 0) is None


def test_retry_for_none_never_gives_up() -> None:
    retries = Retries(BACKOFF, retry_for=None)
    assert [retries.wait_after_failure(now, 0) for now in (0, 1e3, 1e6, 1e9, 1e12)] == [1, 2, 4, 8, 10]


def test_the_time_runs_from_the_first_failure_after_the_last_progress() -> None:
    retries = Retries(BACKOFF, retry_for=5)
    assert retries.wait_after_failure(100, 0) == 1
    retries.reset()
    assert retries.wait_after_failure(200, 0) == 1
    assert retries.wait_after_failure(204, 0) == 1
    assert retries.wait_after_failure(205, 0) is None


@pytest.mark.parametrize(
    ("told", "chance", "delay"),
    [(0.5, 0, 1), (4, 0, 4), (4, 1, 6), (4, 0.5, 5), (9, 1, 10), (10, 0, 10), (11, 0, None)],
)
def test_what_the_gateway_asks_for_is_waited_whole_or_it_gives_up(
    told: float, chance: float, delay: float | None
) -> None:
    assert Retries(BACKOFF, retry_for=10).wait_after_failure(100, chance, told) == delay


def test_a_client_that_never_gives_up_waits_as_long_as_it_is_told() -> None:
    assert Retries(BACKOFF, retry_for=None).wait_after_failure(100, 0, 3600) == 3600
