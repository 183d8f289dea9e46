"""A consumer over plain HTTP: the body of the response is its events, as long as there are any (SPEC §9.3).

To its consumer, such a connection is like a WebSocket whose peer says nothing. A peer that hangs up has left. One that
vanished is found by what it does not receive: comments are written now and then, and its kernel must acknowledge them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from websockets.http11 import Request, Response
from websockets.protocol import OPEN

from deltawire.gateway.server.connection.progress import look
from deltawire.gateway.server.connection.replying import ReplyingConnection
from deltawire.gateway.server.responses import EventsResponse
from deltawire.protocol.codes import CloseCode
from deltawire.protocol.event_stream import COMMENT


class Translator(Protocol):
    """Says what a consumer is sent in another protocol."""

    @property
    def is_done(self) -> bool:
        """Whether nothing follows, whatever the consumer is sent."""

    @property
    def held_bytes(self) -> int:
        """Bytes, about, that it keeps."""

    def convert(self, frames: bytes) -> bytes:
        """Convert whole frames in JSON."""


class StreamingConnection(ReplyingConnection):
    """The side of a connection that may answer its request with events."""

    _response: EventsResponse | None = None

    @property
    def is_streaming(self) -> bool:
        """Whether its response is events."""
        return self._response is not None

    @property
    def can_tell(self) -> bool:
        """Whether its peer understands messages now."""
        return self.is_streaming or self.protocol.state is OPEN

    @property
    def _translator(self) -> Translator | None:
        return None if self._response is None else self._response.translator

    @property
    def body_bytes(self) -> int:
        """Bytes, about, that the translation of its events keeps."""
        return 0 if self._translator is None else self._translator.held_bytes

    async def _respond(self, request: Request, response: Response) -> None:
        if not isinstance(response, EventsResponse):
            await super()._respond(request, response)
            return
        self._send_head(response)
        self._response = response
        self.encoding = response.encoding
        self.transport.write(response.framing.pack(response.opening))
        await response.serve(self)

    @property
    def writer(self) -> Callable[[bytes], object]:
        """Writes whole frames as long as the connection is not finished."""
        return super().writer if self._translator is None else self.write

    def write(self, frames: bytes) -> None:
        """Write whole frames, in the protocol of the response."""
        response = self._response
        if response is None or response.translator is None:
            super().write(frames)
            return
        translator = response.translator
        body = translator.convert(frames)
        if body:
            super().write(response.framing.pack(body))
        if translator.is_done:
            self.finish(CloseCode.STREAM_ENDED)

    def finish(self, code: CloseCode, reason: str = "") -> None:
        """End the body; a WebSocket gets a close frame."""
        response = self._response
        if response is None:
            super().finish(code, reason)
        elif not self.is_finished:
            self.record.closing(code)
            if response.translator is None or response.translator.is_done:
                super().write(response.framing.end())
            self._hang_up()

    def keep_alive(self, now: float, interval: float, timeout: float) -> bool:
        """Write a comment every `interval` seconds; abort the connection of a peer that does not receive it.

        Returns:
            Whether the connection stays.
        """
        if self._response is None:
            return super().keep_alive(now, interval, timeout)
        if self.paused or self.is_finished:  # other timeouts apply
            return True
        if self.pinged_at is None and now - self.last_heard < interval:
            return True
        progress = look(self.transport)  # a system call: of 500 readers, twice a second, a fifth of the time
        if self.pinged_at is None:
            self.pinged_at, self._taken = now, progress.taken
            super().write(self._response.framing.pack(COMMENT))
        elif not progress.is_behind:
            self.last_heard, self.pinged_at = self.pinged_at, None
        elif now - self.pinged_at >= timeout:
            if progress.taken <= self._taken:
                self.abort(f"received nothing for ping_timeout ({timeout:g} s)")
                return False
            self.pinged_at, self._taken = now, progress.taken
        return True
