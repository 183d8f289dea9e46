"""`deltawire publish`: publish standard input, or the output of a command, to a stream."""

from __future__ import annotations

import asyncio
import sys
from ssl import SSLContext

import click

from deltawire.gateway.cli.credentials import GivenToken, token_options
from deltawire.gateway.cli.ending import Status, say, wrong_arguments_told
from deltawire.gateway.cli.options import PRODUCER_ID, FiniteRange, WholeRange, examples, stream_argument, url_option
from deltawire.gateway.cli.publish.pace import Pace
from deltawire.gateway.cli.publish.run import PublishRun
from deltawire.gateway.cli.reconnecting import Patience, patience_option
from deltawire.gateway.cli.trust import tls_options
from deltawire.gateway.client import Publisher
from deltawire.protocol.addresses import OnFull
from deltawire.protocol.providers import TRANSLATORS


@click.command(
    "publish",
    epilog=examples(
        "some-command | deltawire publish demo --format text",
        "deltawire publish demo --format text --until-alone 30 -- some-command --its-option",
        "curl -sN https://api.anthropic.com/v1/messages … | deltawire publish demo --format auto --close",
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
    help="Format of the input: one JSON event per line, plain text, or a provider's response body; auto finds whose.",
)
@click.option(
    "--inline-thinking",
    is_flag=True,
    help="Tell <think>…</think> within the text of a provider's body apart, as thinking; in code it stays text.",
)
@click.option(
    "--pace",
    type=FiniteRange(0, min_open=True),
    metavar="N",
    help="Deltas (tokens) per second; default: as fast as they arrive.",
)
@click.option("--close/--keep-open", default=False, show_default=True, help="End the stream when the input ends.")
@click.option("--producer", type=PRODUCER_ID, help="Publish with this producer id; default: a new one for each run.")
@click.option("--generation", type=WholeRange(0), help="Generation of the producer; the highest wins.")
@click.option(
    "--on-full",
    type=click.Choice(["wait", "reject"]),
    default="wait",
    show_default=True,
    help="What to do while a slow `block` consumer holds the stream up.",
)
@click.option(
    "--until-alone",
    type=FiniteRange(0),
    metavar="SECONDS",
    help="Cancel when the stream has had no reader for this long; starts when the last reader leaves.",
)
@click.option(
    "--idle-timeout",
    type=FiniteRange(0),
    default=0,
    show_default=True,
    metavar="SECONDS",
    help="Give the input up when it has brought no byte for so long; 0 never does.",
)
@patience_option
@url_option
@tls_options
@token_options
def command(  # noqa: PLR0913 - one argument an option
    stream: str,
    command: tuple[str, ...],
    form: str,
    pace: float | None,
    *,
    inline_thinking: bool,
    close: bool,
    producer: str | None,
    generation: int | None,
    on_full: OnFull,
    until_alone: float | None,
    idle_timeout: float,
    url: str,
    patience: Patience,
    tls: SSLContext | None,
    token: GivenToken,
) -> int:
    """Publish standard input, or the output of COMMAND, to STREAM.

    With --format events, each line is one event. An invalid line is reported, the rest is published, and the exit
    status is 1. Output of `deltawire tail --json` is valid input: a recorded stream can be published again. With
    --format text, the input is one answer: message_start, a text_delta for each chunk as it arrives, message_stop. With
    a provider's format, parts of the body that can't be read are published as an `extension`; if the provider failed,
    or its body is no event stream, readers get an `error` event. In these cases the exit status is 1.

    When a reader cancels, publish stops reading the input and sends SIGTERM to COMMAND (and SIGKILL if it still runs
    5 seconds later). It publishes what COMMAND printed and ends the message with the stop reason `cancelled`. With a
    COMMAND, Ctrl-C and SIGTERM do the same.

    When COMMAND ends, the answer ends. Programs that COMMAND started may keep its output open; publish stops reading it
    half a second later. The exit status is that of COMMAND, or 128 + n if signal n ended it. If COMMAND failed, readers
    get an `error` event, and an unfinished message ends with the stop reason `error`.

    Input is UTF-8; a byte order mark at its beginning is skipped. With --idle-timeout, publish stops reading when the
    input has brought no byte for that long: readers get an `error` with the code `stalled`, an unfinished message ends
    with that stop reason, COMMAND is stopped, and the exit status is 1. Comments and pings of a provider count.

    A gateway without data_dir or engine_url loses the stream when it restarts. Unacknowledged events are sent
    again, acknowledged ones are lost; their number is printed on standard error, and the exit status is 1.

    The stream stays open for the next answer unless --close is given.
    """
    if generation is not None and producer is None:
        raise click.UsageError("--generation needs --producer: generations belong to a producer id")
    if inline_thinking and form not in TRANSLATORS:
        raise click.UsageError(f"--inline-thinking needs a provider's --format: {', '.join(TRANSLATORS)}")
    with wrong_arguments_told():
        publisher = Publisher(
            url,
            stream,
            producer=producer,
            generation=generation or 0,
            on_full=on_full,
            retry_for=patience.retry_for,
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
                until_alone=until_alone,
                idle_timeout=idle_timeout,
                inline_thinking=inline_thinking,
            )
            status = await (publication.publish_output(command) if command else publication.publish_stdin())
            if close:
                await publisher.close_stream()
        publication.look_for_losses()
        if sys.stderr.isatty():
            say(f"{publication.sent} events published, the last one as seq {publisher.seq}")
        return status or (Status.FAILED if publication.refused or publication.lost else Status.DONE)

    return asyncio.run(run())
