"""Who publishes to a stream: idempotence and fencing (SPEC §7.3, §7.4).

Per producer id the gateway remembers the newest generation and the last `producer_seq` accepted in it. These two
numbers decide what happens to an event:

| the event | verdict |
|---|---|
| of an older generation | fenced |
| numbered, from a connection of this generation that is not the latest | fenced |
| numbered last + 1, or not numbered | new |
| numbered at most last | repeat: acked again, not appended again |
| numbered beyond last + 1 | a hole: sequence_gap |
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError

MAX_REMEMBERED = 1024
"""Producer ids remembered per stream; the one that connected longest ago is forgotten first."""

REMEMBERED_COST = 384
"""Bytes that one remembered id costs at most, with 64 characters (CPython 3.11)."""


class ProducerState(NamedTuple):
    """What is remembered of a producer id.

    Attributes:
        id: of the producer.
        generation: the newest one.
        last: the last producer_seq accepted in it.
        seq: the seq of that event.
    """

    id: str
    generation: int
    last: int
    seq: int


class Writer:
    """The producer on one connection, and the numbers it continues; `publication` judges its events by it.

    Attributes:
        id: the producer id; None for a producer without one.
        generation: of that id.
        last: the last producer_seq accepted.
        seq: the seq that event got in the stream.
        held: events with the next numbers that middleware holds back: taken, and not accepted yet.
        committed: the last producer_seq that an engine has, if there is one.
    """

    __slots__ = ("committed", "generation", "held", "id", "last", "seq")

    def __init__(self, producer_id: str | None, generation: int) -> None:
        self.id = producer_id
        self.generation = generation
        self.last = 0
        self.seq = 0
        self.held = 0
        self.committed = 0

    @property
    def expected(self) -> int:
        """The `producer_seq` of the next event."""
        return self.last + self.held + 1


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
        """Return a writer for a producer that connects.

        Args:
            producer_id: None for a producer without an id, which is not remembered.
            generation: its generation.

        Returns:
            What its events are judged by. The same generation continues its numbers, and its earlier connections are no
            longer `is_latest`; a higher generation starts from 0, and older ones are no longer `is_current`.

        Raises:
            WireError: `fenced`, a newer generation has connected before.
        """
        if producer_id is None:
            return Writer(None, generation)
        known = self._known.pop(producer_id, None)
        if known is not None and generation < known.generation:
            self._known[producer_id] = known
            raise fenced(producer_id, generation, known.generation)
        opened = Writer(producer_id, generation)
        if known is not None and generation == known.generation:
            opened.last, opened.seq, opened.committed = known.last, known.seq, known.committed
        self._known[producer_id] = opened  # last in the dict: the newest
        if len(self._known) > MAX_REMEMBERED:
            del self._known[next(iter(self._known))]
        return opened

    def restore(self, states: Iterable[ProducerState]) -> None:
        """Remember producers from before a restart, those seen longest ago first."""
        for state in deque(states, MAX_REMEMBERED):
            writer = Writer(state.id, state.generation)
            writer.last = writer.committed = state.last
            writer.seq = state.seq
            self._known[state.id] = writer

    def states(self) -> list[ProducerState]:
        """What is committed of every producer, those seen longest ago first."""
        return [ProducerState(id_, it.generation, it.committed, it.seq) for id_, it in self._known.items()]

    def committed(self, states: Iterable[ProducerState]) -> None:
        """Record what an engine has committed."""
        for state in states:
            known = self._known.get(state.id)
            if known is not None and known.generation == state.generation:
                known.committed = state.last

    def is_committed(self, writer: Writer) -> bool:
        """Whether an engine has everything that this writer continues after."""
        return writer.committed == writer.last

    def is_newer(self, producer_id: str | None, generation: int) -> bool:
        """Whether a producer that connects fences generations that may come again."""
        if producer_id is None:
            return False
        known = self._known.get(producer_id)
        return generation > (0 if known is None else known.generation)

    def is_current(self, writer: Writer) -> bool:
        """Whether no newer generation of its id has connected."""
        return writer.id is None or self._known.get(writer.id, writer).generation <= writer.generation

    def is_latest(self, writer: Writer) -> bool:
        """Whether its numbered events may be accepted: no other connection of its id has come since.

        A later connection was told which number to continue from. That must hold, whatever its predecessor still has
        in flight.
        """
        return writer.id is None or self._known.get(writer.id, writer) is writer


def fenced(producer_id: str, generation: int, newest: int) -> WireError:
    """Return the error for an older generation."""
    return WireError(
        ProblemCode.FENCED,
        f"producer {producer_id!r} now publishes with generation {newest}; generation {generation} is over",
    )
