"""HTTP endpoints beside the WebSocket ones.

- `routes` — streams, pages of events, schema, health
- `client_script` — `/client/deltawire.js`, the client for web pages
- `metrics` — what `/metrics` returns
"""
