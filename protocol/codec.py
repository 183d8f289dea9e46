"""The two encodings of the wire, JSON and MessagePack, chosen by subprotocol (SPEC §2.2, §3).

Decoding is strict for messages that peers send to the gateway, and lenient for messages that the gateway sends to them.
Relayed events are decoded and encoded again: no byte of a producer reaches a consumer unchecked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from math import isfinite
from typing import Any, Final, Protocol, TypeAlias, Union, cast

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

_MIN_INT, _MAX_INT = -(2**63), 2**64 - 1  # the integers that MessagePack can carry
_JSON_SPACE = b" \t\r\n"


class _Tagged(Struct):
    """Any message, to decode only its type."""

    type: str


class _Numbered(Struct):
    """Any event, to decode only its `producer_seq`."""

    producer_seq: Seq | UnsetType = UNSET


class Sequenced(Struct):
    """Any event of the gateway, to decode only its seq."""

    seq: Seq


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


class Encoding(Protocol):
    """How messages travel from the gateway to one kind of consumer."""

    def frame(self, message: Message) -> bytes:
        """A control message, ready to write to a socket."""

    def relay(self, payload: bytes, seq: int) -> bytes:
        """An event, ready to write to a socket.

        Args:
            payload: as `encode_event` made it, in JSON.
            seq: of the event; of a folded event, the last one.
        """


class Codec:
    """One encoding of the wire: how messages become frames, and back.

    Args:
        subprotocol: the subprotocol that clients offer.
        first_byte: the kind of its frames, `framing.TEXT` or `framing.BINARY`.
        encode: encodes a value as a payload.
        make_decoder: returns a function that decodes a payload to a value of the given type.
        convert: converts an event from JSON.
    """

    def __init__(
        self,
        subprotocol: str,
        first_byte: int,
        encode: Callable[[Any], bytes],
        make_decoder: Callable[[Any], Decode],
        convert: Callable[[bytes], bytes],
    ) -> None:
        self.subprotocol = subprotocol
        self.first_byte = first_byte
        self.is_text = first_byte == framing.TEXT
        self.encode = encode
        self._convert = convert
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

    def relay(self, payload: bytes, seq: int) -> bytes:  # noqa: ARG002 - other encodings need it
        """An event that the gateway encoded in JSON, as a whole frame."""
        return framing.frame(self.first_byte, self._convert(payload))

    def is_batch(self, payload: bytes) -> bool:
        """Whether a producer's payload is an array, by its first byte."""
        if self.is_text:
            return not payload.startswith(b"{") and payload.lstrip(_JSON_SPACE).startswith(b"[")
        return bool(payload) and (payload[0] & 0xF0 == 0x90 or payload[0] in (0xDC, 0xDD))

    def split_batch(self, payload: bytes) -> list[Raw]:
        """Split a producer's array into its items, which are decoded separately.

        Raises:
            WireError: `invalid_event`: the payload is not a well-formed array.
        """
        return cast("list[Raw]", self._decode(self._batch, payload, ProblemCode.INVALID_EVENT))

    def decode_from_producer(self, payload: bytes | Raw) -> FromProducer:
        """Decode an event or control message of a producer.

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
        """The `producer_seq` of a refused event, for the problem message; UNSET if it can't be read."""
        try:
            return cast("int | UnsetType", self._numbered(payload).producer_seq)
        except DECODE_ERRORS:
            return UNSET

    def check_event(self, event: Event) -> bytes:
        """Validate an event made in Python by the rules of the wire, which constructors don't check.

        Returns:
            The payload that a producer would send.

        Raises:
            WireError: `invalid_event`, naming the field and the reason.
        """
        try:
            payload = self.encode(event)
            if isinstance(event.data, Extension):  # the encoder turns numbers that are not finite into null
                check_json(msgspec.to_builtins(event.data.data), "$.data.data", ProblemCode.INVALID_EVENT)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise WireError(ProblemCode.INVALID_EVENT, f"can't be encoded: {error}") from None
        self.decode_from_producer(payload)
        return payload

    def decode_from_consumer(self, payload: bytes) -> Signal | Token:
        """Decode a message from a consumer to the gateway.

        Raises:
            WireError: `unknown_message`, naming the field and the reason.
        """
        message: Signal | Token = self._decode(self._from_consumer, payload, ProblemCode.UNKNOWN_MESSAGE)
        if isinstance(message, Signal) and message.data is not UNSET:
            check_json(message.data, "$.data", ProblemCode.UNKNOWN_MESSAGE)
        return message

    def decode_to_consumer(self, payload: bytes) -> Event | Message | None:
        """Decode a message from the gateway to a consumer; None for an unknown type.

        Raises:
            WireError: the payload is not a message of this protocol.
        """
        return cast("Event | Message | None", self._lenient(self._to_consumer, _KNOWN_TO_CONSUMER, payload))

    def decode_to_producer(self, payload: bytes) -> Message | None:
        """Decode a message from the gateway to a producer; None for an unknown type.

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
        """Decode; turn every failure into a `WireError` that says what was wrong."""
        try:
            return decode(payload)
        except DECODE_ERRORS as error:
            known = _PRODUCER_TYPES if code is ProblemCode.INVALID_EVENT else _CONSUMER_TYPES
            reason = self._explainer.explain(error, bytes(payload), known)
        raise WireError(code, reason)


_CHECKED_FURTHER = frozenset({EventType.EXTENSION, EventType.MESSAGE_STOP})


def _check_event(event: Event) -> None:
    """Check the rules for a producer's event that its types don't express."""
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
    """Refuse a value that JSON and MessagePack can't both carry, or that is nested too deeply.

    Args:
        value: a decoded value of any kind.
        path: its path in the message, for the error.
        code: the problem code of the error.

    Raises:
        WireError: a number that is not finite or over 64 bits, a key that is not a string, binary data or an
            extension type of MessagePack, nesting over `MAX_NESTING`.
    """
    level: Sequence[Any] = [value]
    for _ in range(MAX_NESTING + 1):
        kinds = set(map(type, level))
        for item in level if len(level) < MANY else _suspects(level, kinds):
            if fault := _fault_of(item):
                raise WireError(code, f"{fault} - at `{path}`")
        if kinds.isdisjoint(_CONTAINERS):
            return
        level = _children(level, kinds)
    raise WireError(code, f"nested deeper than {MAX_NESTING} levels - at `{path}`")


MANY: Final = 64
"""Number of values from which checking them by type is faster: a message can hold 30,000 harmless ones. What is done
with each of them is therefore done by the interpreter's own functions, not by statements."""

_CONTAINERS = frozenset({list, dict})
_HARMLESS = frozenset({str, bool, type(None), list})


def _suspects(level: Sequence[Any], kinds: set[type[Any]]) -> Iterator[Any]:
    """The values among many that may be invalid; `kinds` are the types of all."""
    for kind in kinds - _HARMLESS:
        items: Sequence[Any] = level if len(kinds) == 1 else [item for item in level if type(item) is kind]
        if kind is int:
            yield from () if _fit_64_bits(items) else (min(items), max(items))
        elif kind is float:
            yield from () if all(map(isfinite, items)) else items
        elif kind is dict:
            yield from () if set(map(type, chain.from_iterable(items))) <= {str} else items
        else:
            yield from items


def _fit_64_bits(numbers: Sequence[int]) -> bool:
    try:
        _msgpack_encoder.encode(numbers)  # eight times as fast as comparing them
    except OverflowError:
        return False
    return True


def _children(level: Sequence[Any], kinds: set[type[Any]]) -> Sequence[Any]:
    """The values directly inside others, some of which are containers; `kinds` are the types of these."""
    filled = list(filter(None, level))
    if len(kinds) == 1:
        return list(chain.from_iterable(filled if list in kinds else map(dict.values, filled)))
    containers = [item for item in filled if isinstance(item, (dict, list))]
    return [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]


def _fault_of(item: Any) -> str:
    """Why a value can't be sent in both encodings, or an empty string; ignores its children."""
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


def to_msgpack(payload: bytes) -> bytes:
    """Convert a JSON payload of this gateway to MessagePack, with the same names, values and order."""
    return _msgpack_encoder.encode(msgspec.json.decode(payload))


JSON: Final = Codec(
    JSON_SUBPROTOCOL,
    framing.TEXT,
    _json_encoder.encode,
    lambda wanted: msgspec.json.Decoder(wanted).decode,
    lambda payload: payload,
)
MSGPACK: Final = Codec(
    MSGPACK_SUBPROTOCOL,
    framing.BINARY,
    _msgpack_encoder.encode,
    lambda wanted: msgspec.msgpack.Decoder(wanted).decode,
    to_msgpack,
)

CODECS: Final = {codec.subprotocol: codec for codec in (JSON, MSGPACK)}


def _relayed(*positions: str, marks: tuple[str, ...] = ()) -> dict[EventType, Callable[..., Struct]]:
    """The envelope in which each event type is relayed; its timestamp is text already."""
    numbers, booleans = ((name, int) for name in positions), ((name, bool) for name in marks)
    fields = [*numbers, ("timestamp", str), *booleans, ("data", Data)]
    return {
        event_type: defstruct("Relayed", fields, tag_field="type", tag=str(event_type), frozen=True)
        for event_type in EventType
    }


_ENVELOPES = _relayed("seq")
_FOLDED_ENVELOPES = _relayed("first", "seq")
_URGENT_ENVELOPES = _relayed("seq", marks=("urgent",))


def decode_relayed(payload: bytes) -> Event:
    """An event as `encode_event` made it.

    Raises:
        WireError: it did not.
    """
    message = JSON.decode_to_consumer(payload)
    if not isinstance(message, Event):
        raise WireError(ProblemCode.INVALID_EVENT, "this is no event")
    return message


_decode_sequenced = msgspec.json.Decoder(Sequenced).decode


def decode_seq(payload: bytes) -> int:
    """The seq of an event as `encode_event` made it; nothing else of it is read.

    Raises:
        msgspec.MsgspecError: it did not.
    """
    return _decode_sequenced(payload).seq


def decode_event(payload: bytes) -> Data:
    """The data of an event as `encode_event` made it; errors as of `decode_relayed`."""
    return cast("Data", decode_relayed(payload).data)


def encode_event(
    data: Data,
    seq: int,
    timestamp: str,
    first: int | None = None,
    is_urgent: bool = False,  # noqa: FBT001, FBT002 - a keyword costs as much again
) -> bytes:
    """Encode an event as the gateway relays it, in JSON.

    Args:
        data: the data of the event.
        seq: its seq.
        timestamp: RFC 3339 text with a zone.
        first: for a folded event, the first seq that it represents.
        is_urgent: whether its producer marked it as urgent; such an event is never folded.
    """
    if is_urgent:
        return _json_encoder.encode(_URGENT_ENVELOPES[data.type](seq, timestamp, True, data))
    if first is None:
        return _json_encoder.encode(_ENVELOPES[data.type](seq, timestamp, data))
    return _json_encoder.encode(_FOLDED_ENVELOPES[data.type](first, seq, timestamp, data))
