"""Who publishes to a stream: idempotence and fencing (SPEC §7.3, §7.4).

Per producer id the gateway remembers the newest generation and the last `producer_seq` accepted in it. From these two
numbers follows what happens to an event:

| the event | verdict |
|---|---|
| of an older generation | fenced |
| numbered, of a connection of this generation that is not the latest | fenced |
| numbered last + 1, or not numbered | new |
| numbered at most last | repeat: acked again, not appended again |
| numbered beyond last + 1 | a hole: sequence_gap |
"""

from __future__ import annotations

from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError

MAX_REMEMBERED = 1024
"""Producer ids remembered per stream; the one that came longest ago is forgotten first."""

REMEMBERED_COST = 384
"""Bytes one of them costs at most, with an id of 64 characters (CPython 3.11)."""


class Writer:
    """Who writes on one connection, and which numbers it continues; `publication` judges by it.

    Attributes:
        id: of its producer; None for one without.
        generation: of that id.
        last: the last producer_seq accepted.
        seq: what that became.
    """

    __slots__ = ("generation", "id", "last", "seq")

    def __init__(self, producer_id: str | None, generation: int) -> None:
        self.id = producer_id
        self.generation = generation
        self.last = 0
        self.seq = 0


class Producers:
    """The producer ids a stream remembers."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, Writer] = {}

    @property
    def bytes(self) -> int:
        """What they cost."""
        return len(self._known) * REMEMBERED_COST

    def open(self, producer_id: str | None, generation: int) -> Writer:
        """A producer connects.

        Args:
            producer_id: None for one without an id, which is remembered by nobody.
            generation: its generation.

        Returns:
            What its events are judged by: the same generation goes on where it was and makes earlier connections
            `is_latest` no more; a higher one starts anew and makes older ones `is_current` no more.

        Raises:
            WireError: `fenced`, a newer generation was here before.
        """
        if producer_id is None:
            return Writer(None, generation)
        known = self._known.pop(producer_id, None)
        if known is not None and generation < known.generation:
            self._known[producer_id] = known
            raise fenced(producer_id, generation, known.generation)
        opened = Writer(producer_id, generation)
        if known is not None and generation == known.generation:
            opened.last, opened.seq = known.last, known.seq
        self._known[producer_id] = opened  # now the newest
        if len(self._known) > MAX_REMEMBERED:
            del self._known[next(iter(self._known))]
        return opened

    def is_current(self, writer: Writer) -> bool:
        """Whether no newer generation of its id has come."""
        return writer.id is None or self._known.get(writer.id, writer).generation <= writer.generation

    def is_latest(self, writer: Writer) -> bool:
        """Whether its numbers may be taken: no other connection of its id has come since.

        What that one was told to go on from has to stand, whatever its predecessor had on the way.
        """
        return writer.id is None or self._known.get(writer.id, writer) is writer


def fenced(producer_id: str, generation: int, newest: int) -> WireError:
    """The refusal of an older generation."""
    return WireError(
        ProblemCode.FENCED,
        f"producer {producer_id!r} now publishes with generation {newest}; generation {generation} is over",
    )
