"""The client library: `Publisher` and `Subscriber` for Python programs.

Each event is delivered once, through lost connections and restarts of the gateway: a subscriber resumes after the last
seq it accounted for, a publisher numbers its events and sends again what was not acked. What can't be had is named
in a gap; what can't be sent raises.

An event's path: `Publisher.send` → `window` (kept until acked) → `session` writes and sends again after a
reconnect → the gateway → `connection` reads → `tracker` (in order, once, gaps) → `Subscriber` yields it as a `Frame`.

Pure, with the clock as an argument:

- `errors` — what a client can fail with
- `urls` — the addresses it asks for
- `backoff` — how long to wait, when to give up
- `frames` — what a subscriber has received
- `tracker` — what a subscriber has accounted for
- `window` — what a publisher has sent and not seen acked

With sockets:

- `tokens` — where tokens come from, and when a fresh one is due
- `connection` — one connection after another, and how they fail
- `subscriber` — `Subscriber`
- `changes` — waiting for a state to change; `session` — the connection side of a publisher
- `publisher` — `Publisher`

Beside them, `upstream`: what feeds a publisher, and how an answer ends whose source falls silent.
"""

from deltawire.gateway.client.errors import (
    ClientError,
    EventRefused,
    Fenced,
    GatewayUnreachable,
    NotDelivered,
    NotPermitted,
    ProtocolFault,
    Refused,
    StreamClosed,
    StreamFull,
    StreamNotFound,
    TextMismatch,
    TokenUnavailable,
)
from deltawire.gateway.client.frames import Frame
from deltawire.gateway.client.publisher import Publisher
from deltawire.gateway.client.subscriber import Subscriber
from deltawire.gateway.client.tokens import TokenProvider
from deltawire.gateway.client.upstream import SourceStalled, iterate_with_idle_timeout

__all__ = [
    "ClientError",
    "EventRefused",
    "Fenced",
    "Frame",
    "GatewayUnreachable",
    "NotDelivered",
    "NotPermitted",
    "ProtocolFault",
    "Publisher",
    "Refused",
    "SourceStalled",
    "StreamClosed",
    "StreamFull",
    "StreamNotFound",
    "Subscriber",
    "TextMismatch",
    "TokenProvider",
    "TokenUnavailable",
    "iterate_with_idle_timeout",
]
