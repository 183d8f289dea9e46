"""The response to a request: an upgrade, or a response over plain HTTP, sent as fast as its peer reads it.

A long response is made piece by piece, each one when the socket has accepted the ones before. A peer that doesn't read
costs a piece, not a page, and is aborted after `send_timeout` without progress; a peer that reads steadily may take as
long as it likes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from inspect import isawaitable
from typing import Any, Final

from websockets.http11 import Request, Response
from websockets.protocol import CONNECTING

from deltawire.gateway.hub.fair_queue import FairQueue
from deltawire.gateway.server.connection.containment import contained
from deltawire.gateway.server.connection.memory import CONNECTION_COST
from deltawire.gateway.server.connection.sending import SendingConnection
from deltawire.gateway.server.http.target import is_upgrade, parse_target
from deltawire.gateway.server.responses import PIECE, LongResponse, TakenOver, pieces_of

UNREAD: Final = 4 * PIECE
"""Bytes, about, that a response in pieces holds while nobody reads it: a full write buffer, and the next piece."""

REPLY_COST: Final = CONNECTION_COST + UNREAD
"""Bytes a connection with such a response takes."""


class Reply:
    """The rest of a response.

    Args:
        pieces: of its body.
        is_chunked: whether each is sent as a chunk (RFC 9112 §7.1), as the length was not known when the head was sent.
    """

    __slots__ = ("_is_chunked", "_pieces")

    def __init__(self, pieces: Iterator[bytes], *, is_chunked: bool) -> None:
        self._pieces = pieces
        self._is_chunked = is_chunked

    def take(self) -> tuple[bytes, bool]:
        """Return the next bytes to send, and whether they are the last ones."""
        piece = next(self._pieces, b"")
        if not self._is_chunked:
            return piece, not piece
        return b"%x\r\n%b\r\n" % (len(piece), piece), not piece


class ReplyingConnection(SendingConnection):
    """The side of a connection that answers its request.

    Args:
        replying: fair queue in which it waits while it has a long response to send.
        args: as for `SendingConnection`.
        kwargs: likewise.

    Attributes:
        hurry: ends the wait for something to respond with; None while nothing is waited for.
    """

    def __init__(self, replying: FairQueue, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._replying = replying
        self._reply: Reply | None = None
        self._is_waiting = False  # in the fair queue
        self._has_half_closed = False
        self.hurry: Callable[[], None] | None = None

    @property
    def is_replying(self) -> bool:
        """Whether a part of its response has yet to be sent."""
        return self._reply is not None

    def half_closes(self) -> bool:
        """Handle a half-close; return whether to respond all the same, as the request was for no stream."""
        if self.request is None or self.is_finished or self.protocol.state is not CONNECTING:
            return False
        if is_upgrade(self.request.headers) or parse_target(self.request.path).is_event_stream:
            return False
        self._has_half_closed = True
        self.respond_now()
        return True

    def respond_now(self) -> None:
        """Wait no longer for something to respond with: the peer may have left, or the gateway is about to."""
        if self.hurry is not None:
            self.hurry()

    async def handshake(
        self, process_request: Any = None, process_response: Any = None, server_header: str | None = None
    ) -> None:
        """Answer the request once it is complete. Arguments as given to `serve` of the library.

        The library's own method would wait in a coroutine for the response to be read. If the peer goes meanwhile, an
        exception makes a reference cycle with the connection; and the wait counts towards the time for the request.
        """
        assert server_header is None, "the gateway does not say what it is"
        await asyncio.wait([self.request_rcvd, self.connection_lost_waiter], return_when=asyncio.FIRST_COMPLETED)
        if self.request is None or self.transport.is_closing():
            return
        response = process_request(self, self.request)
        if isawaitable(response):
            response = await response
        response = response or self.protocol.accept(self.request)
        response = process_response(self, self.request, response) or response
        if self.protocol.state is not CONNECTING:
            return  # the peer has gone meanwhile
        self.response = response
        if response.status_code == 101:
            self.protocol.send_response(response)
            self.send_data()
        else:
            await self._respond(self.request, response)

    async def _respond(self, request: Request, response: Response) -> None:
        if isinstance(response, TakenOver):
            await response.serve()
            return
        self._begin_reply(request, response)
        await asyncio.shield(self.connection_lost_waiter)

    def _begin_reply(self, request: Request, response: Response) -> None:
        pieces, is_chunked = pieces_of(response, request.protocol)
        self.occupy(CONNECTION_COST, UNREAD if isinstance(response, LongResponse) else len(response.body))
        response.body = b""
        self._reply = Reply(pieces, is_chunked=is_chunked)
        self._send_head(response)
        self._send_piece()

    def _send_head(self, response: Response) -> None:
        self.protocol.send_response(response)  # from here on the protocol discards input
        head, *_ = self.protocol.data_to_send()  # drops the EOF that follows: the body is yet to be sent
        self.transport.write(head)

    @contained
    def _send_piece(self) -> None:
        """Send a piece, and the next one when this connection gets its turn again."""
        self._is_waiting = False
        if self._reply is None or self.paused or self.transport.is_closing():
            return
        data, is_last = self._reply.take()
        if data:
            self.transport.write(data)
        if is_last:
            self._end_reply()
        else:
            self._wait_for_turn()

    def _end_reply(self) -> None:
        self._reply = None
        self.occupy(CONNECTION_COST)  # unsent bytes are counted with the write buffer
        self._hang_up()

    def _hang_up(self) -> None:
        """Half-close once everything is sent, and wait for the peer to hang up."""
        if not self._has_half_closed and self.transport.can_write_eof():
            self.transport.write_eof()
            self.await_close()
        else:
            self.await_close()
            self.transport.close()

    def _wait_for_turn(self) -> None:
        if not self._is_waiting and not self.paused:
            self._is_waiting = True
            self._replying.enter(self._send_piece)

    def resume_writing(self) -> None:
        """Continue a response, as the write buffer has drained."""
        super().resume_writing()
        if self._reply is not None:
            self._wait_for_turn()

    def forget_reply(self) -> None:
        """Drop the response, as the socket is gone."""
        self._reply = None

    def abort_stalled_reply(self, now: float, timeout: float) -> None:
        """Abort the socket of a peer that reads nothing of its response.

        Args:
            now: monotonic seconds.
            timeout: seconds for which it may read nothing.
        """
        if self._reply is not None and self.paused and self.stalled_for(now) >= timeout:
            self.abort(f"took none of its answer for send_timeout ({timeout:g} s)")
