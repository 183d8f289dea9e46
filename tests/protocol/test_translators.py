"""What holds for every translator of `deltawire.protocol.providers`, whatever the bytes."""

from __future__ import annotations

import json
from collections import Counter
from copy import deepcopy
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltawire.protocol.codec import JSON, MSGPACK
from deltawire.protocol.events import (
    ContentEnd,
    ContentStart,
    Data,
    Error,
    Extension,
    MessageStart,
    MessageStop,
    TextDelta,
    Thinking,
    ToolDelta,
    Usage,
    make_event,
)
from deltawire.protocol.providers import ANY, TRANSLATORS, Translator, sse
from tests.support.provider_bodies import FORMS

MAX_MESSAGE = 64 * 1024

BODIES = {name: form.body for name, form in FORMS.items()}

formats = pytest.mark.parametrize("name", FORMS)


def translate(name: str, *chunks: bytes) -> list[Data]:
    translator = TRANSLATORS[name]()
    return [data for chunk in chunks for data in translator.feed(chunk)] + translator.finish()


def check(events: list[Data]) -> None:
    """Every event is valid, fits a message, and stands where it may."""
    opened: Counter[tuple[object, ...]] = Counter()
    stops = 0
    message = None
    for data in events:
        payload = JSON.encode(make_event(data))
        assert len(payload) < MAX_MESSAGE - 200, "room for a timestamp and numbers"
        JSON.decode_from_producer(payload)
        MSGPACK.decode_from_producer(MSGPACK.encode(make_event(data)))
        match data:
            case MessageStart(message_id):
                assert message is None or stops, "the message before has stopped"
                message, stops = message_id, 0
            case MessageStop(message_id):
                assert message_id == message
                assert not any(count for (choice, _), count in opened.items() if choice == data.choice)
                stops += 1
            case ContentStart(index):
                opened[data.choice, index] += 1
                assert opened[data.choice, index] == 1, "a block is open once"
            case ContentEnd(index):
                opened[data.choice, index] -= 1
                assert opened[data.choice, index] == 0, "only an open block ends"
            case TextDelta() | Thinking() | ToolDelta():
                assert opened[data.choice, data.index] == 1, "deltas are inside a block"
                assert not stops, "nothing of a message comes after its stop"
            case _:
                pass
    assert message is None or stops


def test_every_format_has_a_body_here() -> None:
    assert [*FORMS] == [name for name in TRANSLATORS if name != ANY]


@pytest.mark.thorough
@formats
def test_every_split_in_two_and_every_byte_alone_give_the_events_of_one_feed(name: str) -> None:
    body = BODIES[name]
    whole = translate(name, body)
    check(whole)
    assert translate(name, *(body[i : i + 1] for i in range(len(body)))) == whole
    assert all(translate(name, body[:cut], body[cut:]) == whole for cut in range(0, len(body), 7))


@formats
@given(data=st.data())
def test_any_split_of_any_line_ending_gives_the_events_of_one_feed(name: str, data: st.DataObject) -> None:
    body = BODIES[name].replace(b"\n", data.draw(st.sampled_from([b"\n", b"\r", b"\r\n"])))
    edges = [0, *sorted(data.draw(st.lists(st.integers(0, len(body))))), len(body)]
    chunks = [body[start:end] for start, end in pairwise(edges)]
    assert translate(name, *chunks) == translate(name, BODIES[name])


@formats
@given(body=st.binary())
def test_arbitrary_bytes_give_valid_events(name: str, body: bytes) -> None:
    check(translate(name, body, b"\n\ndata:" + body))


@formats
@given(data=st.data())
def test_a_mutated_stream_gives_valid_events(name: str, data: st.DataObject) -> None:
    body = bytearray(BODIES[name])
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, len(body)))
        end = min(len(body), start + data.draw(st.integers(0, 40)))
        body[start:end] = data.draw(st.sampled_from([b"", b'"', b"}", b"{}", b"null", b"\n\n", b"7", b"\xff"]))
    check(translate(name, bytes(body)))


odd_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@formats
@given(data=st.data())
def test_wrong_json_types_anywhere_give_valid_events(name: str, data: st.DataObject) -> None:
    def spoil(value: Any) -> Any:
        if data.draw(st.integers(0, 9)) == 0:
            return data.draw(odd_values)
        if isinstance(value, dict):
            return {key: spoil(item) for key, item in value.items()}
        return [spoil(item) for item in value] if isinstance(value, list) else value

    form = FORMS[name]
    check(translate(name, *(form.frame(json.dumps(spoil(chunk)), form.event(chunk)) for chunk in form.chunks)))


def objects_in(value: Any) -> list[dict[str, Any]]:
    """All objects within a JSON value, itself included."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [*([value] if isinstance(value, dict) else []), *(found for item in inner for found in objects_in(item))]


@formats
@pytest.mark.parametrize("odd", ["mark", ["mark"], {"mark": 1}, {"type": "mark"}, "mark" * 10_000])
@given(data=st.data())
def test_a_field_nobody_knows_or_of_another_type_is_not_lost_wherever_it_stands(
    name: str, odd: Any, data: st.DataObject
) -> None:
    chunks = deepcopy(FORMS[name].chunks)
    place = data.draw(st.sampled_from(objects_in(data.draw(st.sampled_from(chunks)))))
    place[data.draw(st.sampled_from(["novel", "index", "id", *place]))] = odd
    out = translate(name, FORMS[name].encode(*chunks))
    check(out)
    assert b"mark" in JSON.encode(out)


@formats
@pytest.mark.parametrize("text", ["\x00" * 70_000, "🌍" * 30_000, '"' * 70_000])
def test_text_too_long_for_one_message_comes_in_several_deltas(name: str, text: str) -> None:
    form = FORMS[name]
    out = translate(name, form.encode(form.delta(text)))
    check(out)
    assert "".join(data.text for data in out if isinstance(data, TextDelta)) == text


@formats
@pytest.mark.parametrize("name_of_field", ["novel", "n" * 500])
def test_an_extension_too_large_for_one_message_comes_in_parts_of_its_json(name: str, name_of_field: str) -> None:
    payload = {"type": name_of_field, name_of_field: ['"\\\u0001🌍' * 20_000]}
    out = translate(name, b"data: %b\n\n" % json.dumps(payload).encode())
    check(out)
    parts = [data for data in out if isinstance(data, Extension) and data.name.endswith("_part")]
    assert {data.name for data in parts} >= {f"{name_of_field[:64]}_part"}
    assert [data.data["part"] for data in parts if data.name == parts[-1].name][-1] == parts[-1].data["parts"]
    last = [data.data["json"] for data in parts[-parts[-1].data["parts"] :]]
    assert msgspec.json.decode("".join(last))[name_of_field] == payload[name_of_field]


@formats
@pytest.mark.parametrize("size", [35_000, 59_000, 62_000, 65_000, 70_000])
def test_an_extension_of_any_size_fits_and_one_of_35_kb_is_whole(name: str, size: int) -> None:
    out = translate(name, b"data: %b\n\n" % json.dumps({"novel": "x" * size}).encode())
    check(out)
    assert (len(out) == 1) == (size < 60_000)


@formats
def test_a_second_message_begins_with_neither_the_failure_nor_the_usage_of_the_first(name: str) -> None:
    form, done = FORMS[name], b"data: [DONE]\n\n"
    one, clean = BODIES[name] + done, form.encode(*form.clean)
    first, second = translate(name, one), translate(name, one, clean)[len(translate(name, one)) :]
    assert [data for data in second if isinstance(data, Usage)] == [data for data in first if isinstance(data, Usage)]
    cut = translate(name, one, form.encode(*form.unfinished))
    assert isinstance(cut[-1], MessageStop)
    assert cut[-1].stop_reason == "incomplete"


@pytest.mark.thorough
@formats
@pytest.mark.parametrize(
    "text",
    [
        "[" * 100 + "]" * 100,
        "[" * 100_000,
        "[]",
        "nonsense",
        "two words",
        '{"a":',
    ],
)
def test_what_is_no_object_is_kept_as_text(name: str, text: str) -> None:
    out = translate(name, f"event: x\ndata: {text}\n\n".encode())
    check(out)
    if len(text) < 10_000:
        assert [data.data for data in out if isinstance(data, Extension)] == [{"event": "x", "text": text}]


@formats
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a":123456789012345678901234567890}', "123456789012345678901234567890"),
        ('{"a":1e999}', "1e999"),
        ('{"a":-Infinity}', "-Infinity"),
        ('{"a":NaN}', "NaN"),
        ('{"a":"x\\ud83d"}', "x\ufffd"),
        ('{"a":"tab\there"}', "tab\there"),
        ('{"a":' * 61 + '"deep"' + "}" * 61, None),
    ],
)
def test_what_cannot_travel_as_json_costs_only_itself(name: str, text: str, told: object) -> None:
    out = translate(name, f"data: {text}\n\n".encode())
    check(out)
    [data] = [data.data for data in out if isinstance(data, Extension)]
    assert told is None or data == {"a": told}
    assert told is not None or "deep" in json.dumps(data)
    assert not any(isinstance(data, Error) for data in out)


@formats
def test_an_event_over_the_limit_ends_the_message_with_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse.EventStreamDecoder.__init__, "__defaults__", (1000,))
    translator: Translator = TRANSLATORS[name]()
    out = translator.feed(BODIES[name][:150] + b"\n\ndata: " + b"x" * 1000 + b"\n\n" + BODIES[name])
    check(out)
    assert Error("one server-sent event is larger than 1000 bytes", "event_too_large", retryable=False) in out
    assert isinstance(out[-1], MessageStop)
    assert out[-1].stop_reason == "error"
    assert (translator.feed(BODIES[name]), translator.finish()) == ([], [])


PAGE = b"<!DOCTYPE html>\r\n<html>\r\n<title>504 Gateway &amp; Time-out</title>\r\n\r\n<p>x</p>\r\n</html>\r\n"


@formats
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (PAGE, Error("the provider's answer is no event stream: 504 Gateway & Time-out", "not_a_stream")),
        (b"<p>no\n\n<b>title", Error("the provider's answer is no event stream: no", "not_a_stream")),
        (b"no route", Error("the provider's answer is no event stream: no route", "not_a_stream")),
        (b"Unauthorized\n", Error("the provider's answer is no event stream: Unauthorized", "not_a_stream")),
        (b'"quoted"', Error('the provider\'s answer is no event stream: "quoted"', "not_a_stream")),
        (b'{"novel": 1}', Error('the provider\'s answer is no event stream: {"novel":1}', "not_a_stream")),
        (b'{"error": {"mess', Error('the provider\'s answer is no event stream: {"error": {"mess', "not_a_stream")),
        (b'[{"error": {"message": "No", "code": 1}}]\n', Error("No", "1")),
        (b'[\n{"error":\n{"message": "No"}}\n]', Error("No")),
        (b'data: [{"error": {"message": "No"}}]\n\n', Error("No")),
        (b'data: {"error": [{"message": "No", "code": "c"}]}\n\n', Error("No", "c")),
        (b'{"errors": [{"message": "No"}]}', Error("No")),
        (b'{"detail": "Not Found"}', Error("Not Found")),
        (b'{"detail": [{"loc": ["body"], "msg": "field required"}]}', Error("field required")),
        (b'{"object": "error", "message": "No", "code": 400}', None),
        (b'{"error": {"message": {"text": "?", "detail": "No"}}}', Error("No")),
        (b'{"error": true, "message": "No"}', Error("No")),
        (b'{"message": "Forbidden"}', Error("Forbidden")),
        (b'event: error\n{"message": "No"}\n', Error("No")),
    ],
)  # fmt: skip
def test_a_failure_in_place_of_a_stream_is_an_error_and_nothing_of_it_is_lost(
    name: str, body: bytes, expected: Error | None
) -> None:
    out = translate(name, body)
    check(out)
    [error] = [data for data in out if isinstance(data, Error)]
    assert error.error == "No" if expected is None else error == expected
    assert translate(name, *(body[i : i + 1] for i in range(len(body)))) == out


@formats
@pytest.mark.parametrize(
    "failure",
    [
        PAGE,
        b"upstream connect error\n\n",
        b'{"error": {"message": "No"}}\n',
        b'[{"error": {"message": "No"}}]\n\n',
        b'data: {"id": "c-1", "type": "message_del{"error": {"message": "No"}}\n\n',
        b'data: {"id": "c-1", "type": "message_del\n{"error": {"message": "No"}}\n\n',
        b'data: {"id": "c-1", "type": "message_del\ndata: {"error": {"message": "No"}}\n\n',
    ],
)
def test_a_failure_amid_an_answer_is_an_error_and_its_stop_reason(name: str, failure: bytes) -> None:
    form = FORMS[name]
    out = translate(name, form.encode(*form.unfinished) + failure)
    check(out)
    assert any(isinstance(data, Error) for data in out)
    assert {data.stop_reason for data in out if isinstance(data, MessageStop)} == {"error"}


@formats
@pytest.mark.parametrize(
    "noise", [b"data: ping\n\n", b": keep alive\n\n", b"data: 7\n\n", b"event: ping\n\n", b"OK\n\n"]
)
def test_a_single_word_amid_an_answer_is_no_failure(name: str, noise: bytes) -> None:
    form = FORMS[name]
    body = b"".join(form.encode(chunk) + noise + b"\n\n" for chunk in form.chunks) + form.end
    assert [data for data in translate(name, body) if not isinstance(data, Extension)] == [
        data for data in translate(name, BODIES[name]) if not isinstance(data, Extension)
    ]


@formats
def test_parts_that_cannot_be_read_are_told_in_one_error_of_each_kind(name: str) -> None:
    out = translate(name, b'data: {"torn\n\ndata: two words\n\n' * 3)
    check(out)
    assert [data.code for data in out if isinstance(data, Error)] == ["unreadable", "not_a_stream"]
    assert len([data for data in out if isinstance(data, Extension)]) == 6


@formats
def test_events_split_by_one_newline_are_told_as_they_come(name: str) -> None:
    form, dense, split = FORMS[name], TRANSLATORS[name](), TRANSLATORS[name]()
    for chunk in form.chunks:
        body = form.encode(chunk)
        assert dense.feed(body.replace(b"\n\n", b"\n")) == split.feed(body)
    assert dense.feed(form.end) + dense.finish() == split.feed(form.end) + split.finish()


@formats
@pytest.mark.parametrize("glue", [b"", b" ", b"data: "])
def test_events_without_any_newline_between_them_are_told(name: str, glue: bytes) -> None:
    payloads = [json.dumps(chunk).encode() for chunk in FORMS[name].chunks]
    expected = translate(name, *(b"data: %b\n\n" % payload for payload in payloads))
    assert translate(name, b"data: " + glue.join(payloads) + b"\n\n") == expected


@formats
def test_ids_that_are_made_are_unique_among_bodies(name: str) -> None:
    delta = FORMS[name].encode(FORMS[name].delta("x"))
    ids = []
    for body in ("", "a7", "b8"):
        translator = TRANSLATORS[name](body=body)
        out = translator.feed(delta + b"data: [DONE]\n\n" + delta) + translator.finish()
        ids += [data.message_id for data in out if isinstance(data, MessageStart)]
    assert ids == [f"{FORMS[name].provider}-{rest}" for rest in ("1", "2", "a7-1", "a7-2", "b8-1", "b8-2")]


@formats
def test_finish_says_what_is_left_once(name: str) -> None:
    translator = TRANSLATORS[name]()
    translator.feed(BODIES[name][:400])
    assert translator.finish() != []
    assert translator.finish() == []
    assert translator.feed(BODIES[name]) == []
