"""The faults of a store in `make hardening`, in short."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts.hardening import storing
from scripts.hardening.spoiled import prove_spoiled
from tests.support.running import run_script


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a disk that takes no writes for a while", storing.KILLED])
@pytest.mark.skipif(sys.platform != "linux", reason="the limit of another process is set with prlimit")
async def test_a_store_that_fails_costs_readers_nothing_and_loses_nothing_that_was_acked(name: str) -> None:
    output = await run_script(
        "-m", "scripts.hardening.storing", "--quick", "--beside-others", "--only", name, expected=("storage.failed",)
    )
    assert name in output
    assert "skipped" not in output
    assert output.endswith("nothing that was acked was lost, and every fault was named\n")


async def test_whatever_is_left_of_a_store_nothing_but_what_was_written_is_read(tmp_path: Path) -> None:
    assert await prove_spoiled(100, 17, tmp_path) == []
