"""Connections whose stream lives in another process: their bytes are relayed, in both directions.

    client ──► the node it has reached ──► the node that owns its stream
                └─ reads the head of the request, judges it, and looks for the stream

Nothing of an event is parsed on the way, so that whatever the owner promises holds: it numbers, folds, acknowledges and
counts as for a client of its own.

Invariants:
1. Neither side is read faster than the other takes the bytes: a reader's lag is in its cursor, at the owner.
2. A request is relayed once at most.
3. What a node says of a client is believed from a node alone: whoever shows the owner's key, which is on the engine.
4. Where the owner is lost, a WebSocket gets a problem and a close that may be retried, between two frames.

- `pairs` — two sockets, each of which is sent what comes from the other one
- `frames` — where the frames end that go by
- `fields` — the head of a relayed request
- `relay` — one connection, relayed to another node
- `nodes` — relaying to other nodes, and judging what they relay
"""
