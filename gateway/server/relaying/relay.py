"""One connection, relayed to the node that owns its stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, Protocol

from deltawire.gateway.metrics.tally import Tally
from deltawire.gateway.server.connection.record import Record
from deltawire.gateway.server.relaying.frames import CLOSE, FrameEnds
from deltawire.gateway.server.relaying.pairs import Relay, Side
from deltawire.gateway.server.responses import respond_later
from deltawire.protocol.codec import Encoding
from deltawire.protocol.codes import ProblemCode, close_code
from deltawire.protocol.messages import Problem

MAX_HEAD: Final = 16 * 1024
"""Bytes after which an answer is no longer looked at for the end of its head."""

SWITCHING: Final = b"HTTP/1.1 101 "
"""What the answer begins with that makes a connection a WebSocket."""

GONE: Final = "the gateway that serves this stream is gone: connect again, and resume"
LEAVING: Final = "the gateway is shutting down: connect again, and resume"


class Relayed(Protocol):
    """A connection that is relayed."""

    record: Record
    tally: Tally
    encoding: Encoding
    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop

    def connection_lost(self, exc: Exception | None) -> None:
        """Its socket is gone."""

    def await_close(self) -> None:
        """Wait for its peer to hang up, for as long as it still takes what it was sent, or `CLOSE_TIMEOUT`."""


class NodeRelay(Relay):
    """A relay between a client of this node and another node.

    Args:
        connection: of the client.
        far: connected to the other node, to which nothing was sent yet.
        gone: called when both are gone.
        is_live: whether it goes on until somebody ends it: a WebSocket, or a stream over plain HTTP.
        patience: seconds that the other node has to begin its answer; 0 for as long as it takes.
    """

    def __init__(
        self,
        connection: Relayed,
        far: Side,
        gone: Callable[[Any], None],
        *,
        is_live: bool,
        patience: float,
    ) -> None:
        self._connection = connection
        self._is_live = is_live
        self._head = b""  # of the answer, while it is incomplete
        self._has_answered = False
        self._frames: FrameEnds | None = None  # of a WebSocket
        self._leaves = False  # as soon as a frame is complete
        self._has_parted = False  # nothing more is passed on
        self._heard_at = connection.loop.time()  # when something came from the other node
        self.sent = self.received_bytes = 0
        self._impatient = (
            connection.loop.call_later(patience, self._part, ProblemCode.OVERLOADED, GONE) if patience else None
        )
        super().__init__(connection.transport, gone, far)

    @property
    def held_bytes(self) -> int:
        """Bytes, about, that wait for the other node; those for the client are in its own buffer."""
        return self.far.unsent + len(self._head)

    def account(self) -> dict[str, int]:
        """How many bytes the client was sent, and how many it has sent."""
        return {"bytes": self.sent, "received": self.received_bytes}

    def received(self, side: Side, data: bytes) -> None:
        """Pass bytes on; on a WebSocket, see where frames end."""
        if self._has_parted:
            return
        tally = self._connection.tally
        if side is self.peer:
            self.received_bytes += len(data)
            tally.relayed_bytes["owner"] += len(data)
            self.far.write(data)
            return
        self._heard_at = self._connection.loop.time()
        has_ended = self._look(data)
        if has_ended:
            data = data[:has_ended]
        self.sent += len(data)
        tally.relayed_bytes["client"] += len(data)
        self.peer.write(data)
        if has_ended:
            self._part(ProblemCode.SHUTTING_DOWN, LEAVING)

    def _look(self, data: bytes) -> int:
        """See what goes by; return how much of it to pass on if the client is to leave after that, otherwise 0."""
        frames = self._frames
        if frames is not None:
            whole = frames.feed(data)
            if self._leaves and whole and not frames.is_closed:
                self._frames = FrameEnds()
                return whole
        elif not self._has_answered:
            self._read_head(data)
        return 0

    def _read_head(self, data: bytes) -> None:
        """Look at the answer until its head is complete, for whether it is a WebSocket from there on."""
        self._stop_waiting()
        self._head += data
        is_switching = self._head.startswith(SWITCHING[: len(self._head)])
        _, end, frames = self._head.partition(b"\r\n\r\n")
        if is_switching and not end and len(self._head) < MAX_HEAD:
            return
        self._has_answered = True
        self._head = b""
        if is_switching and end:
            self._frames = FrameEnds()
            self._frames.feed(frames)

    def _stop_waiting(self) -> None:
        if self._impatient is not None:
            self._impatient.cancel()

    # The end

    def drain(self) -> None:
        """Send the client elsewhere; what is a matter of one answer is left to end."""
        if not self._is_live or self._has_parted:
            return
        if self._frames is not None and not self._frames.is_whole:
            self._leaves = True
        else:
            self._part(ProblemCode.SHUTTING_DOWN, LEAVING)

    def end_if_silent(self, now: float, timeout: float) -> None:
        """Take the other node for gone if nothing came from it for longer than two pings are apart.

        Args:
            now: monotonic seconds.
            timeout: seconds. A node pings the client of a WebSocket, and writes comments to the reader of an event
                stream; a request that only waits for its answer may wait.
        """
        if self.peer.unsent:  # the client reads too slowly to hear more
            self._heard_at = now
        elif self._is_live and now - self._heard_at >= timeout:
            self._part(ProblemCode.OVERLOADED, GONE)

    def ended(self, side: Side) -> None:
        """The other node sends no more, or the client does not."""
        if side is self.far:
            self._part(ProblemCode.OVERLOADED, GONE)
        elif self._has_parted:
            self.peer.end()
        else:
            super().ended(side)

    def lost(self, side: Side) -> None:
        """A socket is gone."""
        if side is self.far and not self.peer.is_lost:
            self._part(ProblemCode.OVERLOADED, GONE)
            return
        if side is self.peer:
            self._has_parted = True
            self._stop_waiting()
            self._connection.connection_lost(None)
        super().lost(side)

    def _part(self, code: ProblemCode, why: str) -> None:
        """Pass nothing more on: tell the client why if it was not to be expected, and wait until it hangs up."""
        if self._has_parted:
            return
        self._has_parted = True
        self._stop_waiting()
        if not self._has_answered:
            self._connection.record.ending(why)
            if not self._head:
                self.peer.write(respond_later(HTTPStatus.SERVICE_UNAVAILABLE, why).serialize())
        elif self._frames is not None and not self._frames.is_closed:
            self._connection.record.ending(why)
            if not self._frames.is_whole:
                self.abort()
                return
            self._close(code, why)
        self.far.end()
        self.peer.end_writing()
        self.peer.resume_reading()  # what still comes is discarded: unread, it would destroy what was sent
        self._connection.await_close()

    def _close(self, code: ProblemCode, why: str) -> None:
        connection = self._connection
        connection.record.told(code)
        connection.record.closing(close_code(code))
        problem = connection.encoding.frame(Problem(code=code, message=why, retryable=True))
        reason = close_code(code).to_bytes(2) + code.encode()
        self.peer.write(problem + bytes((CLOSE, len(reason))) + reason)
