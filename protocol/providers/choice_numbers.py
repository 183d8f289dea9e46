"""Which choice a chunk is of, where servers count the index of the only one up.

Real choices share one id and come back: each has its index in many chunks, and a role in its first. Where each chunk
has an index nobody had before, there is one choice, number 0. That can't be told from one chunk, so chunks wait:

| a chunk with a new index that | waits for |
|---|---|
| has another id than the one before it, or is the first and not of choice 0 | the next one, which has a new index too |
| follows the one before it in index, has its id or none, and no role | `MAX_WAITING` of which no index comes back |

What waits at the end goes on with the choice that is open if its ids change, or if it ends with its only finish reason.
"""

from __future__ import annotations

from typing import NamedTuple

from deltawire.protocol.digest import MAX_CHOICES

MAX_WAITING = 8
"""Chunks with indices that count up while the id stays: so many real choices may begin with text, without a role."""


class Chunk(NamedTuple):
    """What there is to know of a chunk: the indices of its choices, its id, what its choices have."""

    indices: list[int]
    id: str | None
    has_role: bool
    has_finish: bool


class ChoiceNumbers:
    """The choices of one message.

    Attributes:
        is_counting: whether each chunk has another index for the only choice.
    """

    def __init__(self) -> None:
        self.is_counting = False
        self._seen: dict[int, int] = {}  # the number of each index
        self._last = Chunk([-1], None, has_role=False, has_finish=False)
        self._waiting: list[Chunk] = []

    def are_known(self, indices: list[int]) -> bool:
        """Whether nothing has to be decided about these indices."""
        return not self._waiting and all(index in self._seen for index in indices)

    def must_wait(self, chunk: Chunk) -> bool:
        """Whether a chunk waits, with those before it that do; if not, these are decided, and to be taken now."""
        index = chunk.indices[0]
        is_new = len(chunk.indices) == 1 and index not in self._seen
        waits = is_new and not self.is_counting and len(self._seen) <= 1
        if self._waiting:
            before = self._waiting[-1]
            waits = waits and all(index != other.indices[0] for other in self._waiting)
            is_certain = _has_other_id(chunk, before) or len(self._waiting) == MAX_WAITING or index >= MAX_CHOICES
            self.is_counting |= waits and is_certain and (_follows(chunk, before) or _has_other_id(chunk, before))
            waits = waits and not is_certain and _follows(chunk, before)
        elif self._seen:
            waits = waits and index < MAX_CHOICES and (_has_other_id(chunk, self._last) or _follows(chunk, self._last))
        else:
            waits = waits and 0 < index < MAX_CHOICES
        self._waiting = [*self._waiting, chunk] if waits else []
        return waits

    def settle_alone(self, *, is_open: bool) -> None:
        """Decide about the chunks that wait, as no other one comes.

        Args:
            is_open: whether there is a choice that has no finish reason, or none at all.
        """
        if self._waiting and is_open:
            first, last = self._waiting[0], self._waiting[-1]
            is_one = len(self._waiting) == 1 and not self._seen
            has_one_end = last.has_finish and not any(chunk.has_finish for chunk in self._waiting[:-1])
            self.is_counting |= is_one or has_one_end or (bool(self._seen) and _has_other_id(first, self._last))
        self._waiting = []

    def number_of(self, index: int, chunk_id: str | None) -> int:
        """The choice that an index means, in a chunk that needn't wait."""
        self._last = Chunk([index], chunk_id, has_role=False, has_finish=False)
        if index not in self._seen and index >= MAX_CHOICES:  # no provider offers as many
            self.is_counting |= bool(self._seen)
            self._seen.setdefault(index, 0)
        if self.is_counting:
            return next(iter(self._seen.values()), 0)
        return self._seen.setdefault(index, index)


def _has_other_id(chunk: Chunk, before: Chunk) -> bool:
    return chunk.id is not None and chunk.id != before.id


def _follows(chunk: Chunk, before: Chunk) -> bool:
    return chunk.indices[0] == before.indices[0] + 1 and not chunk.has_role
