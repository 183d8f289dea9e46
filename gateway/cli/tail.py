"""`deltawire tail`: follow a stream."""

from __future__ import annotations

import asyncio
import math
import os
import sys
from functools import partial
from ssl import SSLContext

import click

from deltawire.gateway.cli.alongside import run_alongside
from deltawire.gateway.cli.credentials import GivenToken, token_options
from deltawire.gateway.cli.ending import Status, say, wrong_arguments_told
from deltawire.gateway.cli.keyboard import Keyboard, is_foreground
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
from deltawire.gateway.cli.reconnecting import Patience
from deltawire.gateway.cli.render import Frames, Screen, Text, View
from deltawire.gateway.cli.stdio import Output
from deltawire.gateway.cli.trust import tls_options
from deltawire.gateway.client import Frame, NotDelivered, NotPermitted, Subscriber, TextMismatch
from deltawire.protocol.addresses import MAX_BUFFER, MAX_INTERVAL_MS, Start
from deltawire.protocol.events import EventType
from deltawire.protocol.messages import Policy, Subscribed
from deltawire.protocol.position import Position

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
@url_option
@tls_options
@token_options
def command(  # noqa: PLR0913 - one argument an option
    *,
    stream: str,
    as_json: bool,
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
    tls: SSLContext | None,
    token: GivenToken,
) -> int:
    """Follow STREAM until it ends.

    On a terminal, shows the answer as it arrives: text, thinking (dimmed), tool calls, and at the end usage and stop
    reason. There, c asks the producers to cancel the answer, and q quits. Elsewhere, writes only the text.

    After a lost connection, resumes at the same position and reports it on standard error. If the text of a message
    differs from the text that the gateway sent, reports this too; the exit status is then 1.
    """
    if epoch is not None and after is None:
        raise click.UsageError("--epoch needs --after: the last seq seen in that epoch")
    if after is not None and start == "now":
        raise click.UsageError("--from now begins with the next event, --after where a reader was: give one")
    view = _choose_view(as_json=as_json)
    patience = Patience(url, partial(_say_beside, view))
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
            on_reconnect=patience,
            tls=tls,
            token=token,
        )
    return asyncio.run(Tail(subscriber, view, patience).run())


def _choose_view(*, as_json: bool) -> View:
    on_terminal = sys.stdout.isatty()
    if as_json:
        return Frames(on_terminal=on_terminal)
    return Screen(colour=not os.environ.get("NO_COLOR")) if on_terminal else Text(say)


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
    """

    def __init__(self, subscriber: Subscriber, view: View, patience: Patience) -> None:
        self._subscriber = subscriber
        self._view = view
        self._patience = patience
        self._output = Output(sys.stdout.fileno())
        self._status = Status.DONE

    async def run(self) -> Status:
        """Write the stream until it ends or the user quits."""
        async with self._output.watch_reader(), self._subscriber:
            if not (sys.stdin.isatty() and sys.stdout.isatty() and is_foreground(sys.stdin.fileno())):
                await self._follow()
                return self._status
            keyboard = Keyboard(sys.stdin.fileno())
            with keyboard.listening():
                say("keys: c asks the producers to cancel, q quits")
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

    async def _heed(self, keyboard: Keyboard) -> None:
        """Act on the keys."""
        clock = asyncio.get_running_loop().time
        cooldown = Cooldown(CANCEL_PAUSE)
        async for key in keyboard.keys():
            if key == "c" and cooldown.is_over(clock()):
                await self._cancel()
                cooldown.begin(clock())  # keys pressed during the cancel are read from here on, and ignored
            elif key == "q":
                click.echo(self._view.interrupt(), nl=False)
                raise click.exceptions.Exit(self._status)

    async def _cancel(self) -> None:
        try:
            count = await self._subscriber.signal("cancel")
        except (NotDelivered, NotPermitted, TimeoutError) as error:
            _say_beside(self._view, str(error) or "the gateway did not answer the signal")
        else:
            _say_beside(self._view, f"cancel sent to {count} producer{'' if count == 1 else 's'}")
