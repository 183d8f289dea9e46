"""The real wscat of npm, used as a person would on a terminal (SPEC §2)."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deltawire.gateway.server import Gateway
from deltawire.protocol.events import TextDelta
from tests.support.npm import installed
from tests.support.peers import producer
from tests.support.waiting import eventually

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
START = 60.0
"""Seconds node may need to start on a busy machine."""


@pytest.fixture(scope="session")
def wscat() -> Path:
    """The command, installed once for this checkout."""
    command = installed("wscat", "6") / "node_modules" / ".bin" / "wscat"
    if subprocess.run([command, "--version"], capture_output=True, timeout=60, check=False).returncode:
        pytest.skip("wscat doesn't run on the Node.js of this machine")
    return command


class Terminal:
    """What a person sees of a program, and the keyboard."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int) -> None:
        self.process = process
        self._changed = asyncio.Event()  # the screen, or the program has ended
        self.screen = ""
        self._fd = fd

    def read_ready(self) -> None:
        """Take what the program wrote."""
        try:
            self.screen += CONTROL.sub("", os.read(self._fd, 65536).decode(errors="replace"))
        except OSError:  # the program has ended
            asyncio.get_running_loop().remove_reader(self._fd)
        self._changed.set()

    def enter(self, line: str = "") -> None:
        """Type a line."""
        os.write(self._fd, line.encode() + b"\r")

    async def see(self, *expected: str) -> None:
        """Wait until all of this stands on the screen."""
        async with asyncio.timeout(START):
            while not all(text in self.screen for text in expected):
                assert self.process.poll() is None or not self.ended(), f"{expected} not on the screen:\n{self.screen}"
                self._changed.clear()
                await self._changed.wait()

    def ended(self) -> bool:
        """Whether the program has ended."""
        return self.process.poll() is not None


def start(command: Path, *arguments: str, fd: int) -> subprocess.Popen[bytes]:
    """Start a program on a terminal; starting one takes milliseconds, so nothing has to be awaited."""
    return subprocess.Popen([command, *arguments], stdin=fd, stdout=fd, stderr=fd)


@asynccontextmanager
async def terminal(command: Path, *arguments: str) -> AsyncIterator[Terminal]:
    """wscat on a terminal of its own."""
    controller, own = pty.openpty()
    process = start(command, *arguments, fd=own)
    os.close(own)
    it = Terminal(process, controller)
    loop = asyncio.get_running_loop()
    loop.add_reader(controller, it.read_ready)
    try:
        yield it
    finally:
        loop.remove_reader(controller)
        process.kill()
        process.wait()
        os.close(controller)


async def test_a_person_follows_a_stream_presses_enter_and_mistypes(gateway: Gateway, wscat: Path) -> None:
    stream = gateway.hub.create("demo")
    stream.send_nowait(TextDelta("so far"))
    async with terminal(wscat, "-c", f"{gateway.url}/v1/streams/demo/subscribe") as it:
        await it.see('"type":"subscribed"', "so far", '"type":"caught_up","seq":1')
        it.enter()
        await it.see("empty message")
        it.enter("hello?")
        await it.see("unknown_message", "JSON")
        it.enter('{"type":"signal","name":"cancel"}')
        await it.see('"type":"signal_result","delivered":0')
        stream.send_nowait(TextDelta("still live"))
        await it.see("still live")
        stream.close()
        await it.see('"type":"stream_end"', "Disconnected (code: 1000")
        await eventually(it.ended)


async def test_a_person_with_a_bad_parameter_reads_why(gateway: Gateway, wscat: Path) -> None:
    async with terminal(wscat, "-c", f"{gateway.url}/v1/streams/demo/subscribe?policy=fast") as it:
        await it.see('"code":"bad_request"', "policy", "coalesce", "Disconnected (code: 4502")


async def test_a_person_publishes_by_hand(gateway: Gateway, wscat: Path) -> None:
    async with terminal(wscat, "-c", f"{gateway.url}/v1/streams/demo/publish") as it:
        await it.see('"type":"ready"')
        it.enter("oops")
        await it.see('"code":"invalid_event"')
        it.enter('{"type":"text_delta","data":{"text":"by hand"}}')
        await it.see('"type":"ack","seq":1')
        it.enter('{"type":"close_stream"}')
        await it.see("Disconnected (code: 1000")
    assert gateway.hub.info("demo").closed


async def test_dash_x_sends_one_message_and_leaves(gateway: Gateway, wscat: Path) -> None:
    async with producer(gateway) as writing:
        signal = '{"type":"signal","name":"cancel"}'
        url = f"{gateway.url}/v1/streams/demo/subscribe"
        async with terminal(wscat, "-c", url, "-x", signal, "-w", "1") as it:
            assert (await writing.read_until("signal"))[-1]["name"] == "cancel"
            await it.see('"delivered":1')


async def test_dash_s_chooses_the_subprotocol(gateway: Gateway, wscat: Path) -> None:
    url = f"{gateway.url}/v1/streams/demo/subscribe"
    async with terminal(wscat, "-c", url, "-s", "deltawire.v1.json") as it:
        await it.see('"type":"caught_up"')
    async with terminal(wscat, "-c", url, "-s", "mqtt") as it:
        await it.see("Unexpected server response: 400")


async def test_slash_ping_is_answered(gateway: Gateway, wscat: Path) -> None:
    async with terminal(wscat, "-c", f"{gateway.url}/v1/streams/demo/subscribe", "--slash", "-P") as it:
        await it.see('"type":"caught_up"')
        it.enter("/ping")
        await it.see("Received pong")
        it.enter("/close 1000 bye")
        await eventually(lambda: not gateway._connections)
