from __future__ import annotations

import pytest

from scripts.bench.figures import Histogram, Spread, spread, summarize


def test_a_percentile_is_what_that_part_does_not_exceed() -> None:
    histogram = Histogram()
    for value in range(1, 101):
        histogram.add(1000 * value)
    assert histogram.percentile(0.5) == pytest.approx(50, abs=0.011)
    assert histogram.percentile(0.99) == pytest.approx(99, abs=0.011)
    assert histogram.percentile(1) == pytest.approx(100, abs=0.011)


def test_a_percentile_of_nothing_is_0() -> None:
    assert Histogram().percentile(0.99) == 0


def test_a_sample_counts_as_often_as_it_weighs() -> None:
    histogram = Histogram()
    histogram.add(1_000, weight=98)
    histogram.add(9_000, weight=2)
    assert histogram.percentile(0.98) == pytest.approx(1, abs=0.011)
    assert histogram.percentile(0.99) == pytest.approx(9, abs=0.011)


def test_the_events_of_a_read_lie_evenly_between_its_first_and_its_last() -> None:
    histogram = Histogram()
    histogram.add_read(oldest=8_000, newest=2_000, events=100)
    assert histogram.percentile(0.25) == pytest.approx(2, abs=0.011)
    assert histogram.percentile(0.5) == pytest.approx(4, abs=0.011)
    assert histogram.percentile(1) == pytest.approx(8, abs=0.011)


def test_a_spread_is_median_and_range() -> None:
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)


def test_runs_are_summarized_figure_by_figure() -> None:
    assert summarize([{"a": 1.0}, {"a": 3.0, "b": 5.0}]) == {"a": Spread(2.0, 1.0, 3.0), "b": Spread(5.0, 5.0, 5.0)}
