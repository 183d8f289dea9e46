"""A view: what a log looks like in one encoding and through one filter.

Consumers that want the same share one view, and with it the batches read through it: what one of them has had encoded
or joined, the others at the same position get as the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from deltawire.gateway.streams.coalesce import Kind, Run, fold
from deltawire.gateway.streams.log import BLOCK, Log
from deltawire.protocol import framing
from deltawire.protocol.codec import JSON, Codec, to_msgpack
from deltawire.protocol.events import EventType
from deltawire.protocol.messages import Gap, Message

CHUNK = 64 * 1024
"""Bytes read at a time: what a socket takes in one go, so that the lag stays in the cursor and not in buffers."""

READ_EVENTS = 8 * BLOCK
"""Events gone over in one read, a millisecond of folding: what a filter holds back adds no bytes, and a log of it would
be read in one go. Whole blocks, so that the next read finds the folding of its first one remembered."""


class Batch(NamedTuple):
    """A piece of a stream, ready to write.

    Attributes:
        data: whole frames, joined; empty when the filter let nothing through.
        last: the seq up to which everything is accounted for.
        events: how many are delivered with it, those inside of folded frames included.
        folded: those of them that travel inside a folded frame.
        dropped: events named in `dropped` gaps.
        gaps: these gaps.
    """

    data: bytes
    last: int
    events: int = 0
    folded: int = 0
    dropped: int = 0
    gaps: int = 0


class View:
    """A log in one encoding, through one filter.

    Args:
        log: what is looked at.
        codec: the encoding.
        types: event types let through; None lets all through.

    Attributes:
        readers: subscriptions that read through it now.
    """

    __slots__ = ("_is_json", "_is_plain", "codec", "log", "readers", "types")

    def __init__(self, log: Log, codec: Codec, types: frozenset[EventType] | None) -> None:
        self.log = log
        self.codec = codec
        self.types = types
        self.readers = 0
        self._is_json = codec is JSON
        self._is_plain = self._is_json and types is None  # frames go out as they are in the log

    def frame(self, message: Message) -> bytes:
        """A control message in this view's encoding."""
        return self.codec.frame(message)

    def raw(self, after: int, upto: int, size: int = CHUNK) -> Batch:
        """Events as they were appended.

        Args:
            after: the position to read from, not below the floor.
            upto: the last seq wanted, above `after`, held.
            size: stop before this many bytes, though not before the first event.
        """
        if upto == after + 1 and self._is_plain:
            return Batch(self.log.frame(upto), upto, 1)
        last = min(upto, self.log.furthest_within(after, size))
        frames = self.log.frames(after, last)
        if self.types is not None:
            kinds = self.log.kinds(after, last)
            frames = [frame for frame, kind in zip(frames, kinds, strict=True) if kind.type in self.types]
        if not self._is_json:
            frames = [self._reframe(frame[framing.payload_start(frame) :]) for frame in frames]
        return Batch(frames[0] if len(frames) == 1 else b"".join(frames), last, len(frames))

    def folded(self, after: int, upto: int, size: int = CHUNK) -> Batch:
        """Events with adjacent deltas folded; arguments as for `raw`.

        Args:
            after: the position to read from, not below the floor.
            upto: the last seq wanted, above `after`, held.
            size: stop after the frame that reaches this many bytes, and after `READ_EVENTS` in any case.
        """
        upto = min(upto, after - after % BLOCK + READ_EVENTS)
        runs = self.log.runs(after, upto) if self.types is None else self._wanted_runs(after, upto)
        return self._pack(runs, upto, size)

    def _wanted_runs(self, after: int, upto: int) -> Iterator[Run]:
        """The runs of the events that the filter lets through; the others are not even decoded."""
        for is_wanted, stretch in groupby(self.log.kinds(after, upto), self._lets_through):
            last = after + sum(1 for _ in stretch)
            if is_wanted:
                yield from self.log.runs(after, last)
            after = last

    def saved(self, after: int, size: int = CHUNK) -> Batch:
        """What is kept, folded, of a message whose events are trimmed.

        Args:
            after: the position to read from, where a run begins.
            size: stop after the frame that reaches this many bytes, and after `READ_EVENTS` runs in any case.
        """
        runs = self.log.prefix.runs_after(after)[:READ_EVENTS]
        return self._pack(fold(runs), runs[-1].last, size)

    def _pack(self, runs: Iterable[Run], upto: int, size: int) -> Batch:
        """Frames of the runs that are let through, up to where the runs end or the size is reached."""
        parts: list[bytes] = []
        length = events = folded = 0
        for run in runs:
            if self._lets_through(run.kind):
                part = self._encode(run)
                parts.append(part)
                length += len(part)
                events += run.last - run.first + 1
                folded += run.last - run.first + 1 if run.last > run.first else 0
            if length >= size:
                upto = run.last
                break
        return Batch(b"".join(parts), upto, events, folded)

    def skipping(self, after: int, upto: int, size: int = CHUNK) -> Batch:
        """Events without their deltas: gaps stand in place of those; arguments as for `folded`."""
        upto = min(upto, after + READ_EVENTS)
        parts: list[bytes] = []
        length = dropped = gaps = 0
        for first, last in self._stretches(after, upto):
            if self.log.kinds(first - 1, first)[0].is_delta:
                part = self.frame(Gap(first=first, seq=last, reason="dropped"))
                dropped += last - first + 1
                gaps += 1
            else:
                part = self.raw(first - 1, first).data
            parts.append(part)
            length += len(part)
            if length >= size:
                return Batch(b"".join(parts), last, len(parts) - gaps, dropped=dropped, gaps=gaps)
        return Batch(b"".join(parts), upto, len(parts) - gaps, dropped=dropped, gaps=gaps)

    def _stretches(self, after: int, upto: int) -> Iterator[tuple[int, int]]:
        """Wanted events: each that is no delta alone, neighbouring deltas together."""
        start = 0
        for seq, kind in enumerate(self.log.kinds(after, upto), after + 1):
            is_dropped = kind.is_delta and self._lets_through(kind)
            if start and not is_dropped:
                yield start, seq - 1
                start = 0
            if is_dropped:
                start = start or seq
            elif self._lets_through(kind):
                yield seq, seq
        if start:
            yield start, upto

    def _lets_through(self, kind: Kind) -> bool:
        return self.types is None or kind.type in self.types

    def _encode(self, run: Run) -> bytes:
        payload = run.encode()
        return framing.frame(framing.TEXT, payload) if self._is_json else self._reframe(payload)

    def _reframe(self, payload: bytes) -> bytes:
        return framing.frame(self.codec.first_byte, to_msgpack(payload))
