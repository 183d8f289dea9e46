"""Values of any kind that both encodings can carry: what an extension, or the data of a signal, may be (SPEC §4.3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from math import isfinite
from typing import Any, Final

import msgspec

from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.events import MAX_NESTING

_MIN_INT, _MAX_INT = -(2**63), 2**64 - 1  # the integers that MessagePack can carry

_msgpack_encoder = msgspec.msgpack.Encoder()


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
