"""Files that are named by mistake: told in one line, and never read without end."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.files import MAX_FILE, read_file
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
