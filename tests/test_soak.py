"""Consumers that stand still take nothing that they don't give back."""

from __future__ import annotations

import sys

import pytest

from tests.support.running import run_script


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="what a process takes is read from /proc")
async def test_memory_tasks_and_descriptors_stay_within_limits_past_stuck_consumers() -> None:
    output = await run_script("-m", "scripts.soak", "--hours", "0.03", "--streams", "1", "--stuck", "20")
    rows = {line[:34].strip(): line[34:].split() for line in output.splitlines()[2:-1]}
    assert int(rows["events got by healthy consumers"][0]) >= 8640
    assert rows["events in gaps"] == ["0", "0"]
    assert int(rows["descriptors, at most"][0]) > 20
