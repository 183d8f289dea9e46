"""Ending the messages that lost producers left in progress: an error event, then the `message_stop` (SPEC §7.5)."""

from __future__ import annotations

from collections.abc import Sequence

from deltawire.gateway.streams.producers import Writer
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.events import Data, Error, MessageStop

LOST = "the producer was lost and did not come back within {lease:g} s"
ABANDONED = "the producer connected again and began another message without finishing this one"


def end_lost(stream: Stream, timestamp: str, now: float, lease: float) -> list[str]:
    """End the messages whose producers were lost and did not come back in time.

    Args:
        stream: that they are on.
        timestamp: RFC 3339 with a zone.
        now: monotonic seconds.
        lease: seconds they had, for the message to readers.

    Returns:
        The ids of these messages.
    """
    if stream.is_closed:
        return []
    lost = stream.leases.expire(now)
    _end(stream, lost, LOST.format(lease=lease), timestamp, now)
    return lost


def end_abandoned(stream: Stream, data: Data, writer: Writer, timestamp: str, now: float) -> None:
    """End the messages that a returned producer abandons with the event it is about to append.

    Args:
        stream: that they are on.
        data: of that event.
        writer: of its connection.
        timestamp: RFC 3339 with a zone, of the events that end these messages.
        now: monotonic seconds.
    """
    if not stream.is_closed:
        _end(stream, stream.leases.resume(writer, data), ABANDONED, timestamp, now)


def _end(stream: Stream, message_ids: Sequence[str], why: str, timestamp: str, now: float) -> None:
    stream.recount()
    if message_ids and stream.screen is not None:
        stream.screen.finish(now)
    for message_id in message_ids:
        stream.append(Error(error=why, code="producer_lost"), timestamp, now)
        stream.append(MessageStop(message_id=message_id, stop_reason="producer_lost"), timestamp, now)
