"""The latency of a channel: how long events take through it, and the time between the tokens of an answer.

It is measured after a flush, however many events and consumers the flush had, and at most once per `INTERVAL`: a
measurement stands for all events since the previous one. With many streams, most are measured only when a message
begins or ends: one stream in eight says as much about the gateway, and measuring adds to the cost of every token.
"""

from __future__ import annotations

from math import inf

from deltawire.gateway.metrics.tally import Tally
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.events import EventType

INTERVAL = 0.001
"""Seconds between two measurements of a stream: finer than any reader can notice, and at thousands of events a second
only one in many is measured."""

FEW_STREAMS = 64
"""Streams up to which all are measured in full."""

SAMPLED = 8
"""Beyond `FEW_STREAMS`, one stream in this many is measured in full."""

FOLLOWED = 256
"""Newest events of a flush that are gone through one by one. Only a flood has more in a flush; where a stream is not
measured in full, those before were flushed long ago."""


class LatencyMeter:
    """Measures the latency of one stream, for one of its channels.

    When to measure again is kept by the stream: a channel that was replaced may be flushed once more, and must not
    count again what its successor has counted.

    Args:
        stream: the stream to measure.
        number: number of channels when this one was made.
    """

    __slots__ = ("_asked_at", "_head", "_interval", "_stream", "_token_at")

    def __init__(self, stream: Stream, number: int = 0) -> None:
        self._stream = stream
        self._interval = INTERVAL if number <= FEW_STREAMS or number % SAMPLED == 0 else inf
        self._head = stream.log.head  # at the last measurement
        self._asked_at: float | None = None  # when a message began that has no token yet
        self._token_at: float | None = None  # when the last token of the message in progress was written

    def measure(self, tally: Tally, began: float, now: float) -> None:
        """Measure a flush.

        Args:
            tally: counts the measurement, if anybody follows the stream.
            began: earliest time at which the first of its events can have come, in monotonic seconds.
            now: monotonic seconds, after the flush.
        """
        stream = self._stream
        before, self._head = self._head, stream.log.head
        events = self._head - before
        heard_by = tally if stream.consumers else None
        if events and heard_by:
            heard_by.write_delay.observe(now - began, events)
        if not stream.measure_at:
            self._follow(heard_by, before, began, now)
        elif events and self._token_at is not None:
            if heard_by:
                heard_by.inter_token.observe((now - self._token_at) / events, events)
            self._token_at = now
        if self._asked_at is not None:
            stream.measure_at = 0.0
        else:
            stream.measure_at = now + self._interval
            if self._interval == inf:
                self._token_at = None  # the next measurement is not that of the next token

    def _follow(self, heard_by: Tally | None, before: int, began: float, now: float) -> None:
        """Go event by event through a flush in which a message begins or ends, or waits for its first token."""
        log = self._stream.log
        for kind in log.kinds(max(before, log.head - FOLLOWED, log.floor - 1), log.head):
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
