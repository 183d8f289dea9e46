"""HTTP endpoints beside the WebSocket ones.

- `routes` — streams, pages of events, schema, health
- `assets` — files served as they are: `/client/deltawire.js`, and the console at `/`, whose files `console/` has
- `event_streams` — consumers over plain HTTP
- `publishing` — producers and signals over plain HTTP; `bodies` — their messages
- `waiting` — consumers that wait before a response is made; `polling` — for events
- `openai_responses` — a message as a response of OpenAI's API
- `refusing` — errors as responses
- `pages` — lists of streams of several processes made one
- `metrics` — what `/metrics` returns
"""
