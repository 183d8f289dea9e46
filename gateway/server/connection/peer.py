"""The interfaces of a connection: the consumer or producer it serves, its relay, and the verifier of its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from deltawire.gateway.access import Grant
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.codes import ProblemCode

if TYPE_CHECKING:
    from deltawire.gateway.server.connection.connection import GatewayConnection


class Peer(Protocol):
    """A consumer or a producer, as its connection sees it."""

    @property
    def is_busy(self) -> bool:
        """Whether it still processes what it received; it gets nothing more until it calls `receive_deferred`."""

    @property
    def held_bytes(self) -> int:
        """Bytes, about, that it keeps of what it received."""

    @property
    def stream(self) -> Stream:
        """The stream it reads or writes."""

    def receive(self, payload: bytes, *, is_text: bool) -> None:
        """Handle a whole message."""

    def forbidden_by(self, grant: Grant) -> str:
        """Which of its uses a grant does not allow, in words; empty if none."""

    def pause(self) -> None:
        """The socket is full."""

    def resume(self) -> None:
        """The socket accepts again."""

    def end(self, code: ProblemCode, why: str) -> None:
        """Say why, and close."""

    def account(self) -> dict[str, int]:
        """How much of its stream it was sent, or how much it published."""

    def drain(self) -> None:
        """Finish what is left, then close with 1001."""

    def on_finished(self) -> None:
        """Nothing more is sent or accepted, though the socket may stay for a while; may be called twice."""

    def received(self) -> None:
        """Everything from one read of the socket has been received."""

    def answer_rest(self) -> None:
        """Send outstanding answers, as the connection is about to close and nothing can be sent afterwards."""

    def on_lost(self) -> None:
        """The connection is gone."""


class Uploader(Peer, Protocol):
    """A producer, or whoever signals, as the body of a request sees it."""

    @property
    def rank(self) -> int:
        """Of the class of its stream: the body waits in that line."""

    def conclude(self) -> None:
        """Answer everything, and close: nothing more comes."""


class Relaying(Protocol):
    """What relays the bytes of a connection to another node and back."""

    @property
    def held_bytes(self) -> int:
        """Bytes, about, that wait for the other node."""

    def account(self) -> dict[str, int]:
        """How many bytes were relayed."""

    def drain(self) -> None:
        """Send its client elsewhere."""

    def end_if_silent(self, now: float, timeout: float) -> None:
        """Take the other node for gone if nothing came from it for `timeout` seconds."""


class Renewer(Protocol):
    """Verifies tokens that come on a connection."""

    def renew(self, connection: GatewayConnection, token: str) -> None:
        """Replace the token of the connection if the new one is valid, and answer."""
