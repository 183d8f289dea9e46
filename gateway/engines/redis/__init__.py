"""The engine on a Redis or Valkey server, which several gateways may use at a time.

Each stream is one gateway's: its owner, by a term that the server compares in every function that changes the stream.

- `engine` — the engine: its interface, claims, reads
- `committer` — commits, in groups
- `calling` — its connection, and which refusals are a fault of the server
- `work` — what waits of a stream, and what replies mean
- `refilling` — appending again what a server has lost
- `claiming` — taking over streams that no gateway serves
- `session`, `keeping`, `identity` — which gateways are there
- `stored` — a stream as fields and entries
- `functions.lua` — what the server does, each as a whole; `library` — loading and calling that
- `client` — asking the server for all but commits, and finding it
- `topology`, `cluster`, `clustered` — which server of a cluster has which streams, asking them, committing to them;
  `place` — what that is to a committer
- `keys`, `address`, `server`, `link`, `health` — names, `engine_url`, checks at the start, the connection, its state
"""
