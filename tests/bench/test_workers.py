"""Quotas of workers, set and taken back; where the kernel lets this user set any."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from scripts.bench.workers import group_of, limited, quotas


@pytest.fixture
def home() -> Iterator[Path]:
    """A group other than the root, which some process is in."""
    group = quotas() / f"deltawire-test-{os.getpid()}"
    try:
        with limited([os.getpid()], 1.0):
            group.mkdir()
    except OSError as error:
        pytest.skip(f"the kernel's CPU quotas can't be set here: {error}")
    try:
        yield group
    finally:
        group.rmdir()


def test_a_process_is_put_back_where_it_was_when_its_quota_ends(home: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            (home / "cgroup.procs").write_text(f"{process.pid}")
            with suppress(ZeroDivisionError), limited([process.pid], 0.5):
                assert group_of(process.pid).name == f"deltawire-{process.pid}"
                raise ZeroDivisionError
            assert group_of(process.pid) == home
            assert not (quotas() / f"deltawire-{process.pid}").exists()
        finally:
            process.kill()
