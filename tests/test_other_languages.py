"""The examples in Go and Rust follow a stream through a lost connection, where their toolchains are."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from deltawire import Gateway, MessageStart, MessageStop, Publisher, Settings, TextDelta
from tests.support.processes import ROOT

pytestmark = pytest.mark.installs

EXAMPLES = ROOT / "scripts" / "examples"
SOURCES = {"go": EXAMPLES / "go" / "main.go", "rust": EXAMPLES / "rust" / "src" / "main.rs"}
TEXT = "the first half and ünd 🚀"


def build(*command: str | Path, cwd: Path) -> None:
    """Compile; skips the test where the packages can't be had."""
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"this needs {command[0]}")
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode and any(word in done.stderr for word in ("dial tcp", "proxyconnect", "download", "Could not")):
        pytest.skip(f"packages can't be had here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr


def built_of_go(folder: Path) -> Path:
    build("go", "vet", ".", cwd=SOURCES["go"].parent)
    build("go", "build", "-o", folder / "follow", ".", cwd=SOURCES["go"].parent)
    return folder / "follow"


def built_of_rust(_folder: Path) -> Path:
    build("cargo", "build", "--quiet", cwd=EXAMPLES / "rust")
    return EXAMPLES / "rust" / "target" / "debug" / "follow"


@pytest.mark.parametrize("make", [built_of_go, built_of_rust])
async def test_an_example_has_the_whole_text_through_a_lost_connection(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    program = make(tmp_path)
    async with (
        Gateway(Settings(port=0)) as gateway,
        Publisher(gateway.url, "demo") as publisher,
        asyncio.timeout(60),
    ):
        process = await asyncio.create_subprocess_exec(program, gateway.url, "demo", stdout=subprocess.PIPE)
        assert process.stdout is not None
        try:
            await publisher.send(MessageStart(message_id="m1"))
            for word in ("the ", "first ", "half "):
                await publisher.send(TextDelta(text=word))
            beginning = await process.stdout.readuntil(b"half ")
            for connection in list(gateway._connections):
                connection.transport.abort()
            await publisher.send(TextDelta(text="and ünd 🚀"))
            await publisher.send(MessageStop(message_id="m1", stop_reason="end_turn"))
            await publisher.close_stream()
            rest = await process.stdout.read()
            assert (await process.wait(), (beginning + rest).decode()) == (0, TEXT)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.mark.parametrize("language", SOURCES)
def test_an_example_is_short(language: str) -> None:
    assert len(SOURCES[language].read_text(encoding="utf-8").splitlines()) <= 80
