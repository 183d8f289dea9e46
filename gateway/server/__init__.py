"""The server: WebSocket and HTTP endpoints round a hub.

- `gateway` — `Gateway`: serving, drain
- `listening` — the sockets it accepts on; `exposure` — who can reach them; `tls` — certificates, exchanged live
- `draining` — at what pace peers are sent home
- `admission` — what a request is answered before its upgrade, step by step; `asked` — such a request
- `guard` — who may connect, what they may do, and for how long
- `descriptors` — as many connections as the system allows
- `connection` — one WebSocket without task or queue: frames in by callback; `sending` — frames out already framed, the
  close, and patience with the peer; `replying` — what its request is answered; `peer` — what it serves
- `turnstile` — a slice of each turn for thousands that hang up at once, another for all that have much to read
- `progress` — what a peer has taken of what it was sent
- `splitter` — a client's frames, cut out of what its socket brought
- `consumer` — the send loop, its backpressure and deadlines
- `producer` — validate, number, append, acknowledge; `batch` — the rest of an array of events
- `record` — what a connection leaves behind: counts, lines in the log
- `containment` — what fails inside a connection ends it alone
- `door` — sockets until their request is there, and those refused; `unwrapping` — their handshake of TLS
- `crowd` — who is one too many by what they ask
- `limits` — how many connections there are, of whom; `forwarding` — whose they are, behind a proxy too
- `rounds` — deadlines of connections, and what they hold
- `allocator` — free memory is returned to the system
- `flood` — how much one peer may send; `rate` — token buckets; `memory` — what connections cost, and which go
- `http` — streams, pages of events, schema, metrics, health
- `exposition` — what `/metrics` says
"""

from deltawire.gateway.server.gateway import Gateway

__all__ = ["Gateway"]
