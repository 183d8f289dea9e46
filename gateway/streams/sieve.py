"""A sieve: which events of a log a filter lets through (SPEC §5.6). Pure.

It is asked once for each event and distinct filter, however many consumers have that filter. A delta is judged by its
kind alone, and of other events only those are decoded whose data the filter asks about.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Struct, UnsetType

from deltawire.gateway.streams.coalesce import Kind, Run
from deltawire.protocol.events import DELTA_TYPES, IMPLIED_KINDS, MAX_KIND, EventType
from deltawire.protocol.filters import Filter
from deltawire.protocol.framing import payload_start


class _Data(Struct):
    """What a filter asks about, of data of any type."""

    index: int | UnsetType = UNSET
    choice: int | UnsetType = UNSET
    kind: str | UnsetType = UNSET
    provider: str = ""
    name: str = ""


class _Event(Struct):
    type: EventType
    data: _Data


_decode = msgspec.json.Decoder(_Event).decode

_BLOCK_TYPES = frozenset({EventType.CONTENT_START, EventType.CONTENT_END})


class Sieve:
    """Judges events by a filter.

    Args:
        wanted: the filter.
    """

    __slots__ = ("_choices", "_decoded", "_extensions", "_indexes", "_judged", "_kinds", "_types", "_verdict")

    def __init__(self, wanted: Filter) -> None:
        self._types = frozenset(EventType) if wanted.types is None else wanted.types
        self._indexes = wanted.index
        self._choices = wanted.choice
        self._kinds = wanted.kind
        self._extensions = wanted.extension
        decoded: set[EventType] = set()  # types about whose data it asks
        if wanted.is_of_blocks:
            decoded |= _BLOCK_TYPES
        if wanted.choice is not None:
            decoded.add(EventType.MESSAGE_STOP)
        if wanted.extension is not None:
            decoded.add(EventType.EXTENSION)
        self._decoded = decoded
        self._judged: Kind | None = None  # the last kind, as one delta follows the other
        self._verdict: bool | None = None

    def lets_through(self, kind: Kind, frame: bytes) -> bool:
        """Whether to deliver an event.

        Args:
            kind: of the event.
            frame: the event framed in JSON.
        """
        verdict = self._verdict if kind is self._judged else self._judge(kind)
        return self._wants(frame[payload_start(frame) :]) if verdict is None else verdict

    def lets_run_through(self, run: Run) -> bool:
        """Whether to deliver a run; all of its events are of one kind."""
        verdict = self._judge(run.kind)
        return self._wants(run.payload or b"") if verdict is None else verdict

    def _judge(self, kind: Kind) -> bool | None:
        """The verdict on events of a kind; None if it depends on their data."""
        verdict: bool | None
        if kind.type not in self._types:
            verdict = False
        elif kind.type in DELTA_TYPES:
            named = IMPLIED_KINDS[kind.type] if kind.named is UNSET else kind.named
            verdict = self._wants_block(kind.block, kind.choice, named)
        else:
            verdict = None if kind.type in self._decoded else True
        self._judged, self._verdict = kind, verdict
        return verdict

    def _wants(self, payload: bytes) -> bool:
        event = _decode(payload)
        data = event.data
        match event.type:
            case EventType.EXTENSION:
                wanted = self._extensions
                return wanted is None or data.provider in wanted or f"{data.provider}/{data.name}" in wanted
            case EventType.MESSAGE_STOP:
                return self._choices is None or data.choice is UNSET or data.choice in self._choices
            case _:
                return self._wants_block(data.index, data.choice, data.kind)

    def _wants_block(self, index: int | UnsetType, choice: int | UnsetType, kind: str | UnsetType) -> bool:
        return (
            (self._indexes is None or (0 if index is UNSET else index) in self._indexes)
            and (self._choices is None or (0 if choice is UNSET else choice) in self._choices)
            and (self._kinds is None or kind is UNSET or kind[:MAX_KIND] in self._kinds)
        )
