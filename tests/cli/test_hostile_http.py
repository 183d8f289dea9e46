"""What answers `deltawire streams` means harm: the command ends soon, in one line, whatever it is sent."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from deltawire.gateway.cli import asking
from tests.support.processes import Run
from tests.support.serving import listening

PAGE = [{"id": f"s{number:04}"} for number in range(1000)]
DEEP = b"[" * 5000 + b"]" * 5000
ANSWERS: dict[str, tuple[str, bytes]] = {
    "the same page for ever": ("200 OK", json.dumps(PAGE).encode()),
    "streams without a name": ("200 OK", json.dumps([{}] * 1000).encode()),
    "a body that is deep": ("200 OK", b'[{"x":' + DEEP + b"}]"),
    "a refusal that is deep": ("404 Not Found", b'{"detail":' + DEEP + b"}"),
    "a refusal without a reason": ("599 ", b""),
    "an encoding that is none": ("200 OK\r\nContent-Type: application/json; charset=zlib", b"hello"),
    "a bomb": ("200 OK\r\nContent-Encoding: gzip", gzip.compress(b" " * 10_000_000, compresslevel=1)),
}


@asynccontextmanager
async def answering(head: str, body: bytes, *, times: int = 1, pause: float = 0) -> AsyncIterator[str]:
    """A server that gives everybody the same answer, its body so many times."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {head}\r\nConnection: close\r\n\r\n".encode())
        for _ in range(times):
            writer.write(body)
            await writer.drain()
            await asyncio.sleep(pause)

    async with listening(answer) as port:
        yield f"ws://127.0.0.1:{port}"


@pytest.mark.parametrize("answer", ANSWERS)
async def test_any_answer_ends_in_one_line(run: Run, answer: str) -> None:
    async with answering(*ANSWERS[answer]) as url:
        done = await run("streams", "list", f"--url={url}")
    assert (done.status, done.output) == (1, "")
    assert len(done.errors.splitlines()) == 1
    assert done.errors.startswith("deltawire: error: ")


@pytest.mark.parametrize("pause", [0, 0.05], ids=["in a flood", "in drops"])
async def test_an_answer_without_end_is_given_up(run: Run, monkeypatch: pytest.MonkeyPatch, pause: float) -> None:
    monkeypatch.setattr(asking, "MAX_ANSWER", 1_000_000)
    monkeypatch.setattr(asking, "READ_TIMEOUT", 0.3)
    async with answering("200 OK", b" " * 1000, times=1_000_000, pause=pause) as url:
        done = await run("streams", "list", f"--url={url}")
    assert (done.status, len(done.errors.splitlines())) == (1, 1)
    assert "does not end" in done.errors
