"""`deltawire export`: write the events of streams to a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from ssl import SSLContext

import click
import msgspec
from msgspec import Struct

from deltawire.gateway.cli.asking import NO_GATEWAY, Asker, Refusal, decode
from deltawire.gateway.cli.credentials import GivenToken, token_options
from deltawire.gateway.cli.ending import Failure, say
from deltawire.gateway.cli.exported import ExportedStream
from deltawire.gateway.cli.options import STREAM_ID, examples, url_option
from deltawire.gateway.cli.printable import escape_json
from deltawire.gateway.cli.reconnecting import Patience, Unanswered, patience_option
from deltawire.gateway.cli.trust import tls_options
from deltawire.gateway.cli.whole_file import written_whole
from deltawire.protocol.addresses import MAX_EVENTS
from deltawire.protocol.codec import Sequenced
from deltawire.protocol.messages import Gap


@click.command(
    "export",
    epilog=examples(
        "deltawire export demo > demo.ndjson",
        "deltawire export --all --output streams.ndjson",
        "deltawire export demo | deltawire import --url ws://elsewhere:8765",
    ),
)
@click.argument("streams", nargs=-1, type=STREAM_ID, metavar="STREAM…")
@click.option("--all", "everything", is_flag=True, help="Export all streams that the token may see.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write to this file, which only you can read, and only when all is written; default: standard output.",
)
@patience_option
@url_option
@tls_options
@token_options
def command(  # noqa: PLR0913 - one argument an option
    *,
    streams: tuple[str, ...],
    everything: bool,
    output: Path | None,
    url: str,
    patience: Patience,
    tls: SSLContext | None,
    token: GivenToken,
) -> None:
    """Write the events of STREAM as lines of JSON, which `deltawire import` reads.

    A line that describes the stream comes first: its id, epoch, floor, head, and whether it is closed. Then come its
    events as the gateway sends them, up to the head that the stream has now. The export of an open stream does not wait
    for more. Events that the gateway no longer holds are named by a line of the type `gap`, and on standard error.

    After a lost connection the export goes on where it was. The exit status is 1 if the stream is lost meanwhile.

    To keep everything that a gateway stores, with epochs, producers and settings, use `deltawire backup`.
    """
    if bool(streams) is everything:
        raise click.UsageError("say which streams: their ids, or --all")
    asker = Asker(url, token, tls)
    with ExitStack() as files:
        file = None if output is None else files.enter_context(written_whole(output))
        export = Export(asker, patience, _print if file is None else file.write)
        named = streams or [str(info.get("id")) for info in patience.insist(asker.list_streams)]
        export.run(named, skips_absent=everything)
    sys.stdout.buffer.flush()
    if sys.stderr.isatty():
        say(f"{export.events} events exported")


def _print(line: bytes) -> None:
    sys.stdout.buffer.write(escape_json(line.decode()).encode() if sys.stdout.isatty() else line)


class Export:
    """Writes streams, event by event.

    Args:
        asker: asks the gateway.
        patience: waits for it.
        write: takes whole lines.

    Attributes:
        events: written so far.
    """

    def __init__(self, asker: Asker, patience: Patience, write: Callable[[bytes], object]) -> None:
        self.events = 0
        self._asker = asker
        self._write = write
        self._patience = patience

    def run(self, streams: Sequence[str], *, skips_absent: bool) -> None:
        """Write some streams.

        Args:
            streams: their ids.
            skips_absent: whether a stream that does not exist (any more) is skipped.

        Raises:
            Failure: one could not be written.
        """
        for stream in streams:
            try:
                found = self._describe(stream)
            except Refusal as refusal:
                if not (refusal.is_not_found and skips_absent):
                    raise
            else:
                self._write_line(found)
                self._write_events(found)

    def _write_line(self, line: Struct) -> None:
        self._write(msgspec.json.encode(line) + b"\n")

    def _write_events(self, stream: ExportedStream) -> None:
        last = 0
        while last < stream.head:
            before = last
            try:
                for line in self._asker.read_events(stream.id, last, min(MAX_EVENTS, stream.head - last)):
                    seq = decode(line, Sequenced).seq
                    if not last < seq <= stream.head:
                        raise Failure(f"{NO_GATEWAY}: event {seq} follows event {last} of {stream.head}")
                    self._write_gap(stream, last + 1, seq - 1)
                    self._write(line + b"\n")
                    last = seq
                    self.events += 1
            except Unanswered as failure:
                if last > before:
                    self._patience.progressed()
                self._patience.wait_after(failure)
                continue
            self._patience.progressed()
            if last == before:  # nothing is left of what should come
                upto = min(self._describe_again(stream).floor - 1, stream.head)
                if upto <= last:
                    raise Failure(
                        f"stream {stream.id!r}: the gateway has events after event {last} of {stream.head}, and does "
                        "not send them: its log may say why"
                    )
                self._write_gap(stream, last + 1, upto)
                last = upto
        self._describe_again(stream)

    def _write_gap(self, stream: ExportedStream, first: int, last: int) -> None:
        if first <= last:
            say(f"stream {stream.id!r}: the gateway no longer has events {first} to {last}: the export lacks them")
            self._write_line(Gap(first=first, seq=last, reason="evicted"))

    def _describe(self, stream: str) -> ExportedStream:
        info = self._patience.insist(partial(self._asker.describe, stream))
        return ExportedStream(
            id=stream,
            epoch=info.epoch,
            floor=info.floor,
            head=info.head,
            closed=info.closed,
            created_at=info.created_at,
        )

    def _describe_again(self, stream: ExportedStream) -> ExportedStream:
        """The stream as it is now.

        Raises:
            Failure: it has another log than before, and what was written may be of both.
        """
        found = self._describe(stream.id)
        if found.epoch != stream.epoch:
            raise Failure(f"stream {stream.id!r} was lost and began anew while it was exported: export it again")
        return found
