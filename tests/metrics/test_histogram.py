"""Histograms: how often a value fell where."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from deltawire.gateway.metrics.histogram import Histogram

BOUNDS = (0.01, 0.1, 1.0)


def test_a_value_counts_in_every_bucket_it_is_not_over() -> None:
    histogram = Histogram(*BOUNDS)
    histogram.observe(0.1)
    histogram.observe(5.0)
    assert list(histogram.cumulative()) == [(0.01, 0), (0.1, 1), (1.0, 1), (inf, 2)]


def test_a_weight_is_as_many_values() -> None:
    one, many = Histogram(*BOUNDS), Histogram(*BOUNDS)
    one.observe(0.5, weight=3)
    for _ in range(3):
        many.observe(0.5)
    assert (list(one.cumulative()), one.sum, one.count) == (list(many.cumulative()), many.sum, many.count)


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 100))))
def test_buckets_are_those_of_a_recount(values: list[tuple[float, int]]) -> None:
    histogram = Histogram(*BOUNDS)
    for value, weight in values:
        histogram.observe(value, weight)
    recount = [(bound, sum(weight for value, weight in values if value <= bound)) for bound in (*BOUNDS, inf)]
    assert list(histogram.cumulative()) == recount
    assert histogram.count == sum(weight for _, weight in values)
