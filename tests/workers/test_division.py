"""Limits that are divided among workers."""

from __future__ import annotations

import os

import pytest
from msgspec import structs

from deltawire.gateway.config import MIB, ConfigError, Settings
from deltawire.gateway.workers.division import count_workers, divide


def test_memory_streams_and_handshakes_are_divided_and_nothing_else() -> None:
    whole = Settings(memory_limit=100 * MIB, max_streams=10, max_handshakes=9)
    assert divide(whole, 3, 4) == structs.replace(whole, memory_limit=25 * MIB, max_streams=2, max_handshakes=2)


def test_each_worker_stores_its_streams_in_a_folder_of_its_own() -> None:
    whole = Settings(data_dir="/data", data_limit=1000)
    assert divide(whole, 1, 2).data_dir == "/data/worker-1-of-2"
    assert divide(whole, 1, 2).data_limit == 500
    assert divide(Settings(data_dir="/data"), 1, 2).data_limit == 0, "no limit"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (Settings(memory_limit=3 * MIB), "memory_limit"),
        (Settings(max_streams=3), "max_streams"),
        (Settings(max_handshakes=3), "max_handshakes"),
    ],
)
def test_a_limit_that_leaves_a_worker_nothing_is_refused_by_name(settings: Settings, named: str) -> None:
    with pytest.raises(ConfigError, match=f"^{named}: expected at least .* with 4 workers"):
        divide(settings, 0, 4)


def test_zero_workers_are_one_for_each_core_that_may_be_used() -> None:
    assert count_workers(Settings(workers=0)) == len(os.sched_getaffinity(0))
    assert count_workers(Settings(workers=7)) == 7
    assert count_workers(Settings()) == 1
