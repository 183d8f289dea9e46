"""The format of a body is found from what it begins with."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltawire.protocol.events import Data, Error, Extension, MessageStart, MessageStop
from deltawire.protocol.providers import ANY, TRANSLATORS
from deltawire.protocol.providers.any_provider import MAX_HELD
from deltawire.protocol.providers.recognition import recognise
from tests.protocol.test_translators import PAGE, check, translate
from tests.support.provider_bodies import FORMS

formats = pytest.mark.parametrize("name", FORMS)


@formats
def test_each_chunk_of_each_format_is_known_but_one_that_tells_a_failure(name: str) -> None:
    form = FORMS[name]
    for chunk in form.clean:
        known = recognise(chunk)
        assert known == name or (known is None and name == "ollama-ndjson" and "done" not in chunk)
    assert {recognise(chunk) for chunk in form.chunks if chunk not in form.clean} == {None}


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"error": {"message": "No"}},
        {"type": "error", "error": {"message": "No"}},
        {"type": "novel"},
        {"type": 7, "object": 7, "choices": 7, "candidates": 7, "done": 7},
        {"object": ["chat.completion"]},
        {"message": "No"},
        {"message": {"content": "x"}},
    ],
)
def test_what_may_be_of_any_format_or_of_none_is_not_known(payload: dict[str, Any]) -> None:
    assert recognise(payload) is None


@formats
def test_events_are_those_of_the_formats_own_translator_and_come_with_the_first_chunk(name: str) -> None:
    form = FORMS[name]
    translator, own = TRANSLATORS[ANY](body="b"), TRANSLATORS[name](body="b")
    for chunk in form.chunks:
        body = form.encode(chunk)
        assert translator.feed(body) == own.feed(body) or recognise(form.chunks[0]) is None
    assert translator.feed(form.end) + translator.finish() == own.feed(form.end) + own.finish()
    assert translate(ANY, form.body) == translate(name, form.body)


@formats
def test_what_comes_before_is_known_is_held_and_not_lost(name: str) -> None:
    form = FORMS[name]
    body = b": comment\n\n" + b'{"error": "No"}\n' + form.body
    assert translate(ANY, body) == translate(name, body)
    assert translate(ANY, *(body[i : i + 1] for i in range(len(body)))) == translate(name, body)


@formats
def test_a_chunk_of_an_sdk_says_its_format_as_well(name: str) -> None:
    translator, own = TRANSLATORS[ANY](), TRANSLATORS[name]()
    events = [data for chunk in FORMS[name].chunks for data in translator.feed_object(chunk)] + translator.finish()
    assert events == [data for chunk in FORMS[name].chunks for data in own.feed_object(chunk)] + own.finish()
    assert isinstance(events[0], MessageStart)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (PAGE, Error("the provider's answer is no event stream: 504 Gateway & Time-out", "not_a_stream")),
        (b'{"error": {"message": "No", "code": 503}}', Error("No", "503")),
        (b'data: {"novel": 1}\n\n', Error("the format of the provider's answer is not known", "not_a_stream")),
        (b"data: hello there\n\n", Error("the provider's answer is no event stream: hello there", "not_a_stream")),
    ],
)
def test_a_body_of_no_format_is_an_error_and_nothing_of_it_is_lost(body: bytes, error: Error) -> None:
    out = translate(ANY, body)
    check(out)
    assert [data for data in out if isinstance(data, Error)] == [error]
    assert {data.provider for data in out if isinstance(data, Extension)} <= {"unknown"}
    assert translate(ANY, *(body[i : i + 1] for i in range(len(body)))) == out


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (b'[{"candidates":[{"content":{"parts":[{"text":"Hi"}]},"finishReason":"STOP"}]}]', "gemini-sse"),
        (b'{"object":"chat.completion","id":"c","choices":[{"message":{"content":"Hi"}}]}', "openai-chat-sse"),
    ],
)
def test_a_body_that_is_known_only_when_it_ends_is_translated_to_its_end(body: bytes, form: str) -> None:
    events = translate(ANY, body)
    assert events == translate(form, body)
    assert isinstance(events[-1], MessageStop)


def test_an_empty_body_is_no_answer() -> None:
    assert translate(ANY, b"") == translate(ANY, b": comment\n\n") == []


def test_a_body_that_is_not_known_is_held_up_to_a_limit() -> None:
    translator = TRANSLATORS[ANY]()
    line = b'data: {"novel": "%b"}\n\n' % (b"x" * 50_000)
    out: list[Data] = []
    fed = 0
    while not out:
        out = translator.feed(line)
        fed += len(line)
    assert MAX_HELD < fed < MAX_HELD + 2 * len(line)
    assert len(out) == fed / len(line)
    assert len(translator.feed(line)) == 1
    late = FORMS["openai-chat-sse"].body
    assert {data.provider for data in translator.feed(late) if isinstance(data, Extension)} == {"unknown"}
    assert translator.unparsed == 0


def test_parts_that_cannot_be_read_are_counted() -> None:
    translator = TRANSLATORS[ANY]()
    translator.feed(b"data: hello there\n\n")
    assert translator.unparsed == 1
    translator.feed(FORMS["gemini-sse"].body + b"data: hello there\n\n")
    assert translator.unparsed == 2


@given(body=st.binary(), name=st.sampled_from([*FORMS]), cut=st.integers(0, 200))
def test_arbitrary_bytes_give_valid_events(body: bytes, name: str, cut: int) -> None:
    form = FORMS[name].body
    check(translate(ANY, form[:cut] + body + form[cut:]))


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text() | st.sampled_from(["type", "choices", "error"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@formats
@given(chunk=values)
def test_arbitrary_objects_give_valid_events(name: str, chunk: Any) -> None:
    form = FORMS[name]
    for which in (ANY, name):
        translator = TRANSLATORS[which]()
        events = translator.feed_object(chunk) + translator.feed_object(form.chunks[0])
        check(events + translator.feed_object(chunk) + translator.finish())
