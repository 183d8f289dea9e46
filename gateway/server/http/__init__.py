"""HTTP endpoints beside the WebSocket ones.

- `routes` — streams, pages of events, schema, health
- `event_streams` — consumers over plain HTTP
- `polling` — waiting for events
- `metrics` — what `/metrics` returns
"""
