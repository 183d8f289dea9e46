"""`deltawire top` in real windows: what a person sees, presses and gets back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from deltawire.gateway.client import Publisher
from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import MessageStart, TextDelta
from tests.support.minting import token, write_secret
from tests.support.serving import listening
from tests.support.terminal import SIZES, needs_tmux, open_window

pytestmark = needs_tmux

HOSTILE = "evil\x1b]0;owned\x07\x1b[2J\u202e漢字 id"
INFO = {
    "id": HOSTILE,
    "epoch": "e",
    "head": 7,
    "floor": 1,
    "events": 7,
    "bytes": 700,
    "consumers": 3,
    "producers": 2,
    "closed": False,
    "created_at": "2026-11-22T11:00:00.000000Z",
    "last_active_at": "\x1b[2J\x1b[2J\x1b[2J\x1b[2J",
    "counters": {"folded": 0, "dropped": 0, "evicted": 0, "disconnected": 0},
}


@asynccontextmanager
async def answering(**bodies: Any) -> AsyncIterator[str]:
    """A server that answers the last part of a path with JSON, and everything else with 403; None: not at all."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        name = path.partition("?")[0].rpartition("/")[2]
        body = bodies.get(name, {"detail": "\x1b[2Jno"})
        if body is None:
            await reader.read()  # until whoever asked has left
        else:
            head = "200 OK" if name in bodies else "403 Forbidden"
            writer.write(f"HTTP/1.1 {head}\r\nConnection: close\r\n\r\n{json.dumps(body)}".encode())

    async with listening(answer) as port:
        yield f"ws://127.0.0.1:{port}"


async def test_streams_are_listed_filtered_opened_and_left_at_any_size(tmp_path: Path) -> None:
    key = write_secret(tmp_path)
    (folder := tmp_path / "window").mkdir()
    shown = token(subscribe=["chat-*"])

    def is_table(rows: int, lines: list[str]) -> bool:
        return len(lines) == rows and lines[3].startswith("chat-59") and lines[-1].startswith("enter opens")

    async with Gateway(Settings(port=0, drain_timeout=0, auth_key=key)) as gateway:
        for name in ("secret", *(f"chat-{number}" for number in range(60))):
            gateway.hub.create(name)
        async with (
            Publisher(gateway.url, "chat-59", token=token(publish=["*"])) as publisher,
            open_window(folder, "top", "--interval=0.1", f"--url={gateway.url}", DELTAWIRE_TOKEN=shown) as window,
        ):
            await publisher.send(MessageStart(message_id="m"))
            await publisher.send(TextDelta(text="first words 漢字\n"))
            await window.wait_shown("metrics need a token")
            await window.press(">", ">")  # by the number of events
            for number, (columns, rows) in enumerate(SIZES):
                await window.resize(columns, rows)
                lines = await window.wait_until(partial(is_table, rows))
                assert "events▾" in lines[2]
                assert not any("secret" in line for line in lines)
                await window.press("Enter")
                await window.wait_shown("first words 漢字")
                await publisher.send(TextDelta(text=f"more {number}\n"))
                lines = await window.wait_shown(f"more {number}")
                assert (lines[0], len(lines)) == ("chat-59", rows)
                await window.press("q")
            await window.wait_until(lambda lines: " ms " in lines[3] or " s " in lines[3])  # until the first token

            await window.press("/", *"-7")
            await window.wait_until(lambda lines: [line.split()[0] for line in lines[3:-1] if line] == ["chat-7"])
            await window.press("Escape")
            await window.wait_until(partial(is_table, SIZES[-1][1]))
            await window.press("q")
            assert await window.wait_ended() == 0
            assert not await window.is_alternate()
            assert await window.cursor_visible()


async def test_a_gateway_that_goes_away_is_said_and_comes_back(tmp_path: Path) -> None:
    async with AsyncExitStack() as running:
        gateway = await running.enter_async_context(Gateway(Settings(port=0, drain_timeout=0)))
        gateway.hub.create("before")
        async with open_window(tmp_path, "top", "--interval=0.1", f"--url={gateway.url}") as window:
            await window.wait_shown("before")
            port = gateway.port
            await running.aclose()
            await window.wait_shown("the gateway is away: connection refused; asking again in")
            assert any("before" in line for line in await window.screen())
            async with Gateway(Settings(port=port, drain_timeout=0)) as successor:
                successor.hub.create("after")
                await window.wait_shown("after")
                lines = await window.wait_gone("before")
                assert not any("away" in line for line in lines)


async def test_hostile_ids_are_cleaned(tmp_path: Path) -> None:
    async with answering(streams=[INFO]) as url, open_window(tmp_path, "top", f"--url={url}") as window:
        lines = await window.wait_shown("evil")
        assert lines[3].startswith("evil␛]0")
        assert lines[0].startswith(url)
        assert await window.title() != "owned"
        await window.press("Enter")
        await window.wait_shown("failed: stream id")
        await window.press("q", "q")
        assert await window.wait_ended() == 0
        written = window.written()
        assert b"\x1b]" not in written
        assert "\u202e".encode() not in written


async def test_a_gateway_that_does_not_answer_keeps_nobody_and_none_is_said_in_one_line(tmp_path: Path) -> None:
    twice = '"$@"; echo left $?; "$@" --url=ws://127.0.0.1:1'
    async with answering(streams=None) as url, open_window(tmp_path, "top", script=twice, DELTAWIRE_URL=url) as window:
        await window.wait_shown("asking the gateway")
        await window.press("q")
        assert await window.wait_ended() == 1
        assert [line for line in await window.screen() if line] == [
            "left 0",
            "deltawire: error: no gateway at ws://127.0.0.1:1: connection refused",
        ]


async def test_ctrl_z_gives_the_terminal_back_and_fg_draws_anew(tmp_path: Path, gateway: str) -> None:
    shell = 'set -m; "$@"; echo stopped; read line; fg >/dev/null; echo ended $?'
    async with open_window(tmp_path, "top", f"--url={gateway}", script=shell) as window:
        await window.wait_shown("0 streams")
        await window.press("C-z")
        await window.wait_shown("stopped")
        assert not await window.is_alternate()
        assert await window.cursor_visible()
        await window.press("Enter")
        await window.wait_shown("0 streams")
        assert await window.is_alternate()
        await window.press("q")
        await window.wait_shown("ended 0")
