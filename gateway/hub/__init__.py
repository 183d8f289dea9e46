"""Streams on an event loop, for Python programs in the same process and for the server.

- `hub` — `Hub`: operations on streams, publishing, leases, calls from other threads
- `flushing` — which channels are flushed in which turn of the loop
- `fair_queue` — many small steps, done a slice of a turn at a time
- `deadlines` — what has to be checked several times a second
- `channel` — one stream's consumers and producers, and what a flush does
- `cohort` — consumers at the head, which are sent the same bytes
- `latency` — how long events take through a channel
- `local` — `LocalStream` and `LocalSubscription`, streams without sockets
"""

from deltawire.gateway.hub.hub import Hub
from deltawire.gateway.hub.local import LocalStream, LocalSubscription

__all__ = ["Hub", "LocalStream", "LocalSubscription"]
