"""The pace of a channel: how long events take through it, and what lies between the tokens of an answer.

Measured once a flush, however many events and consumers it had.
"""

from __future__ import annotations

from time import monotonic

from gateway.metrics.tally import Tally
from gateway.streams.stream import Stream
from protocol.events import EventType


class Pace:
    """What was measured of one stream so far.

    Args:
        stream: what is measured.
    """

    __slots__ = ("_asked_at", "_boundaries", "_stream", "_token_at", "head")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.head = stream.log.head  # of the last flush
        self._boundaries = stream.boundaries
        self._asked_at: float | None = None  # when the message began whose first token is yet to come
        self._token_at: float | None = None  # when the last token of the message in progress was written

    def flushed(self, tally: Tally, began: float) -> None:
        """Measure a flush that had events.

        Args:
            tally: where it is counted.
            began: monotonic seconds when the first of the events can have come.
        """
        stream = self._stream
        before, self.head = self.head, stream.log.head
        events = self.head - before
        stream.log.ledger.appended += events
        if not stream.consumers:
            self._asked_at = self._token_at = None
            self._boundaries = stream.boundaries
            return
        now = monotonic()
        tally.write_delay.observe(now - began, events)
        if self._boundaries != stream.boundaries or self._asked_at is not None:
            self._follow(tally, before, began, now)
        elif self._token_at is not None:
            tally.inter_token.observe(now - self._token_at)
            self._token_at = now
            if events > 1:
                tally.inter_token.observe(0.0, events - 1)

    def _follow(self, tally: Tally, before: int, began: float, now: float) -> None:
        """Measure a flush in which a message begins or ends, or waits for its first token: event by event."""
        log = self._stream.log
        self._boundaries = self._stream.boundaries
        for kind in log.kinds(max(before, log.floor - 1), log.head):
            if kind.type is EventType.MESSAGE_START:
                self._asked_at, self._token_at = began, None
            elif kind.type is EventType.MESSAGE_STOP:
                self._asked_at = self._token_at = None
            elif kind.is_delta and self._asked_at is not None:
                tally.first_token.observe(now - self._asked_at)
                self._asked_at, self._token_at = None, now
            elif self._token_at is not None:
                tally.inter_token.observe(now - self._token_at)
                self._token_at = now
