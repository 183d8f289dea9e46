"""What a consumer asks for, of the events of a stream (SPEC §5.6): values, their text in a query string, and back."""

from __future__ import annotations

from collections.abc import Callable
from sys import getsizeof
from typing import Final, TypeVar

from msgspec import Struct, structs

from deltawire.protocol.events import DELTA_TYPES, MAX_KIND, MAX_SEQ, EventType, parse_event_type
from deltawire.protocol.position import parse_integer

MAX_WANTED: Final = 32
"""Values of one filter: a consumer that wants more blocks than that wants all."""

MAX_EXTENSION: Final = 128
"""Characters of a provider and a name; longer ones can't be asked for."""

T = TypeVar("T")


class Filter(Struct, frozen=True, kw_only=True):
    """Which events a consumer asks for. An event has to satisfy all fields that are not None.

    Attributes:
        types: event types.
        index: content blocks, for events of a block; one without `index` is of block 0.
        choice: choices, likewise, and for a `message_stop` that has one.
        kind: kinds of content blocks.
        extension: `PROVIDER` or `PROVIDER/NAME`, for extensions.
    """

    types: frozenset[EventType] | None = None
    index: frozenset[int] | None = None
    choice: frozenset[int] | None = None
    kind: frozenset[str] | None = None
    extension: frozenset[str] | None = None

    @property
    def is_of_blocks(self) -> bool:
        """Whether it may leave out some content blocks and not others."""
        return any(field is not None for field in (self.index, self.choice, self.kind))

    @property
    def bytes(self) -> int:
        """What it costs: its sets and what is in them."""
        values = [value for name in FILTERS if (value := getattr(self, name)) is not None]
        return sum(getsizeof(value) + sum(map(getsizeof, value)) for value in values)

    @property
    def filter(self) -> Filter | None:
        """What it asks for, and nothing else; None if that is everything."""
        fields = {name: getattr(self, name) for name in FILTERS}
        return None if all(value is None for value in fields.values()) else Filter(**fields)


FILTERS: Final = tuple(field.name for field in structs.fields(Filter))
"""The parameters of `…/subscribe` that say it, named as the fields."""


def parse_list(text: str, parse: Callable[[str], T]) -> frozenset[T]:
    """Parse values that are separated by commas.

    Raises:
        ValueError: there are too many, or one is wrong; the message says what is expected.
    """
    if text.count(",") >= MAX_WANTED:
        raise ValueError(f"expected at most {MAX_WANTED} values, got {text.count(',') + 1}")
    return frozenset(map(parse, text.split(",")))


def parse_types(text: str) -> frozenset[EventType]:
    """Parse event types; errors as of `parse_list`."""
    return parse_list(text, parse_event_type)


def parse_numbers(text: str) -> frozenset[int]:
    """Parse numbers of blocks or choices; errors as of `parse_list`."""
    return parse_list(text, lambda number: parse_integer(number, 0, MAX_SEQ))


def parse_kinds(text: str) -> frozenset[str]:
    """Parse kinds of content blocks; errors as of `parse_list`."""
    return parse_list(text, lambda kind: _check("a kind", kind, MAX_KIND))


def parse_extensions(text: str) -> frozenset[str]:
    """Parse extensions; errors as of `parse_list`."""
    return parse_list(text, _check_extension)


MARKED: Final = "marked"
"""Stands for the events that producers marked, where no types are named."""


def parse_urgent(text: str) -> frozenset[EventType]:
    """Parse what a consumer wants ahead: event types that are no deltas, and `marked`; errors as of `parse_list`."""
    return frozenset(wanted for wanted in parse_list(text, _parse_urgent) if wanted is not None)


def _parse_urgent(name: str) -> EventType | None:
    """The type with this name; None for marked events, which always come."""
    if name == MARKED:
        return None
    event_type = parse_event_type(name)
    if event_type in DELTA_TYPES:
        raise ValueError(f"{name} is a delta, which is urgent only where its producer marks it: expected {MARKED}")
    return event_type


def format_urgent(types: frozenset[EventType]) -> str:
    """The inverse of `parse_urgent`."""
    return ",".join(sorted(types)) or MARKED


def _check_extension(text: str) -> str:
    provider, slash, name = text.partition("/")
    if not provider or (slash and not name):
        raise ValueError(f"expected PROVIDER or PROVIDER/NAME, got {text!r}")
    return _check("an extension", text, MAX_EXTENSION)


def _check(what: str, text: str, longest: int) -> str:
    if not 1 <= len(text) <= longest:
        raise ValueError(f"{what} must have 1 to {longest} characters, got {len(text)}")
    return text


def format_filter(wanted: Filter) -> dict[str, str]:
    """The parameters of a filter: those that it has."""
    values = ((name, getattr(wanted, name)) for name in FILTERS)
    return {name: ",".join(map(str, sorted(value))) for name, value in values if value is not None}
