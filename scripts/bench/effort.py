"""How much work a benchmark is: how long runs take, how many connections and events they have."""

from __future__ import annotations

from typing import NamedTuple


class Effort(NamedTuple):
    """How much is done in a run.

    Attributes:
        rounds: in which the systems take turns.
        warmup: seconds of the same load that don't count.
        seconds: that count.
        part: of the connections, streams and events of F, G, I and K.
        part_of_load: of the streams, consumers and events of all others, where the numbers are the scenario.
    """

    rounds: int
    warmup: float
    seconds: float
    part: float = 1.0
    part_of_load: float = 1.0

    def size(self, number: int) -> int:
        """So many, or a part of it."""
        return max(1, round(number * self.part))

    def load(self, number: float) -> int:
        """So many, or a part of it, but not none of some."""
        return max(1, round(number * self.part_of_load)) if number else 0


FULL = Effort(rounds=3, warmup=1.0, seconds=4.0)
QUICK = Effort(rounds=1, warmup=0.3, seconds=1.0, part=0.2)
