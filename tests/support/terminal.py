"""A program in a window of tmux: what a person sees there, what has scrolled out of it, and every byte it wrote.

tmux is a terminal emulator: it applies escape sequences, wraps lines, knows how wide characters are, and keeps what
scrolls out at the top. `Terminal` of `tests.support.processes` is a terminal without a screen: it shows bytes.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.processes import COMMAND, ROOT, clean_environment
from tests.support.waiting import DEADLINE

SIZES = ((80, 24), (40, 10), (200, 50))
"""Columns and lines of a usual terminal, a small one, and a large one."""

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
"""Marks tests that open a window."""

_HISTORY = 100_000
"""Lines that a window keeps once they have scrolled out."""

_SESSION = """
tmux wait-for noted
trap : INT QUIT
{script}
tmux set-option @status $?
tmux wait-for -S ended
tmux wait-for closed
"""
"""What runs in a window: a shell that outlives the command, so that its screen and its status can be read."""


class Window:
    """One program in a window of a tmux server of its own.

    Args:
        socket: of the server.
        raw: the file that every byte the program writes is added to.
    """

    def __init__(self, socket: Path, raw: Path) -> None:
        self._socket = socket
        self._raw = raw

    async def ask(self, *arguments: str) -> str:
        """Run a tmux command, and return what it prints."""
        process = await asyncio.create_subprocess_exec(
            *("tmux", "-u", "-S", str(self._socket), *arguments), stdin=DEVNULL, stdout=PIPE, stderr=PIPE
        )
        output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        return output.decode()

    async def screen(self) -> list[str]:
        """The lines that are visible, without spaces at their ends; of lines that are empty at the end, none."""
        return _lines(await self.ask("capture-pane", "-p"))

    async def all_lines(self) -> list[str]:
        """The lines that have scrolled out at the top, then those that are visible; wrapped lines are joined."""
        return _lines(await self.ask("capture-pane", "-p", "-J", "-S", "-"))

    async def styled(self) -> str:
        """What is visible, with the escape sequences that would draw it again."""
        return await self.ask("capture-pane", "-p", "-e")

    def written(self) -> bytes:
        """Every byte that the program has written so far."""
        return self._raw.read_bytes()

    async def wait_until(self, condition: Callable[[list[str]], object]) -> list[str]:
        """Wait until a condition holds for the visible lines, and return these."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DEADLINE
        while not condition(lines := await self.screen()):
            assert loop.time() < deadline, "never on the screen:\n" + "\n".join(lines)
            await asyncio.sleep(0.01)
        return lines

    async def wait_shown(self, text: str) -> list[str]:
        """Wait until a text is in one of the visible lines, and return these."""
        return await self.wait_until(lambda lines: any(text in line for line in lines))

    async def wait_gone(self, text: str) -> list[str]:
        """Wait until a text is in none of the visible lines, and return these."""
        return await self.wait_until(lambda lines: not any(text in line for line in lines))

    async def press(self, *keys: str) -> None:
        """Press keys: characters, or names that tmux knows (`Enter`, `Up`, `C-c`)."""
        await self.ask("send-keys", *keys)

    async def resize(self, columns: int, rows: int) -> None:
        """Give the window another size."""
        await self.ask("resize-window", "-x", str(columns), "-y", str(rows))

    async def cursor_visible(self) -> bool:
        """Whether the window shows a cursor."""
        return await self._format("#{cursor_flag}") == "1"

    async def is_alternate(self) -> bool:
        """Whether the program has switched to the alternate screen, which has no scroll-back."""
        return await self._format("#{alternate_on}") == "1"

    async def title(self) -> str:
        """The title that the program gave the window."""
        return await self._format("#{pane_title}")

    async def wait_ended(self) -> int:
        """Wait until the program ends, and return its exit status."""
        async with asyncio.timeout(DEADLINE):
            await self.ask("wait-for", "ended")
        return int(await self._format("#{@status}"))

    async def _format(self, form: str) -> str:
        return (await self.ask("display-message", "-p", form)).rstrip("\n")


@asynccontextmanager
async def open_window(
    folder: Path, *arguments: str, size: tuple[int, int] = (80, 24), script: str = '"$@"', **environment: str
) -> AsyncIterator[Window]:
    """Run `deltawire` in a window; it is closed, and the program killed, when the block ends.

    Args:
        folder: an empty one, for a socket and a file.
        arguments: of the command.
        size: columns and lines.
        script: what a shell in the window does with the command, as `"$@"`; with `-m` set, it has job control.
        environment: variables for the command, `TERM` among them.
    """
    socket = Path("/tmp") / f"dw-{secrets.token_hex(8)}"  # a path in the folder may be too long for a socket
    window = Window(socket, raw := folder / "written")
    raw.touch()
    variables = [f"{name}={value}" for name, value in environment.items()]
    shell = ("sh", "-c", _SESSION.format(script=script), "sh", "env", *variables, *COMMAND, *arguments)
    server = await asyncio.create_subprocess_exec(
        *("tmux", "-u", "-S", str(socket), "-f", os.devnull, "start-server"),
        *(";", "set-option", "-g", "status", "off", ";", "set-option", "-g", "history-limit", str(_HISTORY)),
        *(";", "new-session", "-d", "-x", str(size[0]), "-y", str(size[1]), "-c", str(ROOT), *shell),
        *(";", "pipe-pane", "-O", f"cat >'{raw}'"),
        env=clean_environment(LC_ALL="C.UTF-8", TMUX=""),
    )
    assert await server.wait() == 0
    try:
        await window.ask("wait-for", "-S", "noted")
        yield window
    finally:
        await window.ask("kill-server")
        socket.unlink(missing_ok=True)


def _lines(captured: str) -> list[str]:
    return [line.rstrip() for line in captured.rstrip().split("\n")]
