"""What a connection leaves behind: counts, a line in the log when it begins and one when it ends."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from websockets.protocol import Protocol

from deltawire.gateway.logs import get_logger
from deltawire.gateway.metrics.tally import NO_CLOSE, Tally
from deltawire.protocol.codes import ProblemCode

Role = Literal["consumer", "producer"]

_log = get_logger()


class Record:
    """The record of one connection.

    Args:
        tally: where it is counted.

    Attributes:
        role: what the peer is; None until it is admitted.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._who: dict[str, Any] = {}
        self._opened_at = 0.0
        self._why = ""
        self._gave_up = False
        self._has_failed = False
        self.role: Role | None = None

    @cached_property
    def log(self) -> Any:
        """A logger whose lines say whose they are; made when there is something to say."""
        return _log.bind(**self._who)

    def opened(self, role: Role, now: float, **who: str) -> None:
        """It was admitted.

        Args:
            role: of the peer.
            now: monotonic seconds.
            who: what every line about it says.
        """
        self.role = role
        self._opened_at = now
        self._who = who
        self._tally.connections[role] += 1

    def told(self, code: ProblemCode) -> None:
        """The peer is told of a problem."""
        self._tally.problems[code] += 1

    def ending(self, why: str, *, by_abort: bool = False) -> None:
        """The gateway ends it; the first reason stands."""
        self._why = self._why or why
        self._gave_up = self._gave_up or by_abort

    def failed(self) -> bool:
        """The gateway itself failed on it, with an exception that is being handled.

        Returns:
            Whether it was the first time: a connection that is broken may fail in every callback, which nobody reads.
        """
        is_first = not self._has_failed
        self._has_failed = True
        self._tally.faults += is_first
        if is_first:
            self.log.error("connection.failed", exc_info=True)  # noqa: LOG014 - its callers handle one
        return is_first

    def ended(self, protocol: Protocol, now: float, account: dict[str, int]) -> None:
        """It is over.

        Args:
            protocol: its close frames.
            now: monotonic seconds.
            account: what it had of its stream, or brought.
        """
        if self.role is None:
            return
        code, by_gateway = self._closing(protocol)
        self._tally.closed(code, by_gateway=by_gateway)
        received = protocol.close_rcvd
        facts: dict[str, Any] = {"code": code, "by": "gateway" if by_gateway else "peer"}
        if why := self._why or (received.reason if received else ""):
            facts["why"] = why
        facts |= account
        facts["seconds"] = round(now - self._opened_at, 3)
        if self.role == "consumer":
            self.log.info("consumer.ended", **facts)
        else:
            self.log.info("producer.ended", **facts)

    def _closing(self, protocol: Protocol) -> tuple[int, bool]:
        """The close code, and whether the gateway closed."""
        sent, received = protocol.close_sent, protocol.close_rcvd
        if sent is not None and not (received is not None and protocol.close_rcvd_then_sent):
            return int(sent.code), True
        if received is not None:
            return int(received.code), False
        return NO_CLOSE, self._gave_up
