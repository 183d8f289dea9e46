"""The gateway: streams as logs, consumers as cursors, and the sockets around them.

The path of one event, from its producer's socket to its consumers' sockets:

1. `server.connection`: `splitter` finds the frame in the bytes that came, `producer` decodes and validates the event
2. `streams.publication` tells a new event from a repeat, a hole in the numbers, and a fenced producer
3. `hub.dispatch` makes sure that there is memory, and adds the timestamp
4. `middleware` decides what becomes of it, if its stream has any
5. `streams.stream` numbers it, encodes and frames it once; `streams.log` keeps the frame and drops the oldest ones
6. `hub.flushing` flushes the stream's `hub.channel` at the end of the read, or of the turn of the loop
7. `hub.cohort` writes the frame to every consumer at the head; `server.connection.consumer` reads for all others
8. `hub.channel` sends the ack, or `hub.dispatch` a little later

Imports point down only: `cli → workers → server, client → hub → middleware → streams → protocol`; a test reads them.

- `streams` — the pure core: log, cursor, policies, folding, producers
- `middleware` — what becomes of events before they are appended: redaction and other stages
- `hub` — streams on an event loop, for Python programs and for the server
- `server` — WebSocket and HTTP endpoints; `workers` — several processes that serve as one gateway
- `client` — `Publisher` and `Subscriber` for Python programs
- `tee` — what an SDK yields, published while a program reads it
- `access` — tokens, keys, permissions, origins
- `metrics` — counts and histograms; `logs` — structured logs; `tracing` — OpenTelemetry spans of messages
- `cli` — the `deltawire` command
- `config` — settings; `configuring` — making them of values and a TOML file; `files` — reading the files they name
- `disk` — having the disk store what was written; `http_client` — requests to others
- `requirements` — what one part needs of others, and the rest does not

Terms: a *stream* is a log of events under one id; its *epoch* names one life of it, `seq` an event's place. A *cursor*
is the place up to which a consumer has been served; its *lag* lies between that and the *head*. The *floor* is the
oldest event still held. Events *fold* when consecutive deltas become one frame. A *gap* names events that are gone. A
*cohort* is a group of consumers at the head that get the same bytes. An *inlet* is a producer's connection as a channel
sees it, an *outlet* a consumer's. A *lease* is the time that a lost producer has to come back. A higher *generation* of
a producer id fences the lower ones.
"""

if __name__ != "deltawire.gateway":
    raise ImportError("import deltawire.gateway: under another name its modules would be loaded twice")
