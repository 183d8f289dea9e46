"""`deltawire import`: publish what `deltawire export` wrote."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from shutil import copyfileobj
from ssl import SSLContext
from tempfile import TemporaryFile
from typing import IO, Final, NamedTuple, TypeAlias

import click
from msgspec import UNSET

from deltawire.gateway.cli.asking import Asker, Refusal
from deltawire.gateway.cli.credentials import GivenToken, token_options
from deltawire.gateway.cli.ending import Failure, say, wrong_arguments_told
from deltawire.gateway.cli.exported import MAX_LINE, BadExport, ExportedStream, read_export
from deltawire.gateway.cli.options import STREAM_ID, examples, url_option
from deltawire.gateway.cli.reconnecting import Patience, patience_option
from deltawire.gateway.cli.trust import tls_options
from deltawire.gateway.client import EventRefused, Publisher
from deltawire.gateway.config import MIB
from deltawire.protocol.events import Event

WINDOW: Final = 1024
"""Maximum number of unacked events."""

Lines: TypeAlias = Callable[[], Iterator[bytes]]
"""The lines of a file, from its first one each time."""


class Found(NamedTuple):
    """A stream in the file.

    Attributes:
        stream: what the export says of it.
        events: how many it has.
        target: id of the stream to publish to.
    """

    stream: ExportedStream
    events: int
    target: str


@click.command(
    "import",
    epilog=examples(
        "deltawire import demo.ndjson",
        "deltawire import demo.ndjson --stream demo-2",
        "deltawire export demo | deltawire import --url ws://elsewhere:8765",
    ),
)
@click.argument("file", type=click.File("rb"), default="-", metavar="[FILE]")
@click.option("--stream", type=STREAM_ID, help="Publish to this stream; default: the one that was exported.")
@patience_option
@url_option
@tls_options
@token_options
def command(  # noqa: PLR0913 - one argument an option
    *,
    file: IO[bytes],
    stream: str | None,
    url: str,
    patience: Patience,
    tls: SSLContext | None,
    token: GivenToken,
) -> None:
    """Publish what `deltawire export` wrote to FILE, or to standard input.

    The whole file is checked first: nothing is published of a file that has a bad line or was cut off. Then each event
    is published once, in order and with its timestamp, and the stream is closed if the exported one was. A stream that
    has events already, or is closed, is refused. The token must allow to publish and to subscribe.

    Some things are not kept. The gateway gives the stream a new epoch, and numbers its events from 1, also where the
    export lacks events. Producers, policy and buffer of the stream are not exported. A message that the export leaves
    without an end is ended as `producer_lost` when the gateway's `lease` is over. What exceeds the retention of the
    gateway is evicted.
    """
    if file.isatty():
        say("reading from the keyboard; Ctrl-D on an empty line ends the input")
    asker = Asker(url, token, tls)
    with _readable_twice(file) as lines:
        found = _check(lines(), stream)
        for it in found:
            patience.insist(partial(_refuse_used, asker, it.target))
        events = ((number, item) for number, item in read_export(lines()) if isinstance(item, Event))
        for it in found:
            with wrong_arguments_told():
                publisher = Publisher(
                    url,
                    it.target,
                    window=WINDOW,
                    max_message=MIB,  # what the gateway accepts, it says itself
                    retry_for=patience.retry_for,
                    on_reconnect=patience,
                    token=token,
                    tls=tls,
                )
            asyncio.run(_publish(publisher, it, islice(events, it.events)))
            _tell_what_is_missing(it, patience.insist(partial(asker.describe, it.target)).floor)


@contextmanager
def _readable_twice(file: IO[bytes]) -> Iterator[Lines]:
    """A file's lines; a pipe is copied to a temporary file first."""
    with TemporaryFile() as copy:
        if not file.seekable():
            try:
                copyfileobj(file, copy)
            except OSError as error:
                raise Failure(f"the copy of the input in the folder for temporary files: {error.strerror}") from None
            file = copy
        start = 0 if file is copy else file.tell()

        def lines() -> Iterator[bytes]:
            file.seek(start)
            return iter(partial(file.readline, MAX_LINE + 1), b"")

        yield lines


def _check(lines: Iterator[bytes], wanted: str | None) -> list[Found]:
    """What a file has.

    Args:
        lines: of the file.
        wanted: id of the stream to publish to; None publishes to the one that was exported.

    Raises:
        BadExport: the file can't be imported.
    """
    streams: dict[str, ExportedStream] = {}
    events: Counter[str] = Counter()
    latest = ""
    for number, item in read_export(lines):
        if isinstance(item, Event):
            events[latest] += 1
            continue
        latest = item.id
        if latest in streams:
            raise BadExport(number, f"stream {latest!r} is in the file twice: remove one of them")
        if wanted is not None and streams:
            raise BadExport(number, "a second stream begins here, and --stream is for a file with one")
        streams[latest] = item
    return [Found(stream, events[id_], wanted or id_) for id_, stream in streams.items()]


def _refuse_used(asker: Asker, target: str) -> None:
    """Refuse a stream to which nothing can be published, or whose events would be mixed with those of the file."""
    try:
        info = asker.describe(target)
    except Refusal as refusal:
        if refusal.is_not_found:
            return
        raise
    if info.head:
        raise Failure(f"stream {target!r} has {info.head} events already: name another with --stream")
    if info.closed:
        raise Failure(f"stream {target!r} is closed: name another with --stream")


async def _publish(publisher: Publisher, found: Found, events: Iterator[tuple[int, Event]]) -> None:
    """Publish the events of one stream, and close it if the exported one was closed.

    Args:
        publisher: not yet connected.
        found: the stream.
        events: with the numbers of their lines.

    Raises:
        Failure: the stream has not become what was exported.
        ClientError: publishing is no longer possible.
    """
    lines: deque[int] = deque(maxlen=WINDOW + 1)  # of the events that may still be refused
    sent = 0
    try:
        async with publisher:
            for line, event in events:
                lines.append(line)
                sent += 1
                await publisher.send(event)
            await publisher.flush()
            if publisher.lost:
                raise Failure(f"the gateway lost stream {found.target!r} meanwhile: import it again")
            if publisher.seq != sent:
                raise Failure(f"others published to stream {found.target!r} meanwhile: import into another (--stream)")
            if found.stream.closed:
                await publisher.close_stream()
    except EventRefused as error:
        number = error.problem.producer_seq
        line = lines[-1 - (0 if number is UNSET else sent - number)]
        raise BadExport(
            line, f"{error}; stream {found.target!r} has only a part: import into another (--stream)"
        ) from None
    if sys.stderr.isatty():
        say(f"{sent} events imported into stream {found.target!r}")


def _tell_what_is_missing(found: Found, floor: int) -> None:
    """Say which events the stream does not have, and why.

    Args:
        found: what was imported.
        floor: seq of the oldest event that the gateway has of it.
    """
    if missing := found.stream.head - found.events:
        say(f"stream {found.target!r}: {missing} events are not in the export; the others are numbered from 1")
    if evicted := min(floor - 1, found.events):
        say(
            f"stream {found.target!r}: the gateway has evicted the first {evicted} events again: its retention_events, "
            "retention_bytes or retention_age is too small for all"
        )
