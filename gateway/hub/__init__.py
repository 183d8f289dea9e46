"""Streams on an event loop: for Python programs in the same process, and for the server.

- `hub` — `Hub`: the stream operations, publishing, flushing once per loop turn, deadlines, the door for threads
- `channel` — one stream's consumers and producers, and what happens in a flush
- `pace` — how long events take through a channel
- `local` — `LocalStream` and `LocalSubscription`, streams without sockets
"""

from gateway.hub.hub import Hub
from gateway.hub.local import LocalStream, LocalSubscription

__all__ = ["Hub", "LocalStream", "LocalSubscription"]
