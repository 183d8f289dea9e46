"""The description of a stream that clients and programs get."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

if TYPE_CHECKING:
    from deltawire.gateway.streams.stream import Stream


class Counters(Struct):
    """What the policies did on a stream, in events (`disconnected`: in consumers)."""

    folded: int = 0
    dropped: int = 0
    evicted: int = 0
    disconnected: int = 0


class StreamInfo(Struct, frozen=True, kw_only=True):
    """A stream at one moment (SPEC §9).

    Attributes:
        id: the stream id.
        epoch: of its log.
        head: newest seq.
        floor: oldest seq that can be read.
        events: number of events that can be read.
        bytes: what the events in memory cost.
        consumers: subscriptions now.
        producers: publishing connections now.
        closed: whether it has ended.
        created_at: RFC 3339.
        last_active_at: of the last event, consumer or producer; RFC 3339.
        counters: what the policies did.
        stored_bytes: what the stored events cost; 0 where none are stored.
    """

    id: str
    epoch: str
    head: int
    floor: int
    events: int
    bytes: int
    consumers: int
    producers: int
    closed: bool
    created_at: str
    last_active_at: str
    counters: Counters
    stored_bytes: int = 0


def describe(stream: Stream, format_time: Callable[[float], str]) -> StreamInfo:
    """Describe a stream at this moment.

    Args:
        stream: to be described.
        format_time: converts monotonic seconds to RFC 3339.
    """
    log, floor = stream.log, stream.floor
    return StreamInfo(
        id=stream.id,
        epoch=stream.epoch,
        head=log.head,
        floor=floor,
        events=log.head - floor + 1,
        bytes=log.bytes,
        stored_bytes=stream.stored_bytes,
        consumers=stream.consumers,
        producers=stream.publishing,
        closed=stream.is_closed,
        created_at=format_time(stream.created_at),
        last_active_at=format_time(stream.last_active_at),
        counters=replace(stream.counters),
    )
