"""The pure core: streams as logs, consumers as cursors. No asyncio, no sockets; time is an argument.

A stream is one append-only log of encoded frames; a subscription is a cursor on it. Replay, resume and live are one
read path, so nothing is lost, doubled or reordered at a seam, and a consumer costs a cursor, not a queue.

An event's path: `publication.is_repeat` → `stream.append` (digest, leases, number, encode and frame once) →
`log.append` (retention) → for each group of readers `view.raw`, or `subscription.take` where a policy folds, skips or
filters → bytes.

Invariants, each with a test of its name:

- what a consumer gets is a contiguous slice of the log: each seq delivered, folded, filtered by request, or in a gap
- seq strictly increases on a subscription, and the same seq has the same bytes for everyone
- concatenated text is equal under raw, folded, resumed and late-joined reading
- `floor - 1 <= cursor <= head`, or a gap is the next thing sent

Tour, from the bottom up:

- `coalesce` — which events fold, and folding them
- `callbacks` — who is told of messages, events and streams
- `candidates` — the newest events that may be urgent
- `prefix` — the folded beginning of the message in progress, when the log has trimmed it
- `log` — frames by seq; retention; what a lag costs
- `blocks` — the kinds of the open content blocks
- `sieve` — which events a filter lets through
- `view` — a log in one encoding, through one filter
- `cursor` — where a subscription starts
- `policy` — what happens to a consumer that fell behind
- `subscription` — one consumer: what it is sent next
- `producers` — idempotence and fencing
- `blocking` — the consumers producers wait for
- `publication` — what one connection publishes, and which ack it is owed
- `leases` — messages in progress, and lost producers coming back to them
- `eviction` — which idle stream goes first when room is needed
- `latest` — the message that began last: its digest and its blocks
- `settings` — of a stream
- `stream` — a log with its readers and writers
- `ending` — ending the messages of lost producers
- `info` — a stream described
- `staging`, `history`, `pages` — of a stored stream: what waits for the engine, what the engine has, and what of it was
  read back
- `durable` — a stored stream
- `mirror` — a copy of a stream that another gateway owns
- `sorted_ids` — the ids of streams in order, for lists
- `manager` — the streams of a process
"""
