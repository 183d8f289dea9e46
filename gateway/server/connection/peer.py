"""What a connection serves, and who judges its tokens: the interfaces between the parts of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from deltawire.gateway.access import Grant
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.codes import ProblemCode

if TYPE_CHECKING:
    from deltawire.gateway.server.connection.connection import GatewayConnection


class Peer(Protocol):
    """What a connection serves: a consumer or a producer."""

    @property
    def is_busy(self) -> bool:
        """Whether what it received last is not done yet: it gets nothing more until it asks (`receive_deferred`)."""

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

    def on_finished(self) -> None:
        """Nothing more is sent or taken, though the socket may stay for a while; may be told twice."""

    def received(self) -> None:
        """Everything that the socket brought in one go has been received."""

    def answer_rest(self) -> None:
        """The peer is about to close: answer what has yet to be answered, nothing can be sent afterwards."""

    def on_lost(self) -> None:
        """The connection is gone."""


class Renewer(Protocol):
    """What judges tokens that come on a connection."""

    def renew(self, connection: GatewayConnection, token: str) -> None:
        """Put a token in the place of the connection's, if it is good, and answer."""
