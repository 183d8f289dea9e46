"""The pace of a channel: how long events take through it, and what lies between the tokens of an answer.

Measured after a flush, however many events and consumers it had, and not more than once in `INTERVAL`: what is
measured stands for the events since the last time. Where there are many streams, most are looked at only when a message
begins or ends: one in eight of them says as much about the gateway, and measuring is a part of what a token costs.
"""

from __future__ import annotations

from math import inf

from deltawire.gateway.metrics.tally import Tally
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.events import EventType

INTERVAL = 0.001
"""Seconds between two measurements of a stream: finer than any reader can tell, and a stream of thousands of events a
second pays for one in many."""

FEW_STREAMS = 64
"""Streams up to which all are measured in full."""

SAMPLED = 8
"""Of more streams than that, one in so many is."""


class LatencyMeter:
    """What was measured of one stream so far.

    Args:
        stream: what is measured.
        number: of streams followed when this one came.

    Attributes:
        due_at: monotonic seconds; a flush of what came from then on is to be measured.
        boundaries: those of the stream when it was last measured; it is to be measured when they are others.
    """

    __slots__ = ("_asked_at", "_head", "_interval", "_stream", "_token_at", "boundaries", "due_at")

    def __init__(self, stream: Stream, number: int = 0) -> None:
        self._stream = stream
        self._interval = INTERVAL if number <= FEW_STREAMS or number % SAMPLED == 0 else inf
        self._head = stream.log.head  # when it was last measured
        self.boundaries = -1  # of messages, likewise: the first flush is measured whole
        self.due_at = 0.0  # monotonic seconds
        self._asked_at: float | None = None  # when the message began whose first token is yet to come
        self._token_at: float | None = None  # when the last token of the message in progress was written

    def measure(self, tally: Tally, began: float, now: float) -> None:
        """Measure a flush.

        Args:
            tally: where it is counted, if anybody follows the stream.
            began: monotonic seconds when the first of its events can have come.
            now: monotonic seconds, after it.
        """
        stream = self._stream
        before, self._head = self._head, stream.log.head
        events = self._head - before
        heard_by = tally if stream.consumers else None
        if events and heard_by:
            heard_by.write_delay.observe(now - began, events)
        if not self.due_at or self.boundaries != stream.boundaries:
            self.boundaries = stream.boundaries
            self._follow(heard_by, before, began, now)
        elif events and self._token_at is not None:
            if heard_by:
                heard_by.inter_token.observe((now - self._token_at) / events, events)
            self._token_at = now
        self.due_at = now + self._interval if self._asked_at is None else 0.0

    def _follow(self, heard_by: Tally | None, before: int, began: float, now: float) -> None:
        """Go event by event through a flush in which a message begins or ends, or waits for its first token."""
        log = self._stream.log
        for kind in log.kinds(max(before, log.floor - 1), log.head):
            if kind.type is EventType.MESSAGE_START:
                self._asked_at, self._token_at = began, None
            elif kind.type is EventType.MESSAGE_STOP:
                self._asked_at = self._token_at = None
            elif kind.is_delta and self._asked_at is not None:
                if heard_by:
                    heard_by.first_token.observe(now - self._asked_at)
                self._asked_at, self._token_at = None, now
            elif self._token_at is not None:
                if heard_by:
                    heard_by.inter_token.observe(now - self._token_at)
                self._token_at = now
