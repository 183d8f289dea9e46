"""The two encodings of the wire, JSON and MessagePack, chosen by subprotocol (SPEC §2.2, §3).

Decoding is strict for what peers send to the gateway, lenient for what the gateway sends to them. Whatever goes on to
other peers was decoded and is encoded anew here: no byte of a producer reaches a consumer unread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from math import isfinite
from typing import Any, Final, TypeAlias, Union, cast

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, defstruct

from deltawire.protocol import framing
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.events import (
    EVENT_CLASSES,
    MAX_NESTING,
    Data,
    Event,
    EventType,
    Extension,
    Seq,
    strict,
    strict_events,
)
from deltawire.protocol.messages import FROM_CONSUMER, FROM_PRODUCER, TO_CONSUMER, TO_PRODUCER, Message, Signal, Token
from deltawire.protocol.reasons import DECODE_ERRORS, Explainer

JSON_SUBPROTOCOL: Final = "deltawire.v1.json"
MSGPACK_SUBPROTOCOL: Final = "deltawire.v1.msgpack"

FromProducer: TypeAlias = Event | Message
Decode: TypeAlias = Callable[[bytes | Raw], Any]

_MIN_INT, _MAX_INT = -(2**63), 2**64 - 1  # what MessagePack can carry
_JSON_SPACE = b" \t\r\n"


class _Tagged(Struct):
    """Any message, of which only the type is wanted."""

    type: str


class _Numbered(Struct):
    """Any event, of which only the producer's number is wanted."""

    producer_seq: Seq | UnsetType = UNSET


def _union(classes: list[type[Any]] | tuple[type[Any], ...]) -> Any:
    return Union[tuple(classes)]  # noqa: UP007 - built from a list


def _tags(classes: tuple[type[Struct], ...]) -> frozenset[str]:
    return frozenset(str(cls.__struct_config__.tag) for cls in classes)


_FROM_PRODUCER = _union([*strict_events(), *map(strict, FROM_PRODUCER)])
_FROM_CONSUMER = _union([strict(cls) for cls in FROM_CONSUMER])
_TO_CONSUMER = (*EVENT_CLASSES.values(), *TO_CONSUMER)
_KNOWN_TO_CONSUMER = _tags(_TO_CONSUMER)
_KNOWN_TO_PRODUCER = _tags(TO_PRODUCER)
_PRODUCER_TYPES = ", ".join([*EventType, *sorted(_tags(FROM_PRODUCER))])
_CONSUMER_TYPES = ", ".join(sorted(_tags(FROM_CONSUMER)))


class Codec:
    """One encoding of the wire: how messages become frames, and back.

    Args:
        subprotocol: the name clients offer it by.
        first_byte: `framing.TEXT` or `framing.BINARY`, the kind of frame it travels in.
        encode: a value to its payload.
        make_decoder: a type to a function from payload to a value of it.
    """

    def __init__(
        self,
        subprotocol: str,
        first_byte: int,
        encode: Callable[[Any], bytes],
        make_decoder: Callable[[Any], Decode],
    ) -> None:
        self.subprotocol = subprotocol
        self.first_byte = first_byte
        self.is_text = first_byte == framing.TEXT
        self.encode = encode
        self._from_producer = make_decoder(_FROM_PRODUCER)
        self._batch = make_decoder(list[Raw])
        self._from_consumer = make_decoder(_FROM_CONSUMER)
        self._to_consumer = make_decoder(_union(_TO_CONSUMER))
        self._to_producer = make_decoder(_union(TO_PRODUCER))
        self._tagged = make_decoder(_Tagged)
        self._numbered = make_decoder(_Numbered)
        self._explainer = Explainer(is_text=self.is_text, make_decoder=make_decoder)

    def frame(self, message: Message) -> bytes:
        """A message as a whole frame from the gateway."""
        return framing.frame(self.first_byte, self.encode(message))

    def is_batch(self, payload: bytes) -> bool:
        """Whether a producer's payload is an array, by its first byte."""
        if self.is_text:
            return payload.lstrip(_JSON_SPACE)[:1] == b"["
        return bool(payload) and (payload[0] & 0xF0 == 0x90 or payload[0] in (0xDC, 0xDD))

    def split_batch(self, payload: bytes) -> list[Raw]:
        """The items of a producer's array, each to be decoded by itself.

        Raises:
            WireError: `invalid_event`, the payload is not a well-formed array.
        """
        return cast("list[Raw]", self._decode(self._batch, payload, ProblemCode.INVALID_EVENT))

    def decode_from_producer(self, payload: bytes | Raw) -> FromProducer:
        """One event or control message of a producer.

        Raises:
            WireError: `invalid_event`, naming the field and the reason.
        """
        message: FromProducer
        try:
            message = self._from_producer(payload)
        except DECODE_ERRORS as error:
            reason = self._explainer.explain(error, bytes(payload), _PRODUCER_TYPES)
        else:
            if isinstance(message, Event):
                _check_event(message)
            return message
        raise WireError(ProblemCode.INVALID_EVENT, reason)

    def producer_seq_of(self, payload: bytes | Raw) -> int | UnsetType:
        """The number of an event that was refused, where it can be read, so that the problem can name it."""
        try:
            return cast("int | UnsetType", self._numbered(payload).producer_seq)
        except DECODE_ERRORS:
            return UNSET

    def check_event(self, event: Event) -> bytes:
        """Hold an event made in Python to the rules of the wire, which its constructors don't check.

        Returns:
            Its payload, as a producer would send it.

        Raises:
            WireError: `invalid_event`, naming the field and the reason.
        """
        try:
            payload = self.encode(event)
            if isinstance(event.data, Extension):  # the encoder makes null of what is not finite
                check_json(msgspec.to_builtins(event.data.data), "$.data.data", ProblemCode.INVALID_EVENT)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise WireError(ProblemCode.INVALID_EVENT, f"can't be encoded: {error}") from None
        self.decode_from_producer(payload)
        return payload

    def decode_from_consumer(self, payload: bytes) -> Signal | Token:
        """What a consumer says to the gateway.

        Raises:
            WireError: `unknown_message`, naming the field and the reason.
        """
        message: Signal | Token = self._decode(self._from_consumer, payload, ProblemCode.UNKNOWN_MESSAGE)
        if isinstance(message, Signal) and message.data is not UNSET:
            check_json(message.data, "$.data", ProblemCode.UNKNOWN_MESSAGE)
        return message

    def decode_to_consumer(self, payload: bytes) -> Event | Message | None:
        """What the gateway says to a consumer; None for a type not known there.

        Raises:
            WireError: the payload is not a message of this protocol.
        """
        return cast("Event | Message | None", self._lenient(self._to_consumer, _KNOWN_TO_CONSUMER, payload))

    def decode_to_producer(self, payload: bytes) -> Message | None:
        """What the gateway says to a producer; None for a type not known there.

        Raises:
            WireError: the payload is not a message of this protocol.
        """
        return cast("Message | None", self._lenient(self._to_producer, _KNOWN_TO_PRODUCER, payload))

    def _lenient(self, decode: Decode, known: frozenset[str], payload: bytes) -> Any:
        try:
            return decode(payload)
        except msgspec.ValidationError:
            if self._decode(self._tagged, payload, ProblemCode.UNKNOWN_MESSAGE).type not in known:
                return None
        except DECODE_ERRORS:
            pass
        return self._decode(decode, payload, ProblemCode.UNKNOWN_MESSAGE)

    def _decode(self, decode: Decode, payload: bytes | Raw, code: ProblemCode) -> Any:
        """Decode, with every way it can fail turned into a `WireError` that says what was wrong."""
        try:
            return decode(payload)
        except DECODE_ERRORS as error:
            known = _PRODUCER_TYPES if code is ProblemCode.INVALID_EVENT else _CONSUMER_TYPES
            reason = self._explainer.explain(error, bytes(payload), known)
        raise WireError(code, reason)


_CHECKED_FURTHER = frozenset({EventType.EXTENSION, EventType.MESSAGE_STOP})


def _check_event(event: Event) -> None:
    """Hold an event of a producer to what its fields' types don't say."""
    if event.seq is not UNSET or event.first is not UNSET:
        raise _invalid("fields `seq` and `first` are given by the gateway: leave them out")
    if event.data.type not in _CHECKED_FURTHER:
        return
    if isinstance(event.data, Extension):
        check_json(event.data.data, "$.data.data", ProblemCode.INVALID_EVENT)
    elif event.data.digest is not UNSET:
        raise _invalid("field `digest` is given by the gateway: leave it out")


def _invalid(message: str) -> WireError:
    return WireError(ProblemCode.INVALID_EVENT, message)


def check_json(value: Any, path: str, code: ProblemCode) -> None:
    """Refuse what JSON and MessagePack can't both carry, or what nests too deep.

    Args:
        value: a decoded value of any kind.
        path: where it stands, for the error.
        code: the problem code of the error.

    Raises:
        WireError: a number that is not finite or over 64 bits, a key that is not a string, binary data or an
            extension type of MessagePack, nesting over `MAX_NESTING`.
    """
    level: Sequence[Any] = [value]
    for _ in range(MAX_NESTING + 1):
        for item in level if len(level) < MANY else _suspects(level):
            if fault := _fault_of(item):
                raise WireError(code, f"{fault} - at `{path}`")
        containers = [item for item in level if isinstance(item, (dict, list))]
        if not containers:
            return
        level = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]
    raise WireError(code, f"nested deeper than {MAX_NESTING} levels - at `{path}`")


MANY: Final = 64
"""Values from which on it is faster to look at those of one kind together: a message can hold 30,000 harmless ones."""

_HARMLESS = frozenset({str, bool, type(None), list})


def _suspects(level: Sequence[Any]) -> Iterator[Any]:
    """The values that may be at fault, of many."""
    for kind in set(map(type, level)) - _HARMLESS:
        items: list[Any] = [item for item in level if type(item) is kind]
        if kind is int:
            yield from (min(items), max(items))
        elif kind is float:
            yield from () if all(map(isfinite, items)) else items
        elif kind is dict:
            yield from () if set(map(type, chain.from_iterable(items))) <= {str} else items
        else:
            yield from items


def _fault_of(item: Any) -> str:
    """What keeps one value from travelling in both encodings, or an empty string; its children are not looked at."""
    match item:
        case dict():
            return "" if all(isinstance(key, str) for key in item) else "a key that is not a string"
        case float():
            return "" if isfinite(item) else "a number that is not finite"
        case int():
            return "" if _MIN_INT <= item <= _MAX_INT else "an integer that does not fit 64 bits"
        case None | str() | list():
            return ""
        case _:
            return "a value that JSON has no form for"


_json_encoder = msgspec.json.Encoder()
_msgpack_encoder = msgspec.msgpack.Encoder()

JSON: Final = Codec(
    JSON_SUBPROTOCOL,
    framing.TEXT,
    _json_encoder.encode,
    lambda wanted: msgspec.json.Decoder(wanted).decode,
)
MSGPACK: Final = Codec(
    MSGPACK_SUBPROTOCOL,
    framing.BINARY,
    _msgpack_encoder.encode,
    lambda wanted: msgspec.msgpack.Decoder(wanted).decode,
)

CODECS: Final = {codec.subprotocol: codec for codec in (JSON, MSGPACK)}


def _relayed(*positions: str) -> dict[EventType, Callable[..., Struct]]:
    """Per event type, its envelope as it is relayed: encoded whole, its timestamp text already."""
    fields = [*((position, int) for position in positions), ("timestamp", str), ("data", Data)]
    return {
        event_type: defstruct("Relayed", fields, tag_field="type", tag=str(event_type), frozen=True)
        for event_type in EventType
    }


_ENVELOPES = _relayed("seq")
_FOLDED_ENVELOPES = _relayed("first", "seq")


def decode_event(payload: bytes) -> Data:
    """The data of an event as `encode_event` made it.

    Raises:
        WireError: it did not.
    """
    message = JSON.decode_to_consumer(payload)
    if not isinstance(message, Event):
        raise WireError(ProblemCode.INVALID_EVENT, "this is no event")
    return message.data


def encode_event(data: Data, seq: int, timestamp: str, first: int | None = None) -> bytes:
    """An event as the gateway relays it, in JSON.

    Args:
        data: what the event says.
        seq: its position.
        timestamp: RFC 3339 with a zone, already text.
        first: on a folded event, the first seq it stands for.
    """
    if first is None:
        return _json_encoder.encode(_ENVELOPES[data.type](seq, timestamp, data))
    return _json_encoder.encode(_FOLDED_ENVELOPES[data.type](first, seq, timestamp, data))


def to_msgpack(payload: bytes) -> bytes:
    """A JSON payload of this gateway in MessagePack: the same names, values and order."""
    return _msgpack_encoder.encode(msgspec.json.decode(payload))
