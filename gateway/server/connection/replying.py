"""What a request is answered: an upgrade, or an answer over plain HTTP, sent as fast as its peer takes it.

A long answer is made a piece at a time, each when the socket has taken those before it. Who doesn't read costs a piece,
not a page, and is given up after `send_timeout` without progress; who reads steadily may take as long as it likes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from inspect import isawaitable
from typing import Any, Final

from websockets.http11 import Request, Response
from websockets.protocol import CONNECTING

from deltawire.gateway.hub.fair_queue import FairQueue
from deltawire.gateway.server.connection.containment import contained
from deltawire.gateway.server.connection.memory import CONNECTION_COST
from deltawire.gateway.server.connection.sending import SendingConnection
from deltawire.gateway.server.http.target import is_upgrade
from deltawire.gateway.server.responses import PIECE, LongResponse, pieces_of

UNREAD: Final = 4 * PIECE
"""Bytes of an answer made in pieces, about, while nobody reads it: what fills the write buffer, and the next one."""

REPLY_COST: Final = CONNECTION_COST + UNREAD
"""Bytes a connection takes with it."""


class Reply:
    """The rest of an answer.

    Args:
        pieces: of its body.
        is_chunked: whether each is a chunk (RFC 9112 §7.1): its length was not known when its head was sent.
    """

    __slots__ = ("_is_chunked", "_pieces")

    def __init__(self, pieces: Iterator[bytes], *, is_chunked: bool) -> None:
        self._pieces = pieces
        self._is_chunked = is_chunked

    def take(self) -> tuple[bytes, bool]:
        """The next bytes to send, and whether they are the last ones."""
        piece = next(self._pieces, b"")
        if not self._is_chunked:
            return piece, not piece
        return b"%x\r\n%b\r\n" % (len(piece), piece), not piece


class ReplyingConnection(SendingConnection):
    """The side of a connection that answers its request.

    Args:
        replying: where it waits for its turn when it has a long answer to send.
        args: as for `SendingConnection`.
        kwargs: likewise.
    """

    def __init__(self, replying: FairQueue, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._replying = replying
        self._reply: Reply | None = None
        self._is_waiting = False  # in the fair queue
        self._has_half_closed = False

    @property
    def is_replying(self) -> bool:
        """Whether a part of its answer is yet to be sent."""
        return self._reply is not None

    def half_closes(self) -> bool:
        """Its peer sends no more: whether it is to be answered all the same, as it asked for no WebSocket."""
        if self.request is None or self.is_finished or self.protocol.state is not CONNECTING:
            return False
        if is_upgrade(self.request.headers):
            return False
        self._has_half_closed = True
        return True

    async def handshake(
        self, process_request: Any = None, process_response: Any = None, server_header: str | None = None
    ) -> None:
        """Answer the request, once it is there. Arguments as `serve` of the library was given them.

        The library's own would wait in a coroutine for the answer to be taken, which an exception ties into a knot
        with the connection when the peer goes; and what it waits for counts towards the time for the request.
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
            return  # its peer has gone meanwhile
        self.response = response
        if response.status_code == 101:
            self.protocol.send_response(response)
            self.send_data()
        else:
            self._begin_reply(self.request, response)
            await asyncio.shield(self.connection_lost_waiter)

    def _begin_reply(self, request: Request, response: Response) -> None:
        pieces, is_chunked = pieces_of(response, request.protocol)
        self.occupy(CONNECTION_COST, UNREAD if isinstance(response, LongResponse) else len(response.body))
        response.body = b""
        self.protocol.send_response(response)  # from here on it discards what comes
        head, *_ = self.protocol.data_to_send()  # an end follows, which is for the body to tell
        self._reply = Reply(pieces, is_chunked=is_chunked)
        self.transport.write(head)
        self._send_piece()

    @contained
    def _send_piece(self) -> None:
        """Send a piece, and the next one when it is this connection's turn."""
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
        self.occupy(CONNECTION_COST)  # the rest is in its write buffer
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
        """The write buffer has drained."""
        super().resume_writing()
        if self._reply is not None:
            self._wait_for_turn()

    def forget_reply(self) -> None:
        """Its socket is gone."""
        self._reply = None

    def abort_stalled_reply(self, now: float, timeout: float) -> None:
        """Abort the socket of a peer that takes nothing of its answer.

        Args:
            now: monotonic seconds.
            timeout: seconds it may take nothing.
        """
        if self._reply is not None and self.paused and self.stalled_for(now) >= timeout:
            self.abort(f"took none of its answer for send_timeout ({timeout:g} s)")
