"""Where the events of one stream are in the database: rows, in the order of their seqs.

A row is a commit, or a piece that commits were merged to. The index is changed on the event loop, at once; the rows
follow in the writer's thread, in the same order. That thread looks a row up when it is about to read it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from threading import Lock

from deltawire.protocol.events import MAX_SEQ


class Index:
    """The rows of one stream. The id of a piece is negative; that of a commit is positive.

    Args:
        id_: of the stream, in the database.
    """

    __slots__ = ("_firsts", "_ids", "_lock", "_merging", "id")

    def __init__(self, id_: int) -> None:
        self.id = id_
        self._firsts = array("q")
        self._ids = array("q")
        self._merging: dict[int, tuple[array[int], array[int]]] = {}  # piece not stored yet → what it replaces
        self._lock = Lock()

    def add(self, id_: int, first: int) -> None:
        """Add a row that follows all others.

        Args:
            id_: of the row.
            first: seq of its first event.
        """
        with self._lock:
            self._firsts.append(first)
            self._ids.append(id_)

    def merge(self, piece: int, first: int, last: int) -> list[int]:
        """Put a piece in place of the rows that it holds, which are read until it `is_stored`.

        Args:
            piece: its id.
            first: seq of its first event.
            last: seq of its last event, with which a row ends.

        Returns:
            The ids of these rows.
        """
        with self._lock:
            begin, end = bisect_left(self._firsts, first), bisect_right(self._firsts, last)
            gone = self._firsts[begin:end], self._ids[begin:end]
            self._firsts[begin:end] = array("q", (first,))
            self._ids[begin:end] = array("q", (piece,))
            self._merging[piece] = gone
        return list(gone[1])

    def is_stored(self, piece: int) -> None:
        """Note that a piece is in the database, and the rows that it replaced are not."""
        with self._lock:
            self._merging.pop(piece, None)

    def cut(self, floor: int) -> list[int]:
        """Remove the rows whose events are all before a seq; returns their ids."""
        with self._lock:
            count = max(0, bisect_right(self._firsts, floor) - 1)
            gone = self._ids[:count]
            del self._firsts[:count], self._ids[:count]
        return list(gone)

    def clear(self) -> list[int]:
        """Remove all rows; returns their ids."""
        with self._lock:
            gone = self._ids[:]
            del self._firsts[:], self._ids[:]
        return list(gone)

    def row_with(self, seq: int) -> tuple[int, int] | None:
        """The row that has an event; None if there is no row.

        Returns:
            Its id, and the seq of the last event before the next row.
        """
        with self._lock:
            found = _find(self._firsts, self._ids, seq)
            while found is not None and found[0] in self._merging:
                found = _find(*self._merging[found[0]], seq)
        return found


def _find(firsts: array[int], ids: array[int], seq: int) -> tuple[int, int] | None:
    after = bisect_right(firsts, seq)
    if not after:
        return None
    return ids[after - 1], firsts[after] - 1 if after < len(firsts) else MAX_SEQ
