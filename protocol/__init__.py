"""The wire contract: what may travel between the gateway and its peers, and how it is encoded.

Pure: standard library and msgspec only. No asyncio, no sockets, no clock, no logging. `SPEC.md` beside this file is
the normative text; a test compares it with the code.

An event's path in: a message's bytes → `codec` (strict decoding) → `events`. Its path out: `codec.encode_event` →
`framing` → a server frame that every consumer of one encoding gets.

Tour, from the bottom up:

- `codes` — close codes, problem codes, which may be retried
- `errors` — `StreamError` and its kinds, `WireError`
- `events` — the ten event types; data and envelope
- `messages` — control messages in both directions
- `position` — epoch and seq
- `filters` — which events a consumer asks for
- `addresses` — stream ids, paths, query parameters
- `priority` — classes of streams
- `framing` — RFC 6455 server frames
- `reasons` — why a payload could not be decoded, in words
- `codec` — JSON and MessagePack
- `json_values` — values that both can carry
- `event_stream` — server-sent events
- `message_reader` — one message of a stream, to be said in another protocol
- `ui_messages` — in the AI SDK's UI message stream
- `openai_responses` — in OpenAI's Responses API
- `digest` — what proves that a reader has the whole text of a message
- `schema` — JSON Schema made from the types; `asyncapi` — an AsyncAPI document
- `inline_thinking` — thinking that stands within the text of an answer
- `providers` — provider streams translated into events
"""

if __name__ != "deltawire.protocol":
    raise ImportError("import deltawire.protocol: under another name its modules would be loaded twice")
