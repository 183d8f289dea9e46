"""The folded beginning of the message in progress, kept when its raw events are trimmed (SPEC §5.4).

An answer can be longer than its stream's retention. A consumer that joins late and folds still gets all of it: events
of the open message that the log trims are kept here as runs, at a hundredth of their size. The runs are bounded: if
they exceed the limit, the message is given up, and its trimmed events become a gap.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from operator import attrgetter
from sys import getsizeof

from deltawire.gateway.streams.coalesce import Run, fold, kind_cost

RUN_OVERHEAD = 200
"""Bytes a run costs beside its text or payload: the tuple, its numbers, its timestamp."""

MERGED_TEXT = 4096
"""Characters up to which neighbouring runs are merged: enough to keep runs few, few enough to copy again."""

_last = attrgetter("last")


class Prefix:
    """Runs of the message in progress, contiguous, up to and perhaps a little beyond what was trimmed.

    Args:
        limit: bytes it may cost.

    Attributes:
        start: seq of the message's first event.
        is_kept: whether a message began and was not given up.
        bytes: what the runs cost.
    """

    __slots__ = ("_costs", "_runs", "bytes", "is_kept", "limit", "start")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.start = 1
        self.bytes = 0
        self.is_kept = False
        self._runs: list[Run] = []
        self._costs: list[int] = []  # of each run when added: encoding a text later makes Python keep a second copy

    def begin(self, seq: int) -> None:
        """Begin a message with this seq; drop what was kept of the previous one."""
        self.clear()
        self.start = seq
        self.is_kept = True

    def clear(self) -> None:
        """Drop everything; keep nothing until the next message begins."""
        self._runs.clear()
        self._costs.clear()
        self.bytes = 0
        self.is_kept = False

    @property
    def last(self) -> int:
        """The seq up to which the message is kept; one before its start if nothing is kept."""
        return self._runs[-1].last if self._runs else self.start - 1

    def extend(self, runs: Iterable[Run]) -> None:
        """Keep runs that directly follow `last`."""
        for run in runs:
            merged = self._merge(run)
            cost = RUN_OVERHEAD + kind_cost(merged.kind) + getsizeof(merged.text) + getsizeof(merged.payload)
            self._runs.append(merged)
            self._costs.append(cost)
            self.bytes += cost
        if self.bytes > self.limit:
            self.clear()

    def _merge(self, run: Run) -> Run:
        """Return the run, merged with the last one kept if together they are one text that is still short."""
        if self._runs and len(self._runs[-1].text or "") + len(run.text or "") <= MERGED_TEXT:
            joined = list(fold((self._runs[-1], run)))
            if len(joined) == 1:
                self._runs.pop()
                self.bytes -= self._costs.pop()
                return joined[0]
        return run

    def runs_after(self, cursor: int) -> list[Run]:
        """The runs that begin after a position."""
        index = bisect_left(self._runs, cursor + 1, key=_last)
        if index < len(self._runs) and self._runs[index].first <= cursor:
            index += 1  # it began before, and a run can't be read in part
        return self._runs[index:]
