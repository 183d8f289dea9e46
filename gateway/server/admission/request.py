"""A request that waits for its response, and the type of the steps that may give one (SPEC §2.3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.server.http.assets import ASSETS
from deltawire.gateway.server.http.target import Target
from deltawire.protocol.codec import CODECS

OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/healthz", "/v1/schema.json", "/v1/asyncapi.json", *ASSETS})
"""Paths open to everybody: the health of the process, and what is documented anyway. They show nothing of a stream."""


class AdmissionRequest(NamedTuple):
    """A request that waits for its response.

    Attributes:
        connection: where it came from; its socket's address is known, and its `peer` is still None.
        request: as the library parsed it; its path may hold a token.
        target: its path, in parts, without tokens.
        queried: the tokens in its query string.
    """

    connection: GatewayConnection
    request: Request
    target: Target
    queried: Sequence[str] = ()

    @property
    def is_open(self) -> bool:
        """Whether its path is open to everybody."""
        return not self.target.stream_id and self.target.tail in OPEN_PATHS


Step: TypeAlias = Callable[[AdmissionRequest], Response | Awaitable[Response | None] | None]
"""Returns a refusal (or, for plain HTTP, the response), or None, which leaves the request to the next step."""


def select_subprotocol(offered: Sequence[str]) -> str | None:
    """Return the first known subprotocol offered; None for a client that offers none, which gets JSON."""
    return next((name for name in offered if name in CODECS), None)


def offered_subprotocols(headers: Headers) -> list[str]:
    """Return the subprotocols a client offers, in its order; the header may come several times (RFC 6455 §11.3.4)."""
    offers = ",".join(headers.get_all("Sec-WebSocket-Protocol"))
    return [name for name in map(str.strip, offers.split(",")) if name]
