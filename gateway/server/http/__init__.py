"""HTTP endpoints beside the WebSocket ones.

- `routes` — streams, pages of events, schema, health
- `client_script` — `/client/deltawire.js`, the client for web pages
- `event_streams` — consumers over plain HTTP
- `publishing` — producers and signals over plain HTTP; `bodies` — their messages
- `waiting` — consumers that wait before a response is made; `polling` — for events
- `openai_responses` — a message as a response of OpenAI's API
- `refusing` — errors as responses
- `metrics` — what `/metrics` returns
"""
