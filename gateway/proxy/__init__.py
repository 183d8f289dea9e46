"""A proxy in front of a provider: an application changes its base URL, and its streamed answers can be followed.

It passes bytes, and only reads along. The caller comes first: what the gateway does reaches nobody but readers.

- `proxy` — `Proxy`, an application of ASGI: its own paths, limits, the end
- `exchange` — one request: who may end it, and how; `waits` — who is waited for, and who takes too long; pure
- `answer` — one answer on its way to a stream; `tee.relay` publishes it
- `upstream` — the provider, and connections to it; `connection` — one, with httptools (the extra `deltawire[proxy]`)
- `fields` — heads of requests and answers: what passes, what is asked of the proxy; pure
- `targets` — what is asked for; pure
- `decoding` — bodies that are compressed; pure
- `asgi` — the interface of servers, and answers made here
- `tally` — metrics
- `serving` — the proxy by itself, with uvicorn; `callers` — connections to it (the same extra)
"""

from deltawire.gateway.proxy.proxy import DRAIN_TIMEOUT, IDLE_TIMEOUT, MAX_REQUESTS, Proxy

__all__ = ["DRAIN_TIMEOUT", "IDLE_TIMEOUT", "MAX_REQUESTS", "Proxy"]
