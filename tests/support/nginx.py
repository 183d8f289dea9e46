"""nginx as the project ships it, in front of gateways of a test."""

from __future__ import annotations

import asyncio
import shutil
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.processes import ROOT
from tests.support.waiting import eventually

PROGRAM = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
RECIPE = (ROOT / "scripts" / "deploy" / "nginx.conf").read_text(encoding="utf-8")

needs_nginx = pytest.mark.skipif(PROGRAM is None, reason="nginx is not installed")


class Nginx(NamedTuple):
    """A running nginx.

    Attributes:
        port: of the recipe's server.
        process: of its master.
        folder: with what it logs.
    """

    port: int
    process: Process
    folder: Path

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def reload(self) -> None:
        """Have it begin anew, with other worker processes."""
        process = await start(self.folder, "-s", "reload")
        assert await process.wait() == 0


def recipe(folder: Path, port: int, nodes: Sequence[int]) -> str:
    """The recipe with other addresses and folders; nothing else is different."""
    changes = {"listen 8080": f"listen 127.0.0.1:{port}", "/tmp/": f"{folder}/", "/dev/stdout": f"{folder}/access.log"}
    changes |= {f"gateway-{number}:8765": f"127.0.0.1:{node}" for number, node in enumerate(nodes, 1)}
    changed = RECIPE
    for old, new in changes.items():
        assert old in changed, old
        changed = changed.replace(old, new)
    return changed


async def start(folder: Path, *arguments: str) -> Process:
    """Run nginx on the configuration of a folder."""
    assert PROGRAM is not None
    return await asyncio.create_subprocess_exec(
        PROGRAM, "-c", folder / "nginx.conf", "-p", folder, *arguments, stdout=DEVNULL, stderr=DEVNULL
    )


@asynccontextmanager
async def nginx(
    folder: Path, nodes: Sequence[int], *, servers: str = "", changes: Sequence[tuple[str, str]] = ()
) -> AsyncIterator[Nginx]:
    """Run the recipe until the block ends.

    Args:
        folder: for its files.
        nodes: ports of two gateways, which may be the same.
        servers: more of them, beside that of the recipe.
        changes: of the recipe: what is replaced, and by what.
    """
    port = free_port()
    text = recipe(folder, port, nodes)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "nginx.conf").write_text(text.rstrip().removesuffix("}") + servers + "}\n", encoding="utf-8")
    process = await start(folder, "-g", "daemon off;")
    try:
        await eventually(lambda: answers(port), "that nginx listens")
        yield Nginx(port, process, folder)
    finally:
        process.terminate()
        await process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as it:
        return int(it.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as it:
        return it.connect_ex(("127.0.0.1", port)) == 0
