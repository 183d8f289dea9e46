"""Tool calls as servers send them in pieces, by what a reader of the events puts together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import UNSET

from deltawire.protocol.events import ContentStart, Data, Extension, ToolDelta
from deltawire.protocol.providers import OpenAIChat
from deltawire.protocol.providers.tool_calls import MAX_HELD, MAX_KEPT

OSLO = '{"city":"Oslo"}'
Piece = tuple[int | None, str | None, str | None, Any]


def translate(deltas: Sequence[Sequence[Piece]]) -> list[Data]:
    translator = OpenAIChat()
    out: list[Data] = []
    for pieces in deltas:
        items = []
        for index, call_id, name, arguments in pieces:
            function = {"name": name, "arguments": arguments}
            item = {"index": index, "id": call_id, "type": "function", "function": function}
            items.append({key: value for key, value in item.items() if value is not None})
        payload = {"id": "c-1", "choices": [{"index": 0, "delta": {"tool_calls": items}}]}
        out += translator.feed(b"data: %b\n\n" % json.dumps(payload).encode())
    return out + translator.finish()


def read(events: list[Data]) -> list[tuple[object, object, str]]:
    """Id, name and arguments of each call, as a reader has them."""
    starts = [data for data in events if isinstance(data, ContentStart)]
    deltas = [data for data in events if isinstance(data, ToolDelta)]
    return [
        (
            start.id or None,
            start.name or None,
            "".join(delta.partial_json for delta in deltas if delta.index == start.index),
        )
        for start in starts
    ]


def calls(*pieces: Piece) -> list[tuple[object, object, str]]:
    """The calls made of pieces that come one in a delta."""
    return read(translate([[piece] for piece in pieces]))


LOOK = ("a", "look", OSLO)


@pytest.mark.parametrize(
    "pieces",
    [
        [(0, "a", "look", OSLO)],
        [(0, "a", "look", {"city": "Oslo"})],
        [(0, "a", "look", ""), (0, None, None, {"city": "Oslo"})],
        [(0, "a", "look", {}), (0, None, None, OSLO[:5]), (0, None, None, OSLO[5:])],
        # ids that change, repeat or come late
        [(0, "a", "look", ""), (0, "b", None, OSLO[:5]), (0, "c", None, OSLO[5:])],
        [(0, "a", "look", ""), (0, "b", "look", OSLO[:5]), (0, "c", "look", OSLO[5:])],
        [(0, "a", "look", OSLO[:5]), (0, "a", "look", OSLO[5:])],
        [(0, None, "look", ""), (0, "a", None, OSLO)],
        [(None, "a", "look", OSLO[:5]), (None, "a", None, OSLO[5:])],
        [(None, "a", "look", OSLO[:5]), (None, None, None, OSLO[5:])],
        # indices that change
        [(0, "a", "look", OSLO[:5]), (1, None, None, OSLO[5:])],
        [(0, "a", "look", ""), (1, None, None, OSLO[:5]), (1, None, None, OSLO[5:])],
        [(0, "a", "look", ""), (1, None, None, OSLO[:5]), (2, None, None, OSLO[5:])],
        [(0, "a", "look", OSLO[:5]), (1, "a", None, OSLO[5:])],
        [(0, "a", "look", OSLO[:5]), (1, "a", "look", OSLO[5:])],
        [(1, "a", "look", OSLO[:5]), (0, None, None, OSLO[5:])],
        [("0", "a", "look", OSLO[:5]), (0.0, None, None, OSLO[5:])],
        # names that come late
        [(0, "a", "", OSLO[:5]), (0, None, "look", OSLO[5:])],
        [(0, "a", None, OSLO), (0, None, "look", "")],
        [(0, "a", None, OSLO[:5]), (0, "a", "look", OSLO[5:])],
        [(0, "a", None, ""), (0, "b", "look", OSLO)],
        [(0, "a", None, OSLO[:5]), (1, None, "look", OSLO[5:])],
        # all of it again
        [(0, "a", "look", OSLO), (0, "a", "look", OSLO)],
        [(0, "a", "look", OSLO), (0, "a", "look", "")],
        [(0, "a", "look", {"city": "Oslo"}), (0, "a", "look", {"city": "Oslo"})],
    ],
)
def test_one_call_is_one_call_whatever_servers_do_to_what_identifies_it(pieces: list[Piece]) -> None:
    assert calls(*pieces) == [LOOK]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        # each of several calls under the same index
        ([(0, "a", "f", "{}"), (0, "b", "f", "{}")], [("a", "f", "{}"), ("b", "f", "{}")]),
        ([(0, "a", "f", ""), (0, "b", "f", "")], [("a", "f", ""), ("b", "f", "")]),
        ([(0, "a", "f", ""), (0, "b", "g", '{"x":1}')], [("a", "f", ""), ("b", "g", '{"x":1}')]),
        ([(0, "a", "f", ""), (0, "b", "f", '{"x":1}')], [("a", "f", ""), ("b", "f", '{"x":1}')]),
        ([(0, None, "f", "{}"), (0, None, "g", '{"x":1}')], [(None, "f", "{}"), (None, "g", '{"x":1}')]),
        ([(0, None, "f", '{"x":1}'), (0, None, "f", '{"x":2}')], [(None, "f", '{"x":1}'), (None, "f", '{"x":2}')]),
        ([(0, "a", "f", "{}"), (0, "b", None, "{"), (0, "b", "g", "}")], [("a", "f", "{}"), ("b", "g", "{}")]),
        # one id for several calls
        ([(0, "a", "f", ""), (1, "a", "f", "")], [("a", "f", ""), ("a", "f", "")]),
        ([(0, "a", "f", "{}"), (1, "a", "f", "{}")], [("a", "f", "{}"), ("a", "f", "{}")]),
        ([(0, "a", "f", '{"x'), (1, "a", "g", '{"y')], [("a", "f", '{"x'), ("a", "g", '{"y')]),
        # no id at all
        ([(0, None, "f", ""), (1, None, "f", ""), (0, None, None, "{}")], [(None, "f", "{}"), (None, "f", "")]),
        # a call that never gets a name
        ([(0, "a", "f", "{}"), (1, "b", None, "{"), (1, None, None, "}")], [("a", "f", "{}"), ("b", None, "{}")]),
    ],
)  # fmt: skip
def test_several_calls_are_several_calls(pieces: list[Piece], expected: list[tuple[object, object, str]]) -> None:
    assert sorted(calls(*pieces), key=str) == sorted(expected, key=str)


def test_calls_without_index_and_id_in_one_delta_are_several() -> None:
    events = translate([[(None, None, "f", ""), (None, None, "f", ""), (None, None, "g", "{}")]])
    assert sorted(read(events), key=str) == [(None, "f", ""), (None, "f", ""), (None, "g", "{}")]


def test_an_empty_object_is_all_there_is_unless_more_comes() -> None:
    assert calls((0, "a", "f", {})) == [("a", "f", "{}")]
    assert calls((0, "a", "f", {}), (0, None, None, "[]")) == [("a", "f", "[]")]


def test_a_call_may_be_an_object_without_a_list_or_without_a_function() -> None:
    flat = {"index": 0, "id": "a", "name": "look", "input": {"city": "Oslo"}}
    for value in (flat, [flat]):
        payload = {"choices": [{"delta": {"tool_calls": value}}]}
        assert read(OpenAIChat().feed(b"data: %b\n\n" % json.dumps(payload).encode())) == [LOOK]


def test_a_block_opens_when_the_name_is_known_and_with_the_id_if_that_comes_first() -> None:
    translator = OpenAIChat()

    def feed(item: dict[str, Any]) -> list[str]:
        payload = {"choices": [{"delta": {"tool_calls": [{"index": 0, **item}]}}]}
        out = translator.feed(b"data: %b\n\n" % json.dumps(payload).encode())
        return [data.type for data in out if data.type != "message_start"]

    assert feed({"function": {"arguments": '{"a"'}}) == []
    assert feed({"function": {"name": "f"}}) == ["content_start", "tool_delta"]
    assert feed({"function": {"arguments": ":1}"}}) == ["tool_delta"]
    assert feed({"index": 1, "function": {"name": "g"}}) == []
    assert feed({"index": 1, "id": "b"}) == ["content_start"]


def test_a_block_without_a_name_opens_when_much_is_held() -> None:
    pieces: list[Piece] = [(0, "a", None, '{"x":"'), *[(0, None, None, "y" * 1000)] * 70]
    before_the_end = translate([[piece] for piece in pieces])[:-2]
    assert any(isinstance(data, ToolDelta) for data in before_the_end)
    [(call_id, name, arguments)] = calls(*pieces, (0, None, "late", '"}'))
    assert (call_id, name, len(arguments)) == ("a", None, 70_000 + 8)
    assert len(arguments) > MAX_HELD
    out = translate([[piece] for piece in (*pieces, (0, None, "late", '"}'))])
    assert [data.data["delta"] for data in out if isinstance(data, Extension)] == [
        {"tool_calls": [{"index": 0, "type": "function", "function": {"name": "late"}}]}
    ]


def test_arguments_longer_than_are_kept_are_told_whole() -> None:
    text = '{"x":"' + "y" * (MAX_KEPT + 10) + '"}'
    assert calls((0, "a", "f", text), (0, "a", "f", " ")) == [("a", "f", text + " ")]
    assert calls((0, "a", "f", text), (0, "b", "g", "{}")) == [("a", "f", text), ("b", "g", "{}")]


def test_halves_of_a_character_in_arguments_are_joined() -> None:
    body = [rb'"a\ud83c"', rb'"\udf0d"', rb'"\ud83c"']
    translator = OpenAIChat()
    out: list[Data] = []
    for text in body:
        call = b'{"index":0,"id":"a","function":{"name":"f","arguments":%b}}' % text
        out += translator.feed(b'data: {"choices":[{"delta":{"tool_calls":[%b]}}]}\n\n' % call)
    assert read(out + translator.finish()) == [("a", "f", "a🌍\ufffd")]


def test_every_event_of_a_call_is_of_its_choice() -> None:
    assert all(getattr(data, "choice", UNSET) is UNSET for data in translate([[(0, "a", "f", "{}")]]))
