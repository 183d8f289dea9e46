"""The gateway under attack: its process, its log, and whether anything failed in it."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx

from scripts.hardening.frames import MIB
from scripts.hardening.hostile import PATIENCE
from scripts.hardening.tokens import Mint
from scripts.proof.children import Children

SEND_TIMEOUT: Final = 2.0
BLOCK_TIMEOUT: Final = 1.0
MEMORY_LIMIT: Final = 48 * MIB

CAPS: Final = {
    "max_consumers": 30,
    "max_producers": 6,
    "max_streams": 60,
    "max_connections": 900,
    "max_connections_per_address": 150,
    "max_connections_per_token": 80,
}
"""Low enough that one more is soon there, and high enough for the other attacks."""

SETTINGS: Final = {
    "allowed_origins": "https://app.example.org",
    "memory_limit": MEMORY_LIMIT,
    "retention_bytes": 2 * MIB,
    "connection_burst": 200,
    "max_handshakes": 250,
    "handshake_timeout": 2.0,
    "send_timeout": SEND_TIMEOUT,
    "block_timeout": BLOCK_TIMEOUT,
    "message_rate": 2000.0,
    "closed_retention": 1.0,
    "lease": 0.5,
    "drain_timeout": 2.0,
} | CAPS
"""Where they are not the defaults: limits are lower and patience is shorter, so that they are reached in seconds."""


class Guarded:
    """A gateway that runs.

    Args:
        process: its process.
        url: where it listens.
        mint: makes its tokens.
        log: file of what it logs.
    """

    def __init__(self, process: Process, url: str, mint: Mint, log: Path) -> None:
        self._process = process
        self._log = log
        self._seen = 0
        self._token = mint.token(admin=["*"])
        self.url = url
        self.port = int(url.rpartition(":")[2])

    @property
    def is_alive(self) -> bool:
        """Whether its process is there."""
        return self._process.returncode is None

    def complaints(self) -> list[str]:
        """Lines it logged since the last time that are errors, or no lines of a log."""
        with self._log.open("rb") as file:
            file.seek(self._seen)
            lines = file.read().split(b"\n")
        self._seen += sum(len(line) + 1 for line in lines[:-1])
        return [line.decode(errors="replace") for line in lines[:-1] if not _is_quiet(line)]

    async def faults(self) -> int:
        """Faults it counted, since it began."""
        headers = {"Authorization": f"Bearer {self._token}"}
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
            answer = await client.get(f"http://127.0.0.1:{self.port}/metrics", headers=headers)
        answer.raise_for_status()
        (line,) = [line for line in answer.text.splitlines() if line.startswith("deltawire_faults_total ")]
        return int(float(line.rpartition(" ")[2]))


def _is_quiet(line: bytes) -> bool:
    try:
        entry: Any = json.loads(line)
    except ValueError:
        return False
    return isinstance(entry, dict) and "event" in entry and entry.get("level") in ("debug", "info", "warning")


@asynccontextmanager
async def guarded(children: Children, mint: Mint, key: Path, log: Path) -> AsyncIterator[Guarded]:
    """A gateway on a free port of 127.0.0.1, with `SETTINGS`; it drains on leaving.

    Args:
        children: where its process is started.
        mint: makes its tokens.
        key: file with the mint's secret.
        log: file for its log.
    """
    flags = [part for name, value in SETTINGS.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    flags += ["--auth-key", str(key), "--log-format", "json"]
    with log.open("wb") as file:
        process = await children.start("-m", "deltawire", "serve", "--port", "0", *flags, stderr=file)
    yield Guarded(process, await _listening(process, log), mint, log)
    with suppress(ProcessLookupError):
        process.terminate()
    await process.wait()


async def _listening(process: Process, log: Path) -> str:
    while True:
        line, newline, _ = (await asyncio.to_thread(log.read_bytes)).partition(b"\n")
        if newline:
            return str(json.loads(line)["url"])
        if process.returncode is not None:
            raise RuntimeError(f"the gateway ended with {process.returncode}: {line.decode()}")
        await asyncio.sleep(0.02)
