"""`deltawire tail`: follow a stream."""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial

import click

from gateway.cli.ending import Status, say, wrong_arguments_told
from gateway.cli.options import EVENT_TYPES, POLICY, SEQ, examples, stream_argument, url_option
from gateway.cli.reconnecting import Patience
from gateway.cli.render import Frames, Screen, Text, View
from gateway.cli.stdio import Output
from gateway.client import Subscriber
from protocol.addresses import MAX_BUFFER, MAX_INTERVAL_MS, Start
from protocol.events import EventType
from protocol.messages import Policy, Subscribed
from protocol.position import Position


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
@click.option("--json", "as_json", is_flag=True, help="Print the frames as they come, one a line.")
@click.option(
    "--from",
    "start",
    type=click.Choice(["start", "now"]),
    default="start",
    show_default=True,
    help="Begin with the oldest event held, or with the next one.",
)
@click.option("--after", type=SEQ, help="Resume after this event.")
@click.option("--epoch", help="The epoch --after belongs to; without it, the present one.")
@click.option("--policy", type=POLICY, help="What happens when this reader falls behind; default: the gateway's.")
@click.option("--buffer", type=click.IntRange(1, MAX_BUFFER), help="Events it may lag behind; default: the gateway's.")
@click.option("--types", type=EVENT_TYPES, metavar="TYPE,…", help="Event types wanted; default: all.")
@click.option(
    "--interval",
    type=click.IntRange(0, MAX_INTERVAL_MS),
    default=0,
    metavar="MS",
    help="Milliseconds between updates; what comes in between is put together.",
)
@url_option
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
    interval: int,
    url: str,
) -> int:
    """Follow STREAM until it ends.

    On a terminal, shows the answer as it comes: text, thinking dimmed, tool calls, at the end usage and stop reason.
    Elsewhere, writes the text and nothing else. A lost connection is resumed where it was, and said on standard
    error.
    """
    if epoch is not None and after is None:
        raise click.UsageError("--epoch needs --after: the last seq seen in that epoch")
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
            interval=interval,
            on_reconnect=patience,
        )
    asyncio.run(_follow(subscriber, view, patience))
    return Status.DONE


def _choose_view(*, as_json: bool) -> View:
    on_terminal = sys.stdout.isatty()
    if as_json:
        return Frames(on_terminal=on_terminal)
    return Screen(colour=not os.environ.get("NO_COLOR")) if on_terminal else Text(say)


def _say_beside(view: View, text: str) -> None:
    """Say something without breaking into a line the view has open on the same terminal."""
    if rest := view.interrupt():
        click.echo(rest, nl=False)
    say(text)


async def _follow(subscriber: Subscriber, view: View, patience: Patience) -> None:
    """Write what the stream holds until it ends."""
    output = Output(sys.stdout.fileno())
    async with output.watch_reader(), subscriber:
        async for frame in subscriber.frames():
            if isinstance(frame.message, Subscribed):
                if patience.is_connected:
                    _say_beside(view, f"reconnected; goes on after event {frame.message.after}")
                patience.is_connected = True
            await output.write(view.show(frame).encode())
        await output.write(view.end(subscriber.ended).encode())
