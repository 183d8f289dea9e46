"""A consumer over plain HTTP: the body of the response is its events, as long as there are any (SPEC §9.3).

To its consumer, such a connection is like a WebSocket whose peer says nothing. A peer that hangs up has left. One that
vanished is found by what it does not receive: comments are written now and then, and its kernel must acknowledge them.
"""

from __future__ import annotations

from typing import Protocol

from websockets.http11 import Request, Response
from websockets.protocol import OPEN

from deltawire.gateway.server.connection.progress import look
from deltawire.gateway.server.connection.replying import ReplyingConnection
from deltawire.gateway.server.responses import EventsResponse
from deltawire.protocol.codes import CloseCode


class Body(Protocol):
    """How the body of a response is written."""

    def comment(self) -> bytes:
        """A sign of life that readers ignore."""

    def end(self) -> bytes:
        """What ends the body."""


class StreamingConnection(ReplyingConnection):
    """The side of a connection that may answer its request with events."""

    _body: Body | None = None

    @property
    def is_streaming(self) -> bool:
        """Whether its response is events."""
        return self._body is not None

    @property
    def can_tell(self) -> bool:
        """Whether its peer understands messages now."""
        return self.is_streaming or self.protocol.state is OPEN

    async def _respond(self, request: Request, response: Response) -> None:
        if not isinstance(response, EventsResponse):
            await super()._respond(request, response)
            return
        self._send_head(response)
        self.encoding = response.encoding
        self._body = response.body_of_events
        self.write(response.opening)
        await response.serve(self)

    def finish(self, code: CloseCode, reason: str = "") -> None:
        """End the body; a WebSocket gets a close frame."""
        if self._body is None:
            super().finish(code, reason)
        elif not self.is_finished:
            self.record.closing(code)
            self.write(self._body.end())
            self._hang_up()

    def keep_alive(self, now: float, interval: float, timeout: float) -> bool:
        """Write a comment every `interval` seconds; abort the connection of a peer that does not receive it.

        Returns:
            Whether the connection stays.
        """
        if self._body is None:
            return super().keep_alive(now, interval, timeout)
        if self.paused or self.is_finished:  # other timeouts apply
            return True
        progress = look(self.transport)
        if self.pinged_at is None:
            if now - self.last_heard >= interval:
                self.pinged_at, self._taken = now, progress.taken
                self.write(self._body.comment())
        elif not progress.is_behind:
            self.last_heard, self.pinged_at = self.pinged_at, None
        elif now - self.pinged_at >= timeout:
            if progress.taken <= self._taken:
                self.abort(f"received nothing for ping_timeout ({timeout:g} s)")
                return False
            self.pinged_at, self._taken = now, progress.taken
        return True
