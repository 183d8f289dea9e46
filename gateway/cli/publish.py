"""`deltawire publish`: standard input becomes a stream."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable

import click
from msgspec import UNSET

from gateway.cli.ending import Status, say, wrong_arguments_told
from gateway.cli.options import PRODUCER_ID, FiniteRange, examples, stream_argument, url_option
from gateway.cli.pace import Pace
from gateway.cli.reconnecting import Patience
from gateway.cli.sources import EventsSource, Source, TextSource
from gateway.cli.stdio import Input
from gateway.client import EventRefused, Publisher
from protocol.addresses import OnFull
from protocol.events import DELTA_TYPES, Data, Event
from protocol.providers import TRANSLATORS

CHUNK = 8192
"""Most bytes of one read, thus of one `text_delta`: six times as many when JSON escapes all still fit 64 KiB."""


@click.command(
    "publish",
    epilog=examples(
        "some-command | deltawire publish demo --format text",
        "curl -sN https://api.anthropic.com/v1/messages … | deltawire publish demo --format anthropic-sse --close",
        "deltawire tail --json old | deltawire publish new --pace 50",
    ),
)
@stream_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["events", "text", *TRANSLATORS]),
    default="events",
    show_default=True,
    help="What comes on standard input: one JSON event a line, plain text, or a provider's response body.",
)
@click.option(
    "--pace",
    type=FiniteRange(0, min_open=True),
    metavar="N",
    help="Deltas (tokens) a second; without it, as fast as they come.",
)
@click.option("--close/--keep-open", default=False, show_default=True, help="End the stream when the input ends.")
@click.option("--producer", type=PRODUCER_ID, help="Publish as this producer; without it, as a new one each time.")
@click.option("--generation", type=click.IntRange(0), help="Generation of the producer; the highest wins.")
@click.option(
    "--on-full",
    type=click.Choice(["wait", "reject"]),
    default="wait",
    show_default=True,
    help="What to do while a slow consumer holds the stream up.",
)
@url_option
def command(  # noqa: PLR0913 - one argument an option
    stream: str,
    form: str,
    pace: float | None,
    *,
    close: bool,
    producer: str | None,
    generation: int | None,
    on_full: OnFull,
    url: str,
) -> int:
    """Publish standard input to STREAM.

    With --format events, a line that is no event is reported and the rest is published; the exit status is then 1.
    Lines that `deltawire tail --json` printed are events: a recorded stream can be published again. With --format
    text, the input is one answer: message_start, a text_delta for each chunk as it comes, message_stop.

    The stream stays open for the next answer unless --close is given.
    """
    if generation is not None and producer is None:
        raise click.UsageError("--generation needs --producer: generations belong to a producer id")
    patience = Patience(url, say)
    with wrong_arguments_told():
        publisher = Publisher(
            url, stream, producer=producer, generation=generation or 0, on_full=on_full, on_reconnect=patience
        )
    publication = Publication(publisher, patience, Pace(pace), is_judged_at_once=on_full == "reject")
    return asyncio.run(publication.run(form, close=close))


class Publication:
    """One run of `publish`: counts what was published and what was refused.

    Args:
        publisher: where events go.
        patience: what the publisher tells of its connection.
        pace: when each delta goes.
        is_judged_at_once: a refusal is always about the event just sent.
    """

    def __init__(self, publisher: Publisher, patience: Patience, pace: Pace, *, is_judged_at_once: bool) -> None:
        self._publisher = publisher
        self._patience = patience
        self._pace = pace
        self._is_judged_at_once = is_judged_at_once
        self._sent = 0
        self._refused = 0

    async def run(self, form: str, *, close: bool) -> Status:
        """Publish all of standard input.

        Args:
            form: its format, as `--format` names it.
            close: whether the stream ends with it.
        """
        if sys.stdin.isatty():
            say("reading from the keyboard; Ctrl-D on an empty line ends the input")
        source = self._source(form)
        async with self._publisher as publisher:
            self._patience.is_connected = True
            async for chunk in Input(sys.stdin.fileno(), CHUNK).chunks():
                await self._send_all(source.feed(chunk))
            await self._send_all(source.finish())
            await self._flush()
            if close:
                await publisher.close_stream()
        if sys.stderr.isatty():
            say(f"{self._sent} events published, the last one as seq {publisher.seq}")
        return Status.FAILED if self._refused else Status.DONE

    def _source(self, form: str) -> Source:
        match form:
            case "events":
                return EventsSource(self._refuse)
            case "text":
                return TextSource(say)
            case _:
                return TRANSLATORS[form]()

    def _refuse(self, reason: str) -> None:
        self._refused += 1
        say(f"error: {reason}")

    async def _send_all(self, items: Iterable[Data | Event]) -> None:
        for item in items:
            data = item.data if isinstance(item, Event) else item
            if data.type in DELTA_TYPES:
                await self._pace.wait_due()
            await self._send(item)

    async def _send(self, item: Data | Event) -> None:
        """Send one event; whether it or an earlier one is refused, the others go on."""
        while True:
            try:
                await self._publisher.send(item)
            except EventRefused as error:
                self._refuse(str(error))
                if self._is_judged_at_once or error.problem.producer_seq is UNSET:
                    return
                self._sent -= 1  # an earlier one, counted when it was sent; this one is still to go
            else:
                self._sent += 1
                return

    async def _flush(self) -> None:
        """Wait for the last acks, through what is still refused."""
        while True:
            try:
                return await self._publisher.flush()
            except EventRefused as error:
                self._refuse(str(error))
                self._sent -= 1
