"""Sending on a connection, the closing handshake, and timeouts of the peer.

Messages are framed already and go straight to the transport; the library frames pings and closes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import PayloadTooBig
from websockets.protocol import CLOSED, OPEN, SEND_EOF

from deltawire.gateway.hub import Hub
from deltawire.gateway.server.connection.closing import Cause, Phase, after
from deltawire.gateway.server.connection.containment import contained
from deltawire.gateway.server.connection.peer import Peer
from deltawire.gateway.server.connection.progress import look
from deltawire.gateway.server.connection.record import Record
from deltawire.gateway.server.responses import respond_unreadable
from deltawire.protocol.codec import JSON, Codec, Encoding
from deltawire.protocol.codes import MAX_CLOSE_REASON, CloseCode, ProblemCode, close_code, is_problem_retryable
from deltawire.protocol.messages import Message, Problem

CLOSE_TIMEOUT = 5.0
"""Seconds a peer has to answer a close frame, or at least to read some of the bytes before it; a reader that stopped
does neither, and its socket is aborted."""

HARD_MESSAGE_LIMIT = 1024 * 1024
"""Bytes past which a message ends the connection with 1009; up to here, `max_message` only refuses the message."""

DEAFENING = frozenset({ProblemCode.RATE_LIMITED, ProblemCode.OVERLOADED})
"""Problems of a peer that takes up too much, by its messages or by incomplete ones: its input is no longer parsed."""


class Hold(Enum):
    """Why nothing is read from a socket for a while."""

    BUSY = auto()
    """Messages that were read wait to be processed: for their turn, or for a `block` consumer."""

    UNREAD_ANSWERS = auto()
    """The peer does not read the answers to its messages."""

    BODY = auto()
    """The body of a request is not wanted yet, or waits to be read on."""


class SendingConnection(ServerConnection):
    """The side of a connection that sends.

    Args:
        hub: its tally counts what happens on the connection; its manager counts the memory it takes.
        args: as the library gives them.
        kwargs: likewise.

    Attributes:
        tally: counts what happens on it.
        record: counts and logs its beginning and end.
        codec: decodes what its peer sends.
        encoding: what its peer is sent in.
        peer: the consumer or producer it serves; None before it is admitted, and after its socket is gone.
        last_heard: monotonic seconds when its peer last sent something.
        pinged_at: monotonic seconds when it was pinged; None once something has come since.
        phase: how far it is on its way to the end.
        is_finished: whether it is no longer ACTIVE, and nothing is sent.
        cost: bytes it takes while it holds nothing; 0 as long as `max_handshakes` bounds it.
        reserved: bytes set aside for a response while it is being sent.
        is_shed: whether it is about to be ended for what it holds, which no longer counts.
    """

    def __init__(self, hub: Hub, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._manager = hub.manager
        self.tally = hub.tally
        self.record = Record(hub.tally)
        self.cost = 0
        self.reserved = 0
        self.is_shed = False
        self._counted = 0  # bytes counted towards the memory limit
        self.codec: Codec = JSON
        self.encoding: Encoding = JSON
        self.peer: Peer | None = None
        self.last_heard = self.loop.time()
        self.phase = Phase.ACTIVE
        self.is_finished = False
        self.pinged_at: float | None = None
        self._reading_held_by: set[Hold] = set()
        self._close_timer: asyncio.TimerHandle | None = None
        self._moved_at = 0.0  # when a stalled socket last took a byte
        self._taken = 0  # `Progress.taken` at that time, or when it was pinged

    def _move(self, cause: Cause) -> None:
        """Move to the next phase."""
        self.phase = after(self.phase, cause)
        self.is_finished = True

    def occupy(self, cost: int, reserved: int = 0) -> None:
        """Count what it takes from now on; at once, as many may come before the next round of housekeeping.

        Args:
            cost: bytes while it holds nothing.
            reserved: bytes that it is about to hold.
        """
        self.cost = cost
        self.reserved = reserved
        self.count(cost + reserved)

    def count(self, held: int) -> None:
        """Count `held` bytes for it in place of the previous count; only the difference is added to the total."""
        if self.phase is not Phase.CLOSED and not self.is_shed:
            more, self._counted = held - self._counted, held
            self._manager.elsewhere += more  # which may end others, or this one

    def vacate(self) -> None:
        """Stop counting it, as it is CLOSED and holds nothing."""
        self._manager.elsewhere -= self._counted
        self._counted = 0

    def abort(self, why: str) -> None:
        """Abort the socket, and record why."""
        self.record.ending(why, by_abort=True)
        self.transport.abort()

    def fail(self) -> None:
        """Record the unexpected exception being handled, and end this connection alone, with 1011.

        If its peer understands no messages, only an abort shows that the response is incomplete.
        """
        if not self.record.failed() or self.is_finished or not self.can_tell:
            self.transport.abort()
            return
        try:
            self.close_with_problem(
                ProblemCode.GATEWAY_FAULT, "the gateway failed on this connection; it has been logged"
            )
        except Exception:  # noqa: BLE001 - closing may be the very thing that is broken
            self.abort("the gateway failed twice")

    @property
    def can_tell(self) -> bool:
        """Whether its peer understands messages now."""
        return self.protocol.state is OPEN

    @property
    def is_gone(self) -> bool:
        """Whether its peer has left: there is nobody to answer."""
        return self.protocol.state is CLOSED or self.transport.is_closing()

    @property
    def writer(self) -> Callable[[bytes], object]:
        """Writes whole frames as long as the connection is not finished."""
        return self.transport.write

    def write(self, frames: bytes) -> None:
        """Write whole frames; the transport calls `pause_writing` when it has enough.

        Nothing is written after a close frame: the socket is half-closed then, and would raise.
        """
        if self.is_finished:
            return
        try:
            self.transport.write(frames)
        except Exception:  # noqa: BLE001 - a cohort writes to others as well
            if not self.transport.is_closing():  # otherwise `connection_lost` follows
                self.fail()

    def tell(self, message: Message) -> None:
        """Write a control message."""
        self.write(self.encoding.frame(message))

    def report(self, code: ProblemCode, message: str, **details: Any) -> None:
        """Send the peer a problem; details are further fields of `Problem`."""
        self.record.told(code)
        self.tell(Problem(code=code, message=message, retryable=is_problem_retryable(code), **details))

    def close_with_problem(self, code: ProblemCode, message: str, **details: Any) -> None:
        """Send the peer a problem and close with the code that belongs to it."""
        if not self.is_finished:
            self.record.ending(message)
            self.report(code, message, **details)
            self.finish(close_code(code), code)
            if code in DEAFENING:
                self.stop_parsing()

    def finish(self, code: CloseCode, reason: str = "") -> None:
        """Send a close frame, then wait at most `CLOSE_TIMEOUT` without progress."""
        if self.is_finished:
            return
        if self.protocol.state is OPEN:
            self.protocol.send_close(code, reason.encode()[:MAX_CLOSE_REASON].decode(errors="ignore"))
            self.send_data()
        self.await_close()

    def await_close(self) -> None:
        """Stop serving the peer; keep reading until it hangs up, but not for ever."""
        self._move(Cause.CLOSE)
        if self.peer is not None:
            self.peer.on_finished()
        self.release_all()
        if self._close_timer is None:
            self._close_timer = self.loop.call_later(CLOSE_TIMEOUT, self._abort_unless_read, look(self.transport).taken)

    def cancel_close_timer(self) -> None:
        """Stop waiting for the peer's close, as the socket is gone."""
        if self._close_timer is not None:
            self._close_timer.cancel()

    @contained
    def _abort_unless_read(self, before: int) -> None:
        """Keep waiting for the close of a peer that still receives bytes; abort the socket of a peer that does not."""
        taken = look(self.transport).taken
        if taken > before:
            self._close_timer = self.loop.call_later(CLOSE_TIMEOUT, self._abort_unless_read, taken)
        else:
            self.abort(f"did not answer the close for {CLOSE_TIMEOUT:g} s")

    def send_data(self) -> None:
        """Send what the protocol produced; before a close for a message beyond the hard limit, send a problem.

        A request that could not be parsed gets a refusal in the form of all others: the protocol would send plain text
        or nothing, and hangs up in both cases.
        """
        failure = self.protocol.handshake_exc
        if self.request is None and failure is not None and self.protocol.writes:
            refusal = respond_unreadable(failure)
            if not self.protocol.reader.eof:  # who has left, as load balancers do who only connect, is not refused
                self.tally.refuse(refusal.status_code)
            self.protocol.writes = [refusal.serialize(), SEND_EOF]
        if isinstance(self.protocol.parser_exc, PayloadTooBig) and not self.is_finished:
            code = ProblemCode.MESSAGE_TOO_BIG
            why = _explain_size(self.protocol.parser_exc)
            self.record.told(code)
            self.record.ending(why)
            problem = Problem(code=code, message=why, retryable=is_problem_retryable(code))
            self.transport.write(self.encoding.frame(problem))  # not `write`: the protocol is closing already
        super().send_data()

    def stop_parsing(self) -> None:
        """Stop parsing input, a close frame included; half-close, which tells the peer that nothing more is sent."""
        self._move(Cause.LIMIT_BROKEN)
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()

    # Waiting for the peer

    def keep_alive(self, now: float, interval: float, timeout: float) -> bool:
        """Ping a peer that was quiet; abort the connection of a peer that doesn't answer.

        Returns:
            Whether the connection stays.
        """
        if self._reading_held_by or self.paused:
            self.last_heard = now  # its pong is late or not read; `send_timeout` and `block_timeout` apply instead
        if self.pinged_at is not None:
            if self.last_heard >= self.pinged_at:
                self.pinged_at = None
            elif now - self.pinged_at >= timeout:
                if not self._is_on_its_way():
                    self.abort(f"answered no ping for ping_timeout ({timeout:g} s)")
                    return False
                self.pinged_at = now
        elif now - self.last_heard >= interval and not self.is_finished and self.protocol.state is OPEN:
            self.pinged_at = now
            self._taken = look(self.transport).taken
            self.protocol.send_ping(b"")
            self.send_data()
        return True

    def _is_on_its_way(self) -> bool:
        """Whether a peer that owes a pong may not have reached the ping yet, as it slowly reads the bytes before it."""
        before, progress = self._taken, look(self.transport)
        self._taken = progress.taken
        return progress.is_behind and progress.taken > before

    def hold_reading(self, reason: Hold) -> None:
        """Pause reading from the socket until every reason for it is gone, or the connection ends."""
        if self.is_finished or self.transport.is_closing():
            return
        if not self._reading_held_by:
            self.transport.pause_reading()
        self._reading_held_by.add(reason)

    def release_reading(self, reason: Hold) -> None:
        """Remove a reason not to read; resume reading when none is left."""
        if self._reading_held_by and reason in self._reading_held_by:
            self._reading_held_by.discard(reason)
            if not self._reading_held_by and not self.transport.is_closing():
                self.transport.resume_reading()

    def release_all(self) -> None:
        """Remove every reason not to read."""
        for reason in tuple(self._reading_held_by):
            self.release_reading(reason)

    @property
    def is_reading_held(self) -> bool:
        """Whether there is a reason not to read."""
        return bool(self._reading_held_by)

    @contained
    def pause_writing(self) -> None:
        """Pause the peer object, as the write buffer is full.

        Its messages are still read: a consumer that is always behind may want to signal `cancel`.
        """
        super().pause_writing()
        self._moved_at = self.loop.time()
        self._taken = look(self.transport).taken
        if self.peer is not None:
            self.peer.pause()

    @contained
    def resume_writing(self) -> None:
        """Resume the peer object, as the write buffer has drained."""
        super().resume_writing()
        self.release_reading(Hold.UNREAD_ANSWERS)
        if self.peer is not None:
            self.peer.resume()

    def stalled_for(self, now: float) -> float:
        """Seconds since the peer of a full socket last took a byte."""
        taken = look(self.transport).taken
        if taken > self._taken:
            self._moved_at = now
        self._taken = taken
        return now - self._moved_at


def _explain_size(error: PayloadTooBig) -> str:
    size = (error.current_size or 0) + (error.size or 0)  # of earlier fragments, and as announced by this frame
    return f"the message has {size} bytes or more, and none over {HARD_MESSAGE_LIMIT} is read: send smaller ones"
