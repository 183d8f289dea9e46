"""Connections whose stream lives in another process.

Consumers read a mirror: one connection brings the events of a stream, as they are, for all that this node has.

    consumers ──► mirror ◄── follow ◄── the node that owns the stream

Who needs the owner itself is relayed: producers, consumers of policy `block`, of a stream that has ended, or from a
position that the mirror does not have (`Mirror.serves`), and other requests. Nothing of an event is parsed on the way,
so that whatever the owner promises holds: it numbers, folds, acknowledges and counts as for a client of its own.

    client ──► the node it has reached ──► the node that owns its stream
                └─ reads the head of the request, judges it, and looks for the stream

Invariants of a mirror:
1. An event has the epoch, the seq and the bytes that it has at the owner.
2. What a consumer does not get from it, it gets from the owner: a mirror sends no gap of its own.
3. When the owner is lost, consumers wait while the new one may go on where it stopped, or are told to resume.

Invariants of a relay:
1. Neither side is read faster than the other takes the bytes: a reader's lag is in its cursor, at the owner.
2. A request is relayed once at most.
3. What a node says of a client is believed from a node alone: whoever shows the owner's key, which is on the engine.
4. Where the owner is lost, a WebSocket gets a problem and a close that may be retried, between two frames.

- `pairs` — two sockets, each of which is sent what comes from the other one
- `frames` — where the frames end that go by
- `fields` — the head of a relayed request
- `relay` — one connection, relayed to another node
- `messages` — what two nodes tell each other about a stream that one follows
- `link`, `follow`, `follows` — a connection of a follow, a follow through all its connections, all follows of a node
- `reaching` — connecting to other nodes
- `nodes` — relaying to other nodes, and judging what they relay
"""
