"""Files that are named by mistake: told in one line, and never read without end."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.config import ConfigError, Settings
from gateway.files import MAX_FILE, read_file, read_regular_file
from gateway.server import Gateway
from tests.cli.processes import Run

ENDLESS = "/dev/zero"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("token", "--key", ENDLESS, "--all"), 1),
        (("check-config", "--auth-key", ENDLESS), 2),
        (("check-config", "--config", ENDLESS), 2),
        (("check-config", "--tls-cert", ENDLESS, "--tls-key", ENDLESS), 2),
        (("tail", "demo", "--token-file", ENDLESS), 2),
    ],
)
async def test_a_file_without_end_is_told(run: Run, arguments: tuple[str, ...], status: int) -> None:
    done = await run(*arguments)
    assert done.status == status, done
    assert f"{ENDLESS}: over 1048576 bytes" in done.errors


async def test_a_name_no_file_can_have_is_told(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "deltawire.toml"
    config.write_text('auth_key = "a\\u0000b"\n')
    done = await run("check-config", "--config", str(config))
    assert done.status == 2
    assert "not the name of a file" in done.errors


def test_a_file_of_the_largest_size_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * MAX_FILE)
    assert len(read_file(path)) == MAX_FILE
    path.write_bytes(b"x" * (MAX_FILE + 1))
    with pytest.raises(OSError, match="over 1048576 bytes"):
        read_file(path)


@pytest.mark.parametrize("arguments", [("--config",), ("--auth-key",), ("--tls-key", "/dev/null", "--tls-cert")])
async def test_a_pipe_nobody_writes_to_is_told_and_not_waited_for_without_end(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr("gateway.files.PATIENCE", 0.01)
    os.mkfifo(fifo := tmp_path / "fifo")
    done = await run("check-config", *arguments, str(fifo))
    assert done.status == 2
    assert "is it a pipe nobody writes to?" in done.errors


def test_a_pipe_that_somebody_writes_to_is_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(fifo := tmp_path / "fifo")
    with ThreadPoolExecutor() as threads:
        writing = threads.submit(fifo.write_bytes, b"x" * 300_000)
        assert read_file(fifo) == b"x" * 300_000
        assert writing.result() == 300_000


def test_what_is_read_more_than_once_must_be_a_regular_file() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"once")
    os.close(writer)
    with pytest.raises(OSError, match="not a regular file"):
        read_regular_file(Path(f"/dev/fd/{reader}"))
    os.close(reader)


async def test_a_reload_does_not_wait_for_a_pipe_in_place_of_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.files.PATIENCE", 0.01)
    key = tmp_path / "key"
    key.write_text("a secret that is long enough for HS256, as it has to be\n")
    async with Gateway(Settings(port=0, auth_key=str(key))) as gateway:
        key.unlink()
        os.mkfifo(key)
        with pytest.raises(ConfigError, match="nobody writes to"):
            gateway.reload()
