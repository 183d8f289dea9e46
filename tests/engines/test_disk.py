"""The disk has what is said to be on it, on macOS too, which lacks some calls of Linux: they are taken away here."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import closing
from pathlib import Path

import pytest

from deltawire.gateway import disk
from deltawire.gateway.engines import folder as folders
from deltawire.gateway.engines.folder import FILE, mark, may_miss_commits
from deltawire.gateway.engines.sqlite import connect
from deltawire.gateway.streams.settings import StreamSettings
from tests.engines.storing import commit, opened, store, texts

FULL = 51
"""The number of macOS's `F_FULLFSYNC`."""


def test_what_is_stored_at_intervals_is_synced_without_fdatasync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "fdatasync")
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with opened(tmp_path, "interval") as (engine, _):
        engine.create("s", "e", StreamSettings())
        store(engine, commit(1, "a"))
        before = len(synced)
    assert engine.failure is None
    assert len(synced) > before
    with opened(tmp_path, "interval") as (engine, _):
        assert texts(engine, 1, 1) == ["a"]


@pytest.mark.parametrize("sync", [disk.sync, disk.sync_data])
def test_where_fsync_leaves_data_in_the_cache_of_the_disk_the_disk_is_waited_for(
    sync: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", FULL, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda *asking: asked.append(asking))
    monkeypatch.delattr(os, "fsync")
    assert callable(sync)
    sync(7)
    assert asked == [(7, FULL)]


def test_a_file_system_that_knows_only_fsync_gets_that_and_a_failing_disk_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing, synced = errno.ENOTSUP, list[int]()

    def fail(*_: int) -> None:
        raise OSError(failing, os.strerror(failing))

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", FULL, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", fail)
    monkeypatch.setattr(os, "fsync", synced.append)
    disk.sync(7)
    assert synced == [7]
    failing = errno.EIO
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        disk.sync(7)


def test_the_database_waits_for_the_disk_too(tmp_path: Path) -> None:
    with closing(connect(tmp_path / FILE)) as database:
        assert database.execute("PRAGMA fullfsync").fetchone() == (1,)


def test_where_no_start_of_the_machine_has_a_name_any_restart_may_miss_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_BOOT", tmp_path / "absent")
    data = tmp_path / "data"
    with opened(data, "off") as (engine, _):
        engine.create("s", "e", StreamSettings())
        store(engine, commit(1, "a"))
    with opened(data, "off") as (_, [stream]):
        assert stream.epoch == "e", "it ended in order"
    mark(data)  # as one that was killed leaves it
    assert may_miss_commits(data)
    with opened(data, "off") as (_, [stream]):
        assert stream.epoch != "e"
