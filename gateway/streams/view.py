"""A view: a log in one encoding, through one filter.

Consumers with the same encoding and filter share one view, and with it the batches read through it: bytes that were
encoded or joined for one of them are sent to the others at the same position.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import compress, groupby
from typing import NamedTuple

from msgspec import Raw

from deltawire.gateway.streams.coalesce import Run, fold
from deltawire.gateway.streams.log import BLOCK, Log
from deltawire.gateway.streams.sieve import Sieve
from deltawire.protocol import framing
from deltawire.protocol.codec import JSON, MSGPACK, Encoding, to_msgpack
from deltawire.protocol.filters import Filter
from deltawire.protocol.messages import Gap, Message, Urgent

CHUNK = 64 * 1024
"""Bytes read at a time: as many as a socket takes at once, so that a lag stays in the cursor and not in buffers."""

READ_EVENTS = 8 * BLOCK
"""Events examined in one read, a millisecond of folding: filtered events add no bytes, so a log full of them would be
read at once. Whole blocks, so that the next read finds the folding of its first block in the cache."""

READ_RUNS = BLOCK - 1
"""Frames encoded in one folded read, 0.8 ms of work: events that don't fold are a frame each, and 64 KiB have 800. One
less than a block, as the frame is complete when the next run is known, which folds its whole block."""


class Batch(NamedTuple):
    """A piece of a stream, ready to write.

    Attributes:
        data: whole frames, joined; empty when the filter let nothing through.
        last: the seq up to which everything is accounted for.
        events: number of events delivered with it, including those inside folded frames.
        folded: number of those inside folded frames.
        dropped: number of events in `dropped` gaps.
        gaps: number of these gaps.
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
        log: the log.
        codec: the encoding.
        wanted: what its filter lets through; None lets all through.

    Attributes:
        readers: subscriptions that read through it now.
    """

    __slots__ = ("_is_json", "_sieve", "codec", "log", "readers", "wanted")

    def __init__(self, log: Log, codec: Encoding, wanted: Filter | None) -> None:
        self.log = log
        self.codec = codec
        self.wanted = wanted
        self._sieve = None if wanted is None else Sieve(wanted)
        self.readers = 0
        self._is_json = codec is JSON  # then frames go out as they are in the log

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
        if upto == after + 1 and self._sieve is None:
            frame = self.log.frame(upto)
            if not self._is_json:
                frame = self.codec.relay(frame[framing.payload_start(frame) :], upto)
            return Batch(frame, upto, 1)
        last = min(upto, self.log.furthest_within(after, size))
        frames = self.log.frames(after, last)
        seqs: Iterable[int] = range(after + 1, last + 1)
        if self._sieve is not None:
            wanted = list(map(self._sieve.lets_through, self.log.kinds(after, last), frames))
            frames, seqs = list(compress(frames, wanted)), compress(seqs, wanted)
        if not self._is_json:
            payloads = (frame[framing.payload_start(frame) :] for frame in frames)
            frames = list(map(self.codec.relay, payloads, seqs))
        return Batch(frames[0] if len(frames) == 1 else b"".join(frames), last, len(frames))

    def folded(self, after: int, upto: int, size: int = CHUNK) -> Batch:
        """Events with adjacent deltas folded.

        Args:
            after: the position to read from, not below the floor.
            upto: the last seq wanted, above `after`, held.
            size: stop after the frame that reaches this many bytes, and after `READ_EVENTS` or `READ_RUNS` in any case.
        """
        upto = min(upto, after - after % BLOCK + READ_EVENTS)
        runs = self.log.runs(after, upto) if self._sieve is None else self._wanted_runs(self._sieve, after, upto)
        return self._pack(runs, upto, size)

    def _wanted_runs(self, sieve: Sieve, after: int, upto: int) -> Iterator[Run]:
        """Yield the runs of the events that the filter lets through; the others are not even decoded."""
        verdicts = map(sieve.lets_through, self.log.kinds(after, upto), self.log.frames(after, upto))
        for is_wanted, stretch in groupby(verdicts):
            last = after + sum(1 for _ in stretch)
            if is_wanted:
                yield from self.log.runs(after, last)
            after = last

    def saved(self, after: int, size: int = CHUNK) -> Batch:
        """The folded beginning, kept in the prefix, of a message whose events are trimmed.

        Args:
            after: the position to read from, where a run begins.
            size: stop after the frame that reaches this many bytes, and after `READ_EVENTS` runs in any case.
        """
        runs = self.log.prefix.runs_after(after)[:READ_EVENTS]
        folded = fold(runs)
        sieve = self._sieve
        wanted = folded if sieve is None else (run for run in folded if sieve.lets_run_through(run))
        return self._pack(wanted, runs[-1].last, size)

    def ahead(self, seqs: Iterable[int], size: int = CHUNK) -> tuple[bytes, list[int]]:
        """Copies of urgent events, to be sent ahead of others.

        Args:
            seqs: of these events, held, in order.
            size: stop after the copy that reaches this many bytes.

        Returns:
            The copies of those that the filter lets through, and their seqs.
        """
        parts: list[bytes] = []
        length, told = 0, []
        for seq in seqs:
            frame = self.log.frame(seq)
            if self._sieve is not None and not self._sieve.lets_through(self.log.kinds(seq - 1, seq)[0], frame):
                continue
            payload = frame[framing.payload_start(frame) :]
            part = self.frame(Urgent(event=Raw(to_msgpack(payload) if self.codec is MSGPACK else payload)))
            parts.append(part)
            told.append(seq)
            length += len(part)
            if length >= size:
                break
        return b"".join(parts), told

    def _pack(self, runs: Iterable[Run], upto: int, size: int) -> Batch:
        """Join the frames of runs, until these are enough in number or size."""
        parts: list[bytes] = []
        length = events = folded = 0
        for run in runs:
            part = run.encode(self.codec)
            parts.append(part)
            length += len(part)
            events += run.last - run.first + 1
            folded += run.last - run.first + 1 if run.last > run.first else 0
            if length >= size or len(parts) >= READ_RUNS:
                upto = run.last
                break
        return Batch(b"".join(parts), upto, events, folded)

    def skipping(self, after: int, upto: int, size: int = CHUNK) -> Batch:
        """Events with gaps in place of their deltas; arguments as for `folded`."""
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
            if length >= size or len(parts) >= READ_RUNS:
                return Batch(b"".join(parts), last, len(parts) - gaps, dropped=dropped, gaps=gaps)
        return Batch(b"".join(parts), upto, len(parts) - gaps, dropped=dropped, gaps=gaps)

    def _stretches(self, after: int, upto: int) -> Iterator[tuple[int, int]]:
        """Yield ranges of wanted events: neighbouring deltas together, every other event by itself."""
        start = 0
        sieve = self._sieve
        for seq, kind in enumerate(self.log.kinds(after, upto), after + 1):
            is_wanted = sieve is None or sieve.lets_through(kind, self.log.frame(seq))
            is_dropped = kind.is_delta and is_wanted
            if start and not is_dropped:
                yield start, seq - 1
                start = 0
            if is_dropped:
                start = start or seq
            elif is_wanted:
                yield seq, seq
        if start:
            yield start, upto
