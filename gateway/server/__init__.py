"""The server: WebSocket and HTTP endpoints for the streams of a hub.

A connection's path: `accepting` (socket, TLS, complete request) → `admission` (refused, answered, or upgraded) →
`connection` (a consumer or a producer, until it ends). An event's path: bytes of a producer's socket →
`connection.splitter` → `connection.intake` → the hub → `connection.consumer` or a cohort → bytes of other sockets.

- `gateway` — `Gateway`: start, serve, drain
- `accepting` — from listening sockets to complete requests
- `admission` — whether a request is accepted
- `connection` — what a connection does until it ends
- `relaying` — connections whose stream lives in another process
- `subscribing` — from a request to a consumer
- `http` — endpoints over plain HTTP; `responses` — how HTTP responses are built
- `housekeeping` — deadlines of connections, and the memory they hold
- `draining` — how fast peers are told to leave
- `allocator` — free memory is returned to the operating system
"""

from deltawire.gateway.requirements import check_server_requirements

check_server_requirements()

from deltawire.gateway.server.gateway import Gateway  # noqa: E402 - without them its own imports would fail, unexplained

__all__ = ["Gateway"]
