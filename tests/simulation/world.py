"""Processes, their virtual time and what happens between them: all of it follows from a seed."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable
from itertools import count
from math import inf
from random import Random
from typing import Final

Step = Callable[[], None]

EPOCH: Final = 1_800_000_000.0
"""Seconds since 1970 when every simulation begins."""


class Process:
    """Something that takes its steps one after the other, and takes none while it is paused.

    Args:
        world: where it lives.
        name: of its machine on the network.

    Attributes:
        is_running: neither paused nor gone.
        is_gone: it will never take a step again.
        skew: seconds by which its wall clock is ahead.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.is_running = True
        self.is_gone = False
        self.skew = 0.0
        self.random = world.draws(f"process {name}")
        self._steps: deque[Step] = deque()  # that wait until it runs again

    @property
    def next_timer(self) -> float:
        """When it has something to do by itself; infinity for never."""
        return inf

    def wall(self) -> float:
        """Seconds since 1970, as it sees them."""
        return EPOCH + self.world.now + self.skew

    def deliver(self, step: Step) -> None:
        """Take a step, now or when it runs again."""
        if self.is_gone:
            return
        if not self.is_running:
            self._steps.append(step)
            return
        self.world.running = self
        self.take(step)

    def take(self, step: Step) -> None:
        """Take a step."""
        step()

    def last_step(self, step: Step) -> None:
        """Take a step although it is gone, so that nothing is left of it."""

    def wake(self) -> None:
        """Do what it has to do by itself."""

    def pause(self) -> None:
        """Take no step."""
        self.is_running = False

    def resume(self) -> None:
        """Take the steps that have waited."""
        if self.is_gone:
            return
        self.is_running = True
        while self._steps and self.is_running:
            self.deliver(self._steps.popleft())


class World:
    """Virtual time.

    Args:
        seed: of everything that is drawn.

    Attributes:
        now: seconds.
        running: the process that takes a step.
        history: what happened, line by line.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = 1_000.0
        self.history: list[str] = []
        self.processes: list[Process] = []  # those with timers of their own
        self._due: list[tuple[float, int, Step]] = []
        self._numbers = count()
        self._drawn: Counter[str] = Counter()
        self.running = Process(self, "nobody")

    def draws(self, purpose: str) -> Random:
        """A source of draws of its own: what others draw, and in which order, does not change it."""
        self._drawn[purpose] += 1
        return Random(f"{self.seed} {purpose} {self._drawn[purpose]}")

    def tell(self, line: str) -> None:
        """Add to the history."""
        self.history.append(f"{self.now - 1_000:9.4f}  {line}")

    def after(self, seconds: float, step: Step) -> None:
        """Have a step taken later."""
        heapq.heappush(self._due, (self.now + seconds, next(self._numbers), step))

    def run(self, until: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Let time pass.

        Args:
            until: when to stop.
            stop: whether to stop before, asked after each step.
        """
        while not stop():
            at = self._due[0][0] if self._due else inf
            sleeper = min(
                (it for it in self.processes if it.is_running and not it.is_gone),
                key=lambda it: it.next_timer,
                default=None,
            )
            timer = inf if sleeper is None else sleeper.next_timer
            if min(at, timer) > until:
                self.now = until
                return
            if at <= timer:
                self.now = max(self.now, at)
                heapq.heappop(self._due)[2]()
            else:
                assert sleeper is not None
                self.now = max(self.now, timer)
                self.running = sleeper
                sleeper.wake()
