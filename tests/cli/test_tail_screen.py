"""`deltawire tail` on a terminal that renders, as a person sees it."""

from __future__ import annotations

import asyncio
import os
import pty
import struct
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from io import TextIOWrapper
from pathlib import Path
from unittest.mock import patch

import pytest
from websockets.asyncio.server import ServerConnection

from deltawire.gateway.cli.tail.views import choose_plain, make_rendered
from deltawire.gateway.client import Publisher
from deltawire.protocol.events import MessageStart, MessageStop, TextDelta, Thinking
from deltawire.protocol.messages import StreamEnd
from tests.support.fakes import FakeGateway, cut, frames, stay
from tests.support.processes import SUBSCRIBED, Run
from tests.support.terminal import SIZES, needs_tmux, open_window
from tests.support.waiting import eventually

pytest.importorskip("rich", reason="needs the extra: pip install 'deltawire[tui]'")


def words(number: int) -> str:
    """A paragraph of a hundred words, each another one."""
    return " ".join(f"{number}-{word}" for word in range(100))


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x1b[H\x9b2J \u202eabc \x1bc &#27;[2J &#x202e;"
PARTS = [
    "# Head\n\nSome **bold** text.\n\n- one\n- two\n\n",
    "```py\ndef code():\n    return 1\n```\n\n",
    "| a | b |\n|---|---|\n| 1 | 日本語 |\n\n",
    f"{'日本語の文章' * 20}\n\n🎉 👩‍👩‍👧 שלום עולם مرحبا\n\n",
    f"{HOSTILE}\n\n",
    *(f"{words(number)}\n\n" for number in range(12)),
    f"{'x' * 3000}\n\n",
    "The end",
]


@needs_tmux
@pytest.mark.parametrize("size", SIZES)
async def test_a_whole_answer_is_in_the_scroll_back(tmp_path: Path, gateway: str, size: tuple[int, int]) -> None:
    async with Publisher(gateway, "demo") as publisher:
        await publisher.send(MessageStart(message_id="m", model="model-1"))
        async with open_window(tmp_path, "tail", "demo", f"--url={gateway}", size=size) as window:
            await window.wait_shown("waiting for the first token")
            await publisher.send(Thinking(thinking="let me see"))
            await window.wait_shown("let me see")
            for part in PARTS:
                for at in range(0, len(part), 50):
                    await publisher.send(TextDelta(text=part[at : at + 50]))
            shown = await window.wait_shown("The end")
            assert len(shown) <= size[1]
            await publisher.send(MessageStop(message_id="m", stop_reason="end_turn"))
            await publisher.close_stream()
            assert await window.wait_ended() == 0
            lines = await window.all_lines()
            assert not await window.is_alternate()
            assert await window.title() != "owned"
    begin = lines.index("[model-1]")
    assert lines[begin + 1 : begin + 7] == ["let me see", "Head", "", "Some bold text.", "", " • one"]
    text = "\n".join(lines)
    assert "  def code():\n      return 1\n" in text
    assert "日本語\n" in text
    joined = "".join(text.split())
    assert "日本語の文章" * 20 in joined
    assert "🎉" in joined
    assert "שלום" in joined
    assert "x" * 3000 in joined
    assert all("".join(words(number).split()) in joined for number in range(12))
    assert lines[-3:] == ["The end", "[stop: end_turn]", "[stream ended: closed]"]
    assert not any(phase in text for phase in ("waiting for", "writing", "connecting"))


@needs_tmux
async def test_a_terminal_of_another_size_shows_the_rest_anew(tmp_path: Path, gateway: str) -> None:
    async with (
        Publisher(gateway, "demo") as publisher,
        open_window(tmp_path, "tail", "demo", f"--url={gateway}") as window,
    ):
        await publisher.send(TextDelta(text="before\n\n" * 40 + f"{words(1)} {words(2)}"))
        await window.wait_shown("2-99")
        await window.resize(120, 30)
        await eventually(lambda: b" 1-25\r\n" in window.written())
        await window.resize(60, 40)
        await eventually(lambda: b" 1-13\r\n" in window.written())  # tmux tells of the size a while after
        await publisher.send(TextDelta(text="\n\nafter"))
        await window.wait_shown("after")
        lines = await window.all_lines()
        assert lines.count("before") == 40
        assert "".join("".join(lines).split()).count("1-50") == 1
        assert "after" in lines[-2:]  # a sign may be below


@needs_tmux
async def test_ctrl_z_leaves_the_terminal_and_fg_goes_on_and_ctrl_c_says_how(tmp_path: Path, gateway: str) -> None:
    job = 'set -m; "$@"; echo stopped; read line; fg >/dev/null; echo ended $?; stty -a | grep -o " icanon"'
    async with (
        Publisher(gateway, "demo") as publisher,
        open_window(tmp_path, "tail", "demo", f"--url={gateway}", script=job) as window,
    ):
        await publisher.send(TextDelta(text="done\n\nnot done"))
        await window.wait_shown("not done")
        await window.press("C-z")
        lines = await window.wait_shown("stopped")
        assert lines[lines.index("done") :] == ["done", "stopped"]  # the rest is drawn again
        await window.press("Enter")
        await window.wait_shown("not done")
        await publisher.send(TextDelta(text=" yet"))
        await window.wait_shown("not done yet")
        await window.press("C-c")
        assert await window.wait_ended() == 0
        lines = await window.screen()
        assert lines[lines.index("not done yet") + 1].startswith("deltawire: --after 2 --epoch ")
        assert lines[-2:] == ["ended 130", " icanon"]


@needs_tmux
async def test_a_lost_connection_is_said_above_what_is_not_finished(tmp_path: Path) -> None:
    lost = asyncio.Event()

    async def lose(peer: ServerConnection) -> None:
        await lost.wait()
        await cut(peer)

    def text(seq: int, text: str) -> dict[str, object]:
        return {"type": "text_delta", "seq": seq, "timestamp": "2026-11-22T11:00:00Z", "data": {"text": text}}

    first = frames(SUBSCRIBED, text(1, "done\n\nnot done"), then=lose)
    second = frames(SUBSCRIBED | {"after": 1}, text(2, " yet"), then=stay)
    async with (
        FakeGateway(first, second) as gateway,
        open_window(tmp_path, "tail", "demo", f"--url={gateway.url}") as window,
    ):
        await window.wait_shown("not done")
        lost.set()
        lines = await window.wait_shown("not done yet")
        said = ["reconnecting", "reconnected; continues after event 1"]
        assert all(word in line for word, line in zip(said, lines[lines.index("done") + 1 :], strict=False))
        assert [line for line in lines if "not done" in line] == ["not done yet"]
        await window.press("q")
        assert await window.wait_ended() == 0
        assert (await window.screen())[-1] == "not done yet"


async def test_json_and_rendering_are_asked_for_one_at_a_time(run: Run, gateway: str) -> None:
    done = await run("tail", "demo", "--json", "--render", f"--url={gateway}")
    assert (done.status, done.errors.count("--render")) == (2, 1)


async def test_off_a_terminal_text_stays_plain_and_a_person_who_asked_is_told(run: Run, gateway: str) -> None:
    async with Publisher(gateway, "demo") as publisher:
        await publisher.send(TextDelta(text="**text**"))
        await publisher.close_stream()
    said = "deltawire: plain text: standard output is not a terminal\n"
    assert await run("tail", "demo", "--render", f"--url={gateway}") == (0, "**text**", said)
    assert await run("tail", "demo", f"--url={gateway}") == (0, "**text**", "")


@contextmanager
def on_terminal() -> Iterator[int]:
    """Standard output is a terminal of 80 columns and 24 lines meanwhile."""
    keyboard, side = pty.openpty()
    resize(side, 80, 24)
    output = TextIOWrapper(os.fdopen(side, "wb", buffering=0), write_through=True)
    with output, patch.object(sys, "stdout", output):
        yield side
    os.close(keyboard)


def resize(fd: int, columns: int, rows: int) -> None:
    ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def test_a_terminal_renders_if_it_can(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with on_terminal() as side:
        assert make_rendered(is_asked_for=False) is not None
        with patch.dict("sys.modules", {"deltawire.gateway.cli.tail.rendered": None}):
            assert make_rendered(is_asked_for=False) is None
            assert capsys.readouterr().err == ""
            assert make_rendered(is_asked_for=True) is None
            assert capsys.readouterr().err == (
                "deltawire: plain text: rendering needs the extra: pip install 'deltawire[tui]'\n"
            )
        resize(side, 0, 0)
        assert make_rendered(is_asked_for=True) is None
        assert "size is not known" in capsys.readouterr().err
        monkeypatch.delenv("TERM")
        assert make_rendered(is_asked_for=True) is None
        assert "can't move its cursor" in capsys.readouterr().err
        monkeypatch.setenv("TERM", "dumb")
        assert make_rendered(is_asked_for=True) is None
        assert "\x1b" not in choose_plain(as_json=False).end(StreamEnd(seq=1, reason="closed"))
