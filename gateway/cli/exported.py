"""What `deltawire export` writes, and how it is read and checked: pure.

    {"type":"stream","format":1,"id":"demo","epoch":"948aebae3bdf98f0","floor":3,"head":90,"closed":true,"created_at":…}
    {"type":"gap","first":1,"seq":2,"reason":"evicted"}
    {"type":"text_delta","seq":3,"timestamp":…,"data":{"text":"Hello"}}
    …

One line describes a stream; its events follow as the gateway sends them, each seq up to `head` as an event or in a gap.
A file may have several streams, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

import msgspec
from msgspec import UNSET, Struct

from deltawire.gateway.cli.publish.sources import without_gateways_part
from deltawire.protocol.addresses import check_stream_id
from deltawire.protocol.codec import JSON
from deltawire.protocol.errors import DeltawireError, WireError
from deltawire.protocol.events import Count, Event, Seq
from deltawire.protocol.messages import Gap
from deltawire.protocol.reasons import DECODE_ERRORS

FORMAT: Final = 1
"""Version of the format; a change that older programs would misread gets another."""

MAX_LINE: Final = 8 * 1024 * 1024
"""Maximum bytes of a line: a producer's event has at most 1 MiB, and escaping it all makes six of one."""


class ExportedStream(Struct, frozen=True, kw_only=True, tag="stream"):
    """The line that describes a stream.

    Attributes:
        format: version of the format.
        id: the stream id.
        epoch: of its log.
        floor: oldest seq that the gateway held when the export began.
        head: the newest then, and the last of the export.
        closed: whether the stream had ended.
        created_at: RFC 3339.
    """

    format: int = FORMAT
    id: str
    epoch: str
    floor: Seq
    head: Count
    closed: bool
    created_at: str


class BadExport(DeltawireError):  # noqa: N818 - the name says what it is
    """A line is not what `deltawire export` writes.

    Args:
        line: its number; that of the last line if lines are missing after it.
        reason: what is wrong, and what to do.
    """

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(line, reason)
        self.line = line
        self.reason = reason

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


Numbered: TypeAlias = tuple[int, ExportedStream | Event]

_decode_stream = msgspec.json.Decoder(ExportedStream).decode


def read_export(lines: Iterable[bytes]) -> Iterator[Numbered]:
    """Yield what an export has, with the numbers of the lines.

    Args:
        lines: at most `MAX_LINE` bytes of each are read.

    Yields:
        Each stream, followed by its events, without what its gateway added: the next gateway adds its own.

    Raises:
        BadExport: a line is none of an export, or does not follow from those before it.
    """
    number, stream, last = 0, None, 0
    for number, line in enumerate(lines, 1):
        match _decode(number, line):
            case ExportedStream() as found:
                _check_whole(number - 1, stream, last)
                stream, last = found, 0
                yield number, stream
            case _ if stream is None:
                raise BadExport(number, _NO_STREAM)
            case Gap(first=first, seq=seq) if first == last + 1 and last < seq <= stream.head:
                last = seq
            case Event(seq=seq, first=first) as event if first is UNSET and seq == last + 1 <= stream.head:
                last += 1
                yield number, without_gateways_part(event)
            case Event(seq=seq):
                raise BadExport(number, f"event {last + 1} of {stream.head} belongs here, not {seq}: {_AGAIN}")
            case _:
                raise BadExport(number, f"after event {last} of {stream.head} this is not the next one: {_AGAIN}")
    _check_whole(number, stream, last)
    if stream is None:
        raise BadExport(1, f"the file is empty: {_AGAIN}")


_AGAIN = "export the stream again"
_NO_STREAM = (
    "not of `deltawire export`, which begins with a line of the type `stream`; events alone are for `deltawire publish`"
)


def _decode(number: int, line: bytes) -> object:
    if len(line) > MAX_LINE:
        raise BadExport(number, f"longer than {MAX_LINE} bytes: {_AGAIN}")
    try:
        message = JSON.decode_to_consumer(line)
    except WireError as error:
        raise BadExport(number, f"{error.message}: {_AGAIN}") from None
    if message is not None:
        return message
    try:
        stream = _decode_stream(line)
        check_stream_id(stream.id)
    except DECODE_ERRORS as error:
        raise BadExport(number, f"{error}: {_AGAIN}") from None
    if stream.format != FORMAT:
        raise BadExport(number, f"format {stream.format} is unknown to this program, which reads {FORMAT}: use another")
    return stream


def _check_whole(number: int, stream: ExportedStream | None, last: int) -> None:
    if stream is not None and last < stream.head:
        raise BadExport(
            number, f"stream {stream.id!r} ends after event {last} of {stream.head}: it was cut off: {_AGAIN}"
        )
