"""The keys of `deltawire tail`, and that the terminal gets its own mode back."""

from __future__ import annotations

import asyncio
import signal
import termios
from asyncio.subprocess import PIPE

import pytest
from websockets.asyncio.server import ServerConnection

from deltawire.gateway.cli.tail.command import Cooldown
from deltawire.gateway.client import Publisher
from deltawire.protocol.codes import CloseCode
from deltawire.protocol.events import TextDelta
from tests.support.fakes import FakeGateway, frames
from tests.support.processes import SUBSCRIBED, Start, Terminal

LFLAG = 3
SOME_TEXT = {"type": "text_delta", "seq": 1, "timestamp": "2026-11-22T11:00:00Z", "data": {"text": "some text"}}
HINT = "deltawire: keys: c asks the producers to cancel, q quits"


def is_cbreak(terminal: Terminal) -> bool:
    flags: int = terminal.mode()[LFLAG]
    return not flags & (termios.ICANON | termios.ECHO)


async def wait_tail(terminal: Terminal, times: int = 1) -> None:
    """Wait until the text of the stream is shown, which comes after the mode is set."""
    while terminal.shown.count("some text") < times:
        await terminal.wait_changed()
    assert is_cbreak(terminal)


async def publish(gateway: str) -> None:
    async with Publisher(gateway, "demo") as publisher:
        await publisher.send(TextDelta("some text"))


async def test_c_sends_cancel_and_says_to_how_many(start: Start, gateway: str, terminal: Terminal) -> None:
    side = terminal.side
    async with Publisher(gateway, "demo") as publisher:
        await publisher.send(TextDelta("some text"))
        process = await start("tail", "demo", f"--url={gateway}", stdin=side, stdout=side, stderr=side)
        await wait_tail(terminal)
        assert HINT in terminal.shown
        terminal.type("xc")
        assert (await anext(publisher.signals())).name == "cancel"
        await terminal.wait_shown("some text\r\ndeltawire: cancel sent to 1 producer\r\n")
        await publisher.close_stream()
    assert await process.wait() == 0
    assert not is_cbreak(terminal)


async def test_c_held_down_cancels_once(start: Start, gateway: str, terminal: Terminal) -> None:
    side = terminal.side
    async with Publisher(gateway, "demo") as publisher:
        await publisher.send(TextDelta("some text"))
        process = await start("tail", "demo", f"--url={gateway}", stdin=side, stdout=side, stderr=side)
        await wait_tail(terminal)
        terminal.type("c" * 40 + "q")
        assert await process.wait() == 0
    assert terminal.shown.count("cancel sent") == 1


def test_a_cooldown_ends_so_long_after_what_it_follows() -> None:
    cooldown = Cooldown(1.0)
    assert cooldown.is_over(now=0.0)
    cooldown.begin(now=5.0)
    assert not cooldown.is_over(now=5.0)
    assert not cooldown.is_over(now=5.9)
    assert cooldown.is_over(now=6.0)
    cooldown.begin(now=7.0)
    assert not cooldown.is_over(now=7.5)


async def test_q_quits(start: Start, gateway: str, terminal: Terminal) -> None:
    await publish(gateway)
    before = terminal.mode()
    side = terminal.side
    process = await start("tail", "demo", f"--url={gateway}", stdin=side, stdout=side, stderr=PIPE)
    await wait_tail(terminal)
    terminal.type("q")
    _, errors = await process.communicate()
    assert (process.returncode, errors.decode()) == (0, f"{HINT}\n")
    assert terminal.mode() == before


async def test_off_a_terminal_no_keys_are_taken(start: Start, gateway: str, terminal: Terminal) -> None:
    await publish(gateway)
    process = await start("tail", "demo", f"--url={gateway}", stdin=terminal.side)
    assert process.stdout is not None
    assert await process.stdout.readexactly(9) == b"some text"
    assert not is_cbreak(terminal)
    process.terminate()
    assert await process.communicate() == (b"", b"")


async def test_ctrl_c_restores_the_terminal(start: Start, gateway: str, terminal: Terminal) -> None:
    await publish(gateway)
    before = terminal.mode()
    process = await terminal.start_session(start, "tail", "demo", f"--url={gateway}")
    await wait_tail(terminal)
    terminal.type("\x03")
    assert await process.wait() == 130
    assert terminal.mode() == before


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGQUIT])
async def test_a_signal_that_kills_restores_the_terminal(
    signum: signal.Signals, start: Start, gateway: str, terminal: Terminal
) -> None:
    await publish(gateway)
    before = terminal.mode()
    process = await terminal.start_session(start, "tail", "demo", f"--url={gateway}", script='ulimit -c 0; exec "$@"')
    await wait_tail(terminal)
    process.send_signal(signum)
    assert await process.wait() == -signum
    assert terminal.mode() == before


async def test_a_failure_restores_the_terminal(start: Start, terminal: Terminal) -> None:
    before = terminal.mode()
    side = terminal.side
    refused = asyncio.Event()

    async def refuse(peer: ServerConnection) -> None:
        await refused.wait()
        await peer.close(CloseCode.FORBIDDEN, "not you")

    async with FakeGateway(frames(SUBSCRIBED, SOME_TEXT, then=refuse)) as gateway:
        process = await start("tail", "demo", f"--url={gateway.url}", stdin=side, stdout=side, stderr=side)
        await wait_tail(terminal)
        refused.set()
        assert await process.wait() == 1
    assert "not you" in terminal.shown
    assert terminal.mode() == before


async def test_ctrl_z_restores_the_terminal_and_fg_goes_on(start: Start, gateway: str, terminal: Terminal) -> None:
    await publish(gateway)
    before = terminal.mode()
    shell = 'set -m; "$@"; echo stopped; read line; fg >/dev/null; echo ended $?'
    process = await terminal.start_session(start, "tail", "demo", f"--url={gateway}", script=shell)
    await wait_tail(terminal)
    terminal.type("\x1a")
    await terminal.wait_shown("stopped\r\n")
    assert terminal.mode() == before
    terminal.type("\n")
    async with Publisher(gateway, "demo") as publisher:
        await publisher.send(TextDelta(" and some text"))
        await wait_tail(terminal, times=2)
        terminal.type("q")
    await terminal.wait_shown("ended 0")
    await process.wait()
    assert terminal.mode() == before


async def test_a_job_in_the_background_leaves_the_terminal_alone(
    start: Start, gateway: str, terminal: Terminal
) -> None:
    await publish(gateway)
    before = terminal.mode()
    shell = 'set -m; "$@" & wait; echo ended $?'
    await terminal.start_session(start, "tail", "demo", f"--url={gateway}", script=shell)
    await terminal.wait_shown("some text")
    assert terminal.mode() == before
    async with Publisher(gateway, "demo") as publisher:
        await publisher.close_stream()
    await terminal.wait_shown("ended 0")
    assert HINT not in terminal.shown
