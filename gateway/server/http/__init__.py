"""HTTP endpoints beside the WebSocket ones.

- `routes` — streams, pages of events, schema, health
- `metrics` — what `/metrics` returns
"""
