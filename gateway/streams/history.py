"""What an engine has of one stream's events, and which of them go when their retention is over. Pure.

The history is longer than the log, which holds the newest events in memory. It is measured in marks: consecutive events
that go together. A mark holds a 64th of the retention at most, so that marks are few, however long the history is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf

from deltawire.gateway.streams.log import EVENT_OVERHEAD, Ledger, Retention

MARKS = 64
"""Marks over a retention: its events go in steps of a 64th."""

PIECE_BYTES = 64 * 1024
"""Bytes that are worth storing as one piece: as many as a reader takes at a time."""

PIECE_COMMITS = 32
"""Commits that are worth one piece when a message is complete: reading them back costs one read each."""


class _Mark:
    __slots__ = ("at", "cost", "first")

    def __init__(self, first: int, at: float) -> None:
        self.first = first
        self.cost = 0
        self.at = at  # of its first event


class History:
    """The stored events of one stream.

    Args:
        retention: how much is stored, at most and rounded up to whole marks.
        floor: seq of the oldest event.

    Attributes:
        floor: likewise; one more than `last` if there is none.
        last: seq of the newest event.
        bytes: what the events cost, counted as in a log.
        loose: seq from which on each commit is stored by itself.
        has_news: something may have to be trimmed, or be worth a piece, since the last time both were asked.
        ledger: counts its bytes together with those of others, once it is set.
    """

    __slots__ = (
        "_bytes_left",
        "_changed_at",
        "_events_left",
        "_ledger",
        "_loose_bytes",
        "_loose_commits",
        "_marks",
        "_open_until",
        "bytes",
        "floor",
        "has_news",
        "last",
        "loose",
        "retention",
    )

    def __init__(self, retention: Retention, floor: int = 1) -> None:
        self.retention = retention
        self.floor = floor
        self.last = floor - 1
        self.bytes = 0
        self.loose = floor
        self._loose_bytes = 0
        self._loose_commits = 0
        self._marks: deque[_Mark] = deque()
        self._changed_at = 0.0
        self._ledger: Ledger | None = None
        self.has_news = False
        self._events_left = 0  # in the newest mark, as the next two
        self._bytes_left = 0.0
        self._open_until = 0.0

    def count_on(self, ledger: Ledger, offset: float) -> None:
        """Count on a ledger from now on.

        Args:
            ledger: of the manager.
            offset: seconds to add to the times of everything added so far.
        """
        self._ledger = ledger
        ledger.stored += self.bytes
        self._changed_at += offset
        self._open_until += offset
        for mark in self._marks:
            mark.at += offset

    def limit(self, retention: Retention) -> None:
        """Apply another retention from now on: what is here goes with the events it was added with."""
        if retention != self.retention:
            self.retention = retention
            self._events_left = 0  # what follows may have to go later

    def restore(self, lasts: Sequence[int], sizes: Sequence[int], times: Sequence[float]) -> None:
        """Add rows of an engine, at least one; what fits one mark at once, as it is for most streams.

        Args:
            lasts: seq of the last event of each.
            sizes: bytes of the frames of each.
            times: seconds, of each.
        """
        if lasts[-1] <= self.last:  # all are before the floor: an engine keeps a row for the seq that follows it
            return
        retention, whole = self.retention, sum(sizes) + EVENT_OVERHEAD * (lasts[-1] - self.last)
        if (
            (lasts[-1] - self.last) * MARKS <= retention.events
            and whole * MARKS <= retention.bytes
            and (times[-1] - times[0]) * MARKS <= (retention.age or inf)
        ):
            self.add(lasts[-1], whole, times[0])
            self._changed_at = times[-1]
        else:
            for last, size, at in zip(lasts, sizes, times, strict=True):
                self.add(last, size + EVENT_OVERHEAD * (last - self.last), at)
        self.begin_piece()

    def add(self, last: int, cost: int, now: float) -> None:
        """Add what was committed.

        Args:
            last: seq of its last event; the first one follows the newest event here.
            cost: bytes of its events.
            now: seconds, of the commit.
        """
        count = last - self.last
        self._count(cost)
        self._changed_at = now
        self._loose_bytes += cost
        self._loose_commits += 1
        if self._loose_bytes >= PIECE_BYTES:
            self.has_news = True
        if count <= self._events_left and cost <= self._bytes_left and now < self._open_until:
            self._put(count, cost)
            return
        self.has_news = True
        each = cost / count
        while count:
            room = min(self._events_left, int(self._bytes_left / each)) if now < self._open_until else 0
            if not self._marks or room <= 0:
                self._begin_mark(now)
                room = max(1, min(self._events_left, int(self._bytes_left / each)))
            some = min(count, room)
            share = cost if some == count else int(each * some)
            self._put(some, share)
            count -= some
            cost -= share

    def _put(self, count: int, cost: int) -> None:
        """Put events into the newest mark."""
        self._marks[-1].cost += cost
        self._events_left -= count
        self._bytes_left -= cost
        self.last += count

    def _begin_mark(self, now: float) -> None:
        retention = self.retention
        self._marks.append(_Mark(self.last + 1, now))
        self._events_left = retention.events // MARKS
        self._bytes_left = retention.bytes / MARKS
        self._open_until = now + retention.age / MARKS if retention.age else inf

    def is_worth_a_piece(self, *, is_complete: bool) -> bool:
        """Whether to store the commits from `loose` on again, as one piece.

        Args:
            is_complete: whether a message has just ended.
        """
        return self._loose_bytes >= PIECE_BYTES or (is_complete and self._loose_commits >= PIECE_COMMITS)

    def begin_piece(self) -> None:
        """Note that everything so far is stored in pieces, or will never be."""
        self.loose = self.last + 1
        self._loose_bytes = self._loose_commits = 0

    def trim(self, now: float) -> bool:
        """Drop what the retention does not cover; whether there was anything to drop.

        Args:
            now: seconds.
        """
        marks, retention = self._marks, self.retention
        before = self.floor
        while len(marks) > 1 and (
            self.last - marks[1].first + 1 >= retention.events
            or self.bytes - marks[0].cost >= retention.bytes
            or (retention.age and marks[1].at <= now - retention.age)
        ):
            self._drop_oldest()
        if marks and retention.age and self._changed_at <= now - retention.age:
            self._drop_oldest()
        return self.floor > before

    def trim_to(self, size: int) -> bool:
        """Drop the oldest events until the rest costs at most `size` bytes; whether there was anything to drop."""
        before = self.floor
        while self.bytes > size:
            self._drop_oldest()
        return self.floor > before

    def clear(self) -> None:
        """Drop everything."""
        self.trim_to(0)

    def _drop_oldest(self) -> None:
        self._count(-self._marks.popleft().cost)
        if not self._marks:
            self._events_left = 0  # there is no mark to put anything into
        self.floor = self._marks[0].first if self._marks else self.last + 1

    def _count(self, cost: int) -> None:
        self.bytes += cost
        if self._ledger is not None:
            self._ledger.stored += cost
