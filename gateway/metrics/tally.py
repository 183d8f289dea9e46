"""The tally: what happened in a gateway, in counts that only grow.

Events and deliveries are counted where they are accounted for, in `streams.log.Ledger`.
"""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus

from deltawire.gateway.metrics.histogram import Histogram
from deltawire.protocol.codes import CloseCode, ProblemCode

NO_CODE = 1005
"""RFC 6455 §7.4.1: a close frame without a code."""

NO_CLOSE = 1006
"""RFC 6455 §7.4.1: a connection that ended without a close frame."""

_KNOWN_CODES = frozenset({*CloseCode, NO_CODE, NO_CLOSE})
_KNOWN_STATUS = frozenset(HTTPStatus)


class Tally:
    """Counts and histograms of one hub and the gateway in front of it."""

    __slots__ = (
        "acks",
        "closes",
        "commit_seconds",
        "committed_bytes",
        "connections",
        "faults",
        "first_token",
        "inter_token",
        "loop_lag",
        "middleware_dropped",
        "middleware_failures",
        "problems",
        "received_bytes",
        "refused",
        "relay_failures",
        "relayed_bytes",
        "signals",
        "worker_restarts",
        "write_delay",
    )

    def __init__(self) -> None:
        self.received_bytes = 0
        self.acks = 0
        self.signals = 0
        self.faults = 0
        self.middleware_dropped = 0
        self.middleware_failures = 0
        self.worker_restarts = 0  # of processes that died in the place of this one
        self.connections: Counter[str] = Counter()  # accepted, by role
        self.problems: Counter[ProblemCode] = Counter()
        self.closes: Counter[tuple[str, ...]] = Counter()  # by code and by who closed
        self.refused: Counter[str] = Counter()  # by HTTP status
        milliseconds = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
        self.write_delay = Histogram(*milliseconds)
        self.inter_token = Histogram(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
        self.first_token = Histogram(0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
        self.relay_failures = 0
        self.relayed_bytes = Counter({"owner": 0, "client": 0})  # by whom they went to
        self.committed_bytes = 0
        self.commit_seconds = Histogram(*milliseconds)
        self.loop_lag = Histogram(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

    def closed(self, code: int, *, by_gateway: bool) -> None:
        """A connection ended; a code the protocol does not have counts as `other`, as peers may send any."""
        self.closes[str(int(code)) if code in _KNOWN_CODES else "other", "gateway" if by_gateway else "peer"] += 1

    def refuse(self, status: int) -> None:
        """A handshake was refused."""
        self.refused[str(int(status)) if status in _KNOWN_STATUS else "other"] += 1
