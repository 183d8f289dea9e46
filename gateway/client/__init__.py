"""The client library: `Publisher` and `Subscriber` for Python programs.

- `errors` — what a client can fail with
- `publisher`, `subscriber` — the two async context managers
"""

from gateway.client.errors import (
    ClientError,
    EventRefused,
    Fenced,
    GatewayUnreachable,
    NotDelivered,
    ProtocolFault,
    Refused,
    StreamClosed,
    StreamFull,
)
from gateway.client.publisher import Publisher
from gateway.client.subscriber import Frame, Subscriber

__all__ = [
    "ClientError",
    "EventRefused",
    "Fenced",
    "Frame",
    "GatewayUnreachable",
    "NotDelivered",
    "ProtocolFault",
    "Publisher",
    "Refused",
    "StreamClosed",
    "StreamFull",
    "Subscriber",
]
