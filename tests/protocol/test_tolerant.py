from __future__ import annotations

import time
from typing import Any

import pytest

from deltawire.protocol.providers.tolerant import MAX_DEPTH, read_documents, read_objects


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('{"a":1}', [{"a": 1}]),
        (' {"a":1} {"a":2},\n[3] ', [{"a": 1}, {"a": 2}, [3]]),
        ('{"a":1}data: {"a":2}', [{"a": 1}, {"a": 2}]),
        ('{"a":NaN,"b":-Infinity,"c":1e999,"d":1e3}', [{"a": "NaN", "b": "-Infinity", "c": "1e999", "d": 1000.0}]),
        ("[18446744073709551615,18446744073709551616]", [[18446744073709551615, "18446744073709551616"]]),
        ("1" * 5000, ["1" * 5000]),
        ('"\\ud83c"', ["\ud83c"]),
        ('"a\tb"', ["a\tb"]),
        ('{"a":1} nonsense', None),
        ("data: {}", None),
        ("", None),
        ('{"a":', None),
    ],
)
def test_what_strict_readers_refuse_is_read(text: str, values: list[Any] | None) -> None:
    assert read_documents(text) == values


def test_what_nests_too_deep_is_its_text() -> None:
    deep = '{"text":"}]","a":' + "[" * 100 + "]" * 100 + "}"
    [value] = read_documents(deep) or [None]
    assert value["text"] == "}]"
    inner = value["a"]
    for _ in range(MAX_DEPTH - 2):
        [inner] = inner
    assert inner == ["[" * (101 - MAX_DEPTH) + "]" * (101 - MAX_DEPTH)]


@pytest.mark.parametrize(
    ("text", "objects", "rest"),
    [
        ('[{"a":1},2,{"a":3}]', [{"a": 1}, {"a": 3}], "2"),
        ('{"a":"cut{"error":{"m":1}}', [{"error": {"m": 1}}], '{"a":"cut'),
        ('{"a":1}{"b":"cut', [{"a": 1}], '{"b":"cut'),
        ('{"a":"cut\n{"b":1}\n {"c":2}', [{"b": 1}], '{"a":"cut\n {"c":2}'),
        ("[]", [], ""),
        ("nonsense", [], "nonsense"),
    ],
)
def test_objects_are_found_beside_what_is_torn(text: str, objects: list[dict[str, Any]], rest: str) -> None:
    assert read_objects(text) == (objects, rest)


@pytest.mark.timed
@pytest.mark.parametrize("unit", ["[", '{"a":', '{"error":', '\\"', '"\\', "{}", "]", ",", '"a\n{', '{"error":{"a":1}'])
def test_time_is_linear_in_hostile_text(unit: str) -> None:
    def seconds(size: int) -> float:
        start = time.thread_time()
        read_objects('"' * (unit != "[") + unit * size)
        return time.thread_time() - start

    assert any(seconds(80_000) < 0.05 + 24 * seconds(10_000) for _ in range(10)), "quadratic would be 64 times the work"
