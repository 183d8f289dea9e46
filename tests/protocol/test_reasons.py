"""Every refusal of SPEC §4.3 in both encodings: its code, the field it names, the reason it gives."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from deltawire.protocol.codec import JSON, MSGPACK, Codec
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.events import MAX_SEQ
from deltawire.protocol.reasons import DECODE_ERRORS, Explainer

YEAR_10000 = 253_402_300_800
"""Seconds since 1970 of its beginning, which Python has no date for."""

NAN, INFINITY = float("nan"), float("inf")


def _delta(data: Any = None, **envelope: Any) -> dict[str, Any]:
    return {"type": "text_delta", "data": {"text": "Hi"} if data is None else data, **envelope}


def _extension(data: Any) -> dict[str, Any]:
    return {"type": "extension", "data": {"provider": "p", "name": "n", "data": data}}


def _usage(**counts: Any) -> dict[str, Any]:
    return {"type": "usage", "data": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2} | counts}


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


def _json_extension(data: bytes) -> bytes:
    return b'{"type":"extension","data":{"provider":"p","name":"n","data":%b}}' % data


def _timestamp(seconds: int) -> bytes:
    return b"\xc7\x0c\xff" + bytes(4) + seconds.to_bytes(8, signed=True)


def _msgpack_extension(data: bytes) -> bytes:
    return msgspec.msgpack.encode(_extension(None)).removesuffix(b"\xc0") + data


# A message that both encodings can carry, the field its refusal names, the reason it gives.
REFUSED_IN_BOTH: list[tuple[Any, str, str]] = [
    # unknown type
    ({"type": "text", "data": {"text": "Hi"}}, "$.type", "unknown type: Invalid value 'text'"),
    ({"type": "", "data": {}}, "$.type", "the types are text_delta, thinking,"),
    ({"type": "signal", "name": "cancel"}, "$.type", "extension, close_stream"),
    ({"type": 5, "data": {}}, "$.type", "Expected `str`"),
    ({"type": None, "data": {}}, "$.type", "Expected `str`"),
    ({"data": {"text": "Hi"}}, "`type`", "missing required field"),
    # unknown field
    (_delta(id="e1"), "`id`", "unknown field"),
    (_delta({"text": "Hi", "lang": "en"}), "`lang` - at `$.data`", "unknown field"),
    ({"type": "close_stream", "reason": "done"}, "`reason`", "unknown field"),
    (_delta(seq=4), "`seq`", "given by the gateway"),
    (_delta(first=4), "`first`", "given by the gateway"),
    # missing field
    ({"type": "text_delta"}, "`data`", "missing required field"),
    (_delta({}), "`text` - at `$.data`", "missing required field"),
    # wrong kind
    (_delta({"text": 5}), "$.data.text", "Expected `str`, got `int`"),
    (_delta({"text": None}), "$.data.text", "Expected `str`"),
    (_delta({"text": "Hi", "index": None}), "$.data.index", "Expected `int`"),
    (_delta({"text": "Hi", "index": True}), "$.data.index", "Expected `int`, got `bool`"),
    (_delta({"text": "Hi", "index": 1.0}), "$.data.index", "Expected `int`, got `float`"),
    (_delta({"text": "Hi", "index": "1"}), "$.data.index", "Expected `int`, got `str`"),
    (_delta([]), "$.data", "Expected `object`, got `array`"),
    ({"type": "error", "data": {"error": "e", "retryable": 1}}, "$.data.retryable", "Expected `bool`, got `int`"),
    # counts and numbers out of bounds
    (_usage(prompt_tokens=-1), "$.data.prompt_tokens", ">= 0"),
    (_usage(total_tokens=MAX_SEQ + 1), "$.data.total_tokens", f"<= {MAX_SEQ}"),
    (_usage(total_tokens=2**64 - 1), "$.data.total_tokens", f"<= {MAX_SEQ}"),
    (_delta(producer_seq=0), "$.producer_seq", ">= 1"),
    (_delta(producer_seq=MAX_SEQ + 1), "$.producer_seq", f"<= {MAX_SEQ}"),
    # empty names
    ({"type": "message_start", "data": {"message_id": ""}}, "$.data.message_id", "length >= 1"),
    ({"type": "message_stop", "data": {"message_id": "", "stop_reason": "x"}}, "$.data.message_id", "length >= 1"),
    ({"type": "content_start", "data": {"index": 0, "kind": ""}}, "$.data.kind", "length >= 1"),
    # timestamps
    (_delta(timestamp="2026-11-22T11:00:00"), "$.timestamp", "timezone"),
    (_delta(timestamp="2026-11-22"), "$.timestamp", "RFC3339"),
    (_delta(timestamp="2026-11-22T23:59:60Z"), "$.timestamp", "RFC3339"),
    (_delta(timestamp=1795345200), "$.timestamp", "Expected `datetime`, got `int`"),
    # nesting
    (_extension(_nested(65)), "$.data.data", "nested deeper than 64 levels"),
    (_extension({"a": _nested(64)}), "$.data.data", "nested deeper than 64 levels"),
    # not an object
    ([], "`object`", "got `array`"),
    ("text_delta", "`object`", "got `str`"),
    (7, "`object`", "got `int`"),
    (None, "`object`", "got `"),
]

REFUSED_IN_JSON = [
    (b"", "message", "empty"),
    (b" \n", "message", "empty"),
    (b"hello", "byte 0", "malformed"),
    (b"\xff\xfe", "byte 0", "malformed"),
    (b"\xef\xbb\xbf{}", "byte 0", "malformed"),
    (b'{"type":"text_delta","data":{"text":"Hi"}} x', "trailing", "malformed"),
    (b'{"type":"text_delta","data":{"text":"Hi"}', "`text`", "truncated"),
    (b'{"type":"thinking","type":"text_delta","data":{"text":"Hi"}}', "$.type", "two types that differ: 'text_delta'"),
    (b'{"type":"nope","type":"text_delta","data":{"text":"Hi"}}', "$.type", "unknown type: Invalid value 'nope'"),
    (b'{"type":"usage","data":{"prompt_tokens":NaN}}', "`prompt_tokens`", "invalid character"),
    (_json_extension(b"NaN"), "`data`", "invalid character"),
    (_json_extension(b"-Infinity"), "`data`", "invalid"),
    (_json_extension(b"[1e999]"), "$.data.data", "out of range"),
    (_json_extension(b"1" * 30), "$.data.data", "does not fit 64 bits"),
    (_json_extension(b"-" + b"1" * 30), "$.data.data", "does not fit 64 bits"),
    (_json_extension(b"1" * 5000), "$.data.data", "out of range"),
    (b'{"type":"text_delta","data":{"text":"a\xff"}}', "$.data.text", "invalid UTF-8"),
    (b'{"type":"text_delta","data":{"text":"a"},"\xff":1}', "`$`", "invalid UTF-8"),
    (b'{"type":"text_delta","data":{"text":"\xed\xa0\x80"}}', "$.data.text", "invalid UTF-8"),
    (_json_extension(b'{"\xff":1}'), "$.data.data", "invalid UTF-8"),
    (_json_extension(b'{"a":{"b":"\xff"}}'), "`$.data.data.a`", "invalid UTF-8"),
    (_json_extension(b'["\xc0\x80"]'), "$.data.data", "invalid UTF-8"),
    (b'{"type":"text_delta","data":{"text":"\\ud83d","index":0}}', "`text`", "surrogate"),
    (b'{"type":"text_delta","data":{"text":"\\ud83d x"}}', "`text`", "surrogate"),
    (b'{"type":"text_delta","data":{"text":"\\ude00"}}', "`text`", "surrogate"),
    (_json_extension(b'{"\\ud800":1}'), "`data`", "surrogate"),
    (_json_extension(b"[" + b"0," * 100 + b"1" + b"0" * 30 + b"]"), "$.data.data", "does not fit 64 bits"),
    (_json_extension(b"[" + b"0," * 100 + b"-1" + b"0" * 30 + b"]"), "$.data.data", "does not fit 64 bits"),
    (_json_extension(b"[" * 9000 + b"]" * 9000), "64 levels", "nested deeper"),
]

REFUSED_IN_MSGPACK = [
    (b"", "message", "empty"),
    (b"\xc1", "byte 0", "malformed"),
    (msgspec.msgpack.encode(_delta()) + b"\xc0", "trailing", "malformed"),
    (msgspec.msgpack.encode(_delta())[:-1], "data", "truncated"),
    (msgspec.msgpack.encode({1: 2}), "`key` in `$`", "Expected `str`, got `int`"),
    (msgspec.msgpack.encode(_delta({1: 2})), "`key` in `$.data`", "Expected `str`, got `int`"),
    (msgspec.msgpack.encode(_delta({"text": b"Hi"})), "$.data.text", "Expected `str`, got `bytes`"),
    (msgspec.msgpack.encode(_delta({"text": "Hi", "index": NAN})), "$.data.index", "Expected `int`, got `float`"),
    (msgspec.msgpack.encode(_extension(NAN)), "$.data.data", "not finite"),
    (msgspec.msgpack.encode(_extension([{"a": -INFINITY}])), "$.data.data", "not finite"),
    (msgspec.msgpack.encode(_extension(b"x")), "$.data.data", "JSON has no form for"),
    (msgspec.msgpack.encode(_extension(msgspec.msgpack.Ext(5, b"x"))), "$.data.data", "JSON has no form for"),
    (_msgpack_extension(b"\xd6\xff\0\0\0\0"), "$.data.data", "JSON has no form for"),
    (msgspec.msgpack.encode(_extension({1: 2})), "$.data.data", "key that is not a string"),
    (msgspec.msgpack.encode(_extension([{"a": {None: 2}}])), "$.data.data", "key that is not a string"),
    (_msgpack_extension(_timestamp(YEAR_10000)), "$.data.data", "year 10000 is out of range"),
    (_msgpack_extension(_timestamp(-(2**63))), "$.data.data", "out of range"),
    (
        msgspec.msgpack.encode(_delta()).replace(b"\x82", b"\x83\xa9timestamp" + _timestamp(YEAR_10000), 1),
        "$.timestamp",
        "year",
    ),
    (msgspec.msgpack.encode(_extension([0.5] * 100 + [NAN])), "$.data.data", "not finite"),
    (msgspec.msgpack.encode(_extension([{"a": 1}] * 100 + [{1: 2}])), "$.data.data", "key that is not a string"),
    (msgspec.msgpack.encode(_extension([0, "x"] * 100 + [b"x"])), "$.data.data", "JSON has no form for"),
    (_msgpack_extension(b"\x81\x80\x01"), "keys", "hashable"),
    (msgspec.msgpack.encode(_delta({"text": "Q"})).replace(b"Q", b"\xff"), "$.data.text", "invalid UTF-8"),
    (msgspec.msgpack.encode(_delta(Q=1)).replace(b"Q", b"\xff"), "`$`", "invalid UTF-8"),
    (msgspec.msgpack.encode(_delta({"text": "QQQ"})).replace(b"QQQ", b"\xed\xa0\x80"), "$.data.text", "UTF-8"),
    (msgspec.msgpack.encode(_extension({"Q": 1})).replace(b"Q", b"\xff"), "$.data.data", "invalid UTF-8"),
    (_msgpack_extension(b"\x91" * 9000 + b"\x90"), "64 levels", "nested deeper"),
    (_msgpack_extension(b"\xdd\xff\xff\xff\xff"), "data", "truncated"),
    (_msgpack_extension(b"\xdb\xff\xff\xff\xff"), "data", "truncated"),
]

REFUSED = [
    *[(codec, codec.encode(message), *said) for codec in (JSON, MSGPACK) for message, *said in REFUSED_IN_BOTH],
    *[(JSON, *case) for case in REFUSED_IN_JSON],
    *[(MSGPACK, *case) for case in REFUSED_IN_MSGPACK],
]


@pytest.mark.parametrize(("codec", "payload", "field", "reason"), REFUSED)
def test_a_refused_event_is_told_with_field_and_reason(codec: Codec, payload: bytes, field: str, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        codec.decode_from_producer(payload)
    assert caught.value.code is ProblemCode.INVALID_EVENT
    assert field in caught.value.message
    assert reason in caught.value.message


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
@pytest.mark.parametrize(
    ("message", "field", "reason"),
    [
        (None, "`object`", "got `"),
        ([{"type": "signal", "name": "cancel"}], "`object`", "got `array`"),
        (_delta(), "$.type", "the types are ping, signal, token"),
        ({"name": "cancel"}, "`type`", "missing required field"),
        ({"type": "signal"}, "`name`", "missing required field"),
        ({"type": "signal", "name": ""}, "$.name", "length >= 1"),
        ({"type": "signal", "name": "cancel", "to": "p"}, "`to`", "unknown field"),
        ({"type": "signal", "name": "cancel", "id": 5}, "$.id", "Expected `str`, got `int`"),
        ({"type": "signal", "name": "cancel", "data": _nested(65)}, "$.data", "nested deeper than 64"),
    ],
)
def test_a_refused_consumer_message_is_told_with_field_and_reason(
    codec: Codec, message: Any, field: str, reason: str
) -> None:
    with pytest.raises(WireError) as caught:
        codec.decode_from_consumer(codec.encode(message))
    assert caught.value.code is ProblemCode.UNKNOWN_MESSAGE
    assert field in caught.value.message
    assert reason in caught.value.message


def test_a_timestamp_in_a_signal_is_an_unknown_message() -> None:
    payload = b"\x83\xa4type\xa6signal\xa4name\xa1c\xa4data" + _timestamp(YEAR_10000)
    with pytest.raises(WireError, match=r"year 10000 is out of range - at `\$.data`"):
        MSGPACK.decode_from_consumer(payload)


@pytest.mark.parametrize("payload", [b"", b"\n", b"hello", b'{"type":"signal","name":"c","data":NaN}'])
def test_a_line_typed_by_mistake_is_an_unknown_message(payload: bytes) -> None:
    with pytest.raises(WireError) as caught:
        JSON.decode_from_consumer(payload)
    assert caught.value.code is ProblemCode.UNKNOWN_MESSAGE


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
@pytest.mark.parametrize("data", [_nested(64), {"a": _nested(63)}, -(2**63), 2**64 - 1, 1.5, None, "\0", {"": []}])
def test_what_is_just_within_the_bounds_is_taken(codec: Codec, data: Any) -> None:
    event = codec.decode_from_producer(codec.encode(_extension(data)))
    assert msgspec.to_builtins(event)["data"]["data"] == data


def test_a_fault_that_is_in_no_field_is_placed_in_the_message() -> None:
    explainer = Explainer(is_text=True, make_decoder=lambda wanted: msgspec.json.Decoder(wanted).decode)
    error = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    assert isinstance(error, DECODE_ERRORS)
    assert explainer.explain(error, b"{}", "").endswith("at `$`")
