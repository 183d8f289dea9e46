"""Files that are named by mistake: told in one line, and never read without end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from deltawire.gateway.cli.trust import make_context
from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.files import MAX_FILE, read_file, read_regular_file
from deltawire.gateway.server import Gateway
from tests.support.certificates import Certificates, make_certificates
from tests.support.processes import Run


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


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
    monkeypatch.setattr("deltawire.gateway.files.PATIENCE", 0.01)
    os.mkfifo(fifo := tmp_path / "fifo")
    done = await run("check-config", *arguments, str(fifo))
    assert done.status == 2
    assert "is it a pipe nobody writes to?" in done.errors


async def test_a_pipe_in_place_of_a_certificate_is_not_waited_for_at_all(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deltawire.gateway.files.PATIENCE", 1000.0)
    os.mkfifo(fifo := tmp_path / "fifo")
    done = await run("check-config", "--tls-key", "/dev/null", "--tls-cert", str(fifo))
    assert done.status == 2
    assert f"tls_cert {fifo}: nothing comes from it" in done.errors


WSS = ("--url=wss://127.0.0.1:1", "--tls-ca={ca}", "--tls-client-cert={client_cert}", "--tls-client-key={client_key}")


@pytest.mark.parametrize("odd", ["ca", "client_cert", "client_key"])
@pytest.mark.parametrize(("kind", "reason"), [("pipe", "nobody writes to"), ("directory", "Is a directory")])
async def test_a_command_that_connects_waits_for_no_file_without_end(  # noqa: PLR0917 - a table of two sides
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    certificates: Certificates,
    odd: str,
    kind: str,
    reason: str,
) -> None:
    monkeypatch.setattr("deltawire.gateway.files.PATIENCE", 0.01)
    path = tmp_path / "odd"
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    files = certificates._asdict() | {odd: str(path)}
    done = await run("tail", "demo", *(it.format(**files) for it in WSS))
    assert (done.status, len(done.errors.splitlines())) == (2, 1)
    assert str(path) in done.errors
    assert reason in done.errors


def test_certificates_may_come_from_pipes_as_those_of_a_shell(certificates: Certificates) -> None:
    with piped(certificates.ca) as ca, piped(certificates.client_cert) as cert, piped(certificates.client_key) as key:
        context = make_context(ca, cert, key)
    assert context is not None
    assert len(context.get_ca_certs()) == 1


@contextmanager
def piped(path: str) -> Iterator[str]:
    """The name of a pipe with what a file holds."""
    reader, writer = os.pipe()
    os.write(writer, Path(path).read_bytes())
    os.close(writer)
    yield f"/dev/fd/{reader}"
    os.close(reader)


def test_a_pipe_that_somebody_writes_to_is_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(fifo := tmp_path / "fifo")
    with ThreadPoolExecutor() as threads:
        writing = threads.submit(fifo.write_bytes, b"x" * 300_000)
        assert read_file(fifo) == b"x" * 300_000
        assert writing.result() == 300_000


def test_a_pipe_that_brings_something_and_does_not_end_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deltawire.gateway.files.PATIENCE", 0.01)
    os.mkfifo(fifo := tmp_path / "fifo")
    writer = os.open(fifo, os.O_RDWR)
    os.write(writer, b"x")
    with pytest.raises(OSError, match="did not end within"):
        read_file(fifo)
    os.close(writer)


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
    monkeypatch.setattr("deltawire.gateway.files.PATIENCE", 0.01)
    key = tmp_path / "key"
    key.write_text("a secret that is long enough for HS256, as it has to be\n")
    async with Gateway(Settings(port=0, auth_key=str(key))) as gateway:
        key.unlink()
        os.mkfifo(key)
        with pytest.raises(ConfigError, match="nobody writes to"):
            gateway.reload()
