"""A WebSocket connection whose frames are taken without a task and without a queue.

`websockets` does the handshake, the parsing and the closing; what it would queue for `recv()` goes straight to the
peer's callbacks instead.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, cast
from weakref import WeakSet

from websockets.frames import CLOSE, DATA_OPCODES, TEXT, Frame
from websockets.protocol import CLOSED, CONNECTING, Event

from deltawire.gateway.access import EVERYTHING
from deltawire.gateway.hub import Hub
from deltawire.gateway.hub.fair_queue import FairQueue
from deltawire.gateway.server.accepting.flood import FloodGuard
from deltawire.gateway.server.accepting.handshakes import Handshakes
from deltawire.gateway.server.connection.closing import Cause, Phase
from deltawire.gateway.server.connection.containment import contained
from deltawire.gateway.server.connection.memory import connection_cost
from deltawire.gateway.server.connection.peer import Peer, Renewer
from deltawire.gateway.server.connection.replying import ReplyingConnection
from deltawire.gateway.server.connection.sending import HARD_MESSAGE_LIMIT, Hold
from deltawire.gateway.server.connection.splitter import OTHER, FrameSplitter
from deltawire.gateway.server.http.target import Target, is_upgrade
from deltawire.protocol import framing
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError

OPCODE = 0x0F
"""The part of a frame's first byte that says what it is (RFC 6455 §5.2)."""

TLS_HANDSHAKE = b"\x16"
"""What the hello of a client begins with that takes this for a port of TLS (RFC 8446 §5.1), and no line of HTTP may."""

MAX_AGENT = 100
"""Characters of a peer's `User-Agent` that are logged."""

FRAME_COST = 120
"""Bytes a message that was cut out of what the socket brought costs beside its payload (CPython 3.11)."""


class GatewayConnection(ReplyingConnection):
    """One peer's connection.

    Args:
        accepted: where it enters itself when its socket is let in, before its request.
        hub: where what happens to it, and what it costs, is counted.
        renewer: judges tokens that come on it.
        handshakes: where its socket is let in, or refused.
        leaving: where it waits to be taken leave of when its peer hangs up.
        replying: where it waits for its turn when it has a long answer to send.
        args: as the library gives them.
        kwargs: likewise.

    Attributes:
        target: what it asked for, once it is admitted.
        flood_guard: judges what its peer sends, once it is admitted.
        grant: what its peer may do; `grant.key` tells holders of tokens apart, and is empty without authentication.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what a gateway has for its connections
        self,
        accepted: WeakSet[GatewayConnection],
        hub: Hub,
        renewer: Renewer,
        handshakes: Handshakes,
        leaving: FairQueue,
        replying: FairQueue,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(replying, hub, *args, **kwargs)
        self._accepted = accepted
        self._renewer = renewer
        self._handshakes = handshakes
        self._leaving = leaving
        self.target = Target("", "", "")
        self.grant = EVERYTHING
        self.flood_guard: FloodGuard | None = None
        self._used_at = self.last_heard  # when a message came, or the connection
        self._splitter = FrameSplitter(HARD_MESSAGE_LIMIT)
        self._deferred: list[tuple[int, bytes]] = []  # frames that came while the peer was busy
        self._has_hung_up = False  # while the peer was busy
        self._fragments: bytearray | None = None
        self._is_text = True

    def admitted(self) -> None:
        """Its handshake is over."""
        host, port, *_ = self.transport.get_extra_info("peername") or ("", 0)
        self.record.opened(
            "consumer" if self.target.tail == "/subscribe" else "producer",
            self.last_heard,
            connection=self.id.hex[:8],
            remote=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            stream=self.target.stream_id,
        )

    def cost_of(self, target: Target) -> int:
        """Bytes it would take for what its peer asks for, before it holds anything."""
        has_tls = self.transport.get_extra_info("sslcontext") is not None
        return connection_cost(has_tls=has_tls, sends=target.tail == "/publish")

    @property
    def agent(self) -> str | None:
        """What the peer's program calls itself."""
        names = self.request.headers.get_all("User-Agent") if self.request is not None else []
        return names[0][:MAX_AGENT] if names else None

    def forget_handshake(self) -> None:
        """Keep nothing of the request and its answer: together they take 3 KiB."""
        for message in (self.request, self.response):
            if message is not None:
                message.headers.clear()

    def end_if_idle(self, now: float, timeout: float) -> None:
        """End a connection that nobody has used for so many seconds: no message of its peer, nothing on its stream."""
        if self.peer is not None and now - max(self._used_at, self.peer.stream.last_active_at) >= timeout:
            self.peer.end(ProblemCode.IDLE, f"nothing was sent or received for idle_timeout ({timeout:g} s)")

    @property
    def may_be_shed(self) -> bool:
        """Whether ending it frees what it holds: it serves a peer, or has an answer to send."""
        return self.is_replying or (self.peer is not None and not self.is_finished)

    def shed(self, why: str) -> None:
        """End it, as there is no memory for what it holds."""
        if self.peer is not None:
            self.peer.end(ProblemCode.OVERLOADED, f"{why}: try again later")
        else:
            self.abort(why)

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

    def data_received(self, data: bytes) -> None:
        """Bytes came: whoever sends is alive."""
        self.last_heard = self.loop.time()
        self.tally.received_bytes += len(data)
        try:
            if self.peer is None or self.is_finished:
                self._receive_outside(data)
            else:
                self._receive(data, self.peer)
                if self.paused:  # it must not ask for more answers until it has taken these
                    self.hold_reading(Hold.UNREAD_ANSWERS)
        except Exception:  # noqa: BLE001 - the loop would end the connection, though without a word
            self.fail()

    def _receive(self, data: bytes, peer: Peer) -> None:
        frames = self._splitter.feed(data)
        access = self.flood_guard
        if access is not None and (why := access.judge_messages(len(frames), self.last_heard)):
            peer.end(ProblemCode.RATE_LIMITED, why)
        elif self._deferred:
            self._deferred += frames
        else:
            self._take_frames(frames, peer)
            peer.received()

    def _take_frames(self, frames: list[tuple[int, bytes]], peer: Peer) -> None:
        access = self.flood_guard
        for at, (first, piece) in enumerate(frames):
            if peer.is_busy and not self.is_finished:
                self._deferred = frames[at:]
                return
            if first != OTHER:
                if not self.is_finished:
                    self._used_at = self.last_heard
                    peer.receive(piece, is_text=first == framing.TEXT)
            elif access is not None and (why := access.judge_other(piece, self.last_heard)):
                peer.end(ProblemCode.RATE_LIMITED, why)
                return
            else:
                if piece[0] & OPCODE == CLOSE:
                    peer.answer_rest()
                super().data_received(piece)
                if self.protocol.close_expected():  # the peer has closed, or done what ends the connection
                    self.await_close()

    def receive_deferred(self) -> None:
        """Have the peer receive what came while it was busy, until it is busy again."""
        peer = self.peer
        if peer is None or peer.is_busy:
            return
        if self._deferred:
            frames, self._deferred = self._deferred, []
            self._take_frames(frames, peer)
        if self._has_hung_up and not peer.is_busy:
            self._end_hung_up()

    def judge_events(self, count: int) -> str:
        """So many more events came than there were messages: what is wrong about it; empty where nothing is."""
        return "" if self.flood_guard is None else self.flood_guard.judge_messages(count, self.loop.time())

    @property
    def held_bytes(self) -> int:
        """What it costs now, with what it has yet to send and what it has not understood yet."""
        if self.is_replying:
            return self.cost + self.reserved
        held = self.cost + self.transport.get_write_buffer_size() + self._splitter.held_bytes
        if self._fragments is not None:
            held += len(self._fragments)
        if self._deferred:
            held += sum(len(piece) + FRAME_COST for _, piece in self._deferred)
        return held if self.peer is None else held + self.peer.held_bytes

    def _receive_outside(self, data: bytes) -> None:
        """Bytes came before the connection was open, or after it was closed."""
        if self.phase is Phase.DEAF:
            return
        data = self._splitter.take_rest() + data
        if self.request is None and data.startswith(TLS_HANDSHAKE):
            data = TLS_HANDSHAKE + b"\r\n"  # a hello need not have a line: refuse it as one that can't be read
        while self.request is None and self.protocol.handshake_exc is None and data:
            line, newline, data = data.partition(b"\n")  # by lines, as the parser takes what follows for frames
            super().data_received(line + newline)
        if self.request is None or self.protocol.state is not CONNECTING:
            super().data_received(data)
        elif data and self.response is None and is_upgrade(self.request.headers):
            self.transport.abort()  # a client must wait for the answer to its handshake (RFC 6455 §4.1)
        if self.protocol.close_expected():
            self.await_close()

    def stop_parsing(self) -> None:
        """Nothing it still sends matters, nor what of it is not whole."""
        super().stop_parsing()
        self._splitter.take_rest()
        self._fragments = None
        self._deferred = []

    def eof_received(self) -> bool:  # type: ignore[override]  # the library keeps no socket
        """The peer sends no more; it is taken leave of when its turn comes, as thousands may hang up at once.

        Returns:
            Whether the socket stays until then, which with TLS it can't.
        """
        if not self.transport.can_write_eof():
            self._end_hung_up()
            return False
        self._leaving.enter(self._end_hung_up)
        return True

    @contained
    def _end_hung_up(self) -> None:
        """End a connection whose peer has hung up: what it has yet to take must not keep its socket for ever."""
        # Either its socket was lost meanwhile, or it still waits for its answer.
        if self.protocol.state is CLOSED or self.half_closes():
            return
        if self.peer is not None and not self.is_finished:
            if self.peer.is_busy:  # with what came before: that goes first
                self._has_hung_up = True
                return
            self.peer.answer_rest()
        super().eof_received()
        self.await_close()
        self.transport.close()

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

    # Coming and going

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there; nothing is made for it if it is one too many."""
        self._handshakes.receive(self, cast("asyncio.Transport", transport))

    def let_in(self, transport: asyncio.Transport) -> None:
        """Serve the socket."""
        super().connection_made(transport)
        self._accepted.add(self)

    @contained
    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone: nothing more is sent. What is left to do is done in its turn, as thousands may be lost.

        One that nobody serves yet is left at once: its handshake must not go on.
        """
        self._move(Cause.SOCKET_LOST)
        self.forget_reply()
        self._handshakes.leave(self)
        if self.peer is None:
            self._end(exc)
        else:
            self._leaving.enter(partial(self._end, exc))
            self.peer.on_finished()

    def _end(self, exc: Exception | None) -> None:
        """Leave nothing behind but a record."""
        super().connection_lost(exc)
        self._accepted.discard(self)
        self.vacate()
        self.cancel_close_timer()
        peer, self.peer = self.peer, None
        account = {}
        try:
            if peer is not None:
                peer.on_lost()
                account = peer.account()
        except Exception:  # noqa: BLE001 - there is nobody left to be told
            self.record.failed()
        self.record.ended(self.protocol, self.loop.time(), account)
        self._untie()

    def _untie(self) -> None:
        """Leave nothing that refers to itself: it would be there until the garbage collector looks at everything."""
        self.protocol.parser.close()
        _forget_frames(self.protocol.parser_exc)
        _forget_frames(self.protocol.handshake_exc)


def _forget_frames(failure: BaseException | None) -> None:
    """Keep an exception and what it came from, without the frames they went through."""
    if failure is not None:
        failure.__traceback__ = None
        _forget_frames(failure.__cause__ or failure.__context__)
