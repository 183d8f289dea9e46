"""A peer over plain HTTP: the body of the request is what it sends, and the response what it is told (SPEC §9.6, §9.7).

To its peer object, such a connection is like a WebSocket. It has no pings: a peer that sends nothing for as long as one
may that is pinged and does not answer has vanished.
"""

from __future__ import annotations

from typing import Any, Final

from deltawire.gateway.server.accepting.heads import read_heads
from deltawire.gateway.server.connection.closing import Cause
from deltawire.gateway.server.connection.peer import Uploader
from deltawire.gateway.server.connection.sending import Hold
from deltawire.gateway.server.connection.streaming import StreamingConnection
from deltawire.gateway.server.connection.upload import Upload
from deltawire.protocol.codes import CloseCode, ProblemCode
from deltawire.protocol.messages import Message

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
"""For a client that asks whether to send its body (RFC 9110 §10.1.1)."""


class UploadingConnection(StreamingConnection):
    """The side of a connection that may read the body of its request.

    Attributes:
        upload: the body, once it is wanted.
        head: what the head of the request says of its body.
    """

    upload: Upload | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.head = read_heads(self.protocol)
        self._early = b""  # of the body, from before it was wanted

    @property
    def is_uploading(self) -> bool:
        """Whether its peer sends the body of a request, and reads nothing until that is complete."""
        return self.upload is not None

    def keep_early(self, data: bytes) -> None:
        """Keep bytes of a body until somebody wants it, and read no more until then."""
        self._early += data
        self.hold_reading(Hold.BODY)

    def take_body(self) -> tuple[bytes, bool]:
        """Return the bytes kept of a body, which somebody else reads from here on, and whether nothing follows."""
        early, self._early = self._early, b""
        self.release_reading(Hold.BODY)
        return early, self._has_half_closed

    def begin_upload(self, producer: Uploader) -> None:
        """Begin to read the body, as its producer is there."""
        if self.upload is None or self.is_finished:
            return
        early, self._early = self._early, b""
        if not early and self.request is not None and self._expects_word(self.request.headers.get_all("Expect")):
            self.transport.write(CONTINUE)
        self.release_reading(Hold.BODY)
        self.upload.begin(producer)
        self.upload.feed(early)
        if self._has_half_closed:
            self.upload.cut()

    def _expects_word(self, named: list[str]) -> bool:
        assert self.request is not None, "it was admitted"
        return self.request.protocol != "HTTP/1.0" and any(it.strip().lower() == "100-continue" for it in named)

    @property
    def body_bytes(self) -> int:
        """Bytes, about, that are held of a body."""
        return super().body_bytes + len(self._early) + (0 if self.upload is None else self.upload.held_bytes)

    def half_closes(self) -> bool:
        """Handle a half-close: whoever sends a body has sent all of it, and wants the response."""
        if self.upload is None or self.response is not None:
            return super().half_closes()
        self._has_half_closed = True
        if not self.is_finished:
            self.upload.cut()
        return True

    def await_close(self) -> None:
        """As in `SendingConnection`; nobody will want the body."""
        self._early = b""
        super().await_close()

    # What a WebSocket would be sent

    @property
    def can_tell(self) -> bool:
        """Whether its peer understands messages now."""
        return self.upload is not None or super().can_tell

    def tell(self, message: Message) -> None:
        """Put a control message into the response; write it to others."""
        if self.upload is None:
            super().tell(message)
        else:
            self.upload.tell(message)

    def finish(self, code: CloseCode, reason: str = "") -> None:
        """Respond; end others."""
        if self.upload is None:
            super().finish(code, reason)
        elif not self.is_finished:
            self.record.closing(code)
            self._move(Cause.CLOSE)
            self._early = b""
            self.release_all()
            self.upload.finish()

    def stop_parsing(self) -> None:
        """Nothing to do with a body: what is left of it is never parsed."""
        if self.upload is None:
            super().stop_parsing()

    def keep_alive(self, now: float, interval: float, timeout: float) -> bool:
        """End the request of a peer whose body does not go on; ping others."""
        if self.upload is None or self.is_finished or self.peer is None:
            return super().keep_alive(now, interval, timeout)
        if self.is_reading_held:
            self.last_heard = now  # it may send nothing
        elif now - self.last_heard >= interval + timeout:
            why = f"nothing of the body came for {interval + timeout:g} s (ping_interval and ping_timeout)"
            self.peer.end(ProblemCode.IDLE, why)
        return True
