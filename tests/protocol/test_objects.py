"""Chunks that are no bytes: dicts, and objects as SDKs have them."""

from __future__ import annotations

import dataclasses
import json
import types
from collections import UserDict
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from deltawire.protocol.events import Error, Extension, MessageStop, TextDelta
from deltawire.protocol.providers import TRANSLATORS
from deltawire.protocol.providers.objects import encode_chunk
from tests.protocol.test_translators import check, translate
from tests.support.provider_bodies import FORMS

formats = pytest.mark.parametrize("name", FORMS)


class Model:
    """What a pydantic model is to others: something that writes its JSON, and its dict."""

    def __init__(self, fails: bool = False, **fields: Any) -> None:  # noqa: FBT001, FBT002
        self._fails = fails
        self._fields = fields

    def model_dump(self, *, by_alias: bool, exclude_none: bool, exclude: frozenset[str], warnings: bool) -> Any:
        assert (by_alias, exclude_none, warnings) == (True, True, False)
        return {name: value for name, value in self._fields.items() if value is not None and name not in exclude}

    def model_dump_json(self, **options: Any) -> str:
        if self._fails:
            raise UnicodeEncodeError("utf-8", "", 0, 1, "surrogates not allowed")
        return json.dumps(self.model_dump(**options), default=lambda it: it.model_dump(**options))


@dataclasses.dataclass
class Plain:
    a: int
    when: datetime


class Wire(msgspec.Struct):
    a: bytes


@pytest.mark.parametrize(
    ("chunk", "value"),
    [
        ({"a": [1, None, "ü\ud83d"]}, {"a": [1, None, "ü\ud83d"]}),
        (UserDict(a=1), {"a": 1}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (Model(a=1, b=None, snapshot="all"), {"a": 1}),
        (Model(a=1, inner=Model(b=2, c=None)), {"a": 1, "inner": {"b": 2}}),
        (Model(fails=True, a="\ud83d", inner=Model(b=2)), {"a": "\ud83d", "inner": {"b": 2}}),
        ({"a": Model(b=1)}, {"a": {"b": 1}}),
        (Plain(1, datetime(2026, 1, 2, tzinfo=UTC)), {"a": 1, "when": "2026-01-02T00:00:00Z"}),
        (Wire(b"hi"), {"a": "aGk="}),
        ({"n": 2**70, 1: "x"}, {"n": 2**70, "1": "x"}),
        ([{"a": 1}], [{"a": 1}]),
        (msgspec.Raw(b'{"a":1}'), {"a": 1}),
        (object(), "an object of the type object"),
        ({"a": object()}, "an object of the type dict"),
        ({("a",): 1}, "an object of the type dict"),
        (types.SimpleNamespace(model_dump_json=7), "an object of the type SimpleNamespace"),
        (types.SimpleNamespace(to_dict=lambda: {"a": 1}), {"a": 1}),
    ],
)
def test_a_chunk_is_the_json_that_it_was_made_of(chunk: object, value: object) -> None:
    text = encode_chunk(chunk)
    assert text is not None
    assert json.loads(text) == value


def test_what_contains_itself_is_told_by_its_type() -> None:
    chunk: dict[str, Any] = {}
    chunk["a"] = chunk
    assert encode_chunk(chunk) == '"an object of the type dict"'


def made_by(module: str, **fields: Any) -> Any:
    """A model of an SDK's module, with these attributes."""
    return type("Event", (Model,), {"__module__": module, **fields})(**fields)


def test_what_a_helper_of_an_sdk_adds_is_left_out() -> None:
    helper = "anthropic.lib.streaming._types"
    stop = made_by(helper, type="content_block_stop", index=0, content_block={"type": "text"})
    assert encode_chunk(stop) == '{"type": "content_block_stop", "index": 0}'
    assert encode_chunk(made_by(helper, type="text", text="a", snapshot="a")) is None
    start = made_by("anthropic.types", type="content_block_start", index=0, content_block={"type": "text"})
    assert json.loads(encode_chunk(start) or "")["content_block"] == {"type": "text"}
    chat = "openai.lib.streaming.chat._events"
    chunk: dict[str, Any] = {"choices": []}
    assert encode_chunk(made_by(chat, type="chunk", chunk=chunk, snapshot={})) == json.dumps(chunk)
    assert encode_chunk(made_by(chat, type="content.delta", delta="a")) is None
    response = made_by("google.genai.types", candidates=[], sdk_http_response={"headers": {"x": "secret"}})
    assert encode_chunk(response) == '{"candidates": []}'


@formats
def test_dicts_and_models_give_the_events_of_the_body(name: str) -> None:
    form = FORMS[name]
    dicts, models = TRANSLATORS[name](), TRANSLATORS[name]()
    whole = translate(name, form.encode(*form.clean))
    events = [data for chunk in form.clean for data in dicts.feed_object(chunk)] + dicts.finish()
    assert events == [data for chunk in form.clean for data in models.feed_object(Model(**chunk))] + models.finish()
    assert events == whole


@formats
def test_events_are_of_the_chunk_as_it_was(name: str) -> None:
    chunk = FORMS[name].delta("a") | {"novel": {"x": [1]}}
    translator = TRANSLATORS[name]()
    events = translator.feed_object(chunk)
    before = repr(events)
    chunk["novel"]["x"].append(2)
    assert repr(events) == before
    assert any(isinstance(data, Extension) for data in events)


@formats
def test_halves_of_characters_in_dicts_are_joined(name: str) -> None:
    translator = TRANSLATORS[name]()
    delta = FORMS[name].delta
    events = [data for half in ("a\ud83c", "\udf0d") for data in translator.feed_object(delta(half))]
    assert "".join(data.text for data in events + translator.finish() if isinstance(data, TextDelta)) == "a🌍"


@formats
@pytest.mark.parametrize(
    ("chunk", "is_error"),
    [(object(), True), ([], True), ([7], True), ("two words", True), ("word", False), (7, False), (None, False)],
)
def test_what_is_no_chunk_is_told_and_harms_no_other(name: str, chunk: object, *, is_error: bool) -> None:
    translator = TRANSLATORS[name]()
    events = translator.feed_object(FORMS[name].delta("a")) + translator.feed_object(chunk)
    events += translator.feed_object(FORMS[name].delta("b")) + translator.finish()
    check(events)
    assert [data.text for data in events if isinstance(data, TextDelta)] == ["a", "b"]
    assert any(isinstance(data, Extension) and data.name == "unparsed" for data in events)
    assert any(isinstance(data, Error) for data in events) == is_error
    [stop] = [data for data in events if isinstance(data, MessageStop)]
    assert stop.stop_reason == ("error" if is_error else "incomplete")


@formats
def test_a_list_of_chunks_is_read_as_its_items(name: str) -> None:
    form = FORMS[name]
    translator = TRANSLATORS[name]()
    events = translator.feed_object([form.delta("a"), form.delta("b")]) + translator.finish()
    assert events == translate(name, form.encode(form.delta("a"), form.delta("b")))


@formats
def test_after_the_end_no_chunk_says_anything(name: str) -> None:
    translator = TRANSLATORS[name]()
    translator.finish()
    assert translator.feed_object(FORMS[name].chunks[0]) == []
