"""Engines: where committed events live.

An event reaches a consumer, and an ack its producer, only when the engine has committed it. Without an engine, events
are in memory alone, and appending commits them.

- `engine` — the interface, and what an engine gives back after a restart
- `sqlite` — one SQLite database in `data_dir`: a writer thread, group commits
- `schema` — its tables
"""
