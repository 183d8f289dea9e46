"""Engines: where committed events live.

An event reaches a consumer, and an ack its producer, only when the engine has committed it. Without an engine, events
are in memory alone, and appending commits them.

- `engine` — the interface, and what an engine gives back after a restart
- `choosing` — which one the settings choose
- `sqlite` — one SQLite database in `data_dir`
- `folder` — where it is: the lock, and whether the machine may have lost commits
- `schema` — its tables, and how older ones become these
- `checksums` — of its rows
- `listing` — what it has, found at the start
- `index` — where the events of a stream are
- `reading` — reading them back, and checking them
- `distributing` — moving streams between folders, where several processes have a database each
- `writer` — the thread that does all this: group commits, reads in between, faults of the disk
- `redis` — a Redis or Valkey server, for several gateways
"""
