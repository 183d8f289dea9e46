"""The examples in other languages follow a stream through a lost connection, where their toolchains are."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from deltawire import Gateway, MessageStart, MessageStop, Publisher, Settings, TextDelta
from tests.support.node import node
from tests.support.processes import ROOT

pytestmark = pytest.mark.installs

EXAMPLES = ROOT / "scripts" / "examples"
SOURCES = [EXAMPLES / "go" / "main.go", EXAMPLES / "rust" / "src" / "main.rs", EXAMPLES / "javascript" / "follow.mjs"]
JAVASCRIPT = {"deno": ("deno", "run", "--allow-all"), "bun": ("bun", "run")}
TEXT = "the first half and ünd 🚀"


def require(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"this needs {program}")


def build(*command: str | Path, cwd: Path) -> None:
    """Compile; skips the test where the packages can't be had."""
    require(str(command[0]))
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode and any(word in done.stderr for word in ("dial tcp", "proxyconnect", "download", "Could not")):
        pytest.skip(f"packages can't be had here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr


def command_of(language: str, folder: Path) -> Sequence[str | Path]:
    """How the example of a language is started; compiles it, if it has to be."""
    match language:
        case "go":
            build("go", "vet", ".", cwd=EXAMPLES / "go")
            build("go", "build", "-o", folder / "follow", ".", cwd=EXAMPLES / "go")
            return [folder / "follow"]
        case "rust":
            build("cargo", "build", "--quiet", cwd=EXAMPLES / "rust")
            return [EXAMPLES / "rust" / "target" / "debug" / "follow"]
        case "node":
            return [*node(), SOURCES[-1]]
        case _:
            require(language)
            return [*JAVASCRIPT[language], SOURCES[-1]]


@pytest.mark.parametrize(
    ("language", "transport"),
    [("go", ""), ("rust", ""), *[(name, it) for name in ("node", "deno", "bun") for it in ("websocket", "sse")]],
)
async def test_an_example_has_the_whole_text_through_a_lost_connection(
    language: str, transport: str, tmp_path: Path
) -> None:
    command = command_of(language, tmp_path)
    async with (
        Gateway(Settings(port=0)) as gateway,
        Publisher(gateway.url, "demo") as publisher,
        asyncio.timeout(60),
    ):
        arguments = [gateway.url, "demo", *filter(None, [transport])]
        process = await asyncio.create_subprocess_exec(*command, *arguments, stdout=subprocess.PIPE)
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


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_an_example_is_short(source: Path) -> None:
    assert len(source.read_text(encoding="utf-8").splitlines()) <= 80
