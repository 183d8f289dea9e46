"""Exports as text, and a server that answers like a gateway, so far as it is told to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.serving import listening

TIME = "2026-11-22T11:00:00.123456Z"


def describe(head: int, **changes: Any) -> dict[str, Any]:
    """The line that describes a stream, which is the first of an export."""
    line = {"type": "stream", "format": 1, "id": "demo", "epoch": "e1", "floor": 1, "head": head, "closed": False}
    return line | {"created_at": TIME} | changes


def delta(seq: int, text: str = "x") -> dict[str, Any]:
    return {"type": "text_delta", "seq": seq, "timestamp": TIME, "data": {"text": text}}


def lines_of(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def inform(head: int, **changes: Any) -> bytes:
    """What a gateway says of a stream over HTTP."""
    counts = {"events": head, "bytes": 0, "consumers": 0, "producers": 0, "last_active_at": TIME, "counters": {}}
    info = describe(head) | counts | changes
    del info["type"], info["format"]
    return json.dumps(info).encode()


class Scripted:
    """Answers requests one after the other with what it was given.

    Attributes:
        url: where.
        asked: the request targets.
    """

    def __init__(self, answers: list[bytes | tuple[str, bytes]]) -> None:
        self.url = ""
        self.asked: list[str] = []
        self._answers = list(answers)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A body is sent whole; one in a tuple after the status line beside it, and breaks off."""
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).split()[1].decode())
        match self._answers.pop(0):
            case (head, body):
                writer.write(f"HTTP/1.1 {head}\r\n\r\n".encode() + body)
            case body:
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


@asynccontextmanager
async def scripted(*answers: bytes | tuple[str, bytes]) -> AsyncIterator[Scripted]:
    """A server with these answers; all have been asked for in the end."""
    script = Scripted(list(answers))
    async with listening(script.answer) as port:
        script.url = f"ws://127.0.0.1:{port}"
        yield script
    assert len(script.asked) == len(answers)


CUT = "200 OK\r\nContent-Length: 100000"
"""Head of an answer that breaks off."""
