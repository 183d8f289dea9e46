"""What a proxy counts, and how it says so (`/deltawire/metrics`)."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4


class Tally:
    """The counts of one proxy."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self.running = Gauge("deltawire_proxy_requests", "Requests now, detached ones included", registry=registry)
        self.endings = Gauge(
            "deltawire_proxy_ending_answers",
            "Ended answers that wait for the gateway",
            registry=registry,
        )
        self.requests = Counter(
            "deltawire_proxy_requests_ended", "Requests by status; 0 without an answer", ["status"], registry=registry
        )
        self.answers = Counter("deltawire_proxy_answers", "Answers that went to a stream as well", registry=registry)
        self.cancelled = Counter("deltawire_proxy_cancelled", "Answers that a reader cancelled", registry=registry)
        self.left = Counter(
            "deltawire_proxy_callers_left", "Callers who left before the end of their answer", registry=registry
        )
        self.stalled = Counter(
            "deltawire_proxy_callers_stalled",
            "Callers cut off, who took nothing of their answer",
            registry=registry,
        )
        self.failed = Counter(
            "deltawire_proxy_upstream_failed", "Answers that the upstream broke off", registry=registry
        )
        self.dropped = Counter(
            "deltawire_proxy_dropped_chunks", "Chunks of which readers did not get everything", registry=registry
        )
        self.lost = Counter(
            "deltawire_proxy_lost_events", "Events that the gateway lost after it had acked them", registry=registry
        )

    def render(self) -> bytes:
        """The counts in Prometheus' text format."""
        return generate_latest(self._registry)
