"""The newest events of a log that consumers who are behind may get ahead (SPEC §5.9). Pure.

It is kept from the first consumer on that asks for urgent events, costs nothing for a delta that nobody marked, and
does not grow: of each type it has a few of the newest events.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from deltawire.gateway.streams.coalesce import Kind
from deltawire.protocol.events import EventType

MAX_AHEAD: Final = 16
"""Events that a consumer may get ahead at a time, the newest: more of them would be a backlog of their own."""


class Candidates:
    """Seqs of the newest events that are no deltas, by type, and of those that were marked."""

    __slots__ = ("_marked", "_of_type")

    def __init__(self) -> None:
        self._of_type: dict[EventType, list[int]] = {}
        self._marked: list[int] = []

    def add(self, kind: Kind, seq: int) -> None:
        """Add the newest event, which is no delta or marked."""
        seqs = self._marked if kind.is_urgent else self._of_type.setdefault(kind.type, [])
        seqs.append(seq)
        if len(seqs) > MAX_AHEAD:
            del seqs[0]

    def find(self, types: Iterable[EventType], after: int) -> list[int]:
        """Return the newest events after a position that are of one of some types, or marked, oldest first."""
        found = [seq for seq in self._marked if seq > after]
        for event_type in types:
            found += [seq for seq in self._of_type.get(event_type, ()) if seq > after]
        return sorted(found)[-MAX_AHEAD:]
