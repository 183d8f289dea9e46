"""Read an untrusted JSON object: take the known fields, and keep track of the rest.

A translator takes the fields for which it has events. The remaining fields, which are unknown or have values of the
wrong type, become an extension. So no field is lost, and no input raises.
"""

from __future__ import annotations

from typing import Any

import msgspec

from deltawire.protocol.codec import check_json
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError

MAX_LABEL = 1000
"""Maximum code points of an id, a name or a reason: longer ones are not taken, so that every event fits one message."""

MAX_COUNT = 2**50
"""Largest number accepted as a count: sums of a few of them are still exact for every reader (`MAX_SEQ`)."""

_ADDRESS = frozenset({"index", "type"})
_EMPTY: tuple[Any, ...] = (None, "", [], {})


def parse_object(text: str) -> dict[str, Any] | None:
    """Parse a JSON object that can be sent unchanged, whole or in part; None for any other text."""
    try:
        value = msgspec.json.decode(text)
        check_json(value, "$", ProblemCode.INVALID_EVENT)
    except (ValueError, RecursionError, WireError):
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

    def peek(self, name: str, longest: int = MAX_LABEL) -> str | None:
        """A short, non-empty text, without taking it; None if the field is anything else."""
        value = self.source.get(name)
        return value if isinstance(value, str) and 0 < len(value) <= longest else None

    def label(self, name: str, longest: int = MAX_LABEL) -> str | None:
        """Take a short, non-empty text; None if the field is anything else."""
        value = self.peek(name, longest)
        if value is not None:
            self._taken.add(name)
        return value

    def text(self, name: str) -> str:
        """Take a text of any length; empty if the field is anything else."""
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

    def object(self, name: str) -> Fields:
        """A nested object, whose fields are taken one by one; an empty one if the field is anything else."""
        value = self.source.get(name)
        if not isinstance(value, dict):
            return Fields({})
        return self._objects.setdefault(name, Fields(value))

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
        for name, value in self.source.items():
            if name in self._objects:
                value = self._objects[name].left()  # noqa: PLW2901 - replaces the whole object
            if value not in _EMPTY and (name not in self._taken or name in _ADDRESS):
                left[name] = value
        return left if left.keys() - (self._taken & _ADDRESS) else {}
