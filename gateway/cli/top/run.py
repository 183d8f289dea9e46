"""One run of `deltawire top`: keys, looks and the screen."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from ssl import SSLContext
from typing import Final

from click import style

from deltawire.gateway.cli.alongside import run_alongside
from deltawire.gateway.cli.asking import Asker
from deltawire.gateway.cli.credentials import GivenToken
from deltawire.gateway.cli.printable import make_line
from deltawire.gateway.cli.stdio import Output
from deltawire.gateway.cli.terminal.keyboard import Keyboard, is_foreground
from deltawire.gateway.cli.top.follow import KEYS as FOLLOW_KEYS
from deltawire.gateway.cli.top.follow import Follow, describe_row
from deltawire.gateway.cli.top.looking import Failed, FirstToken, Glance, Looker, News, Page, RoundOver, Trouble
from deltawire.gateway.cli.top.rows import Watch
from deltawire.gateway.cli.top.table import Table, fit
from deltawire.gateway.client import ClientError, Subscriber, TextMismatch
from deltawire.protocol.messages import Subscribed

FRAME: Final = 0.05
"""Seconds between two drawings, at least: more often, nobody reads."""

FOLDED: Final = 50
"""Milliseconds between writes of the gateway to an open stream: the deltas in between come folded."""

AROUND: Final = 3
"""Lines of the screen beside the table or the text: two above, one below."""

ENTER: Final = b"\x1b[?1049h\x1b[?25l"
"""The alternate screen, without a cursor."""

LEAVE: Final = b"\x1b[2J\x1b[?25h\x1b[?1049l"
"""Cleared first: tmux keeps lines of it where the window has grown meanwhile."""


class TopRun:
    """One run.

    Args:
        asker: asks the gateway.
        token: to show when a stream is opened.
        tls: whom to trust then.
        interval: seconds between two looks.
    """

    def __init__(self, asker: Asker, token: GivenToken, tls: SSLContext | None, interval: float) -> None:
        self._url = asker.url
        self._token = token
        self._tls = tls
        self._looker = Looker(asker, interval, self._tell)
        self._watch = Watch()
        self._table = Table()
        self._glance = "asking the gateway"
        self._trouble = ""
        self._open: tuple[str, Follow] | None = None
        self._has_moved = asyncio.Event()
        self._output = Output(sys.stdout.fileno())
        self._drawn: list[str] = []
        self._size = os.terminal_size((0, 0))
        self._is_stale = asyncio.Event()
        self._has_new_rows = False

    async def run(self) -> None:
        """Show the table until the person quits.

        Raises:
            Failure: the gateway did not answer at first.
        """
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_signal_handler(signal.SIGWINCH, self._is_stale.set)
        self._loop.add_signal_handler(signal.SIGCONT, self._enter)
        keyboard = Keyboard(sys.stdin.fileno(), lambda _signum: self._leave())
        self._looker.start()
        with keyboard.listening():
            self._enter()
            try:
                async with run_alongside(self._heed(keyboard), self._draw(), self._follow()):
                    await self._over
            finally:
                self._leave()
                self._looker.stop()

    def _enter(self) -> None:
        if is_foreground(sys.stdout.fileno()):
            os.write(sys.stdout.fileno(), ENTER)
            self._size = os.terminal_size((0, 0))  # nothing is drawn
            self._is_stale.set()

    def _leave(self) -> None:
        if is_foreground(sys.stdout.fileno()):
            with suppress(OSError):  # the terminal is gone
                os.write(sys.stdout.fileno(), LEAVE)

    def _tell(self, news: News) -> None:
        """Take what is new, in the thread that looks."""
        with suppress(RuntimeError):  # the loop is closed: the person has quit
            self._loop.call_soon_threadsafe(self._take, news)

    def _take(self, news: News) -> None:
        match news:
            case Failed():
                if not self._over.done():
                    self._over.set_exception(news.error)
                return
            case Trouble():
                self._trouble = news.text
            case Page():
                self._trouble = ""
                self._watch.take(news.infos, news.at)
                self._has_new_rows = True
            case RoundOver():
                self._watch.end_round()
                self._has_new_rows = True
            case Glance():
                self._glance = news.text
            case FirstToken():
                self._watch.note_first_token(news.stream, news.seconds)
        self._is_stale.set()

    async def _heed(self, keyboard: Keyboard) -> None:
        """Act on the keys."""
        async for key in keyboard.keys():
            if self._open is not None:
                if self._open[1].press(key):
                    self._go(None)
            elif (wish := self._table.press(key)) == "quit":
                break
            elif wish == "open" and (stream := self._table.selected) is not None:
                self._go((stream, Follow()))
            self._is_stale.set()
        if not self._over.done():
            self._over.set_result(None)

    def _go(self, opened: tuple[str, Follow] | None) -> None:
        """Open a stream, or go back to the table."""
        self._open = opened
        self._looker.open(None if opened is None else opened[0])
        self._has_moved.set()

    async def _follow(self) -> None:
        """Read the stream that is open, whichever it is."""
        while True:
            opened = self._open
            async with run_alongside(*([] if opened is None else [self._read(*opened)])):
                while self._open is opened:
                    await self._has_moved.wait()
                    self._has_moved.clear()

    async def _read(self, stream: str, follow: Follow) -> None:
        try:
            subscriber = Subscriber(
                self._url,
                stream,
                create=False,
                interval=FOLDED,
                retry_for=None,
                on_reconnect=lambda reason, delay: self._wait(follow, reason, delay),
                token=self._token,
                tls=self._tls,
            )
            async with subscriber:
                while subscriber.ended is None:
                    try:
                        await self._show(subscriber, follow)
                    except TextMismatch as error:
                        follow.status = str(error)
            follow.end(subscriber.ended)
        except (ClientError, ValueError) as error:  # ValueError: no gateway lists such an id
            follow.status = f"failed: {error}"
        self._is_stale.set()

    async def _show(self, subscriber: Subscriber, follow: Follow) -> None:
        async for frame in subscriber.frames():
            if isinstance(frame.message, Subscribed):
                follow.status = ""
            follow.add(frame)
            self._is_stale.set()
            await asyncio.sleep(0)  # a long replay must not keep keys waiting

    def _wait(self, follow: Follow, reason: str, delay: float) -> None:
        follow.status = f"{reason}; reconnecting in {delay:.1f} s"
        self._is_stale.set()

    async def _draw(self) -> None:
        """Draw the screen when something has changed."""
        while True:
            await self._is_stale.wait()
            self._is_stale.clear()
            if is_foreground(sys.stdout.fileno()):  # after Ctrl-Z and `bg`, it is not
                size = os.get_terminal_size(sys.stdout.fileno())
                lines = self._lines(size.columns, size.lines)
                await self._output.write(self._changes(lines, size).encode())
            await asyncio.sleep(FRAME)

    def _lines(self, width: int, height: int) -> list[str]:
        """The whole screen."""
        space = max(1, height - AROUND)
        if self._open is None:
            if self._has_new_rows:
                self._table.show(self._watch.rows())
                self._has_new_rows = False
            head, below = f"{self._url} · {self._table.count()}", self._trouble or self._glance
            lines, foot = self._table.lines(width, space), self._table.foot()
            self._looker.want_first_tokens([it for it in self._table.visible if self._watch.lacks_first_token(it)])
        else:
            stream, follow = self._open
            head = make_line(stream)
            below = make_line(follow.status) or self._trouble or describe_row(self._watch.row(stream))
            lines, foot = follow.lines(width, space), FOLLOW_KEYS
        lines += [""] * (space - len(lines))
        above = [style(fit(head, width), bold=True), style(fit(make_line(below), width), dim=True)]
        return [*above, *lines, style(fit(foot, width), dim=True)][:height]

    def _changes(self, lines: list[str], size: os.terminal_size) -> str:
        """What turns the screen into these lines."""
        if size != self._size:
            self._drawn, self._size = [], size
        cleared = "" if self._drawn else "\x1b[2J"
        old = self._drawn or [""] * len(lines)
        self._drawn = lines
        return cleared + "".join(
            f"\x1b[{number};1H\x1b[2K{line}"
            for number, (line, before) in enumerate(zip(lines, old, strict=True), 1)
            if line != before
        )
