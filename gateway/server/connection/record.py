"""The record of a connection: counts, and the logger for its lines, of which the last says how it ended."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from websockets.protocol import Protocol

from deltawire.gateway.logs import get_logger
from deltawire.gateway.metrics.tally import NO_CLOSE, Tally
from deltawire.protocol.codes import CloseCode, ProblemCode

Role = Literal["consumer", "producer", "relay"]

_log = get_logger()


class Record:
    """The record of one connection.

    Args:
        tally: counts it.

    Attributes:
        role: what the peer is; None until it is admitted.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._who: dict[str, Any] = {}
        self._opened_at = 0.0
        self._why = ""
        self._gave_up = False
        self._code: CloseCode | None = None
        self._has_failed = False
        self._is_brief = False
        self.role: Role | None = None

    @cached_property
    def log(self) -> Any:
        """A logger whose lines name the connection; made when it is first used."""
        return _log.bind(**self._who)

    def opened(self, role: Role, now: float, *, is_brief: bool = False, **who: str) -> None:
        """Record that the connection was admitted.

        Args:
            role: of the peer.
            now: monotonic seconds.
            is_brief: whether it is for one request, of which there may be as many as there are events.
            who: fields of every line about the connection.
        """
        self.role = role
        self._is_brief = is_brief
        self._opened_at = now
        self._who = who
        self._tally.connections[role] += 1

    def told(self, code: ProblemCode) -> None:
        """Count a problem that the peer is told."""
        self._tally.problems[code] += 1

    def ending(self, why: str, *, by_abort: bool = False) -> None:
        """Record why the gateway ends it; the first reason stands."""
        self._why = self._why or why
        self._gave_up = self._gave_up or by_abort

    def closing(self, code: CloseCode) -> None:
        """Record the code with which a connection ends that has no close frames."""
        self._code = code

    def failed(self) -> bool:
        """Record that the gateway failed on the connection, with the exception being handled.

        Returns:
            Whether it is the first time. Only that is logged: a broken connection may fail in every callback.
        """
        is_first = not self._has_failed
        self._has_failed = True
        self._tally.faults += is_first
        if is_first:
            self.log.error("connection.failed", exc_info=True)  # noqa: LOG014 - its callers handle one
        return is_first

    def ended(self, protocol: Protocol, now: float, account: dict[str, int]) -> None:
        """Count and log the end of the connection.

        Args:
            protocol: holds its close frames.
            now: monotonic seconds.
            account: how much it was sent, or published.
        """
        role, self.role = self.role, None
        if role is None:
            return
        if role == "relay":
            self._relay_ended(now, account)
            return
        code, by_gateway = self._closing(protocol)
        self._tally.closed(code, by_gateway=by_gateway)
        received = protocol.close_rcvd
        facts: dict[str, Any] = {"code": code, "by": "gateway" if by_gateway else "peer"}
        if why := self._why or (received.reason if received else ""):
            facts["why"] = why
        facts |= account
        facts["seconds"] = round(now - self._opened_at, 3)
        if self._is_brief:
            self.log.debug("upload.ended", **facts)
        elif role == "consumer":
            self.log.info("consumer.ended", **facts)
        else:
            self.log.info("producer.ended", **facts)

    def _relay_ended(self, now: float, account: dict[str, int]) -> None:
        """The same of a connection whose close frames were not parsed, unless one was written here."""
        facts: dict[str, Any] = {} if self._code is None else {"code": int(self._code)}
        if self._code is not None:
            self._tally.closed(self._code, by_gateway=True)
        if self._why:
            facts["why"] = self._why
        self.log.info("relay.ended", **facts, **account, seconds=round(now - self._opened_at, 3))

    def _closing(self, protocol: Protocol) -> tuple[int, bool]:
        """Return the close code, and whether the gateway ended the connection."""
        if self._code is not None:
            return int(self._code), True
        sent, received = protocol.close_sent, protocol.close_rcvd
        if sent is not None and not (received is not None and protocol.close_rcvd_then_sent):
            return int(sent.code), True
        if received is not None:
            return int(received.code), False
        return NO_CLOSE, self._gave_up
