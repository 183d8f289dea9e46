"""Streams on an event loop: for Python programs in the same process, and for the server.

- `hub` — `Hub`: the stream operations, publishing, leases, the door for threads
- `turns` — which channels are flushed in which turn of the loop; `deadlines` — what has to be looked at in time
- `channel` — one stream's consumers and producers, and what happens in a flush
- `cohort` — consumers at the head, which are given the same bytes
- `pace` — how long events take through a channel
- `local` — `LocalStream` and `LocalSubscription`, streams without sockets
"""

from deltawire.gateway.hub.hub import Hub
from deltawire.gateway.hub.local import LocalStream, LocalSubscription

__all__ = ["Hub", "LocalStream", "LocalSubscription"]
