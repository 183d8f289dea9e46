"""Consumers that stand still take nothing that they don't give back."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(sys.platform != "linux", reason="what a process takes is read from /proc")
async def test_memory_tasks_and_descriptors_stay_within_limits_past_stuck_consumers() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "scripts/soak.py", "--hours", "0.03", "--streams", "1", "--stuck", "20"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, output + errors
    assert errors == b""
    rows = {line[:34].strip(): line[34:].split() for line in output.decode().splitlines()[2:-1]}
    assert int(rows["events got by healthy consumers"][0]) >= 8640
    assert rows["events in gaps"] == ["0", "0"]
    assert int(rows["descriptors, at most"][0]) > 20
