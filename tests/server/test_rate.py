"""The rate of what consumers say: on literal times, then over a socket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltawire.gateway.server.accepting.rate import RateTable, TokenBucket
from tests.server.conftest import StartGateway
from tests.support.peers import consumer, producer


def test_a_burst_is_taken_then_one_for_each_token_that_came() -> None:
    bucket = TokenBucket(rate=2.0, burst=3.0, now=100.0)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(100.4), bucket.take(100.5), bucket.take(100.6)] == [False, True, False]


def test_a_long_rest_brings_no_more_than_the_burst() -> None:
    bucket = TokenBucket(rate=2.0, burst=3.0, now=0.0)
    assert [bucket.take(1_000.0) for _ in range(4)] == [True, True, True, False]


def test_tokens_that_are_not_all_there_are_not_taken() -> None:
    bucket = TokenBucket(rate=1.0, burst=5.0, now=0.0)
    assert [bucket.take(0.0, 6), bucket.take(0.0, 5), bucket.take(0.0)] == [False, True, False]


def test_each_key_of_a_table_has_a_burst_and_then_its_rate() -> None:
    table = RateTable(rate=2.0, burst=3, capacity=10)
    assert [table.take("a", 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert table.take("b", 0.0) == 0.0
    assert [table.take("a", 0.4), table.take("a", 0.5), table.take("a", 0.5)] == [pytest.approx(0.1), 0.0, 0.5]


@given(
    steps=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 8)), max_size=60),
    rate=st.sampled_from([0.5, 1.0, 4.0]),
    burst=st.integers(1, 5),
)
def test_a_table_is_as_strict_as_a_bucket_for_each_key(steps: list[tuple[str, int]], rate: float, burst: int) -> None:
    table, buckets, now = RateTable(rate, burst, capacity=10), dict[str, TokenBucket](), 0.0
    for key, quarters in steps:
        now += quarters / 4
        bucket = buckets.setdefault(key, TokenBucket(rate, burst, now))
        assert (table.take(key, now) == 0.0) == bucket.take(now)


def test_whoever_waits_as_told_gets_in() -> None:
    table = RateTable(rate=3.0, burst=1, capacity=10)
    now = 1e6
    assert table.take("a", now) == 0.0
    for _ in range(100):
        now += table.take("a", now)
        assert table.take("a", now) == 0.0


def test_keys_nobody_asks_for_any_more_are_forgotten() -> None:
    table = RateTable(rate=1.0, burst=2, capacity=1_000)
    for number in range(100):
        table.take(number, 0.0)
    assert len(table) == 100
    for number in range(50):
        table.take(f"new {number}", 10.0)
    assert len(table) <= 51


def test_a_crowd_of_keys_takes_bounded_memory_and_forgives_whoever_came_first() -> None:
    table = RateTable(rate=0.001, burst=1, capacity=100)
    for number in range(10_000):
        assert table.take(number, 0.0) == 0.0
        assert len(table) <= 100
    assert table.take(9_999, 0.0) > 0
    assert table.take(0, 0.0) == 0.0


def test_no_rate_lets_everybody_in_and_remembers_nobody() -> None:
    table = RateTable(rate=0.0, burst=1, capacity=1)
    assert [table.take("a", 0.0) for _ in range(3)] == [0.0] * 3
    assert len(table) == 0


async def test_a_consumer_that_says_too_much_is_told_so_and_its_producers_are_spared(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway(signal_rate=1e-3)
    async with producer(gateway) as writing, consumer(gateway) as reading:
        await reading.read_until("caught_up")
        await reading.say(*[{"type": "signal", "name": "cancel"}] * 5)
        answers = await reading.read_all()
        assert [answer["type"] for answer in answers] == ["signal_result", "problem"]
        assert answers[-1]["code"] == "rate_limited"
        assert "signal_rate" in answers[-1]["message"]
        assert reading.code == 4002
        async with consumer(gateway) as other:
            await other.read_until("caught_up")
            await other.say({"type": "signal", "name": "last"})
            heard = [it["name"] for it in await writing.read_until("signal", name="last") if it["type"] == "signal"]
            assert heard == ["cancel", "last"]
