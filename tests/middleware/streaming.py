"""A stream with middleware, without a loop."""

from __future__ import annotations

from deltawire.gateway.middleware.screen import Screen
from deltawire.gateway.middleware.stage import Plan
from deltawire.gateway.streams.log import Ledger
from deltawire.gateway.streams.producers import Writer
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.codec import decode_event
from deltawire.protocol.events import Data, MessageStop, TextDelta
from deltawire.protocol.framing import payload_start

STAMP = "2026-11-22T11:00:00Z"


class Screened:
    """A stream behind some stages, and what its middleware tells.

    Attributes:
        stream: the stream.
        screen: its middleware.
        released: writers and seqs of events that were held back.
        reasons: why such events were dropped.
        failures: names of stages that failed, and the types of their errors.
        dropped: events of which nothing became.
    """

    def __init__(self, *plans: Plan, stream: Stream | None = None) -> None:
        self.ledger = Ledger()
        self.stream = stream or Stream("demo", "e", StreamSettings(), 0.0, self.ledger)
        self.released_: list[tuple[str | None, int]] = []
        self.reasons: list[str] = []
        self.failures: list[tuple[str, str]] = []
        self.dropped_ = 0
        self.screen = Screen(self.stream, plans, 0.25, self)
        self.stream.screen = self.screen

    def released(self, _: Stream, writer: Writer, seq: int, why: str) -> None:
        self.released_.append((writer.id, seq))
        self.reasons += [why] if why else []

    def failed(self, _: Stream, plan: Plan, error: Exception) -> None:
        self.failures.append((plan.name, type(error).__name__))

    def dropped(self) -> None:
        self.dropped_ += 1

    def send(self, *events: Data | str, now: float = 0.0, writer: Writer | None = None) -> list[int | None]:
        """Send events, a text as a delta."""
        return [self.screen.take(TextDelta(it) if isinstance(it, str) else it, STAMP, now, writer) for it in events]

    def read(self) -> list[Data]:
        """The events appended, without digests."""
        log = self.stream.log
        frames = log.frames(log.floor - 1, log.head) if log.head >= log.floor else ()
        events = [decode_event(frame[payload_start(frame) :]) for frame in frames]
        return [
            MessageStop(it.message_id, it.stop_reason, it.choice) if isinstance(it, MessageStop) else it
            for it in events
        ]

    def text(self) -> str:
        """The text appended."""
        return "".join(it.text for it in self.read() if isinstance(it, TextDelta))
