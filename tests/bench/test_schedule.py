from __future__ import annotations

from itertools import pairwise

from scripts.bench.effort import FULL
from scripts.bench.fan import Fan
from scripts.bench.schedule import NS, evenly, jittered


def test_producers_take_turns_at_their_rate() -> None:
    schedule = evenly(producers=2, rate=10, seconds=1)
    assert len(schedule.times) == 20
    assert list(schedule.producers[:4]) == [0, 1, 0, 1]
    assert schedule.times[2] - schedule.times[0] == NS / 10
    assert schedule.duration == NS


def test_intervals_of_a_jittered_producer_lie_round_the_mean() -> None:
    schedule = jittered(producers=3, rate=100, seconds=2)
    mine = [time for time, producer in zip(schedule.times, schedule.producers, strict=True) if producer == 1]
    intervals = [later - earlier for earlier, later in pairwise(mine)]
    assert mine[0] < 2 * NS / 5
    assert all(NS / 200 <= interval <= 3 * NS / 200 + 1 for interval in intervals)
    assert list(schedule.times) == sorted(schedule.times)


def test_every_system_gets_the_same_jitter() -> None:
    assert jittered(3, 100, 1) == jittered(3, 100, 1)


def test_a_whole_load_is_what_it_is_and_a_part_is_never_nothing_of_something() -> None:
    fan = Fan(streams=10_000, consumers=0, rate=0.2)
    assert fan.part(FULL) == fan
    assert fan.part(FULL._replace(part_of_load=0.00001)).streams == 1
