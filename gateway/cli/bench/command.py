"""`deltawire bench`: how fast a running gateway is, seen from here."""

from __future__ import annotations

import asyncio
import resource
import sys
from ssl import SSLContext

import click
import msgspec

from deltawire.gateway.cli.bench.run import BenchRun, Load
from deltawire.gateway.cli.credentials import GivenToken, token_options
from deltawire.gateway.cli.ending import Failure, Status, say, wrong_arguments_told
from deltawire.gateway.cli.loop import new_event_loop
from deltawire.gateway.cli.options import FiniteRange, Parsed, WholeRange, examples, url_argument
from deltawire.gateway.cli.reconnecting import Patience, patience_option
from deltawire.gateway.cli.trust import tls_options
from deltawire.protocol.addresses import MAX_STREAM_ID, check_stream_id

DESCRIPTORS = 64
"""Descriptors that are no connections to the gateway."""
MAX_PREFIX = MAX_STREAM_ID - len("-01234567-1000")
"""Characters of a prefix: the id of a stream goes on with the run and the number of the producer."""


def _parse_prefix(text: str) -> str:
    if len(text) > MAX_PREFIX:
        raise ValueError(f"expected at most {MAX_PREFIX} characters, got {len(text)}")
    return check_stream_id(text)


PREFIX = Parsed("stream", _parse_prefix)


@click.command(
    "bench",
    epilog=examples(
        "deltawire bench",
        "deltawire bench wss://gateway.example.org --token-file token",
        "deltawire bench ws://gateway:8765 --producers 50 --consumers 10 --rate 20 --seconds 30 --json",
    ),
)
@url_argument
@click.option("--producers", type=WholeRange(1, 1000), default=4, show_default=True, help="Each has a stream.")
@click.option("--consumers", type=WholeRange(0, 1000), default=4, show_default=True, help="Of each stream.")
@click.option(
    "--rate",
    type=FiniteRange(0, 100_000),
    default=50,
    show_default=True,
    help="Deltas (tokens) per second of each producer; 0 sends as many as the gateway acks.",
)
@click.option(
    "--seconds", type=FiniteRange(0, 3600, min_open=True), default=5, show_default=True, help="How long to publish."
)
@click.option(
    "--prefix",
    type=PREFIX,
    default="bench",
    show_default=True,
    help="What the ids of the streams begin with: the token has to allow them.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@patience_option
@tls_options
@token_options
def command(  # noqa: PLR0913 - one argument an option
    *,
    url: str,
    patience: Patience,
    producers: int,
    consumers: int,
    rate: float,
    seconds: float,
    prefix: str,
    as_json: bool,
    tls: SSLContext | None,
    token: GivenToken,
) -> int:
    """Measure how fast the gateway at URL is, from here.

    Without URL, it is the gateway of DELTAWIRE_URL, or ws://127.0.0.1:8765.

    Producers publish as models do, each to a stream of its own, and consumers follow. What is printed: how long
    connecting takes, events and deliveries per second, the latency from sending an event to its arrival, and how many
    events were lost, which must be 0. The exit status is 1 if any were, or if a text came altered.

    The load is small unless you ask for more. The streams are new ones, and are closed at the end; the gateway frees
    them after its setting closed_retention.

    The client is this one process, on one core. It says when it may have been slower than the gateway.
    """
    load = Load(producers=producers, consumers=consumers, rate=rate, seconds=seconds, prefix=prefix)
    _check_descriptors(load.connections)
    if sys.stderr.isatty():
        say(f"{load.connections} connections to {url}, for {seconds:g} s")
    with wrong_arguments_told(), asyncio.Runner(loop_factory=new_event_loop) as runner:
        report = runner.run(BenchRun(url, load, token, tls, patience).run())
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        click.echo("\n".join(report.lines()))
    for doubt in report.doubts():
        say(f"warning: {doubt}")
    return Status.DONE if report.is_whole else Status.FAILED


def _check_descriptors(connections: int) -> None:
    """See that the system lets this process have so many connections.

    Raises:
        Failure: it does not.
    """
    wanted = connections + DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise Failure(
            f"{connections} connections take more files than this process may open ({hard}): "
            "ask for fewer, or raise the limit with `ulimit -n`"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
