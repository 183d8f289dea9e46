"""One connection from its request to its end.

An event's path in: `connection.data_received` → `splitter.feed` → `intake.receive` decodes and validates it → the hub
appends it. Its path out: the hub writes to the socket of a consumer at the head; `consumer.pump` reads for one that
replays, folds, filters or is behind, until the socket accepts no more.

In layers, each a subclass of the one before:

- `sending` — frames out, the closing handshake, liveness of the peer
- `replying` — HTTP responses
- `streaming` — consumers over plain HTTP
- `uploading` — producers and signals over plain HTTP; `upload` — the body of their request
- `connection` — frames in; no task and no queue of its own

What a WebSocket serves (`peer`):

- `consumer` — the send loop: backpressure, policies, deadlines
- `incoming` — what a consumer sends: signals, tokens, pings
- `following` — another gateway that follows a stream; a subclass of `consumer`
- `producer` — its stream, its acks, its end; a subclass of `intake` — validate, number, append, a turn's work at a time
- `signaller` — a reader whose signal is the body of a request
- `backlog` — what a producer sent and waits; `batch` — the remaining items of an array of events

What they share:

- `splitter` — a client's frames, split from the bytes of its socket
- `progress` — how much of what was sent the socket has accepted
- `record` — counts and log lines of one connection
- `adopting` — a socket that another worker has accepted
- `closing` — the phases of a connection's end, as a table
- `memory` — what connections cost, and which ones to close when memory runs out
- `containment` — an exception ends one connection, not the process
"""
