"""Two sockets, each of which is sent what comes from the other one.

Neither is read while the other one's buffer is full, so that nothing piles up here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar, cast

from deltawire.gateway.server.connection.sending import CLOSE_TIMEOUT

WRITE_LIMIT: Final = 32 * 1024
"""Bytes in the write buffer of one side at which the other is not read, so that a lag stays in the cursor."""


class Relay:
    """A pair of sockets.

    Args:
        transport: of the peer.
        gone: called when both are gone.
        far: the side that leads to the stream, if it is connected already.
    """

    def __init__(self, transport: asyncio.Transport, gone: Callable[[Any], None], far: Side | None = None) -> None:
        self._gone = gone
        self.peer = Side()
        self.far = far or Side()
        for side in (self.peer, self.far):
            side.attach(self)
        transport.pause_reading()
        transport.set_protocol(self.peer)
        self.peer.connection_made(transport)

    def other(self, side: Side) -> Side:
        """The other side."""
        return self.far if side is self.peer else self.peer

    def received(self, side: Side, data: bytes) -> None:
        """Pass bytes on."""
        self.other(side).write(data)

    def ended(self, side: Side) -> None:
        """Pass on that a side sends no more."""
        other = self.other(side)
        if other.has_ended or other.is_lost:
            side.end()
        other.end_writing()

    def lost(self, side: Side) -> None:
        """End the other side: it gets what it was sent, for as long as a closing connection may take."""
        other = self.other(side)
        if side.is_lost and other.is_lost:
            self._gone(self)
        else:
            other.end()

    def abort(self) -> None:
        """Abort both sides."""
        for side in (self.peer, self.far):
            side.abort()


class Side(asyncio.Protocol):
    """One of the two.

    Attributes:
        has_ended: it sends no more.
        is_lost: its socket is gone.
    """

    def __init__(self) -> None:
        self._relay: Relay | None = None
        self._transport: asyncio.Transport | None = None
        self._is_ending = False
        self.has_ended = False
        self.is_lost = False

    def attach(self, relay: Relay) -> None:
        """Belong to a pair from now on."""
        self._relay = relay

    @property
    def unsent(self) -> int:
        """Bytes that it has yet to take."""
        return 0 if self._transport is None or self.is_lost else self._transport.get_write_buffer_size()

    # Called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_LIMIT)
        if self._is_ending:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Pass bytes on."""
        if self._relay is not None:
            self._relay.received(self, data)

    def eof_received(self) -> bool:
        """It sends no more; whether it stays open, which TLS does not allow for."""
        self.has_ended = True
        if self._relay is None or self._transport is None or not self._transport.can_write_eof():
            return False  # it is closed when it has sent what it has, and lost then
        self._relay.ended(self)
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        """Its socket is gone."""
        self.is_lost = True
        if self._relay is not None:
            self._relay.lost(self)

    def pause_writing(self) -> None:
        """Its buffer is full."""
        if self._relay is not None:
            self._relay.other(self).pause_reading()

    def resume_writing(self) -> None:
        """Its buffer has room."""
        if self._relay is not None:
            self._relay.other(self).resume_reading()

    # Called by the pair

    @property
    def _open(self) -> asyncio.Transport | None:
        is_open = self._transport is not None and not self._transport.is_closing()
        return self._transport if is_open else None

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if (transport := self._open) is not None:
            transport.write(data)

    def pause_reading(self) -> None:
        """Read no more until `resume_reading`."""
        if (transport := self._open) is not None:
            transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if (transport := self._open) is not None:
            transport.resume_reading()

    def end_writing(self) -> None:
        """Send no more after what was written, and read on if that is possible."""
        transport = self._open
        if transport is None or self.has_ended or not transport.can_write_eof():
            self.end()
            return
        try:
            transport.write_eof()
        except OSError:  # it was reset, which asyncio's loop has yet to notice
            self.abort()

    def end(self) -> None:
        """Close it once what was written is sent, or `CLOSE_TIMEOUT` is over."""
        if self._is_ending:
            return
        self._is_ending = True
        if self._transport is not None and not self.is_lost:
            self._transport.close()
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self.abort)

    def abort(self) -> None:
        """Close it at once."""
        self._is_ending = True
        if self._transport is not None:
            self._transport.abort()


R = TypeVar("R", bound=Relay)


class Relays(Generic[R]):
    """The relays of one process."""

    def __init__(self) -> None:
        self._relays: dict[R, None] = {}
        self._all_gone = asyncio.Event()
        self._all_gone.set()

    def __len__(self) -> int:
        """Connections relayed now."""
        return len(self._relays)

    def add(self, relay: R) -> None:
        """Hold a relay until `discard`."""
        self._relays[relay] = None
        self._all_gone.clear()

    def discard(self, relay: R) -> None:
        """Hold a relay no more, as both sides are gone."""
        self._relays.pop(relay, None)
        if not self._relays:
            self._all_gone.set()

    async def wait_all_gone(self, deadline: float) -> None:
        """Wait until nothing is relayed any more.

        Args:
            deadline: monotonic seconds when to stop waiting.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._all_gone.wait()

    def abort(self) -> None:
        """Abort every relayed connection."""
        for relay in tuple(self._relays):
            relay.abort()
