from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltawire.protocol.providers.partial_arguments import MAX_PIECES, PartialArguments


def put(*pieces: Any) -> tuple[dict[str, Any], list[bool]]:
    arguments = PartialArguments()
    understood = [arguments.add(piece) for piece in pieces]
    return arguments.value, understood


def at(path: str, value: object = 1) -> dict[str, Any]:
    return {"jsonPath": path, "stringValue" if isinstance(value, str) else "numberValue": value}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$.a", {"a": 1}),
        ("$.a.b", {"a": {"b": 1}}),
        ("$.a[0]", {"a": [1]}),
        ("$.a[0][0].b", {"a": [[{"b": 1}]]}),
        ("$['a b']", {"a b": 1}),
        ('$["it\'s"]', {"it's": 1}),
        (r"$['it\'s']", {"it's": 1}),
        ("$.ü", {"ü": 1}),
    ],
)
def test_a_value_is_put_where_its_path_says(path: str, value: dict[str, Any]) -> None:
    assert put(at(path)) == (value, [True])


def test_pieces_of_text_are_joined_and_other_values_replaced() -> None:
    value, understood = put(
        at("$.a", "x"), at("$.a", "x"), at("$.b"), at("$.b", 2.5), at("$.c[0]", "y"), at("$.c[1]", "z")
    )
    assert value == {"a": "xx", "b": 2.5, "c": ["y", "z"]}
    assert all(understood)


@pytest.mark.parametrize(
    "piece",
    [
        None,
        7,
        {},
        at("$"),
        at(""),
        at("a"),
        at("$.."),
        at("$.a[*]"),
        at("$.a[1]"),
        at("$.a[0][1].b"),
        at("$[0]"),
        at("$.s.x"),
        at("$.s[0]"),
        at("$" + ".a" * 100),
        {"jsonPath": "$.a"},
        {"jsonPath": "$.a", "stringValue": 7},
        {"jsonPath": 7, "stringValue": "x"},
    ],
)
def test_what_has_no_place_changes_nothing(piece: Any) -> None:
    assert put(at("$.s", "text"), piece) == ({"s": "text"}, [True, False])


def test_a_whole_number_is_one() -> None:
    assert (
        str(put(at("$.a", 2.0), at("$.b", 2.5), at("$.c", 2.0**60))[0])
        == "{'a': 2, 'b': 2.5, 'c': 1.152921504606847e+18}"
    )


@given(st.lists(st.tuples(st.text(st.sampled_from("$.a['\"]0[1\\b"), max_size=12), st.text(max_size=3))))
def test_any_paths_do_no_harm(pieces: list[tuple[str, str]]) -> None:
    put(*(at(path, text) for path, text in pieces))


@pytest.mark.timed
def test_pieces_are_bounded_and_take_linear_time() -> None:
    arguments = PartialArguments()
    start = time.thread_time()
    for _ in range(MAX_PIECES):
        assert arguments.add(at("$.a", "x" * 10))
    assert not arguments.add(at("$.a", "x"))
    assert len(arguments.value["a"]) == 10 * MAX_PIECES
    assert time.thread_time() - start < 10, "quadratic would copy 50 GB"
