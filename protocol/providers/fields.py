"""Reading a JSON object nobody vouches for: take what is understood, and know what is left.

A translator takes the fields it has events for. What is left when it is done, a field it doesn't know or one whose
value has the wrong type, becomes an extension: so nothing can be forgotten, and nothing can raise.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import msgspec

from deltawire.protocol.codec import check_json
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.events import MAX_NESTING
from deltawire.protocol.providers.halves import mend
from deltawire.protocol.providers.parts import Pieces, read_parts
from deltawire.protocol.providers.tolerant import read_documents

MAX_LABEL = 1000
"""Code points of an id, a name or a reason: longer ones are left over, so that every event fits one message."""

MAX_COUNT = 2**50
"""Largest number taken as a count: sums of a few of them are still exact for every reader (`MAX_SEQ`)."""

_encode = msgspec.msgpack.Encoder().encode
_LONGEST_AMOUNT = 32
_ADDRESS = frozenset({"index", "type"})
_EMPTY: tuple[Any, ...] = (None, "", [], {})


def parse_object(text: str) -> dict[str, Any] | None:
    """A JSON object that can travel but for halves of characters, any part of it too; None for every other text."""
    try:
        value = msgspec.json.decode(text)
        _encode(value)  # which refuses integers over 64 bits, as decoding does floats that overflow
        if text.count("{") + text.count("[") > MAX_NESTING:
            check_json(value, "$", ProblemCode.INVALID_EVENT)
    except (ValueError, OverflowError, RecursionError, WireError):
        match read_documents(text):
            case [dict(value)]:
                return value
            case _:
                return None
    return value if isinstance(value, dict) else None


class Fields:
    """The fields of a JSON object, each taken at most once.

    Args:
        source: the object.
    """

    def __init__(self, source: dict[str, Any]) -> None:
        self.source = source
        self._taken: set[str] = set()
        self._objects: dict[str, Fields] = {}
        self._rests: dict[str, Any] = {}

    def peek(self, name: str, longest: int = MAX_LABEL) -> str | None:
        """A short, non-empty text, not taken; None if the field is something else."""
        value = self.source.get(name)
        return mend(value) if isinstance(value, str) and 0 < len(value) <= longest else None

    def label(self, name: str, longest: int = MAX_LABEL) -> str | None:
        """A short, non-empty text; None if the field is something else."""
        value = self.peek(name, longest)
        if value is not None:
            self._taken.add(name)
        return value

    def text(self, name: str) -> str:
        """A text of any length, which may have halves of characters; empty if the field is something else."""
        value = self.source.get(name)
        if not isinstance(value, str):
            return ""
        self._taken.add(name)
        return value

    def count(self, name: str) -> int | None:
        """An integer from 0 to `MAX_COUNT`; None if the field is something else."""
        value = self.source.get(name)
        if type(value) is not int or not 0 <= value <= MAX_COUNT:  # bool is an int to isinstance
            return None
        self._taken.add(name)
        return value

    def amount(self, name: str) -> int | None:
        """A count that may be written as a float, which is rounded up, or as text; None if the field is neither."""
        value = self.source.get(name)
        if value is None or type(value) is int:
            return self.count(name)
        try:
            number = float(value) if isinstance(value, (str, float)) and len(str(value)) <= _LONGEST_AMOUNT else -1.0
        except ValueError:
            return None
        if not 0 <= number <= MAX_COUNT:  # NaN is neither
            return None
        if number.is_integer():
            self._taken.add(name)
        return ceil(number)

    def object(self, name: str) -> Fields:
        """A nested object, to be taken field by field; one without fields if the field is something else."""
        value = self.source.get(name)
        if not isinstance(value, dict):
            return Fields({})
        return self._objects.setdefault(name, Fields(value))

    def parts(self, name: str, kind: str) -> Pieces:
        """The text of a field that may be in parts (`parts.read_parts`)."""
        value = self.source.get(name)
        if value is None or name in self._taken:
            return []
        pieces, rest = read_parts(value, kind)
        if rest is None:
            self._taken.add(name)
        elif pieces:
            self._rests[name] = rest
        return pieces

    def objects(self, name: str) -> list[Fields]:
        """The objects of an array. An array that holds anything else too counts as not taken."""
        value = self.source.get(name)
        if not isinstance(value, list):
            return []
        objects = [Fields(item) for item in value if isinstance(item, dict)]
        if len(objects) == len(value):
            self._taken.add(name)
        return objects

    def drop(self, name: str, *values: Any) -> None:
        """Take a field that says nothing, or nothing new, when it has one of these values; whatever it has, if none."""
        if not values or self.source.get(name) in values:
            self._taken.add(name)

    def keep(self, name: str) -> None:
        """Leave a field that was taken: what was made of it doesn't say all it says."""
        self._taken.discard(name)

    def drop_all(self) -> None:
        """Take everything: it has been dealt with as a whole."""
        self._taken.update(self.source)
        self._objects.clear()

    def left(self) -> dict[str, Any]:
        """What was not taken, nested as it was; empty if there is nothing.

        Null and empty fields don't count. `index` and `type` travel along with what is left, to say where it stood.
        """
        left = {}
        for name, value in (self.source | self._rests if self._rests else self.source).items():
            if name in self._objects:
                value = self._objects[name].left()  # noqa: PLW2901 - in place of the whole
            if value not in _EMPTY and (name not in self._taken or name in _ADDRESS):
                left[name] = value
        return left if left.keys() - (self._taken & _ADDRESS) else {}
