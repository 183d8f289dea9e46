"""Folding: adjacent deltas of one block become one frame that stands for all of them (SPEC §5.4).

Lossless by construction: the text of a run is the concatenation of its deltas' texts. The `Kind` alone decides what
joins a run, so run boundaries are found without decoding anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from sys import getsizeof
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType

from deltawire.protocol.codec import Encoding, folded_event
from deltawire.protocol.events import DELTA_TYPES, Data, EventType, TextDelta, Thinking, ToolDelta

MAX_FOLDED_TEXT = 64 * 1024
"""Characters in one folded frame: at six bytes each (JSON escapes) still under the 1 MiB most clients accept."""


COMMON = 8
"""Block and choice numbers below this are common: their kinds are few (3 x 9 x 9), cached, and shared by events."""

REMEMBERED_KINDS = 256
"""Kinds cached: all common ones. Thousands, of different ages, would keep the memory around them from being freed."""

RARE_KIND_COST = 192
"""Bytes a rare kind costs, which may belong to one event alone: the tuple, two numbers, and a place in the cache."""


class Kind(NamedTuple):
    """Decides whether two adjacent events fold: they do if their kinds are equal and of a delta type."""

    type: EventType
    block: int | UnsetType  # `index` on the wire; a tuple has a method of that name
    choice: int | UnsetType
    named: str | UnsetType  # `kind` on the wire, of a delta
    is_urgent: bool  # marked by its producer

    @property
    def is_delta(self) -> bool:
        """Whether events of this kind may be folded or dropped."""
        return self.type in DELTA_TYPES and not self.is_urgent


@lru_cache(maxsize=REMEMBERED_KINDS)
def _kind(
    event_type: EventType,
    block: int | UnsetType = UNSET,
    choice: int | UnsetType = UNSET,
    named: str | UnsetType = UNSET,
    is_urgent: bool = False,  # noqa: FBT001, FBT002 - it is part of a key
) -> Kind:
    """Return one object for equal kinds, so that a log of a million deltas holds a handful of them."""
    return Kind(event_type, block, choice, named, is_urgent)


def kind_of(data: Data, is_urgent: bool = False) -> Kind:  # noqa: FBT001, FBT002 - a keyword costs as much again
    """The kind of an event."""
    if data.type not in DELTA_TYPES:
        return _kind(data.type, UNSET, UNSET, UNSET, is_urgent)
    delta: Any = data  # a cast is a call, for each event
    if delta.kind is UNSET and not is_urgent:
        return _kind(data.type, delta.index, delta.choice)
    return _kind(data.type, delta.index, delta.choice, delta.kind, is_urgent)


def kind_cost(kind: Kind) -> int:
    """Bytes that an event costs for its kind: 0 for a common kind, which events share."""
    if kind.named is not UNSET:
        return RARE_KIND_COST + getsizeof(kind.named)
    return RARE_KIND_COST if _is_rare(kind.block) or _is_rare(kind.choice) else 0


def _is_rare(number: int | UnsetType) -> bool:
    return number is not UNSET and number >= COMMON


class Run(NamedTuple):
    """Adjacent events that travel as one frame.

    Attributes:
        kind: of every event in it.
        first: seq of the first.
        last: seq of the last.
        text: of all events, concatenated; None if they are not deltas.
        timestamp: of the last event, as it was relayed.
        payload: the event in JSON, if there is only one.
    """

    kind: Kind
    first: int
    last: int
    text: str | None
    timestamp: str
    payload: bytes | None

    def encode(self, encoding: Encoding) -> bytes:
        """Return what stands for this run, ready to write to a socket."""
        if self.payload is not None:
            return encoding.relay(self.payload, self.last)
        assert self.text is not None, "only deltas make a run of several"
        event = folded_event(_delta(self.kind, self.text), self.first, self.last, self.timestamp)
        return encoding.relay_folded(event, self.last)


class _Fields(Struct):
    text: str = ""
    thinking: str = ""
    partial_json: str = ""


class _Payload(Struct):
    data: _Fields
    timestamp: str


_decode_delta = msgspec.json.Decoder(_Payload).decode


def _delta(kind: Kind, text: str) -> Data:
    match kind.type:
        case EventType.TEXT_DELTA:
            return TextDelta(text, kind.block, kind.choice, kind.named)
        case EventType.THINKING:
            return Thinking(text, kind.block, kind.choice, kind.named)
        case _:
            assert kind.block is not UNSET, "a tool_delta has an index"
            return ToolDelta(kind.block, text, kind.choice, kind.named)


def runs_of(kinds: Sequence[Kind], payloads: Sequence[bytes], first: int) -> Iterator[Run]:
    """Yield logged events as runs; neighbours of equal kind are joined unless they exceed `MAX_FOLDED_TEXT`.

    Args:
        kinds: of the events, in order.
        payloads: their JSON, without frame headers.
        first: seq of the first event.
    """
    start = 0
    for kind, equal in groupby(kinds):
        end = start + sum(1 for _ in equal)
        if not kind.is_delta:
            for at in range(start, end):
                yield Run(kind, first + at, first + at, None, "", payloads[at])
        else:
            deltas = [_decode_delta(payload) for payload in payloads[start:end]]
            texts = [delta.data.text or delta.data.thinking or delta.data.partial_json for delta in deltas]
            text = "".join(texts)
            if end - start > 1 and len(text) <= MAX_FOLDED_TEXT:
                yield Run(kind, first + start, first + end - 1, text, deltas[-1].timestamp, None)
            else:
                for at, (delta, text) in enumerate(zip(deltas, texts, strict=True), start):
                    yield Run(kind, first + at, first + at, text, delta.timestamp, payloads[at])
        start = end


def fold(runs: Iterable[Run]) -> Iterator[Run]:
    """Join neighbours of equal kind, in one pass, as far as `MAX_FOLDED_TEXT` allows.

    Args:
        runs: in order, without holes between neighbours that could join.
    """
    group: list[Run] = []
    length = 0
    for run in runs:
        size = len(run.text or "")
        if group and run.kind == group[0].kind and run.kind.is_delta and length + size <= MAX_FOLDED_TEXT:
            group.append(run)
            length += size
            continue
        if group:
            yield _join(group)
        group = [run]
        length = size
    if group:
        yield _join(group)


def _join(group: Sequence[Run]) -> Run:
    if len(group) == 1:
        return group[0]
    last = group[-1]
    text = "".join(run.text or "" for run in group)
    return Run(last.kind, group[0].first, last.last, text, last.timestamp, None)
