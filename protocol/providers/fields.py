"""Read an untrusted JSON object: take the known fields, and keep track of the rest.

A translator takes the fields for which it has events. The remaining fields, which are unknown or have values of the
wrong type, become an extension. So no field is lost, and no input raises.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import msgspec

from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.events import MAX_NESTING
from deltawire.protocol.json_values import check_json
from deltawire.protocol.providers.halves import mend
from deltawire.protocol.providers.parts import Pieces, read_parts
from deltawire.protocol.providers.tolerant import read_documents

MAX_LABEL = 1000
"""Maximum code points of an id, a name or a reason: longer ones are not taken, so that every event fits one message."""

MAX_COUNT = 2**50
"""Largest number accepted as a count: sums of a few of them are still exact for every reader (`MAX_SEQ`)."""

_encode = msgspec.msgpack.Encoder().encode
_LONGEST_AMOUNT = 32
_ADDRESS = frozenset({"index", "type"})


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
        """A short, non-empty text, without taking it; None if the field is anything else."""
        value = self.source.get(name)
        return mend(value) if isinstance(value, str) and 0 < len(value) <= longest else None

    def label(self, name: str, longest: int = MAX_LABEL) -> str | None:
        """Take a short, non-empty text; None if the field is anything else."""
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
        """Take an integer from 0 to `MAX_COUNT`; None if the field is anything else."""
        value = self.source.get(name)
        if type(value) is not int or not 0 <= value <= MAX_COUNT:  # isinstance accepts a bool as an int
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
        """A nested object, whose fields are taken one by one; an empty one if the field is anything else."""
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
        """The objects in an array. An array that also contains other values does not count as taken."""
        value = self.source.get(name)
        if not isinstance(value, list):
            return []
        objects = [Fields(item) for item in value if isinstance(item, dict)]
        if len(objects) == len(value):
            self._taken.add(name)
        return objects

    def drop(self, name: str, *values: Any) -> None:
        """Take a field that carries no new information if it has one of these values; without values, in any case."""
        if not values or self.source.get(name) in values:
            self._taken.add(name)

    def keep(self, name: str) -> None:
        """Undo taking a field: the event made from it does not contain all its information."""
        self._taken.discard(name)

    def drop_all(self) -> None:
        """Take all fields: the object was handled as a whole."""
        self._taken.update(self.source)
        self._objects.clear()

    def left(self) -> dict[str, Any]:
        """The fields that were not taken, with their nesting; empty if there are none.

        Null and empty fields don't count. If other fields are left, `index` and `type` are included, to show their
        place.
        """
        left = {}
        taken, objects = self._taken, self._objects
        for name, value in (self.source | self._rests if self._rests else self.source).items():
            if name in taken and name not in _ADDRESS:
                continue
            if name in objects:
                value = objects[name].left()  # noqa: PLW2901 - replaces the whole object
            if value or isinstance(value, (int, float)):  # neither null nor empty
                left[name] = value
        return left if left and left.keys() - (taken & _ADDRESS) else {}
