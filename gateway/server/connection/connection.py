"""A WebSocket connection that handles frames without a task and without a queue.

`websockets` does the handshake, the parsing and the closing; messages that it would queue for `recv()` go straight to
the peer's callbacks instead.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, cast
from weakref import WeakKeyDictionary

from websockets.frames import CLOSE, DATA_OPCODES, TEXT, Frame
from websockets.protocol import CLOSED, CONNECTING, Event

from deltawire.gateway.access import EVERYTHING
from deltawire.gateway.hub import Hub
from deltawire.gateway.hub.fair_queue import FairQueue
from deltawire.gateway.server.accepting.handshakes import Handshakes
from deltawire.gateway.server.accepting.rate import FloodGuard
from deltawire.gateway.server.accepting.routing import UNKNOWN, Handed, remote_of
from deltawire.gateway.server.connection.closing import Cause, Phase
from deltawire.gateway.server.connection.containment import contained, forget_frames
from deltawire.gateway.server.connection.memory import SHED_OVER, connection_cost
from deltawire.gateway.server.connection.peer import Peer, Relaying, Renewer
from deltawire.gateway.server.connection.sending import HARD_MESSAGE_LIMIT, Hold
from deltawire.gateway.server.connection.splitter import OTHER, FrameSplitter
from deltawire.gateway.server.connection.uploading import UploadingConnection
from deltawire.gateway.server.http.target import Target, is_upgrade
from deltawire.gateway.streams.mirror import Mirror
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.framing import TEXT as TEXT_FRAME

OPCODE = 0x0F
"""Mask of the opcode in a frame's first byte (RFC 6455 §5.2)."""

TLS_HANDSHAKE = b"\x16"
"""What the hello of a client begins with that takes this for a port of TLS (RFC 8446 §5.1), and no line of HTTP may."""

MAX_AGENT = 100
"""Characters of a peer's `User-Agent` that are logged."""

FRAME_COST = 120
"""Bytes that a message split from the socket's bytes costs beside its payload (CPython 3.11)."""


class GatewayConnection(UploadingConnection):
    """One peer's connection.

    Args:
        accepted: where it adds itself when its socket is let in, before its request.
        hub: its tally counts what happens on the connection; its manager counts the memory it takes.
        renewer: verifies tokens that come on it.
        handshakes: lets its socket in, or refuses it.
        leaving: fair queue in which it waits to be ended after its peer hangs up.
        replying: fair queue in which it waits while it has a long response to send.
        args: as the library gives them.
        kwargs: likewise.

    Attributes:
        remote: who is at its other end, once its socket is let in.
        is_question: whether another worker of this gateway asks.
        is_relayed: whether another node relays it; `remote` is that one's client.
        relay: passes its bytes to another node and back, in place of a `peer`; None for nearly all.
        target: of its request, once it is admitted.
        is_follow: whether another node follows a stream of this one over it.
        mirror: what its consumer reads, if another node owns the stream.
        elsewhere: why its stream can't be served here; empty if it can.
        flood_guard: limits what its peer sends, once it is admitted.
        grant: what its peer may do; `grant.key` tells token holders apart, and is empty without authentication.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what a gateway has for its connections
        self,
        accepted: WeakKeyDictionary[GatewayConnection, None],
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
        self.remote = UNKNOWN
        self.is_question = self.is_relayed = self.is_follow = False
        self.mirror: Mirror | None = None
        self.relay: Relaying | None = None
        self.target = Target("", "", "")
        self.elsewhere = ""
        self.grant = EVERYTHING
        self.flood_guard: FloodGuard | None = None
        self._used_at = self.last_heard  # when the last message came, or the connection
        self._splitter = FrameSplitter(HARD_MESSAGE_LIMIT)
        self._deferred: list[tuple[int, bytes]] = []  # frames that came while the peer object was busy
        self._has_hung_up = False  # the peer hung up while the peer object was busy
        self._fragments: bytearray | None = None
        self._is_text = True

    def admitted(self) -> None:
        """Begin the record of the connection: its handshake is over."""
        host, port = self.remote.host, self.remote.port
        self.record.opened(
            "relay" if self.relay is not None else "producer" if self.target.publishes else "consumer",
            self.last_heard,
            is_brief=self.target.is_upload,
            connection=self.id.hex[:8],
            remote=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            stream=self.target.stream_id,
        )

    def cost_of(self, target: Target) -> int:
        """Bytes the connection would take for the requested target, before it holds anything."""
        return connection_cost(has_tls=self.remote.has_tls, sends=target.publishes)

    @property
    def agent(self) -> str | None:
        """The `User-Agent` of the peer, shortened."""
        names = self.request.headers.get_all("User-Agent") if self.request is not None else []
        return names[0][:MAX_AGENT] if names else None

    def forget_handshake(self) -> None:
        """Drop the headers of the request and its response: together they take 3 KiB."""
        for message in (self.request, self.response):
            if message is not None:
                message.headers.clear()

    def end_if_idle(self, now: float, timeout: float) -> None:
        """End a connection unused for `timeout` seconds: no message from its peer, and nothing on its stream."""
        if self.peer is not None and now - max(self._used_at, self.peer.stream.last_active_at) >= timeout:
            self.peer.end(ProblemCode.IDLE, f"nothing was sent or received for idle_timeout ({timeout:g} s)")

    def keep_alive(self, now: float, interval: float, timeout: float) -> bool:
        """As in the other layers; whoever is relayed is pinged by the other node."""
        if self.relay is None:
            return super().keep_alive(now, interval, timeout)
        self.relay.end_if_silent(now, interval + timeout)
        return True

    @property
    def may_be_shed(self) -> bool:
        """Whether ending it frees what it holds: it serves a peer, or sends a response, and is not ended already."""
        is_served = self.peer is not None or self.relay is not None
        return not self.is_shed and (self.is_replying or (is_served and not self.is_finished))

    def shed(self, why: str) -> None:
        """Count what it holds no more, and end it in the next turn: the caller may be working for its peer."""
        self.count(self.cost)
        self.is_shed = True
        self.loop.call_soon(self._end_shed, why)

    @contained
    def _end_shed(self, why: str) -> None:
        self.is_shed = False
        if self.may_be_shed:
            if self.peer is not None:
                self.peer.end(ProblemCode.OVERLOADED, f"{why}: try again later")
            if self.peer is None or self.transport.get_write_buffer_size() >= SHED_OVER:
                self.abort(why)  # unsent bytes are free at once; a close frame would wait behind them
        self.count(self.held_bytes)

    # Receiving

    def renew(self, token: str) -> None:
        """Verify and answer a fresh token, at once or when keys have been fetched for it."""
        self._renewer.renew(self, token)

    def check_frame(self, payload: bytes, code: ProblemCode, *, is_text: bool, limit: int) -> None:
        """Refuse a message that is too long, or in the wrong kind of frame for its encoding.

        Raises:
            WireError: with `code`.
        """
        if len(payload) > limit:
            raise WireError(code, f"message of {len(payload)} bytes is over max_message ({limit})")
        if is_text is not self.codec.is_text and payload:
            expected = "text" if self.codec.is_text else "binary"
            raise WireError(code, f"{self.codec.subprotocol} takes {expected} frames")

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the socket; they show that the peer is alive."""
        self.last_heard = self.loop.time()
        self.tally.received_bytes += len(data)
        try:
            if self._response is not None:
                return  # whoever streams has nothing to say
            if self.upload is not None:
                if not self.is_finished:
                    self.upload.feed(data)
            elif self.peer is None or self.is_finished:
                self._receive_outside(data)
            else:
                self._receive(data, self.peer)
                if self.paused:  # the peer must read its answers before it asks for more
                    self.hold_reading(Hold.UNREAD_ANSWERS)
        except Exception:  # noqa: BLE001 - the loop would end the connection, though without a word
            self.fail()

    def _receive(self, data: bytes, peer: Peer) -> None:
        frames = self._splitter.feed(data)
        guard = self.flood_guard
        if guard is not None and (why := guard.judge_messages(len(frames), self.last_heard)):
            peer.end(ProblemCode.RATE_LIMITED, why)
        elif self._deferred:
            self._deferred += frames
        else:
            self._take_frames(frames, peer)
            peer.received()

    def _take_frames(self, frames: list[tuple[int, bytes]], peer: Peer) -> None:
        guard, now = self.flood_guard, self.last_heard
        for at, (first, piece) in enumerate(frames):
            if peer.is_busy and not self.is_finished:
                self._deferred = frames[at:]
                return
            if first != OTHER:
                if not self.is_finished:
                    self._used_at = now
                    peer.receive(piece, is_text=first == TEXT_FRAME)
            elif guard is not None and (why := guard.judge_other(piece, now)):
                peer.end(ProblemCode.RATE_LIMITED, why)
                return
            else:
                if piece[0] & OPCODE == CLOSE:
                    peer.answer_rest()
                super().data_received(piece)
                if self.protocol.close_expected():  # the peer has closed, or done what ends the connection
                    self.await_close()

    def receive_deferred(self) -> None:
        """Pass frames to the peer that came while it was busy, until it is busy again."""
        peer = self.peer
        if peer is None or peer.is_busy:
            return
        if self.upload is not None:
            self.upload.pass_on()
        if self._deferred:
            frames, self._deferred = self._deferred, []
            self._take_frames(frames, peer)
        if self._has_hung_up and not peer.is_busy:
            self._end_hung_up()

    def judge_events(self, count: int) -> str:
        """Count events that came beyond the number of messages; return an error message, or an empty one."""
        return "" if self.flood_guard is None else self.flood_guard.judge_messages(count, self.loop.time())

    @property
    def held_bytes(self) -> int:
        """Bytes it costs now, including unsent bytes and incomplete or deferred input."""
        if self.is_replying:
            return self.cost + self.reserved
        held = self.cost + self.transport.get_write_buffer_size() + self._splitter.held_bytes + self.body_bytes
        if self._fragments is not None:
            held += len(self._fragments)
        if self.relay is not None:
            held += self.relay.held_bytes
        if self._deferred:
            held += sum(len(piece) + FRAME_COST for _, piece in self._deferred)
        return held if self.peer is None else held + self.peer.held_bytes

    def _receive_outside(self, data: bytes) -> None:
        """Handle bytes that came before the connection was open, or after it was closed."""
        if self.phase is Phase.DEAF:
            return
        data = self._splitter.take_rest() + data
        if self.request is None and data.startswith(TLS_HANDSHAKE):
            data = TLS_HANDSHAKE + b"\r\n"  # a hello need not have a line: refuse it as one that can't be read
        while self.request is None and self.protocol.handshake_exc is None and data:
            line, newline, data = data.partition(b"\n")  # by lines: the parser would take the rest for frames
            super().data_received(line + newline)
        if self.request is None or self.protocol.state is not CONNECTING:
            super().data_received(data)
        elif data and self.response is None:
            if is_upgrade(self.request.headers):
                self.transport.abort()  # a client must wait for the answer to its handshake (RFC 6455 §4.1)
            elif self.head.kept:
                self.keep_early(data)
        if self.protocol.close_expected():
            self.await_close()

    def stop_parsing(self) -> None:
        """Stop parsing input, drop partial frames, half-close."""
        super().stop_parsing()
        self._splitter.take_rest()
        self._fragments = None
        self._deferred = []

    def eof_received(self) -> bool:  # type: ignore[override]  # the library keeps no socket
        """End the connection when its turn comes, as the peer has hung up: thousands may hang up at once.

        Returns:
            Whether the socket stays open until then, which is not possible with TLS.
        """
        if not self.transport.can_write_eof():
            self._end_hung_up()
            return False
        self._leaving.enter(self._end_hung_up)
        return True

    @contained
    def _end_hung_up(self) -> None:
        """End a connection whose peer has hung up: unsent bytes must not keep its socket open for ever."""
        # Either its socket was lost meanwhile, or its peer still waits for a response.
        if self.protocol.state is CLOSED or self.half_closes():
            return
        if self.peer is not None and not self.is_finished:
            if self.peer.is_busy:  # with earlier messages, which go first
                self._has_hung_up = True
                return
            self.peer.answer_rest()
        super().eof_received()
        self.await_close()
        self.transport.close()

    def process_event(self, event: Event) -> None:
        """Handle a frame from the library's parser: a fragment of a message."""
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
        """Pass the new socket to `Handshakes`; if it exceeds a limit, nothing is set up for it."""
        self._handshakes.receive(self, cast("asyncio.Transport", transport))

    def adopt(self, transport: asyncio.Transport, handed: Handed) -> None:
        """Like `connection_made`, for a socket that another worker has handed over."""
        self.remote, self.is_question = handed.remote, handed.is_question
        self._handshakes.adopt(self, transport, handed)

    def let_in(self, transport: asyncio.Transport) -> None:
        """Begin to serve the socket."""
        super().connection_made(transport)
        if self.remote is UNKNOWN:
            self.remote = remote_of(transport)
        self._accepted[self] = None

    @contained
    def connection_lost(self, exc: Exception | None) -> None:
        """Stop sending, as the socket is gone. The rest is done when its turn comes, as thousands may be lost at once.

        A connection without a peer object is ended at once: its handshake must not continue.
        """
        self._move(Cause.SOCKET_LOST)
        self.forget_reply()
        self.respond_now()
        self._handshakes.leave(self)
        if self.peer is None:
            self._end(exc)
        else:
            self._leaving.enter(partial(self._end, exc))
            self.peer.on_finished()

    def _end(self, exc: Exception | None) -> None:
        """Release everything, and write the record."""
        super().connection_lost(exc)
        self._accepted.pop(self, None)
        self.vacate()
        self.cancel_close_timer()
        self.leave()
        self.protocol.parser.close()  # this breaks reference cycles, which would stay until a full garbage collection
        forget_frames(self.protocol.parser_exc)
        forget_frames(self.protocol.handshake_exc)

    def leave(self) -> None:
        """Release the peer object, and write the record; twice changes nothing."""
        peer, self.peer = self.peer, None
        account = {} if self.relay is None else self.relay.account()
        try:
            if peer is not None:
                peer.on_lost()
                account = peer.account()
        except Exception:  # noqa: BLE001 - no peer is left to tell
            self.record.failed()
        self.record.ended(self.protocol, self.loop.time(), account)
