"""One connection to the upstream: HTTP/1.1 as httptools reads it, bytes as they come.

It is written here because no client does both: pass a head as it came, and a piece of a body in little time. aiohttp
encodes fields anew, httpx takes twice as long for each piece.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from typing import Final, cast

import httptools

from deltawire.gateway.proxy.fields import Fields
from deltawire.gateway.proxy.upstream import End, Take, UpstreamFailed

PIECE: Final = 64 * 1024
"""Bytes that are read at once, and that wait before reading stops."""

MAX_HEAD: Final = 128 * 1024
"""Bytes of an answer's head, or between parts of its body; servers commonly send at most 16 KiB."""

REFUSED: Final = 400
"""The first status of those that mean that the rest of a request is not wanted."""

HUNG_UP: Final = "it closed the connection too early, or sent what is not HTTP"


class Connection(asyncio.BufferedProtocol):
    """A connection, for one request after the other.

    Args:
        buffer: for what is read; the connections of one event loop may share it.
    """

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._waiter: asyncio.Future[None] | None = None  # of the one who reads
        self._has_room = asyncio.Event()  # for more of the request; or no more of it is wanted
        self._has_room.set()
        self._is_paused = False  # nothing is read at the moment
        self._end: End | None = None
        self._heard_at = 0.0  # when something last came, or could come again, in seconds of the event loop
        self._is_answered = True  # nothing is expected
        self._is_kept = True  # the upstream takes another request on it

    def begin(self, request: bytes, *, is_bodiless: bool) -> None:
        """Send the head of a request.

        Args:
            request: the head.
            is_bodiless: whether its answer has no body, whatever the head of that says.
        """
        self._transport.write(request)  # first: the rest is in time before anything is read
        self._parser = httptools.HttpResponseParser(self)
        self._is_bodiless = is_bodiless
        self._status = 0
        self._fields: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._got: list[bytes] = []  # by the parser, of what is being read
        self._pieces: deque[bytes] = deque()
        self._unread = 0
        self._limit = PIECE
        self._take: Take | None = None
        self._end = None
        self._failure: Exception | None = None
        self._is_answered = self._is_kept = False

    async def send(self, piece: bytes) -> bool:
        """Send a piece of the request's body, as soon as there is room for it.

        Returns whether it was sent: it is not once the upstream has hung up, or refused the request (RFC 9112 §9.5).
        """
        await self._has_room.wait()
        while self._has_unread():  # noqa: ASYNC110 - for a turn or two
            await asyncio.sleep(0)  # a write that fails would lose what the upstream said at last
        is_of_use = self._status < REFUSED and not self._transport.is_closing()
        if is_of_use:
            self._transport.write(piece)
        return is_of_use

    async def is_stale(self) -> bool:
        """Whether the upstream has closed the connection and answered nothing; waits for the beginning of an answer."""
        while not self._head_size and not self._status and self._failure is None:
            await self._wait()
        return not self._head_size and not self._status

    async def read_head(self) -> tuple[int, Fields]:
        """The status of the answer, and its fields.

        Raises:
            UpstreamFailed: there is none.
            Exception: what `fail` was told.
        """
        while not self._status:
            if self._failure is not None:
                raise self._failure
            await self._wait()
        return self._status, self._fields

    async def read(self) -> bytes:
        """The next piece of the body; empty at its end.

        Raises:
            UpstreamFailed: it breaks off.
            Exception: what `fail` was told.
        """
        while not self._pieces:
            if self._is_answered:
                return b""
            if self._failure is not None:
                raise self._failure
            await self._wait()
        piece = self._pieces.popleft()
        self._unread -= len(piece)
        if self._is_paused and self._unread <= self._limit:
            self._is_paused = False
            self._heard_at = self._loop.time()
            self._transport.resume_reading()
        return piece

    def follow(self, take: Take, end: End, limit: int) -> None:
        """Tell somebody else of the body as well, when it comes, and not when it is read.

        Args:
            take: called with each piece, also those that wait to be read; after who waits for it has had it.
            end: called when nothing more will come.
            limit: bytes that wait to be read before reading stops.
        """
        for piece in self._pieces:
            self._loop.call_soon(take, piece)
        self._take, self._end, self._limit = take, end, limit
        self._tell_end()

    @property
    def is_free(self) -> bool:
        """Whether another request may be sent; not while reading rests, for an answer that was left unread."""
        return self._is_answered and self._is_kept and not self._is_paused and not self._transport.is_closing()

    def heard(self) -> float | None:
        """When something of the answer came last, in seconds of the event loop; None if no more is to come now.

        That is because it is all there, or has failed, or reading rests until what came is taken.
        """
        return None if self._is_answered or self._is_paused or self._failure is not None else self._heard_at

    def abort(self) -> None:
        """Close it at once."""
        self._transport.abort()

    def fail(self, error: Exception) -> None:
        """Close it at once; whoever reads the answer gets this error."""
        self._failure = error
        self._is_kept = False
        self._wake()
        self._tell_end()
        self._transport.abort()

    def _has_unread(self) -> bool:
        """Whether something has come, or the end, that the event loop will read in its next turn."""
        if self._is_paused or self._transport.is_closing():
            return False
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket"), select.POLLIN)
        return bool(poll.poll(0))

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _tell_end(self) -> None:
        if self._end is not None and (self._is_answered or self._failure is not None):
            self._loop.call_soon(self._end, self._failure)
            self._take = self._end = None

    def _put(self, piece: bytes) -> None:
        """Keep a piece until it is read."""
        self._pieces.append(piece)
        self._unread += len(piece)
        self._wake()  # before others are told: what they make of a piece takes time
        if self._take is not None:
            self._loop.call_soon(self._take, piece)
        if self._unread > self._limit and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the interface
        """Where to put what is read next."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Something was read."""
        if self._is_answered:
            self.abort()  # nobody has asked
            return
        self._heard_at = self._loop.time()
        is_http = True
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            is_http = self._is_kept = False
        if not self._got:
            self._head_size += nbytes
            is_http &= self._head_size <= MAX_HEAD
        else:
            self._head_size = 0
            self._put(self._got[0] if len(self._got) == 1 else b"".join(self._got))
            self._got.clear()
        if not is_http and not self._is_answered and self._failure is None:
            self.fail(UpstreamFailed(HUNG_UP))
        self._wake()
        self._tell_end()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._is_kept = False
        if not self._is_answered and self._failure is None:
            if exc is None and self._status and self._ends_with_connection():
                self._is_answered = True
            else:
                self._failure = UpstreamFailed(str(exc) if isinstance(exc, OSError) and exc.args else HUNG_UP)
        self._has_room.set()
        self._wake()
        self._tell_end()

    def pause_writing(self) -> None:
        """Much waits for the upstream to read."""
        self._has_room.clear()

    def resume_writing(self) -> None:
        """Little does."""
        self._has_room.set()

    def _ends_with_connection(self) -> bool:
        """Whether the body of the answer is all until the connection ends (RFC 9112 §6.3)."""
        return not {b"content-length", b"transfer-encoding"}.intersection(dict(self._fields))

    # What the parser calls

    def on_message_begin(self) -> None:
        """The answer begins; or another one, in the same piece, that nobody has asked for."""
        if self._is_answered:
            self._is_kept = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or of the trailer, which does not pass."""
        if not self._status:
            self._fields.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head is there; one that only says that another will follow does not count."""
        if self._is_answered:
            return  # of an answer that nobody has asked for
        status = self._parser.get_status_code()
        if status < 200:
            self._fields.clear()
            return
        self._status = status
        self._is_answered = self._is_bodiless
        if status >= REFUSED:
            self._has_room.set()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if not self._is_answered:
            self._got.append(body)

    def on_message_complete(self) -> None:
        """The answer is complete."""
        if self._status and not self._is_answered:
            self._is_answered = True
            self._is_kept = self._parser.should_keep_alive()
