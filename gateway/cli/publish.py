"""`deltawire publish`: standard input, or what a command prints, becomes a stream."""

from __future__ import annotations

import asyncio
import sys
from ssl import SSLContext

import click

from deltawire.gateway.cli.credentials import GivenToken, token_options
from deltawire.gateway.cli.ending import Status, say, wrong_arguments_told
from deltawire.gateway.cli.options import PRODUCER_ID, FiniteRange, WholeRange, examples, stream_argument, url_option
from deltawire.gateway.cli.pace import Pace
from deltawire.gateway.cli.publish_run import PublishRun
from deltawire.gateway.cli.reconnecting import Patience
from deltawire.gateway.cli.trust import tls_options
from deltawire.gateway.client import Publisher
from deltawire.protocol.addresses import OnFull
from deltawire.protocol.providers import TRANSLATORS


@click.command(
    "publish",
    epilog=examples(
        "some-command | deltawire publish demo --format text",
        "deltawire publish demo --format text --until-alone 30 -- some-command --its-option",
        "curl -sN https://api.anthropic.com/v1/messages … | deltawire publish demo --format anthropic-sse --close",
        "deltawire tail --json old | deltawire publish new --pace 50",
    ),
)
@stream_argument
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND ARG…]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["events", "text", *TRANSLATORS]),
    default="events",
    show_default=True,
    help="What comes in: one JSON event a line, plain text, or a provider's response body.",
)
@click.option(
    "--pace",
    type=FiniteRange(0, min_open=True),
    metavar="N",
    help="Deltas (tokens) a second; without it, as fast as they come.",
)
@click.option("--close/--keep-open", default=False, show_default=True, help="End the stream when the input ends.")
@click.option("--producer", type=PRODUCER_ID, help="Publish as this producer; without it, as a new one each time.")
@click.option("--generation", type=WholeRange(0), help="Generation of the producer; the highest wins.")
@click.option(
    "--on-full",
    type=click.Choice(["wait", "reject"]),
    default="wait",
    show_default=True,
    help="What to do while a slow consumer holds the stream up.",
)
@click.option(
    "--until-alone",
    type=FiniteRange(0),
    metavar="SECONDS",
    help="Cancel when nobody has followed the stream for so long; counts only once somebody has.",
)
@click.option(
    "--idle-timeout",
    type=FiniteRange(0),
    default=0,
    show_default=True,
    metavar="SECONDS",
    help="Give the input up when it has brought no byte for so long; 0 never does.",
)
@url_option
@tls_options
@token_options
def command(  # noqa: PLR0913 - one argument an option
    stream: str,
    command: tuple[str, ...],
    form: str,
    pace: float | None,
    *,
    close: bool,
    producer: str | None,
    generation: int | None,
    on_full: OnFull,
    until_alone: float | None,
    idle_timeout: float,
    url: str,
    tls: SSLContext | None,
    token: GivenToken,
) -> int:
    """Publish standard input, or what COMMAND prints, to STREAM.

    With --format events, a line that is no event is reported and the rest is published; the exit status is then 1.
    So it is where a provider's body has something that its translator can't read, which goes out as an `extension`.
    Lines that `deltawire tail --json` printed are events: a recorded stream can be published again. With --format
    text, the input is one answer: message_start, a text_delta for each chunk as it comes, message_stop.

    A reader can cancel: the input is read no further, COMMAND gets SIGTERM (SIGKILL if it is still there 5 seconds
    later), what it printed is published, and the message ends with the stop reason `cancelled`. So do Ctrl-C and
    SIGTERM where there is a COMMAND. The answer ends with COMMAND, though programs that it has started may hold its
    output open for longer: half a second later, what they print is read no more. Its exit status is that of publish,
    128 + n if signal n ended it; if it failed, readers get an `error` event, and an unfinished message ends with the
    stop reason `error`.

    Input is UTF-8; a byte order mark at its beginning is skipped. With --idle-timeout, input that brings no byte for so
    long is read no further: readers get an `error` with the code `stalled`, an unfinished message ends with that as its
    stop reason, COMMAND is made to end, and the exit status is 1. Comments and pings of a provider are bytes too.

    A gateway that restarts has lost the stream: what it had not acknowledged is sent again, the rest can't be. How many
    events are lost is said on standard error, and the exit status is then 1.

    The stream stays open for the next answer unless --close is given.
    """
    if generation is not None and producer is None:
        raise click.UsageError("--generation needs --producer: generations belong to a producer id")
    patience = Patience(url, say)
    with wrong_arguments_told():
        publisher = Publisher(
            url,
            stream,
            producer=producer,
            generation=generation or 0,
            on_full=on_full,
            on_reconnect=patience,
            token=token,
            tls=tls,
        )

    async def run() -> int:
        async with publisher:
            patience.is_connected = True
            publication = PublishRun(
                publisher,
                form,
                Pace(pace),
                is_judged_at_once=on_full == "reject",
                until_alone=until_alone,
                idle_timeout=idle_timeout,
            )
            status = await (publication.publish_output(command) if command else publication.publish_stdin())
            if close:
                await publisher.close_stream()
        publication.look_for_losses()
        if sys.stderr.isatty():
            say(f"{publication.sent} events published, the last one as seq {publisher.seq}")
        return status or (Status.FAILED if publication.refused or publication.lost else Status.DONE)

    return asyncio.run(run())
