"""The two encodings of the wire, JSON and MessagePack, chosen by subprotocol (SPEC §2.2, §3).

Decoding is strict for messages that peers send to the gateway, and lenient for messages that the gateway sends to them.
Relayed events are decoded and encoded again: no byte of a producer reaches a consumer unchecked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias, Union, cast

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, defstruct

from deltawire.protocol import framing
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.events import (
    EVENT_CLASSES,
    Data,
    Event,
    EventType,
    Extension,
    Seq,
    strict,
    strict_events,
)
from deltawire.protocol.json_values import check_json
from deltawire.protocol.messages import FROM_CONSUMER, FROM_PRODUCER, TO_CONSUMER, TO_PRODUCER, Message, Signal, Token
from deltawire.protocol.reasons import DECODE_ERRORS, Explainer

JSON_SUBPROTOCOL: Final = "deltawire.v1.json"
MSGPACK_SUBPROTOCOL: Final = "deltawire.v1.msgpack"

FromProducer: TypeAlias = Event | Message
Decode: TypeAlias = Callable[[bytes | Raw], Any]

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
            seq: of the event.
        """

    def relay_folded(self, event: Struct, seq: int) -> bytes:
        """A folded event, ready to write to a socket.

        Args:
            event: as `folded_event` made it.
            seq: the last one that it stands for.
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

    def relay_folded(self, event: Struct, seq: int) -> bytes:  # noqa: ARG002 - other encodings need it
        """A folded event as a whole frame."""
        return framing.frame(self.first_byte, self.encode(event))

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
            if isinstance(message, Event) and (
                message.data.type in _CHECKED_FURTHER or message.seq is not UNSET or message.first is not UNSET
            ):  # a call costs as much as these looks, for each event
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
    if isinstance(event.data, Extension):
        check_json(event.data.data, "$.data.data", ProblemCode.INVALID_EVENT)
    elif event.data.digest is not UNSET:
        raise _invalid("field `digest` is given by the gateway: leave it out")


def _invalid(message: str) -> WireError:
    return WireError(ProblemCode.INVALID_EVENT, message)


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
    is_urgent: bool = False,  # noqa: FBT001, FBT002 - a keyword costs as much again
) -> bytes:
    """Encode an event as the gateway relays it, in JSON.

    Args:
        data: the data of the event.
        seq: its seq.
        timestamp: RFC 3339 text with a zone.
        is_urgent: whether its producer marked it as urgent; such an event is never folded.
    """
    if is_urgent:
        return _json_encoder.encode(_URGENT_ENVELOPES[data.type](seq, timestamp, True, data))
    return _json_encoder.encode(_ENVELOPES[data.type](seq, timestamp, data))


def folded_event(data: Data, first: int, last: int, timestamp: str) -> Struct:
    """A folded event as the gateway relays it, to be encoded.

    Args:
        data: of the events `first … last`, joined.
        first: the first seq that it stands for.
        last: the last one, which is its seq.
        timestamp: of the last one.
    """
    return _FOLDED_ENVELOPES[data.type](first, last, timestamp, data)
