"""A WebSocket connection whose frames are taken and written without a task and without a queue.

`websockets` does the handshake, the parsing and the closing; what it would queue for `recv()` goes straight to the
peer's callbacks instead, and what the gateway sends is framed already and goes straight to the transport.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, cast
from weakref import WeakSet

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import PayloadTooBig
from websockets.frames import DATA_OPCODES, TEXT, Frame
from websockets.protocol import CONNECTING, OPEN, SEND_EOF, Event

from gateway.access import EVERYTHING, Grant
from gateway.metrics.tally import Tally
from gateway.server.containment import contained
from gateway.server.door import Door
from gateway.server.flood import FloodGuard
from gateway.server.http import Target, is_upgrade, respond_unreadable
from gateway.server.memory import CONNECTION_COST
from gateway.server.progress import look
from gateway.server.record import Record
from gateway.server.splitter import OTHER, FrameSplitter
from gateway.streams.stream import Stream
from protocol import framing
from protocol.codec import JSON, Codec
from protocol.codes import MAX_CLOSE_REASON, CloseCode, ProblemCode, close_code, is_problem_retryable
from protocol.errors import WireError
from protocol.messages import Message, Problem

CLOSE_TIMEOUT = 5.0
"""Seconds a peer has to answer a close frame, or at least to read some of what stands before it; a reader that
stopped does neither, and its socket is aborted."""

HARD_MESSAGE_LIMIT = 1024 * 1024
"""Bytes past which a message ends the connection with 1009; up to here, `max_message` only refuses the message."""

DEAFENING = frozenset({ProblemCode.RATE_LIMITED, ProblemCode.OVERLOADED})
"""Problems of a peer that takes up too much, by what it sends or by what of it is not whole yet: no more is read."""

MAX_AGENT = 100
"""Characters of a peer's `User-Agent` that are logged."""


class Peer(Protocol):
    """What a connection serves: a consumer or a producer."""

    @property
    def held_bytes(self) -> int:
        """What it keeps of what was sent to it, about."""

    @property
    def stream(self) -> Stream:
        """The stream it reads or writes."""

    def receive(self, payload: bytes, *, is_text: bool) -> None:
        """A whole message came."""

    def forbidden_by(self, grant: Grant) -> str:
        """What it does that a grant does not allow, in words; empty where there is nothing."""

    def pause(self) -> None:
        """The socket accepts no more now."""

    def resume(self) -> None:
        """The socket accepts again."""

    def end(self, code: ProblemCode, why: str) -> None:
        """Say why, and close."""

    def account(self) -> dict[str, int]:
        """What it was sent of its stream, or brought."""

    def drain(self) -> None:
        """Take or send what is left, then close with 1001."""

    def finished(self) -> None:
        """Nothing more is sent or taken, though the socket may stay for a while; may be told twice."""

    def received(self) -> None:
        """Everything that the socket brought in one go has been received."""

    def lost(self) -> None:
        """The connection is gone."""


class Renewer(Protocol):
    """What judges tokens that come on a connection."""

    def renew(self, connection: GatewayConnection, token: str) -> None:
        """Put a token in the place of the connection's, if it is good, and answer."""


class GatewayConnection(ServerConnection):
    """One peer's connection.

    Args:
        accepted: where it enters itself when its socket is there, before any handshake.
        tally: where what happens to it is counted.
        renewer: judges tokens that come on it.
        door: where its socket is let in, or refused.
        args: as the library gives them.
        kwargs: likewise.

    Attributes:
        target: what it asked for, once it is admitted.
        flood_guard: judges what its peer sends, once it is admitted.
        grant: what its peer may do; `grant.key` tells holders of tokens apart, and is empty without authentication.
    """

    def __init__(
        self,
        accepted: WeakSet[GatewayConnection],
        tally: Tally,
        renewer: Renewer,
        door: Door,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._accepted = accepted
        self._tally = tally
        self._renewer = renewer
        self.record = Record(tally)
        self._door = door
        self.codec: Codec = JSON
        self.target = Target("", "", "")
        self.grant = EVERYTHING
        self.peer: Peer | None = None
        self.last_heard = self.loop.time()
        self.pinged_at: float | None = None
        self._used_at = self.last_heard  # when a message came, or the connection
        self.is_finished = False
        self._splitter = FrameSplitter(HARD_MESSAGE_LIMIT)
        self._fragments: bytearray | None = None
        self._is_text = True
        self._reading_held_by: set[str] = set()
        self._close_timer: asyncio.TimerHandle | None = None
        self._moved_at = 0.0  # when a stalled socket last took a byte
        self._taken = 0  # what its peer had taken then, or when it was pinged
        self._is_deaf = False  # it said too much: nothing more of it is heard
        self.flood_guard: FloodGuard | None = None

    def admitted(self) -> None:
        """Its handshake is over."""
        host, port, *_ = self.transport.get_extra_info("peername") or ("", 0)
        self.record.opened(
            "consumer" if self.target.tail == "/subscribe" else "producer",
            self.last_heard,
            connection=self.id.hex[:8],
            remote=f"{host}:{port}",
            stream=self.target.stream_id,
        )

    @property
    def agent(self) -> str | None:
        """What the peer's program calls itself."""
        names = self.request.headers.get_all("User-Agent") if self.request is not None else []
        return names[0][:MAX_AGENT] if names else None

    def give_up(self, why: str) -> None:
        """Abort the socket of a peer that does nothing any more."""
        self.record.ending(why, by_abort=True)
        self.transport.abort()

    def fail(self) -> None:
        """The gateway failed on this connection, with the exception being handled: it ends alone, with 1011."""
        if not self.record.failed() or self.is_finished:
            self.transport.abort()
            return
        try:
            self.refuse(ProblemCode.GATEWAY_FAULT, "the gateway failed on this connection; it has been logged")
        except Exception:  # noqa: BLE001 - it may be the very thing that is broken
            self.give_up("the gateway failed twice")

    # Sending

    def write(self, frames: bytes) -> None:
        """Write whole frames; the transport says by `pause_writing` when it has enough.

        Nothing goes after a close frame: the socket is half-closed then, and raises.
        """
        if self.is_finished:
            return
        try:
            self.transport.write(frames)
        except Exception:  # noqa: BLE001 - a cohort writes to others as well
            if not self.transport.is_closing():  # else its socket failed a moment ago, and it is about to be told
                self.fail()

    def tell(self, message: Message) -> None:
        """Write a control message."""
        self.write(self.codec.frame(message))

    def report(self, code: ProblemCode, message: str, **details: Any) -> None:
        """Tell the peer what was wrong; details are further fields of `Problem`."""
        self.record.told(code)
        self.tell(Problem(code=code, message=message, retryable=is_problem_retryable(code), **details))

    def refuse(self, code: ProblemCode, message: str, **details: Any) -> None:
        """Tell the peer what was wrong and close with the code that belongs to it."""
        if not self.is_finished:
            self.record.ending(message)
            self.report(code, message, **details)
            self.finish(close_code(code), code)
            if code in DEAFENING:
                self._hear_no_more()

    def finish(self, code: CloseCode, reason: str = "") -> None:
        """Close from this side: a close frame, then at most `CLOSE_TIMEOUT` without progress."""
        if self.is_finished:
            return
        if self.protocol.state is OPEN:
            self.protocol.send_close(code, reason.encode()[:MAX_CLOSE_REASON].decode(errors="ignore"))
            self.send_data()
        self._end_soon()

    def _hear_no_more(self) -> None:
        """Leave what comes unparsed, a close too, and forget what is not whole; the half-close says that this is it."""
        self._is_deaf = True
        self._splitter.take_rest()
        self._fragments = None
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()

    def _end_soon(self) -> None:
        """Serve the peer no more: read on until it hangs up, though not for ever."""
        self.is_finished = True
        if self.peer is not None:
            self.peer.finished()
        for reason in tuple(self._reading_held_by):
            self.release_reading(reason)
        if self._close_timer is None:
            self._close_timer = self.loop.call_later(
                CLOSE_TIMEOUT, self._give_up_unless_read, look(self.transport).taken
            )

    @contained
    def _give_up_unless_read(self, before: int) -> None:
        """Wait for the close of a peer that still takes what it was sent; abort the socket of one that does not."""
        taken = look(self.transport).taken
        if taken > before:
            self._close_timer = self.loop.call_later(CLOSE_TIMEOUT, self._give_up_unless_read, taken)
        else:
            self.give_up(f"did not answer the close for {CLOSE_TIMEOUT:g} s")

    def send_data(self) -> None:
        """Send what the protocol produced; before a close for a message beyond the hard limit, say why.

        A request that could not be parsed gets the form of every other refusal: the protocol would send plain text or
        nothing, and hangs up either way.
        """
        failure = self.protocol.handshake_exc
        if self.request is None and failure is not None and self.protocol.writes:
            refusal = respond_unreadable(failure)
            self._tally.refuse(refusal.status_code)
            self.protocol.writes = [refusal.serialize(), SEND_EOF]
        if isinstance(self.protocol.parser_exc, PayloadTooBig) and not self.is_finished:
            code = ProblemCode.MESSAGE_TOO_BIG
            why = f"messages end the connection beyond {HARD_MESSAGE_LIMIT} bytes: send less"
            self.record.told(code)
            self.record.ending(why)
            problem = Problem(code=code, message=why, retryable=is_problem_retryable(code))
            self.transport.write(self.codec.frame(problem))  # `write` would not: the protocol is closing already
        super().send_data()

    def keep_alive(self, now: float, interval: float, timeout: float) -> bool:
        """Ping a peer that was quiet; give up on one that doesn't answer.

        Returns:
            Whether the peer may live on.
        """
        if self._reading_held_by:
            self.last_heard = now  # its pong would not be read; `send_timeout` and `block_timeout` hold instead
        if self.pinged_at is not None:
            if self.last_heard >= self.pinged_at:
                self.pinged_at = None
            elif now - self.pinged_at >= timeout:
                if not self._is_on_its_way():
                    self.give_up(f"answered no ping for ping_timeout ({timeout:g} s)")
                    return False
                self.pinged_at = now
        elif now - self.last_heard >= interval and self.protocol.state is OPEN:
            self.pinged_at = now
            self._taken = look(self.transport).taken
            self.protocol.send_ping(b"")
            self.send_data()
        return True

    def _is_on_its_way(self) -> bool:
        """Whether a peer that owes a pong may not have come to the ping: it takes what stands before it, slowly."""
        before, progress = self._taken, look(self.transport)
        self._taken = progress.taken
        return progress.is_behind and progress.taken > before

    def end_if_idle(self, now: float, timeout: float) -> None:
        """End a connection that nobody has used for so many seconds: no message of its peer, nothing on its stream."""
        if self.peer is not None and now - max(self._used_at, self.peer.stream.last_active_at) >= timeout:
            self.peer.end(ProblemCode.IDLE, f"nothing was sent or received for idle_timeout ({timeout:g} s)")

    # Receiving

    def renew(self, token: str) -> None:
        """A fresh token came; it is judged and answered, at once or when keys were fetched for it."""
        self._renewer.renew(self, token)

    def check_frame(self, payload: bytes, code: ProblemCode, *, is_text: bool, limit: int) -> None:
        """Refuse a message that is too long, or in the other encoding's kind of frame.

        Raises:
            WireError: with the given code.
        """
        if len(payload) > limit:
            raise WireError(code, f"message of {len(payload)} bytes is over max_message ({limit})")
        if is_text is not self.codec.is_text and payload:
            expected = "text" if self.codec.is_text else "binary"
            raise WireError(code, f"{self.codec.subprotocol} takes {expected} frames")

    def hold_reading(self, reason: str) -> None:
        """Read no more from the socket until every reason for it is gone, or the connection ends."""
        if self.is_finished:
            return
        if not self._reading_held_by:
            self.transport.pause_reading()
        self._reading_held_by.add(reason)

    def release_reading(self, reason: str) -> None:
        """One reason not to read is gone."""
        if reason in self._reading_held_by:
            self._reading_held_by.discard(reason)
            if not self._reading_held_by and not self.transport.is_closing():
                self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Bytes came: whoever sends is alive."""
        self.last_heard = self.loop.time()
        self._tally.received_bytes += len(data)
        try:
            if self.peer is None or self.is_finished:
                self._receive_outside(data)
            else:
                self._receive(data, self.peer)
        except Exception:  # noqa: BLE001 - the loop would end the connection, though without a word
            self.fail()

    def _receive(self, data: bytes, peer: Peer) -> None:
        frames = self._splitter.feed(data)
        guard = self.flood_guard
        if guard is not None and (why := guard.judge_frames(len(frames), self.last_heard)):
            peer.end(ProblemCode.RATE_LIMITED, why)
            return
        for first, piece in frames:
            if first != OTHER:
                if not self.is_finished:
                    self._used_at = self.last_heard
                    peer.receive(piece, is_text=first == framing.TEXT)
            elif guard is not None and (why := guard.judge_other(piece, self.last_heard)):
                peer.end(ProblemCode.RATE_LIMITED, why)
                return
            else:
                super().data_received(piece)
                if self.protocol.close_expected():  # the peer has closed, or done what ends the connection
                    self._end_soon()
        peer.received()

    @property
    def held_bytes(self) -> int:
        """What it costs now, with what it has yet to send and what it has not understood yet."""
        held = CONNECTION_COST + self.transport.get_write_buffer_size() + self._splitter.held_bytes
        if self._fragments is not None:
            held += len(self._fragments)
        return held if self.peer is None else held + self.peer.held_bytes

    def _receive_outside(self, data: bytes) -> None:
        """Bytes came before the connection was open, or after it was closed."""
        if self._is_deaf:
            return
        data = self._splitter.take_rest() + data
        while self.request is None and self.protocol.handshake_exc is None and data:
            line, newline, data = data.partition(b"\n")  # by lines, as the parser takes what follows for frames
            super().data_received(line + newline)
        if self.request is None or self.protocol.state is not CONNECTING:
            super().data_received(data)
        elif data and self.response is None and is_upgrade(self.request.headers):
            self.transport.abort()  # a client must wait for the answer to its handshake (RFC 6455 §4.1)
        if self.protocol.close_expected():
            self._end_soon()

    @contained
    def eof_received(self) -> None:
        """The peer sends no more: what it has yet to take must not keep its socket for ever."""
        super().eof_received()
        self._end_soon()

    def process_event(self, event: Event) -> None:
        """Take a frame the library passed: the fragments of a message."""
        if not isinstance(event, Frame):
            super().process_event(event)
        elif event.opcode in DATA_OPCODES:
            self._assemble(event)

    def _assemble(self, frame: Frame) -> None:
        if self._fragments is None:
            self._is_text = frame.opcode is TEXT
            self._fragments = bytearray()
        self._fragments += frame.data
        if frame.fin:
            payload, self._fragments = bytes(self._fragments), None
            self._hand_over(payload, is_text=self._is_text)

    def _hand_over(self, payload: bytes, *, is_text: bool) -> None:
        self._used_at = self.last_heard
        if self.peer is not None and not self.is_finished:
            self.peer.receive(payload, is_text=is_text)

    # Flow control and the end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there; nothing is made for it if it is one too many."""
        self._door.receive(self, cast("asyncio.Transport", transport))

    def let_in(self, transport: asyncio.Transport) -> None:
        """Serve the socket."""
        super().connection_made(transport)
        self._accepted.add(self)

    @contained
    def pause_writing(self) -> None:
        """The write buffer is full: neither write to this peer nor let it ask for more answers."""
        super().pause_writing()
        self._moved_at = self.loop.time()
        self._taken = look(self.transport).taken
        self.hold_reading("unread answers")
        if self.peer is not None:
            self.peer.pause()

    @contained
    def resume_writing(self) -> None:
        """The write buffer has drained."""
        super().resume_writing()
        self.release_reading("unread answers")
        if self.peer is not None:
            self.peer.resume()

    def stalled_for(self, now: float) -> float:
        """Seconds since a socket that accepts no more last took a byte."""
        taken = look(self.transport).taken
        if taken > self._taken:
            self._moved_at = now
        self._taken = taken
        return now - self._moved_at

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        super().connection_lost(exc)
        self._door.leave(self)
        self._accepted.discard(self)
        self.is_finished = True
        if self._close_timer is not None:
            self._close_timer.cancel()
        peer, self.peer = self.peer, None
        account = {}
        try:
            if peer is not None:
                peer.lost()
                account = peer.account()
        except Exception:  # noqa: BLE001 - there is nobody left to be told
            self.record.failed()
        self.record.ended(self.protocol, self.loop.time(), account)
