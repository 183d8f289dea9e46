"""A gateway that is killed under load loses, doubles and reorders nothing of what it acked."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.proof.survival import survive
from tests.support.soaking import lasting


@pytest.mark.soak
@pytest.mark.parametrize("sync", lasting(["always"], ["always", "off"]))
async def test_what_was_acked_survives_kills_at_random_moments(tmp_path: Path, sync: str) -> None:
    survived = await survive({"data_dir": tmp_path / "store", "sync": sync}, kills=lasting(3, 20), seed=13)
    assert survived.faults == []
    assert 0 < survived.acked <= survived.stored
