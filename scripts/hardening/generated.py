"""What a peer can send, generated from the types of the protocol: valid or not, of any size, in both encodings.

A *filler* is a kind of value that can be made as large as one likes. A *shape* is a filler in one place of one message:
every field of every message is such a place, the message itself, the items of a batch, a field nobody knows. A type or
field that the protocol gains is here without a change.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct, inspect

from deltawire.protocol.events import EVENT_CLASSES, EventType
from deltawire.protocol.messages import FROM_CONSUMER, FROM_PRODUCER, Policy
from scripts.hardening.frames import BINARY, FINAL, TEXT, frame

Value = Any

FILLERS: Final[dict[str, Callable[[int], Value]]] = {
    "zeros": lambda size: [0] * (size // 3),
    "empty arrays": lambda size: [[]] * (size // 4),
    "empty objects": lambda size: [{}] * (size // 4),
    "floats": lambda size: [0.5] * (size // 9),
    "names": lambda size: {str(number): 0 for number in range(size // 10)},
    "short texts": lambda size: [""] * (size // 4),
    "text": lambda size: "x" * size,
    "escapes": lambda size: "\x00" * (size // 6),
    "quotes": lambda size: '"' * (size // 2),
    "emoji": lambda size: "😀" * (size // 12),
    "one emoji": lambda size: "😀" + "x" * (size - 12),
    "nested arrays": lambda size: _nested(min(size // 2, 900), list),
    "nested objects": lambda size: _nested(min(size // 8, 900), dict),
    "a number": lambda _: 2**63 - 1,
    "a negative number": lambda _: -1,
    "nothing": lambda _: None,
}
"""Values by name, given a size in bytes."""

LARGEST: Final = 63 * 1024
"""Bytes of a filler in a message that `max_message` still allows."""

SUBPROTOCOLS: Final = ("deltawire.v1.json", "deltawire.v1.msgpack")


def _nested(depth: int, kind: type) -> Value:
    value: Value = kind()
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


class Shape(NamedTuple):
    """One filler in one place.

    Attributes:
        name: of both.
        make: the message, given the bytes of the filler.
        is_whole: whether it is no message with a value in it, but something in place of one, or a batch.
    """

    name: str
    make: Callable[[int], Value]
    is_whole: bool = False


SAMPLES: Final[dict[type[inspect.Type], Value]] = {
    inspect.IntType: 1,
    inspect.FloatType: 0.5,
    inspect.BoolType: True,
    inspect.DateTimeType: "2026-11-22T11:00:00.123456Z",
}
"""Small values of fields; where there is none, a text is one."""


def _sample(kind: inspect.Type) -> Value:
    """A small value a field takes."""
    if isinstance(kind, inspect.UnionType):
        return _sample(kind.types[0])
    if isinstance(kind, inspect.StructType):
        return {field.encode_name: _sample(field.type) for field in kind.fields if field.required}
    return SAMPLES.get(type(kind), "x")


def _sample_message(kind: type[Struct]) -> dict[str, Value]:
    """A small message of a type that is taken as it is."""
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType), "messages are structs"
    return {"type": kind.__struct_config__.tag, **_sample(described)}


EVENTS: Final = [
    {**_sample_message(event), "data": _sample(inspect.type_info(data))} for data, event in EVENT_CLASSES.items()
]
"""A small event of every type."""

PRODUCED: Final = [*EVENTS, *map(_sample_message, FROM_PRODUCER)]
CONSUMED: Final = [_sample_message(kind) for kind in FROM_CONSUMER]


def _places(message: dict[str, Value]) -> Iterator[tuple[str, Callable[[Value], Value]]]:
    """Every place of a message, and what puts a value there."""
    for name in (*message, "unknown"):
        if name != "type":
            yield name, lambda value, name=name: message | {name: value}  # type: ignore[misc]
    data = message.get("data")
    if isinstance(data, dict):
        for name in dict.fromkeys((*data, "index", "choice", "unknown")):
            yield f"data.{name}", lambda value, name=name: message | {"data": data | {name: value}}  # type: ignore[misc]


def shapes(messages: list[dict[str, Value]]) -> Iterator[Shape]:
    """Every filler in every place of some messages, and as a message or batch itself."""
    for filler, make in FILLERS.items():
        yield Shape(f"{filler} alone", make, is_whole=True)
        for message in messages:
            for place, put in _places(message):
                yield Shape(f"{filler} as {message['type']}.{place}", lambda size, make=make, put=put: put(make(size)))  # type: ignore[misc]
    for message in messages:
        cost = len(json.dumps(message)) + 1
        make = lambda size, it=message, cost=cost: [it] * (size // cost)  # type: ignore[misc]  # noqa: E731
        yield Shape(f"a batch of {message['type']}", make, is_whole=True)


def encode(value: Value, *, is_text: bool) -> bytes:
    """A whole frame that carries a value in one of the encodings."""
    if is_text:
        return frame(FINAL | TEXT, msgspec.json.encode(value))
    return frame(FINAL | BINARY, msgspec.msgpack.encode(value))


def random_message(chance: random.Random, messages: list[dict[str, Value]]) -> Value:
    """Any message: as it should be, with anything in a place of it, or nothing of the kind."""
    message = dict(chance.choice(messages))
    size = chance.choice((0, 1, 10, 255, 1023, 1024, 8_000, LARGEST))
    match chance.randrange(8):
        case 0 | 1 | 2:
            return with_text(chance, message)
        case 3 | 4:
            _, put = chance.choice(list(_places(message)))
            return put(chance.choice(list(FILLERS.values()))(size))
        case 5:
            return [with_text(chance, message) for _ in range(chance.choice((0, 1, 30, 500)))]
        case 6:
            return [0] * chance.choice((1, 100, 20_000))
        case _:
            return chance.choice(list(FILLERS.values()))(size)


def with_text(chance: random.Random, message: dict[str, Value]) -> dict[str, Value]:
    """An event that is taken, of some block and choice, with a text of any length."""
    data = message.get("data")
    if not isinstance(data, dict):
        return message
    texts = {
        name: "😀" + "x" * chance.choice((0, 3, 250, 1000, 20_000)) for name in ("text", "thinking", "partial_json")
    }
    filled: dict[str, Value] = {name: texts.get(name, value) for name, value in data.items()}
    if message["type"] in (EventType.TEXT_DELTA, EventType.THINKING, EventType.TOOL_DELTA):
        filled |= {"choice": chance.choice((0, chance.randrange(128), chance.randrange(2**50)))}
        filled |= {"index": chance.choice((0, chance.randrange(2**50)))}
    if "message_id" in filled:
        filled["message_id"] = f"m{chance.randrange(10**9)}"
    return message | {"data": filled}


def random_query(chance: random.Random) -> str:
    """What a consumer asks for."""
    asked = {
        "policy": chance.choice([*Policy, "none"]),
        "buffer": chance.choice((1, 100, 10_000)),
        "types": ",".join(chance.sample(list(EventType), chance.randrange(1, 4))),
        "index": chance.choice((0, "0,1,2")),
        "kind": chance.choice(("text", "tool_use,thinking")),
        "extension": chance.choice(("p", "anthropic/ping,p")),
        "urgent": chance.choice(("marked", "error,message_stop")),
        "interval": chance.choice((0, 50, 1000)),
        "from": chance.choice(("start", "now")),
    }
    return "&".join(f"{name}={value}" for name, value in asked.items() if chance.random() < 0.2)


def _random_upload(chance: random.Random, stream: str) -> bytes:
    """A request that publishes."""
    kind = chance.choice(("application/x-ndjson", "application/x-ndjson", "application/json", "text/plain"))
    line = b'{"type":"text_delta","data":{"text":"%b"}}\n' % (b"x" * chance.choice((1, 100, 60_000)))
    body = chance.choice((line, line, b"\n", b"{}\n", b"x")) * chance.choice((1, 100, 1000))
    head = f"POST /v1/streams/{stream}/events HTTP/1.1\r\nContent-Type: {kind}\r\n"
    if chance.random() < 0.5:
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    size = chance.choice((1, 1000, 100_000))
    pieces = (body[at : at + size] for at in range(0, min(len(body), 50_000 * size), size))
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(it), it) for it in pieces)
    return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks + chance.choice((b"0\r\n\r\n", b""))


def random_request(chance: random.Random, stream: str) -> bytes:
    """A request over plain HTTP, whole or not."""
    path = chance.choice(
        (
            f"/v1/streams/{stream}/events?limit=10000",
            f"/v1/streams/{stream}/events?limit=10000",
            f"/v1/streams/{stream}/events?after={chance.randrange(1000)}",
            f"/v1/streams/{stream}/sse?{random_query(chance)}",
            f"/v1/streams/{stream}/ui-message-stream?create=true",
            f"/v1/responses/{stream}?stream=true",
            f"/v1/responses/{stream}",
            f"/v1/streams/{stream}",
            "/v1/streams",
            "/v1/schema.json",
            "/metrics",
            "/livez",
            "/" + "x" * chance.choice((1, 5000, 20_000)),
        )
    )
    method = chance.choice(("GET", "GET", "GET", "HEAD", "PUT", "DELETE", "POST", "\xff"))
    version = chance.choice(("1.1", "1.1", "1.0", "2.0"))
    headers = "".join(f"X-{number}: {'y' * 100}\r\n" for number in range(chance.choice((0, 1, 100, 300))))
    data = f"{method} {path} HTTP/{version}\r\nHost: x\r\n{headers}\r\n".encode()
    if chance.random() < 0.2:
        data = _random_upload(chance, stream)
    return data if chance.random() < 0.8 else data[: chance.randrange(len(data))]
