"""A service manager that listens, as systemd does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import DEADLINE


class Manager:
    """Listens as a service manager does."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(path))

    async def heard(self) -> list[str]:
        """The lines of the next message that is no ping of the watchdog."""
        while (lines := await self.hear()) == ["WATCHDOG=1"]:
            pass
        return lines

    async def hear(self) -> list[str]:
        async with asyncio.timeout(DEADLINE):
            return (await asyncio.get_running_loop().sock_recv(self._socket, 4096)).decode().splitlines()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    it = Manager(tmp_path / "notify")
    yield it
    it.close()
