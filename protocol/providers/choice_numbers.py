"""Which choice a chunk is of, where servers count the index of the only one up.

Real choices share one id and come back: each has its index in many chunks. Where each chunk has an index nobody had
before and an id of its own, there is one choice, number 0. That can't be told from one chunk: one with a new index
and a new id waits for the next.
"""

from __future__ import annotations

from deltawire.protocol.digest import MAX_CHOICES


class ChoiceNumbers:
    """The choices of one message.

    Attributes:
        is_counting: whether each chunk has another index for the only choice.
    """

    def __init__(self) -> None:
        self.is_counting = False
        self._seen: dict[int, int] = {}  # the number of each index
        self._last_id: str | None = None
        self._waiting: tuple[int, str | None] | None = None

    def must_wait(self, index: int, chunk_id: str | None) -> bool:
        """Whether what the only index of a chunk means shows with the next chunk.

        Args:
            index: of the chunk's only choice.
            chunk_id: of the chunk.
        """
        if self.is_counting or index in self._seen or index >= MAX_CHOICES or len(self._seen) > 1:
            return False
        if not (index if not self._seen else chunk_id is not None and chunk_id != self._last_id):
            return False
        self._waiting = (index, chunk_id)
        return True

    def settle(self, indices: list[int], chunk_id: str | None) -> None:
        """Decide about the chunk that waits, by those of the next one."""
        if self._waiting is None:
            return
        index, waiting_id = self._waiting
        self._waiting = None
        is_new = len(indices) == 1 and indices[0] not in self._seen and indices[0] != index
        self.is_counting = is_new and chunk_id is not None and chunk_id != waiting_id

    def settle_alone(self, *, is_open: bool) -> None:
        """Decide about the chunk that waits, as no other one comes: whether it goes on with a choice that is open."""
        self.is_counting |= self._waiting is not None and is_open
        self._waiting = None

    def number_of(self, index: int, chunk_id: str | None) -> int:
        """The choice that an index means."""
        self._last_id = chunk_id
        if index not in self._seen and index >= MAX_CHOICES:  # no provider offers as many
            self.is_counting |= bool(self._seen)
            self._seen.setdefault(index, 0)
        if self.is_counting:
            return next(iter(self._seen.values()), 0)
        return self._seen.setdefault(index, index)
