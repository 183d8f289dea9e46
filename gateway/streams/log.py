"""The log: an append-only sequence of encoded frames, bounded by events, bytes and age.

Invariants:

- `floor … head` are held, each once; `floor == head + 1` when none is. Both only grow.
- `bytes` is what the held events cost, updated as they come and go; it is never recounted.
- Appending, trimming and the size of a range are O(1) in the number of events held, finding how far a size reaches is
  O(log n), and reading is O(events read).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from sys import getsizeof

from msgspec import Struct
from msgspec.structs import replace

from deltawire.gateway.streams.candidates import Candidates
from deltawire.gateway.streams.coalesce import MAX_FOLDED_TEXT, Kind, Run, fold, kind_cost, runs_of
from deltawire.gateway.streams.prefix import Prefix
from deltawire.protocol.events import EventType
from deltawire.protocol.framing import payload_start
from deltawire.protocol.messages import GapReason

FOLD_SHARE = 32
"""Bytes per event set aside for its share of a folded block."""

EVENT_OVERHEAD = 64 + FOLD_SHARE
"""Bytes an event costs beside its frame: object header (33), three slots with growth (27), its share of a fold."""

BLOCK = 256
"""Events whose folding is cached together; a late join costs one merge per block instead of a decode per event."""

AGE_MARKS = 64
"""Marks kept over `Retention.age`: events expire with a precision of a 64th of it, at O(1) memory per mark."""

PREFIX_SHARE = 8
"""The folded beginning of the message in progress may cost an eighth of the retention: by default 1 MiB."""


SEARCHED = 50_000
"""Newest events searched when the first consumer asks for urgent ones, two milliseconds of work."""


class Retention(Struct, frozen=True, kw_only=True):
    """How much a log holds; the oldest events go first.

    Attributes:
        events: the most events held.
        bytes: the most bytes held, including `EVENT_OVERHEAD` per event.
        age: seconds an event is kept; 0 keeps it for ever.
    """

    events: int = 50_000
    bytes: int = 8 * 1024 * 1024
    age: float = 0.0

    def within(self, age: float) -> Retention:
        """Return this retention with no more than an age in seconds; 0 leaves it."""
        return replace(self, age=age) if age and not 0 < self.age <= age else self


class Ledger:
    """Totals of several streams.

    Attributes:
        bytes: held now.
        appended: events ever appended to streams that are forgotten by now.
        delivered: events ever handed to consumers, counted once per consumer.
        delivered_bytes: bytes of their frames.
        folded: deliveries that travelled inside a folded frame.
        dropped: events skipped for a consumer.
        stored: bytes of events that engines have.
        urgent: copies of urgent events that went ahead.
        gaps: `gap` messages, which tell a consumer what it does not get, by reason.
    """

    __slots__ = ("appended", "bytes", "delivered", "delivered_bytes", "dropped", "folded", "gaps", "stored", "urgent")

    def __init__(self) -> None:
        self.bytes = 0
        self.appended = 0
        self.delivered = 0
        self.delivered_bytes = 0
        self.folded = 0
        self.dropped = 0
        self.stored = 0
        self.urgent = 0
        self.gaps: Counter[GapReason] = Counter()


class Log:
    """Frames of one stream and epoch, by seq.

    Args:
        retention: its bounds.
        ledger: counts its bytes together with those of other logs.
    """

    __slots__ = (
        "_base",
        "_ends",
        "_folds",
        "_frames",
        "_is_special",
        "_kind",
        "_kind_cost",
        "_kinds",
        "_marks",
        "_rare",
        "bytes",
        "candidates",
        "floor",
        "head",
        "ledger",
        "message_start",
        "prefix",
        "retention",
    )

    def __init__(self, retention: Retention, ledger: Ledger) -> None:
        self.retention = retention
        self.ledger = ledger
        self.prefix = Prefix(retention.bytes // PREFIX_SHARE)
        self.message_start = 0  # seq of the latest message's, held or not; 0 if it is not known
        self.head = 0
        self.floor = 1
        self.bytes = 0
        self._base = 1  # seq at index 0; trimmed events before the floor are cut off in batches
        self._frames: list[bytes] = []
        self._kinds: list[Kind] = []
        self._kind: Kind | None = None  # of the last event
        self._kind_cost = 0
        self._is_special = False
        self.candidates: Candidates | None = None  # for urgency, once somebody asks for it
        self._rare = 0  # events held whose kind costs something
        self._ends = array("Q", (0,))  # _ends[i]: bytes of all frames ever appended before index i
        self._folds: dict[int, list[Run]] = {}
        self._marks: deque[tuple[float, int]] = deque()  # (end of a 64th of the age, head then)

    def restore(self, floor: int, head: int) -> None:
        """Begin with these numbers and no events, as they are elsewhere; only before anything was appended."""
        assert not self._frames, "it has no events yet"
        self.floor, self.head = floor, head
        self._base = head + 1

    def append(self, kind: Kind, frame: bytes, now: float) -> int:
        """Add an event and trim to the retention.

        Args:
            kind: of the event.
            frame: the event framed in JSON, carrying `head + 1` as its seq.
            now: monotonic seconds.

        Returns:
            Its seq.
        """
        size = len(frame)
        if kind is not self._kind:
            self._kind = kind
            self._kind_cost = kind_cost(kind)
            self._is_special = self._kind_cost > 0 or not kind.is_delta
        if self._is_special:
            self._note(kind)
        ends = self._ends
        self._frames.append(frame)
        self._kinds.append(kind)
        ends.append(ends[-1] + size)
        self.bytes += size + EVENT_OVERHEAD
        self.ledger.bytes += size + EVENT_OVERHEAD
        self.head = head = self.head + 1
        retention = self.retention
        if retention.age:
            self._mark(now)
        while head - self.floor >= retention.events or (self.bytes > retention.bytes and self.floor < head):
            self._drop_oldest()
        return head

    def _note(self, kind: Kind) -> None:
        """Note what is special about the event that is being appended."""
        if self._kind_cost:
            self._rare += 1
            self._count(self._kind_cost)
        if self.candidates is not None and not kind.is_delta:
            self.candidates.add(kind, self.head + 1)

    def find_urgent(self, types: Iterable[EventType], after: int) -> list[int]:
        """Return the newest held events after a position that are of one of some types, or marked by their producers.

        Args:
            types: no types of deltas.
            after: a position.
        """
        if self.candidates is None:  # nobody has asked before
            self.candidates = Candidates()
            newest = max(self.floor, self.head - SEARCHED + 1) - 1
            for seq, kind in enumerate(self.kinds(newest, self.head), newest + 1):
                if not kind.is_delta:
                    self.candidates.add(kind, seq)
        return self.candidates.find(types, max(after, self.floor - 1))

    def trim_to(self, floor: int) -> None:
        """Drop everything before a seq."""
        while self.floor < min(floor, self.head + 1):
            self._drop_oldest()

    def trim_by_age(self, now: float) -> None:
        """Drop events older than the retention's age."""
        expired = 0
        while self._marks and self._marks[0][0] <= now - self.retention.age:
            expired = self._marks.popleft()[1]
        if expired:
            self.trim_to(expired + 1)

    def clear(self) -> None:
        """Drop everything; the head stays."""
        self.drop_prefix()
        self.trim_to(self.head + 1)

    def drop_prefix(self) -> None:
        """Drop the folded beginning of the message in progress, and keep none until the next one."""
        self._count(-self.prefix.bytes)
        self.prefix.clear()

    def unload(self) -> None:
        """Drop the events from memory, as they are stored elsewhere."""
        self.trim_to(self.head + 1)
        self._frames.clear()
        self._kinds.clear()
        self._ends = array("Q", (0,))
        self._folds.clear()
        self._marks.clear()
        self.restore(self.head + 1, self.head)

    def shrink(self, size: int) -> None:
        """Drop the oldest events until the rest costs at most `size` bytes."""
        while self.bytes > size and self.floor <= self.head:
            self._drop_oldest()

    def _mark(self, now: float) -> None:
        step = self.retention.age / AGE_MARKS
        when = (now // step + 1) * step  # errs towards keeping
        if self._marks and self._marks[-1][0] == when:
            self._marks[-1] = (when, self.head)
        else:
            self._marks.append((when, self.head))
        self.trim_by_age(now)

    def _drop_oldest(self) -> None:
        if self.prefix.is_kept and self.prefix.last < self.floor and self.prefix.start <= self.floor:
            self._save()
        index = self.floor - self._base
        cost = len(self._frames[index]) + EVENT_OVERHEAD
        if self._rare and (extra := kind_cost(self._kinds[index])):
            self._rare -= 1
            cost += extra
        self.bytes -= cost
        self.ledger.bytes -= cost
        self._frames[index] = b""
        if self.floor % BLOCK == 1:  # the first of a block
            self._folds.pop(self.floor // BLOCK, None)
        self.floor += 1
        if index >= BLOCK and index * 2 >= len(self._frames):  # cut at most every half: amortised O(1)
            del self._frames[: index + 1], self._kinds[: index + 1], self._ends[: index + 1]
            self._base = self.floor

    def _save(self) -> None:
        """Copy the oldest event, which is about to be dropped, and some after it to the prefix, folded."""
        before = self.prefix.bytes
        end = min(self.head, self.floor - 1 + BLOCK)
        self.prefix.extend(self._parts(self.floor - 1, end))
        self._count(self.prefix.bytes - before)

    def begin_message(self) -> None:
        """Prepare for a message that begins with the next event: drop the prefix of the previous one."""
        self._count(-self.prefix.bytes)
        self.message_start = self.head + 1
        self.prefix.begin(self.head + 1)

    def _count(self, cost: int) -> None:
        self.bytes += cost
        self.ledger.bytes += cost

    def readable_after(self, cursor: int, *, folded: bool) -> int:
        """Return the position nearest to a cursor, at or after it, from which reading can continue.

        Args:
            cursor: a position, perhaps before the floor.
            folded: whether the reader accepts the folded beginning of the message in progress.
        """
        if cursor >= self.floor - 1:
            return cursor
        saved = self.prefix.runs_after(cursor) if folded else []
        return min(saved[0].first, self.floor) - 1 if saved else self.floor - 1

    def size(self, after: int, last: int) -> int:
        """Bytes of the frames of `after + 1 … last`; trimmed events count as 0."""
        after, last = max(after, self.floor - 1), max(last, self.floor - 1)
        return self._ends[last + 1 - self._base] - self._ends[after + 1 - self._base]

    def furthest_within(self, cursor: int, size: int) -> int:
        """The last seq up to which the frames after a held position fit `size` bytes; at least the next one."""
        start = cursor + 1 - self._base
        index = bisect_right(self._ends, self._ends[start] + size, start) - 1
        return min(max(index + self._base - 1, cursor + 1), self.head)

    def newest_within(self, size: int) -> int:
        """The first seq from which the frames up to the head fit `size` bytes; at most the head."""
        index = bisect_left(self._ends, max(self._ends[-1] - size, 0))
        return max(self.floor, min(index + self._base, self.head))

    def frames(self, after: int, last: int) -> list[bytes]:
        """The JSON frames of `after + 1 … last`, all held."""
        return self._frames[after + 1 - self._base : last + 1 - self._base]

    def frame(self, seq: int) -> bytes:
        """The JSON frame of a held event."""
        return self._frames[seq - self._base]

    def kinds(self, after: int, last: int) -> list[Kind]:
        """The kinds of `after + 1 … last`, all held."""
        return self._kinds[after + 1 - self._base : last + 1 - self._base]

    def runs(self, after: int, last: int) -> Iterator[Run]:
        """Yield `after + 1 … last`, all held, as folded runs; lazily, so that a reader of a few pays for a few."""
        return fold(self._parts(after, last))

    def _parts(self, after: int, last: int) -> Iterator[Run]:
        seq = after + 1
        while seq <= last:
            block = (seq - 1) // BLOCK
            start, end = block * BLOCK + 1, (block + 1) * BLOCK
            near = min(last, self.furthest_within(seq - 1, MAX_FOLDED_TEXT))  # big deltas: less than a whole block
            if seq == start and end <= near:
                yield from self._folded_block(block)
            else:
                end = min(end, near)
                yield from self._fold(seq - 1, end)
            seq = end + 1

    def _fold(self, after: int, last: int) -> Iterator[Run]:
        payloads = [frame[payload_start(frame) :] for frame in self.frames(after, last)]
        return runs_of(self.kinds(after, last), payloads, after + 1)

    def _folded_block(self, block: int) -> list[Run]:
        runs = self._folds.get(block)
        if runs is None:
            runs = list(self._fold(block * BLOCK, (block + 1) * BLOCK))
            if self._is_worth_keeping(runs):
                self._folds[block] = runs
        return runs

    def _is_worth_keeping(self, runs: list[Run]) -> bool:
        """Whether a folded block fits its events' `FOLD_SHARE`; big deltas are as cheap to decode again."""
        own = (part for run in runs for part in (run, *run) if part is not run.kind)
        return getsizeof(runs) + sum(map(getsizeof, own)) <= BLOCK * FOLD_SHARE
