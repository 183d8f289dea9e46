"""Limits on connections that hold over all workers: tables in memory that they share.

A table has no locks, so that no worker can hold up another one, even if it is killed at any point. Keys are hashed to a
cell in each of four rows, and a key's value is the least of its cells (a count-min sketch). It may be more than the
truth, by what other keys add in all four cells, and is never less: a limit is never exceeded. Tables are so wide that a
full gateway counts one connection too many for one address in four hundred. Python's hash of text differs from start to
start, so that nobody can choose addresses that share cells; forked workers have the same.

Source: Cormode and Muthukrishnan, An improved data stream summary: the count-min sketch (2005), conservative update for
rates.
"""

from __future__ import annotations

from collections.abc import Hashable
from mmap import mmap
from typing import Final

from deltawire.gateway.config import Settings
from deltawire.gateway.server.accepting.limits import ALL, Counts, Limits
from deltawire.gateway.server.accepting.rate import RateTable

ROWS: Final = 4

WIDTH_PER_CONNECTION: Final = 4
"""Cells in a row for each connection there may be."""

RATE_WIDTH: Final = 65_536
"""Cells in a row of the rates: 2 MiB in all. Only addresses that connected within the last moments occupy any."""


class SharedLimits:
    """The tables of a gateway; made before its workers are forked.

    Args:
        settings: of the whole gateway.
        workers: how many there are.
    """

    def __init__(self, settings: Settings, workers: int) -> None:
        self._settings = settings
        self._width = _power_of_two(WIDTH_PER_CONNECTION * settings.max_connections)
        self._plane = 4 * (1 + ROWS * self._width)
        self._memory = mmap(-1, workers * self._plane)
        whole = memoryview(self._memory)
        self._planes = [
            whole[at : at + self._plane].cast("i") for at in range(0, workers * self._plane, self._plane)
        ]  # each worker writes its own alone
        self._rates = memoryview(mmap(-1, 8 * ROWS * RATE_WIDTH)).cast("d")

    def limits_of(self, worker: int) -> Limits:
        """Return the limits as one worker applies them."""
        rates = SharedRates(self._settings.connection_rate, self._settings.connection_burst, self._rates)
        return Limits(self._settings, SharedCounts(self._planes, self._width, worker), rates)

    def forget(self, worker: int) -> None:
        """Forget the connections of a worker that is gone."""
        self._memory[worker * self._plane : (worker + 1) * self._plane] = bytes(self._plane)


class SharedCounts(Counts):
    """How often each key is held over all workers, and by whom in this one.

    Args:
        planes: a table of counts for each worker.
        width: cells in a row.
        worker: this one.
    """

    def __init__(self, planes: list[memoryview[int]], width: int, worker: int) -> None:
        super().__init__()
        self._planes = planes
        self._own = planes[worker]
        self._width = width

    def __getitem__(self, key: Hashable) -> int:
        """How often a key is held in this worker."""
        return min(self._own[cell] for cell in self._cells(key))

    def __len__(self) -> int:
        """Number of holders in this worker."""
        return len(self._held)

    def take(self, holder: object, key: Hashable, limit: int) -> bool:
        """Hold a key once more; return False, and change nothing, if it is held `limit` times already.

        It is added before it is judged: when two workers take the last place at the same moment, neither gets it.
        """
        cells = self._cells(key)
        self._add(cells, 1)
        if min(sum(plane[cell] for plane in self._planes) for cell in cells) > limit:
            self._add(cells, -1)
            return False
        self._held.setdefault(holder, []).append(key)
        return True

    def _release(self, key: Hashable) -> None:
        self._add(self._cells(key), -1)

    def _add(self, cells: list[int], number: int) -> None:
        for cell in cells:
            self._own[cell] += number

    def _cells(self, key: Hashable) -> list[int]:
        return [0] if key == ALL else [1 + cell for cell in _cells(key, self._width)]


class SharedRates(RateTable):
    """A rate for each key over all workers. Two takes of one key at the very same moment may count as one.

    Args:
        rate: takes per second; 0 is no limit.
        burst: takes at once.
        table: when the bucket of a cell will be full again.
    """

    def __init__(self, rate: float, burst: int, table: memoryview[float]) -> None:
        super().__init__(rate, burst, 0)
        self._table = table

    def take(self, key: Hashable, now: float) -> float:
        """Take one token of a key's bucket; like `RateTable.take`."""
        if not self._interval:
            return 0.0
        cells = _cells(key, RATE_WIDTH)
        full_at = max(min(self._table[cell] for cell in cells), now) + self._interval
        wait = full_at - self._tolerance - now
        if wait > 1e-9:  # tolerates the rounding of added intervals
            return wait
        for cell in cells:
            self._table[cell] = max(self._table[cell], full_at)
        return 0.0

    def give_back(self, key: Hashable, now: float) -> None:  # noqa: ARG002 - a time that is over counts as none
        """Put a token back that was taken; like `RateTable.give_back`."""
        cells = _cells(key, RATE_WIDTH)
        full_at = min(self._table[cell] for cell in cells)
        for cell in cells:
            if self._table[cell] == full_at:  # what is more is another key's
                self._table[cell] -= self._interval


def _cells(key: Hashable, width: int) -> list[int]:
    """Return the cell of a key in each row."""
    both = hash(key)
    first, step = both & 0xFFFF_FFFF, both >> 32 | 1
    return [row * width + (first + row * step) % width for row in range(ROWS)]


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()
