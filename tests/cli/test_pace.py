"""How fast a recorded answer is played back."""

from __future__ import annotations

import asyncio

import pytest

from deltawire.gateway.cli.publish.pace import LATEST, Pace


def test_deltas_are_due_by_the_clock_and_not_after_the_last_one() -> None:
    pace = Pace(10)
    now = 100.0
    for _ in range(50):
        now += pace.delay(now) + 0.03  # every wait ends late
    assert now == pytest.approx(100 + 49 / 10 + 0.03)


def test_a_burst_is_spread_at_the_rate() -> None:
    pace = Pace(4)
    assert [pace.delay(10.0) for _ in range(5)] == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0])


def test_a_short_delay_is_caught_up() -> None:
    pace = Pace(10)
    pace.delay(0.0)
    assert [pace.delay(0.35) for _ in range(4)] == pytest.approx([0.0, 0.0, 0.0, 0.05])


def test_after_a_long_stall_the_schedule_begins_anew() -> None:
    pace = Pace(10)
    pace.delay(0.0)
    now = LATEST + 60
    assert [pace.delay(now) for _ in range(3)] == pytest.approx([0.0, 0.1, 0.2])


async def test_without_a_rate_nothing_waits() -> None:
    pace = Pace(None)
    for _ in range(1000):
        await pace.wait_due(asyncio.Event())


async def test_in_a_hurry_nothing_waits() -> None:
    pace, hurry = Pace(0.001), asyncio.Event()
    await pace.wait_due(hurry)
    waiting = asyncio.ensure_future(pace.wait_due(hurry))
    await asyncio.sleep(0)
    assert not waiting.done()
    hurry.set()
    await waiting
