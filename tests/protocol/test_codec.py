"""The two encodings carry the same values, survive any bytes, and write what the gateway relays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from deltawire.protocol import framing
from deltawire.protocol.codec import CODECS, JSON, MSGPACK, Codec, encode_event, folded_event, to_msgpack
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.events import (
    EVENT_CLASSES,
    MAX_SEQ,
    ContentEnd,
    ContentStart,
    Data,
    Error,
    Event,
    Extension,
    MessageStart,
    MessageStop,
    TextDelta,
    Thinking,
    ToolDelta,
    Usage,
    make_event,
)
from deltawire.protocol.json_values import check_json
from deltawire.protocol.messages import CaughtUp, CloseStream, Ready, Signal

BOTH = pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.subprotocol)
TIMESTAMP = "2026-11-22T11:00:00.123456Z"

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NAMES = TEXT.filter(bool)
COUNTS = st.integers(0, MAX_SEQ)
MAYBE_COUNT = st.just(UNSET) | COUNTS
MAYBE_TEXT = st.just(UNSET) | TEXT
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=10,
)
DATA: st.SearchStrategy[Data] = st.one_of(
    st.builds(TextDelta, TEXT, MAYBE_COUNT, MAYBE_COUNT),
    st.builds(Thinking, TEXT, MAYBE_COUNT, MAYBE_COUNT),
    st.builds(ContentStart, COUNTS, st.just(UNSET) | NAMES, MAYBE_TEXT, MAYBE_TEXT, MAYBE_COUNT),
    st.builds(ContentEnd, COUNTS, MAYBE_COUNT),
    st.builds(MessageStart, NAMES, MAYBE_TEXT, MAYBE_TEXT, MAYBE_TEXT),
    st.builds(MessageStop, NAMES, TEXT, MAYBE_COUNT),
    st.builds(Usage, COUNTS, COUNTS, COUNTS, MAYBE_COUNT, MAYBE_COUNT),
    st.builds(Error, TEXT, MAYBE_TEXT, st.just(UNSET) | st.booleans()),
    st.builds(ToolDelta, COUNTS, TEXT, MAYBE_COUNT),
    st.builds(Extension, NAMES, NAMES, VALUES),
)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(timezones=ZONES, allow_imaginary=False)
EVENTS = st.builds(
    make_event,
    DATA,
    timestamp=st.none() | MOMENTS,
    producer_seq=st.none() | st.integers(1, MAX_SEQ),
)
# Bytes that begin like messages get further into the decoders than noise does.
STARTS = [
    b"",
    b'{"type":"text_delta","data":{"text":"',
    b'{"type":"extension","data":{"provider":"p","name":"n","data":',
    b'{"type":"signal","name":"c","data":',
    b'{"type":"signal_result","delivered":',
    b"\x82\xa4type\xaatext_delta\xa4data\x81\xa4text",
    b"\x82\xa4type\xa9extension\xa4data\x83\xa8provider\xa1p\xa4name\xa1n\xa4data",
    b"[",
    b"\x92",
]
ANY_BYTES = st.builds(bytes.__add__, st.sampled_from(STARTS), st.binary(max_size=64))


def _plain(event: Any) -> Any:
    """An event as what it says, with its moment as a moment."""
    assert isinstance(event, Event)
    moment = event.timestamp if event.timestamp is UNSET else event.timestamp.astimezone(UTC)
    return type(event).__struct_config__.tag, moment, event.producer_seq, msgspec.to_builtins(event.data)


@BOTH
@given(event=EVENTS.filter(lambda event: event.timestamp is UNSET or 2 <= event.timestamp.year <= 9998))
def test_any_event_survives_the_way_to_the_gateway(codec: Codec, event: Event) -> None:
    assert _plain(codec.decode_from_producer(codec.encode(event))) == _plain(event)


@given(DATA, st.integers(1, MAX_SEQ), st.none() | st.integers(1, MAX_SEQ))
def test_what_is_relayed_is_equal_in_both_encodings(data: Data, seq: int, first: int | None) -> None:
    event, packed = (codec.decode_to_consumer(_relayed(codec, data, seq, first)) for codec in (JSON, MSGPACK))
    assert packed == event
    assert isinstance(event, EVENT_CLASSES[type(data)])
    assert (event.data, event.seq, event.first) == (data, seq, UNSET if first is None else first)


@given(DATA, st.integers(1, MAX_SEQ), st.none() | st.integers(1, MAX_SEQ))
def test_a_relayed_event_is_written_as_its_class_would_be_in_the_order_of_the_specification(
    data: Data, seq: int, first: int | None
) -> None:
    folded = {} if first is None else {"first": first}
    whole = {"type": data.type} | folded | {"seq": seq, "timestamp": TIMESTAMP, "data": data}
    assert _relayed(JSON, data, seq, first) == msgspec.json.encode(whole)
    assert _relayed(MSGPACK, data, seq, first) == msgspec.msgpack.encode(whole)


def _relayed(codec: Codec, data: Data, seq: int, first: int | None) -> bytes:
    if first is None:
        frame = codec.relay(encode_event(data, seq, TIMESTAMP), seq)
    else:
        frame = codec.relay_folded(folded_event(data, first, seq, TIMESTAMP), seq)
    return frame[framing.payload_start(frame) :]


def test_a_relayed_event_looks_as_documented() -> None:
    assert encode_event(TextDelta("Hi", index=0), 7, TIMESTAMP).decode() == (
        '{"type":"text_delta","seq":7,"timestamp":"2026-11-22T11:00:00.123456Z","data":{"text":"Hi","index":0}}'
    )
    assert _relayed(JSON, TextDelta("Hi"), 7, 3).decode() == (
        '{"type":"text_delta","first":3,"seq":7,"timestamp":"2026-11-22T11:00:00.123456Z","data":{"text":"Hi"}}'
    )


@BOTH
@given(payload=ANY_BYTES)
@example(payload=b"\x81\x80\x01")
@example(payload=b"\x81\xa4data\xc7\x0c\xff" + b"\xff" * 12)
@example(payload=b"[" * 9000)
@example(payload=b"\x91" * 9000)
@example(payload=b'{"a":' * 9000)
def test_any_bytes_are_a_value_or_a_wire_error(codec: Codec, payload: bytes) -> None:
    decoders = [
        codec.decode_from_producer,
        codec.decode_from_consumer,
        codec.decode_to_consumer,
        codec.decode_to_producer,
        codec.split_batch,
    ]
    for decode in decoders:
        try:
            value = decode(payload)
        except WireError as error:
            JSON.encode(error.message)  # it has to travel in a problem
        else:
            items = value if isinstance(value, list) else []
            assert len([_decodes(codec, item) for item in items]) == len(items)


def _decodes(codec: Codec, item: msgspec.Raw) -> bool:
    try:
        codec.decode_from_producer(item)
    except WireError:
        return False
    return True


@given(ANY_BYTES)
def test_whatever_is_accepted_can_be_relayed_in_both_encodings(payload: bytes) -> None:
    for codec in (JSON, MSGPACK):
        try:
            event = codec.decode_from_producer(payload)
        except WireError:
            continue
        if isinstance(event, Event):
            relayed = encode_event(event.data, 1, TIMESTAMP)
            assert MSGPACK.decode_to_consumer(to_msgpack(relayed)) == JSON.decode_to_consumer(relayed)


@BOTH
def test_an_event_made_in_python_is_encoded_as_a_producer_would_send_it(codec: Codec) -> None:
    event = make_event(TextDelta("Hi"), producer_seq=3)
    assert codec.check_event(event) == codec.encode(event)


@BOTH
@pytest.mark.parametrize(
    "data",
    [
        MessageStart(""),
        Usage(-1, 0, 0),
        TextDelta("\ud800"),
        Extension("p", "n", object()),
        Extension("p", "n", 2**64),
    ],
)
def test_an_event_made_in_python_is_held_to_the_rules_of_the_wire(codec: Codec, data: Data) -> None:
    with pytest.raises(WireError) as caught:
        codec.check_event(make_event(data))
    assert caught.value.code is ProblemCode.INVALID_EVENT


@BOTH
@pytest.mark.parametrize(
    ("message", "number"),
    [
        ({"type": "text", "producer_seq": 8, "data": {}}, 8),
        ({"producer_seq": MAX_SEQ}, MAX_SEQ),
        ({"type": "text_delta", "data": {}}, UNSET),
        ({"producer_seq": 0}, UNSET),
        ({"producer_seq": "8"}, UNSET),
        ([], UNSET),
    ],
)
def test_the_number_of_a_refused_event_is_told_where_it_can_be_read(
    codec: Codec, message: Any, number: int | UnsetType
) -> None:
    with pytest.raises(WireError):
        codec.decode_from_producer(codec.encode(message))
    assert codec.producer_seq_of(codec.encode(message)) == number


def test_a_messagepack_producer_may_send_the_timestamp_extension() -> None:
    moment = datetime(2026, 11, 22, 11, 0, 0, 123456, tzinfo=UTC)
    fields: dict[str, Any] = {"type": "text_delta", "data": {"text": "Hi"}}
    events = [
        MSGPACK.decode_from_producer(msgspec.msgpack.encode(fields | {"timestamp": timestamp}))
        for timestamp in (moment, TIMESTAMP)
    ]
    assert [event.timestamp for event in events if isinstance(event, Event)] == [moment, moment]


def test_digits_beyond_the_microsecond_are_rounded() -> None:
    event = JSON.decode_from_producer(
        b'{"type":"text_delta","timestamp":"2026-11-22T11:00:00.1234567Z","data":{"text":""}}'
    )
    assert isinstance(event, Event)
    assert event.timestamp == datetime(2026, 11, 22, 11, 0, 0, 123457, tzinfo=UTC)


@pytest.mark.parametrize(
    ("codec", "payload", "is_batch"),
    [
        (JSON, b"[]", True),
        (JSON, b" \t\r\n[{}]", True),
        (JSON, b'{"type":"close_stream"}', False),
        (JSON, b"", False),
        (JSON, b"\x90", False),
        (MSGPACK, b"\x90", True),
        (MSGPACK, b"\x9f", True),
        (MSGPACK, b"\xdc\0\0", True),
        (MSGPACK, b"\xdd\0\0\0\0", True),
        (MSGPACK, b"\x80", False),
        (MSGPACK, b"", False),
        (MSGPACK, b"[]", False),
    ],
)
def test_a_batch_is_told_by_its_first_byte(codec: Codec, payload: bytes, *, is_batch: bool) -> None:
    assert codec.is_batch(payload) is is_batch


@BOTH
def test_the_items_of_a_batch_are_judged_one_by_one(codec: Codec) -> None:
    good = make_event(TextDelta("Hi"))
    items = codec.split_batch(codec.encode([good, {"type": "text"}, 7, good, CloseStream()]))
    assert [_decodes(codec, item) for item in items] == [True, False, False, True, True]


@pytest.mark.parametrize(
    ("codec", "payload"),
    [(JSON, b'[{"type":"close_stream"},]'), (JSON, b"[NaN]"), (JSON, b"[{}"), (MSGPACK, b"\x92\x80")],
)
def test_a_batch_that_is_not_well_formed_is_refused_as_a_whole(codec: Codec, payload: bytes) -> None:
    with pytest.raises(WireError) as caught:
        codec.split_batch(payload)
    assert caught.value.code is ProblemCode.INVALID_EVENT


@BOTH
def test_a_client_ignores_types_it_does_not_know(codec: Codec) -> None:
    for decode in (codec.decode_to_consumer, codec.decode_to_producer):
        assert decode(codec.encode({"type": "later", "seq": "x"})) is None
        assert decode(codec.encode(Signal(name="cancel"))) == (
            Signal(name="cancel") if decode == codec.decode_to_producer else None
        )


@BOTH
def test_a_client_ignores_fields_it_does_not_know(codec: Codec) -> None:
    assert codec.decode_to_consumer(codec.encode({"type": "caught_up", "seq": 1, "later": []})) == CaughtUp(seq=1)
    event = codec.decode_to_consumer(
        codec.encode({"type": "text_delta", "seq": 1, "later": 1, "data": {"text": "Hi", "later": 2}})
    )
    assert isinstance(event, Event)
    assert event.data == TextDelta("Hi")


@BOTH
@pytest.mark.parametrize("message", [{}, {"type": 5}, {"type": "problem"}, [], "ready", {"seq": 1}])
def test_a_client_refuses_what_is_not_a_message_of_this_protocol(codec: Codec, message: Any) -> None:
    for decode in (codec.decode_to_consumer, codec.decode_to_producer):
        with pytest.raises(WireError):
            decode(codec.encode(message))


@BOTH
def test_a_message_is_framed_for_its_kind_of_connection(codec: Codec) -> None:
    ready = Ready(stream="demo", epoch="e", head=0, generation=0, producer_seq=0)
    framed = codec.frame(ready)
    assert framed[0] == (framing.TEXT if codec.is_text else framing.BINARY)
    assert codec.decode_to_producer(framed[framing.payload_start(framed) :]) == ready


def test_codecs_are_found_by_subprotocol() -> None:
    assert {"deltawire.v1.json": JSON, "deltawire.v1.msgpack": MSGPACK} == CODECS


def test_a_check_names_the_path_it_was_given() -> None:
    with pytest.raises(WireError, match=r"unknown_message: a number that is not finite - at `\$\.x`"):
        check_json([float("nan")], "$.x", ProblemCode.UNKNOWN_MESSAGE)
