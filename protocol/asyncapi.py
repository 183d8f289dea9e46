"""The AsyncAPI document of the gateway, made from the types and tables of the protocol (`GET /v1/asyncapi.json`).

What is sent and received is said from the gateway's side, as AsyncAPI wants it: it *receives* events from producers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from deltawire.protocol.addresses import (
    DEFAULT_BUFFER,
    MAX_BUFFER,
    MAX_HEARTBEAT,
    MAX_INTERVAL_MS,
    MAX_PRODUCER_ID,
    MAX_STREAM_ID,
    PREFIX,
    PUBLISH_PARAMETERS,
    SUBSCRIBE_PARAMETERS,
)
from deltawire.protocol.codec import CODECS
from deltawire.protocol.codes import CloseCode, ProblemCode, is_problem_retryable, is_retryable
from deltawire.protocol.events import DELTA_TYPES, EVENT_CLASSES, MAX_KIND, MAX_SEQ, Event, EventType
from deltawire.protocol.filters import MARKED, MAX_WANTED
from deltawire.protocol.messages import Message, Policy, Pong, Problem, Signal, SignalResult, TokenAccepted
from deltawire.protocol.schema import CLASSES, DIRECTIONS, schemas_of_classes

VERSION: Final = "3.0.0"
"""Of AsyncAPI."""

_NAME: Final = "^(?!\\.\\.?$)[A-Za-z0-9._:@-]+$"


def _integer(least: int, most: int, default: int | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer", "minimum": least, "maximum": most}
    return schema if default is None else schema | {"default": default}


def _words(words: Iterable[str], default: str | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "enum": list(words)}
    return schema if default is None else schema | {"default": default}


def _list(value: str) -> dict[str, Any]:
    """Values that match a pattern, separated by commas."""
    return {"type": "string", "pattern": f"^({value})(,({value})){{0,{MAX_WANTED - 1}}}$"}


def _name(longest: int) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": longest, "pattern": _NAME}


PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "from": _words(("start", "now"), "start") | {"description": "where to begin without `after`"},
    "after": _integer(0, MAX_SEQ) | {"description": "the last seq seen: resume after it"},
    "epoch": _name(MAX_PRODUCER_ID) | {"description": "the epoch of `after`"},
    "policy": _words((*Policy, "drop"), Policy.COALESCE) | {"description": "if this consumer falls behind"},
    "buffer": _integer(1, MAX_BUFFER, DEFAULT_BUFFER) | {"description": "lag limit in events"},
    "types": _list("|".join(EventType)) | {"description": "event types to receive"},
    "index": _list("[0-9]{1,16}") | {"description": "content blocks to receive"},
    "choice": _list("[0-9]{1,16}") | {"description": "choices to receive"},
    "kind": _list(f"[^,]{{1,{MAX_KIND}}}") | {"description": "kinds of content blocks to receive"},
    "extension": _list("[^,/]+(/[^,]+)?") | {"description": "extensions to receive: PROVIDER or PROVIDER/NAME"},
    "urgent": _list("|".join((MARKED, *(it for it in EventType if it not in DELTA_TYPES))))
    | {"description": "event types to receive ahead, or only marked events"},
    "interval": _integer(0, MAX_INTERVAL_MS, 0) | {"description": "milliseconds between writes"},
    "heartbeat": _integer(0, MAX_HEARTBEAT, 0) | {"description": "seconds between `heartbeat` messages; 0 for none"},
    "create": {"type": "boolean", "default": True, "description": "whether a stream that does not exist is created"},
    "producer": _name(MAX_PRODUCER_ID) | {"description": "the producer's id, for retries without duplicates"},
    "generation": _integer(0, MAX_SEQ, 0) | {"description": "the highest one of a producer id may write"},
    "on_full": _words(("wait", "reject"), "wait") | {"description": "while a `block` consumer is at its limit"},
}
"""The schema of each query parameter, as a string of digits, a word or a name. The parsers are in `addresses`."""


def asyncapi() -> dict[str, Any]:
    """The document, as values that JSON can express."""
    websocket, http = ("ws", "wss"), ("http", "https")
    names = {direction: [_tag(cls) for cls in classes] for direction, classes in DIRECTIONS.items()}
    names["from_producer"].append(_BATCH)
    streamed = [name for name in names["to_consumer"] if name not in _ANSWERS]
    signal, result = [_tag(Signal)], [_tag(SignalResult)]
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "deltawire",
            "version": "1",
            "description": "LLM tokens from producers to consumers. protocol/SPEC.md says what each message means.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {name: _server(name) for name in websocket + http},
        "channels": {
            "publish": _channel(
                "publish", websocket, names["from_producer"] + names["to_producer"], PUBLISH_PARAMETERS
            ),
            "subscribe": _channel(
                "subscribe", websocket, names["from_consumer"] + names["to_consumer"], SUBSCRIBE_PARAMETERS
            ),
            "events": _channel("events", http, names["from_producer"]),
            "sse": _channel("sse", http, streamed),
            "signal": _channel("signal", http, signal + result),
        },
        "operations": {
            "receiveFromProducers": _operation("receive", "publish", names["from_producer"]),
            "sendToProducers": _operation("send", "publish", names["to_producer"]),
            "receiveFromConsumers": _operation("receive", "subscribe", names["from_consumer"]),
            "sendToConsumers": _operation("send", "subscribe", names["to_consumer"]),
            "receiveEvents": _operation("receive", "events", names["from_producer"])
            | _http("POST", PUBLISH_PARAMETERS),
            "sendServerSentEvents": _operation("send", "sse", streamed) | _http("GET", SUBSCRIBE_PARAMETERS),
            "receiveSignal": _operation("receive", "signal", signal)
            | {"reply": _messages("signal", result)}
            | _http("POST", ()),
        },
        "components": _components(),
    }


def _server(protocol: str) -> dict[str, Any]:
    return {
        "host": "{address}",
        "protocol": protocol,
        "variables": {"address": {"default": "127.0.0.1:8765", "description": "where the gateway listens"}},
        "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in _SECURITY],
        "description": "A token is needed only if the gateway has a key.",
    }


def _channel(
    tail: str, servers: Sequence[str], names: Sequence[str], parameters: Sequence[str] | None = None
) -> dict[str, Any]:
    """A path of a stream; with `parameters`, a WebSocket."""
    channel: dict[str, Any] = {
        "address": f"{PREFIX}/{{stream}}/{tail}",
        "parameters": {"stream": {"$ref": "#/components/parameters/stream"}},
        "servers": [{"$ref": f"#/servers/{name}"} for name in servers],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
    }
    if parameters is not None:
        offered = _words(CODECS) | {"description": "JSON in text frames, or MessagePack in binary frames"}
        channel["bindings"] = {
            "ws": {
                "method": "GET",
                "query": _query(parameters),
                "headers": {"type": "object", "properties": {"Sec-WebSocket-Protocol": offered}},
                "bindingVersion": "0.1.0",
            }
        }
        channel["x-close-codes"] = {
            str(int(code)): {"name": code.name.lower(), "reconnect": is_retryable(code)} for code in CloseCode
        }
    return channel


def _operation(action: str, channel: str, names: Sequence[str]) -> dict[str, Any]:
    return {"action": action} | _messages(channel, names)


def _messages(channel: str, names: Sequence[str]) -> dict[str, Any]:
    """Some messages of a channel."""
    return {
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names],
    }


def _http(method: str, parameters: Sequence[str]) -> dict[str, Any]:
    return {"bindings": {"http": {"method": method, "query": _query(parameters), "bindingVersion": "0.3.0"}}}


def _query(parameters: Sequence[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: PARAMETERS[name] for name in parameters},
        "additionalProperties": False,
    }


def _tag(cls: type[Event | Message]) -> str:
    return str(cls.__struct_config__.tag)


_BATCH: Final = "batch"
"""An array of events, which a producer may send too."""

_ANSWERS: Final = frozenset((_tag(SignalResult), _tag(TokenAccepted), _tag(Pong)))
"""To messages of a consumer; one over plain HTTP sends none."""

_SECURITY: Final[dict[str, dict[str, Any]]] = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "basic": {"type": "http", "scheme": "basic", "description": "the token as the password, with any user name"},
    "subprotocol": {
        "type": "httpApiKey",
        "in": "header",
        "name": "Sec-WebSocket-Protocol",
        "description": "`deltawire.bearer.TOKEN` among the subprotocols offered, for browsers",
    },
    "query": {
        "type": "httpApiKey",
        "in": "query",
        "name": "access_token",
        "description": "if the gateway's setting `auth_query_token` is on",
    },
    "certificate": {"type": "X509", "description": "if the gateway's setting `tls_client_ca` is set"},
}


def _components() -> dict[str, Any]:
    payloads, schemas = schemas_of_classes("#/components/schemas/{name}")
    schemas["ProblemCode"] = {
        "type": "string",
        "enum": list(ProblemCode),
        "description": "clients treat an unknown code by `retryable`",
        "x-retryable": [code for code in ProblemCode if is_problem_retryable(code)],
    }
    schemas[Problem.__name__]["properties"]["code"] = {"$ref": "#/components/schemas/ProblemCode"}
    messages = {
        _tag(cls): {"name": _tag(cls), "summary": _summary(cls), "payload": payload}
        for cls, payload in zip(CLASSES, payloads, strict=True)
    }
    events = [payload for cls, payload in zip(CLASSES, payloads, strict=True) if cls in EVENT_CLASSES.values()]
    messages[_BATCH] = {
        "name": _BATCH,
        "summary": "Several events.",
        "payload": {"type": "array", "items": {"anyOf": events}},
    }
    return {
        "messages": messages,
        "schemas": schemas,
        "parameters": {"stream": {"description": f"the stream id: 1 to {MAX_STREAM_ID} characters, {_NAME}"}},
        "securitySchemes": _SECURITY,
    }


def _summary(cls: type[Event | Message]) -> str:
    return (cls.__doc__ or "").partition("\n")[0]
