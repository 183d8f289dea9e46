"""Reverse proxies as the project ships their configurations, in front of gateways of a test."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.pip import installed
from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.waiting import eventually

DEPLOY = ROOT / "scripts" / "deploy"
SYSTEM = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])
NGINX = shutil.which("nginx", path=SYSTEM)
needs_nginx = pytest.mark.skipif(NGINX is None, reason="needs nginx: apt install nginx")


class Recipe(NamedTuple):
    """A configuration of `scripts/deploy`.

    Attributes:
        file: its name.
        arguments: of the program that runs it, with `{file}` and `{folder}`.
        listen: where it says on which address it listens.
        elsewhere: what that is with `{port}`.
        changes: other folders, with `{folder}`.
    """

    file: str
    arguments: tuple[str, ...]
    listen: str
    elsewhere: str
    changes: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        return (DEPLOY / self.file).read_text(encoding="utf-8")


RECIPES = {
    "nginx": Recipe(
        "nginx.conf",
        ("-c", "{file}", "-p", "{folder}", "-g", "daemon off;"),
        "listen 8080",
        "listen 127.0.0.1:{port}",
        (("/tmp/", "{folder}/"), ("/dev/stdout", "{folder}/access.log")),
    ),
    "haproxy": Recipe("haproxy.cfg", ("-db", "-f", "{file}"), "bind :8080", "bind 127.0.0.1:{port}"),
    "caddy": Recipe(
        "Caddyfile", ("run", "--config", "{file}", "--adapter", "caddyfile"), ":8080 {", ":{port} {\n\tbind 127.0.0.1"
    ),
}


class Running(NamedTuple):
    """A running proxy.

    Attributes:
        port: where it listens.
        process: its first.
        folder: with its files.
    """

    port: int
    process: Process
    folder: Path

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"


def program(name: str) -> str:
    """The path of a proxy; without it, the test is skipped."""
    found = shutil.which(name, path=SYSTEM)
    if found is None and name == "caddy":
        found = str(installed("deploy") / "bin" / name)
    if found is None:
        pytest.skip(f"needs {name}: apt install {name}")
    return found


@asynccontextmanager
async def proxy(
    name: str, folder: Path, nodes: Sequence[int], *, more: str = "", changes: Sequence[tuple[str, str]] = ()
) -> AsyncIterator[Running]:
    """Run what is shipped until the block ends, with other addresses and folders.

    Args:
        name: of the proxy.
        folder: for its files.
        nodes: ports of two gateways, which may be the same.
        more: before the last brace of the configuration.
        changes: of the configuration, beside these: what is replaced, and by what.
    """
    recipe, port = RECIPES[name], free_port()
    addresses = [(f"gateway-{number}:8765", f"127.0.0.1:{node}") for number, node in enumerate(nodes, 1)]
    text = recipe.text
    for old, new in ((recipe.listen, recipe.elsewhere), *recipe.changes, *addresses, *changes):
        assert old in text, old
        text = text.replace(old, new.replace("{port}", str(port)).replace("{folder}", str(folder)))
    file = folder / recipe.file
    file.write_text(text.rstrip().removesuffix("}") + more + "}\n" if more else text, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        program(name),
        *(it.format(file=file, folder=folder) for it in recipe.arguments),
        stdout=DEVNULL,
        stderr=DEVNULL,
        env=os.environ | {"HOME": str(folder)},
    )
    try:
        await eventually(lambda: process.returncode is not None or answers(port), f"that {name} listens")
        assert process.returncode is None, f"{name} does not start"
        yield Running(port, process, folder)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def answers(port: int) -> bool:
    with socket.socket() as it:
        return it.connect_ex(("127.0.0.1", port)) == 0
