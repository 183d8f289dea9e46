"""Events that wait for the gateway: adjacent deltas become one, and what they take. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from sys import getsizeof
from typing import Any, Final

import msgspec
from msgspec import structs

from deltawire.protocol.events import TEXT_FIELDS, Data, Extension

MAX_FOLDED: Final = 512
"""Characters of a folded delta: a hundred tokens, and at six bytes each (JSON escapes) under any limit of a message."""

EVENT_COST: Final = 256
"""Bytes, about, that an event takes beside its text: the event, and its place in the buffer."""

JSON_GROWTH: Final = 4
"""Bytes that a byte of JSON takes once it is parsed: 3 were measured with many empty objects."""

_encode = msgspec.json.Encoder().encode


def fold(events: Iterable[Data]) -> list[Data]:
    """The same events, with adjacent deltas of one block joined as far as `MAX_FOLDED` allows."""
    folded: list[Data] = []
    for data in events:
        if folded and (joined := _join(folded[-1], data)) is not None:
            folded[-1] = joined
        else:
            folded.append(data)
    return folded


def cost(data: Data) -> int:
    """Bytes, about, that an event takes in memory."""
    if (name := TEXT_FIELDS.get(data.type)) is not None:
        return EVENT_COST + getsizeof(getattr(data, name))
    return EVENT_COST + (JSON_GROWTH * len(_encode(data.data)) if isinstance(data, Extension) else 0)


def _join(first: Any, second: Any) -> Data | None:
    """One delta in place of two; None if they can't be joined."""
    name = TEXT_FIELDS.get(first.type)
    if name is None or type(second) is not type(first):
        return None
    text = getattr(first, name) + getattr(second, name)
    is_alike = (first.index, first.choice, first.kind) == (second.index, second.choice, second.kind)
    return structs.replace(first, **{name: text}) if is_alike and len(text) <= MAX_FOLDED else None
