"""Beside the oldest websockets that the package allows: its client gets by with it, its server says what it needs."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from importlib import metadata
from pathlib import Path

import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from tests.support.pip import environment
from tests.support.processes import ROOT, Done, clean_environment

pytestmark = pytest.mark.installs

ROUND_TRIP = """
import asyncio, sys
from deltawire import MessageStop, Publisher, Subscriber, TextDelta
from websockets.version import version

async def main(url):
    async with Publisher(url, "demo") as publisher, Subscriber(url, "demo") as live:
        for word in ("Hello ", "from ", "Python"):
            await publisher.send(TextDelta(text=word))
        await publisher.send(MessageStop(message_id="m1", stop_reason="end_turn"))
        await publisher.close_stream()
        async with Subscriber(url, "demo") as late:
            for reader in (live, late):
                read = [item.data.text async for item in reader if isinstance(item.data, TextDelta)]
                print("".join(read), version)

asyncio.run(main(sys.argv[1]))
"""


def lowest() -> str:
    """The oldest version that the package allows."""
    allowed = next(it for it in metadata.requires("deltawire") or () if it.startswith("websockets"))
    found = re.search(r">=([\d.]+)", allowed)
    assert found is not None
    return found[1]


@pytest.fixture(scope="session")
def old_environment() -> Path:
    """An environment with that version; beside that it has what a person got who installed the package then."""
    return environment("lowest-websockets", f"websockets=={lowest()}")


@pytest.fixture
async def gateway() -> AsyncIterator[str]:
    """The address of a gateway, in this process and with its newer websockets."""
    async with Gateway(Settings(port=0, drain_timeout=0)) as gateway:
        yield gateway.url


async def run(*command: str | Path, stdin: bytes = b"", **environment: str) -> Done:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=clean_environment(**environment), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    try:
        output, errors = await process.communicate(stdin)
    finally:
        if process.returncode is None:  # its time was over
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Done(process.returncode, output.decode(), errors.decode())


async def test_what_a_publisher_sends_a_subscriber_reads(old_environment: Path, gateway: str) -> None:
    done = await run(old_environment / "bin" / "python", "-c", ROUND_TRIP, gateway)
    assert done == (0, f"Hello from Python {lowest()}\n" * 2, "")


async def test_commands_of_clients_work(old_environment: Path, gateway: str) -> None:
    command = old_environment / "bin" / "deltawire"
    text = "as a pipe brings it\n"
    published = await run(
        command, "publish", "demo", "--format=text", "--close", f"--url={gateway}", stdin=text.encode()
    )
    assert published == (0, "", "")
    assert await run(command, "tail", "demo", f"--url={gateway}") == (0, text, "")


async def test_serve_says_in_one_line_what_it_needs(old_environment: Path) -> None:
    done = await run(old_environment / "bin" / "deltawire", "serve", "--port=0")
    assert (done.status, done.output) == (2, "")
    assert len(done.errors.splitlines()) == 1
    assert f"needs websockets 17 or newer, and {lowest()} is installed" in done.errors


def test_clients_pass_their_own_tests(old_environment: Path, tmp_path: Path) -> None:
    """Those with a scripted gateway, run by this environment's pytest on that version of the library."""
    (library,) = old_environment.glob("lib/python*/site-packages/websockets")
    (tmp_path / "websockets").symlink_to(library)
    tests = [path for path in (ROOT / "tests" / "client").glob("test_*.py") if "gateway.server" not in path.read_text()]
    assert len(tests) > 10, "they are found"
    done = subprocess.run(
        (sys.executable, "-m", "pytest", "-q", "--timeout=30", "-p", "no:cacheprovider", "--no-cov", *tests),
        cwd=ROOT,
        env=clean_environment(PYTHONPATH=str(tmp_path)),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
