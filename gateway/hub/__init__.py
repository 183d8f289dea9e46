"""Streams on an event loop, for Python programs in the same process and for the server.

An event's path: `dispatch.append` puts it into its stream → `dispatch.deliver` hands the stream's `channel` to
`flushing`, which flushes it now or at the end of the turn → `channel.flush` → `cohort.deliver` writes the same bytes to
every consumer at the head, `pump` lets each other consumer read for itself → acks → waiting producers continue.

- `hub` — `Hub`: operations on streams, for programs; calls from other threads
- `dispatch` — appending, delivery, acks, audience, leases
- `committing` — the same, where an engine commits events before anyone sees them
- `merging` — storing the commits of a stream again as one piece
- `ownership` — whose a stream is, where other gateways may have it
- `screening` — middleware, before anything is appended
- `channel` — one stream's consumers and producers, and what a flush does
- `cohort` — consumers at the head, which are sent the same bytes
- `flushing` — which channels are flushed in which turn of the loop, and for how long
- `presence` — which classes of streams are in use, and the share of each in a turn
- `fair_queue` — many small steps, done a slice of a turn at a time
- `deadlines` — what has to be checked several times a second
- `latency` — how long events take through a channel
- `clock` — monotonic time, and what it is by the wall clock
- `local` — `LocalStream` and `LocalSubscription`, streams without sockets
"""

from deltawire.gateway.hub.hub import Hub
from deltawire.gateway.hub.local import LocalStream, LocalSubscription

__all__ = ["Hub", "LocalStream", "LocalSubscription"]
