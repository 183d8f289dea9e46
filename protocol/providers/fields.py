"""Reading a JSON object nobody vouches for: take what is understood, and know what is left.

A translator takes the fields it has events for. What is left when it is done, a field it doesn't know or one whose
value has the wrong type, becomes an extension: so nothing can be forgotten, and nothing can raise.
"""

from __future__ import annotations

from typing import Any

import msgspec

from deltawire.protocol.codec import check_json
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError

MAX_LABEL = 1000
"""Code points of an id, a name or a reason: longer ones are left over, so that every event fits one message."""

MAX_COUNT = 2**50
"""Largest number taken as a count: sums of a few of them are still exact for every reader (`MAX_SEQ`)."""

_ADDRESS = frozenset({"index", "type"})
_EMPTY: tuple[Any, ...] = (None, "", [], {})


def parse_object(text: str) -> dict[str, Any] | None:
    """A JSON object that can travel as it is, any part of it too; None for every other text."""
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
        """A short, non-empty text, not taken; None if the field is something else."""
        value = self.source.get(name)
        return value if isinstance(value, str) and 0 < len(value) <= longest else None

    def label(self, name: str, longest: int = MAX_LABEL) -> str | None:
        """A short, non-empty text; None if the field is something else."""
        value = self.peek(name, longest)
        if value is not None:
            self._taken.add(name)
        return value

    def text(self, name: str) -> str:
        """A text of any length; empty if the field is something else."""
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

    def object(self, name: str) -> Fields:
        """A nested object, to be taken field by field; one without fields if the field is something else."""
        value = self.source.get(name)
        if not isinstance(value, dict):
            return Fields({})
        return self._objects.setdefault(name, Fields(value))

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
        for name, value in self.source.items():
            if name in self._objects:
                value = self._objects[name].left()  # noqa: PLW2901 - in place of the whole
            if value not in _EMPTY and (name not in self._taken or name in _ADDRESS):
                left[name] = value
        return left if left.keys() - (self._taken & _ADDRESS) else {}
