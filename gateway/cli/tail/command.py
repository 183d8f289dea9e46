"""`deltawire tail`: follow a stream."""

from __future__ import annotations

import asyncio
import math
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from ssl import SSLContext
from typing import TYPE_CHECKING

import click

from deltawire.gateway.cli.alongside import run_alongside
from deltawire.gateway.cli.credentials import GivenToken, token_options
from deltawire.gateway.cli.ending import Status, say, wrong_arguments_told
from deltawire.gateway.cli.options import (
    EVENT_TYPES,
    EXTENSIONS,
    KINDS,
    NUMBERS,
    POLICY,
    SEQ,
    URGENT,
    WholeRange,
    examples,
    stream_argument,
    url_option,
)
from deltawire.gateway.cli.reconnecting import Patience, patience_option
from deltawire.gateway.cli.stdio import Output
from deltawire.gateway.cli.tail.render import View
from deltawire.gateway.cli.tail.views import choose_plain, make_rendered
from deltawire.gateway.cli.terminal.drawing import Drawing
from deltawire.gateway.cli.terminal.keyboard import Keyboard, is_foreground
from deltawire.gateway.cli.trust import tls_options
from deltawire.gateway.client import Frame, NotDelivered, NotPermitted, Subscriber, TextMismatch
from deltawire.protocol.addresses import MAX_BUFFER, MAX_INTERVAL_MS, Start
from deltawire.protocol.events import EventType
from deltawire.protocol.messages import Policy, Subscribed
from deltawire.protocol.position import Position

if TYPE_CHECKING:
    from deltawire.gateway.cli.tail.rendered import Rendered

CANCEL_PAUSE = 1.0
"""Minimum seconds between two cancels: a key held down repeats, and would soon exceed the gateway's `signal_rate`."""


@click.command(
    "tail",
    epilog=examples(
        "deltawire tail demo",
        "deltawire tail demo > answer.txt",
        "deltawire tail demo --json --types usage,message_stop",
        "deltawire tail demo --after 120 --epoch 3f2a",
    ),
)
@stream_argument
@click.option("--json", "as_json", is_flag=True, help="Print the frames as received, one per line.")
@click.option(
    "--render/--plain",
    "rendered",
    default=None,
    help="Render the text as Markdown, or print it as it is; default: rendered on a terminal, with deltawire[tui].",
)
@click.option(
    "--from",
    "start",
    type=click.Choice(["start", "now"]),
    default="start",
    show_default=True,
    help="Begin with the oldest event held, or only with new events.",
)
@click.option("--after", type=SEQ, help="Resume after this event.")
@click.option("--epoch", help="The epoch of --after; default: the current one.")
@click.option("--policy", type=POLICY, help="Policy if this reader falls behind; default: the gateway's.")
@click.option("--buffer", type=WholeRange(1, MAX_BUFFER), help="Lag limit in events; default: the gateway's.")
@click.option("--types", type=EVENT_TYPES, metavar="TYPE,…", help="Event types to receive; default: all.")
@click.option("--index", type=NUMBERS, metavar="N,…", help="Content blocks to receive; default: all.")
@click.option("--choice", type=NUMBERS, metavar="N,…", help="Choices to receive; default: all.")
@click.option("--kind", type=KINDS, metavar="KIND,…", help="Kinds of content blocks to receive; default: all.")
@click.option(
    "--extension",
    type=EXTENSIONS,
    metavar="PROVIDER[/NAME],…",
    help="Extensions to receive; default: all.",
)
@click.option(
    "--urgent",
    type=URGENT,
    metavar="TYPE,…",
    help="Event types to show ahead while this reader is behind, beside marked events; `marked` for these alone.",
)
@click.option(
    "--interval",
    type=WholeRange(0, MAX_INTERVAL_MS),
    default=0,
    metavar="MS",
    help="Milliseconds between updates; deltas in between are folded.",
)
@click.option("--no-create", is_flag=True, help="Fail if there is no such stream; otherwise wait for it.")
@patience_option
@url_option
@tls_options
@token_options
def command(  # noqa: PLR0913 - one argument an option
    *,
    stream: str,
    as_json: bool,
    rendered: bool | None,
    start: Start,
    after: int | None,
    epoch: str | None,
    policy: Policy | None,
    buffer: int | None,
    types: frozenset[EventType] | None,
    index: frozenset[int] | None,
    choice: frozenset[int] | None,
    kind: frozenset[str] | None,
    extension: frozenset[str] | None,
    urgent: frozenset[EventType] | None,
    interval: int,
    no_create: bool,
    url: str,
    patience: Patience,
    tls: SSLContext | None,
    token: GivenToken,
) -> int:
    """Follow STREAM until it ends.

    On a terminal, shows the answer as it arrives: text, thinking (dimmed), tool calls, and at the end usage and stop
    reason. With the extra deltawire[tui], the text is rendered as Markdown, unless --plain is given. On a terminal, c
    asks the producers to cancel the answer, and q quits. Elsewhere, writes only the text.

    After a lost connection, resumes at the same position and reports it on standard error. If the text of a message
    differs from the text that the gateway sent, reports this too; the exit status is then 1.
    """
    if epoch is not None and after is None:
        raise click.UsageError("--epoch needs --after: the last seq seen in that epoch")
    if after is not None and start == "now":
        raise click.UsageError("--from now begins with the next event, --after where a reader was: give one")
    if rendered and as_json:
        raise click.UsageError("--json prints the frames as received, --render the text: give one")
    markdown = None if as_json or rendered is False else make_rendered(is_asked_for=bool(rendered))
    view = markdown or choose_plain(as_json=as_json)
    patience.tell = partial(_say_lost, view, markdown)
    with wrong_arguments_told():
        subscriber = Subscriber(
            url,
            stream,
            start=start,
            position=None if after is None else Position(epoch or "", after),
            policy=policy,
            buffer=buffer,
            types=types,
            index=index,
            choice=choice,
            kind=kind,
            extension=extension,
            urgent=urgent,
            interval=interval,
            create=not no_create,
            retry_for=patience.retry_for,
            on_reconnect=patience,
            tls=tls,
            token=token,
        )
    return asyncio.run(Tail(subscriber, view, patience, markdown).run())


def _say_lost(view: View, markdown: Rendered | None, text: str) -> None:
    """Say that the connection is lost."""
    if markdown:
        markdown.note_lost()
    _say_beside(view, text)


def _say_beside(view: View, text: str) -> None:
    """Print a message without interrupting a line that the view has open on the same terminal."""
    if rest := view.interrupt():
        click.echo(rest, nl=False)
    say(text)


class Cooldown:
    """A minimum time between two runs of an action. Pure; time is an argument.

    Args:
        pause: seconds.
    """

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._ends_at = -math.inf

    def begin(self, now: float) -> None:
        """Record that the action was done."""
        self._ends_at = now + self._pause

    def is_over(self, now: float) -> bool:
        """Whether the action may be done again."""
        return now >= self._ends_at


class Tail:
    """One run of `tail`.

    Args:
        subscriber: the subscriber, not yet connected.
        view: how to show the stream.
        patience: the subscriber's `on_reconnect`.
        markdown: the view, if it has to be drawn.
    """

    def __init__(self, subscriber: Subscriber, view: View, patience: Patience, markdown: Rendered | None) -> None:
        self._subscriber = subscriber
        self._view = view
        self._patience = patience
        self._output = Output(sys.stdout.fileno())
        self._drawing = Drawing(markdown, self._output, sys.stdout.fileno()) if markdown else None
        self._status = Status.DONE

    async def run(self) -> Status:
        """Write the stream until it ends or the user quits."""
        drawing = self._drawing.drawing() if self._drawing else nullcontext()
        async with self._left_in_order(), self._output.watch_reader(), drawing, self._subscriber:
            return await self._run()

    @asynccontextmanager
    async def _left_in_order(self) -> AsyncIterator[None]:
        """Let a terminal have everything that came, and a new line, however the block ends."""
        try:
            yield
        except asyncio.CancelledError:  # Ctrl-C
            self._leave()
            if sys.stdout.isatty() and (position := self._subscriber.position):
                say(f"--after {position.seq} --epoch {position.epoch} continues here")
            raise
        finally:
            self._leave()

    def _leave(self) -> None:
        if rest := self._view.end(None):
            with suppress(OSError):  # the terminal is gone
                click.echo(rest, nl=False)

    def _obey(self, signum: signal.Signals) -> None:
        """Leave the terminal before a signal stops or ends this process."""
        if signum != signal.SIGTSTP:
            self._leave()
        elif self._drawing:
            click.echo(self._view.interrupt(), nl=False)

    async def _run(self) -> Status:
        if not (sys.stdin.isatty() and sys.stdout.isatty() and is_foreground(sys.stdin.fileno())):
            await self._follow()
        else:
            keyboard = Keyboard(sys.stdin.fileno(), self._obey)
            with keyboard.listening():
                _say_beside(self._view, "keys: c asks the producers to cancel, q quits")
                async with run_alongside(self._heed(keyboard)):
                    await self._follow()
        return self._status

    async def _follow(self) -> None:
        is_over = False
        while not is_over:
            try:
                async for frame in self._subscriber.frames():
                    await self._show(frame)
                is_over = True
            except TextMismatch as error:
                self._status = Status.FAILED
                _say_beside(self._view, f"error: {error}")
        await self._output.write(self._view.end(self._subscriber.ended).encode())

    async def _show(self, frame: Frame) -> None:
        if isinstance(frame.message, Subscribed):
            if self._patience.is_connected:
                _say_beside(self._view, f"reconnected; continues after event {frame.message.after}")
            self._patience.is_connected = True
        await self._output.write(self._view.show(frame).encode())
        if self._drawing:
            await self._drawing.catch_up()

    async def _heed(self, keyboard: Keyboard) -> None:
        """Act on the keys."""
        clock = asyncio.get_running_loop().time
        cooldown = Cooldown(CANCEL_PAUSE)
        async for key in keyboard.keys():
            if key == "c" and cooldown.is_over(clock()):
                await self._cancel()
                cooldown.begin(clock())  # keys pressed during the cancel are read from here on, and ignored
            elif key == "q":
                raise click.exceptions.Exit(self._status)

    async def _cancel(self) -> None:
        try:
            count = await self._subscriber.signal("cancel")
        except (NotDelivered, NotPermitted, TimeoutError) as error:
            _say_beside(self._view, str(error) or "the gateway did not answer the signal")
        else:
            _say_beside(self._view, f"cancel sent to {count} producer{'' if count == 1 else 's'}")
