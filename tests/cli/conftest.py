"""Terminals to run commands on, and gateways in this process; whatever a test leaves behind is ended."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from tests.support.commands import run, run_process, serve, start
from tests.support.processes import Terminal
from tests.support.redis_server import server

__all__ = ["run", "run_process", "serve", "server", "start"]  # fixtures


@pytest.fixture
async def gateway() -> AsyncIterator[str]:
    """The address of a gateway in this process, which starts faster than one of its own."""
    async with Gateway(Settings(port=0, drain_timeout=0)) as gateway:
        yield gateway.url


@pytest.fixture
async def terminal() -> AsyncIterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Path]:
    """A pipe that does not end as long as the test lasts; a cat of it ends with that."""
    os.mkfifo(path := tmp_path / "fifo")
    held = os.open(path, os.O_RDWR)
    yield path
    os.close(held)
