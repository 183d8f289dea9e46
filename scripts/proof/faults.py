"""Random faults: to connections, and to processes."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from random import Random

from scripts.proof.actors import Actor, Consumer, Producer
from scripts.proof.proxy import Link
from scripts.proof.workers import FENCED

FAULTS_A_SECOND = 10.0

WEIGHTS = {"cut": 6, "truncate": 4, "half-close": 4, "delay": 4, "kill": 3, "stop": 3, "replace": 1}
"""How often each kind comes. Connections are cheap to lose; a process takes a third of a second of CPU to start."""

OF_PROCESSES = frozenset({"kill", "stop", "replace"})

LONGEST_DELAY = 1.0
LONGEST_STOP = 3.0
LONGEST_ABSENCE = 2.0
"""Seconds; longer than `lease` and `block_timeout` of the run, so that both sides of them are seen."""

FENCE_TIMEOUT = 20.0
"""Seconds a producer that was replaced while it stood still has to find out."""


class Faults:
    """Does random things to random actors.

    Args:
        dice: decides what, to whom, when and for how long.
        producers: some actors.
        consumers: the others.

    Attributes:
        injected: how often, by kind.
    """

    def __init__(self, dice: Random, producers: list[Producer], consumers: list[Consumer]) -> None:
        self.injected: Counter[str] = Counter()
        self._dice = dice
        self._producers = producers
        self._consumers = consumers

    async def inject(self, seconds: float) -> None:
        """Inject faults for some time, and wait until every process runs again."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        async with asyncio.TaskGroup() as tasks:
            while loop.time() < end:
                await asyncio.sleep(self._dice.expovariate(FAULTS_A_SECOND))
                [kind] = self._dice.choices(list(WEIGHTS), list(WEIGHTS.values()))
                actor = self._choose(kind)
                if kind in OF_PROCESSES:
                    if not actor.is_busy:
                        tasks.create_task(self._disturb(kind, actor))
                else:
                    for link in tuple(actor.door.links):
                        self.injected[f"{kind} connection"] += 1
                        self._break(kind, link)

    def _choose(self, kind: str) -> Actor:
        """Whom it happens to: to processes of producers as often as to those of consumers, of which there are more."""
        actors: list[Actor] = [*self._producers]
        if kind in OF_PROCESSES and kind != "replace" and self._dice.random() < 0.5:
            actors = [*self._consumers]
        elif kind not in OF_PROCESSES:
            actors += self._consumers
        return self._dice.choice(actors)

    def _break(self, kind: str, link: Link) -> None:
        match kind:
            case "cut":
                link.cut()
            case "truncate":
                link.truncate()
            case "half-close":
                link.half_close(self._dice)
            case _:
                link.delay(self._dice.uniform(0, LONGEST_DELAY))

    async def _disturb(self, kind: str, actor: Actor) -> None:
        """Do something to an actor's process, to which nothing else is done meanwhile."""
        self.injected[f"{kind} {type(actor).__name__.lower()}"] += 1
        actor.is_busy = True
        if isinstance(actor, Producer) and kind == "replace":
            await self._replace(actor)
        elif kind == "kill":
            await self._kill(actor)
        else:
            actor.worker.signal(signal.SIGSTOP)
            await asyncio.sleep(self._dice.uniform(0, LONGEST_STOP))
            actor.worker.signal(signal.SIGCONT)
        actor.is_busy = False

    async def _kill(self, actor: Actor) -> None:
        """End a process and start another: a producer's in the same generation or in the next one.

        What it sent last is on its way for a while, and may arrive when its successor is there already.
        """
        absence = self._dice.choice((0, self._dice.uniform(0, LONGEST_ABSENCE)))
        is_next = self._dice.random() < 0.5
        for link in tuple(actor.door.links):
            link.delay(self._dice.uniform(0, 2 * LONGEST_DELAY))
        await asyncio.sleep(self._dice.uniform(0, LONGEST_DELAY))
        await actor.worker.kill()
        await asyncio.sleep(absence)
        if isinstance(actor, Producer) and is_next:
            actor.begin_generation()
        await actor.worker.start()

    async def _replace(self, actor: Producer) -> None:
        """Let the next generation take over from a process that stands still, and then wakes up."""
        awake = self._dice.uniform(0.5, LONGEST_STOP)
        actor.worker.signal(signal.SIGSTOP)
        before = actor.begin_generation()
        await actor.worker.start()
        await asyncio.sleep(awake)
        before.signal(signal.SIGCONT)
        await before.wait(FENCED, FENCE_TIMEOUT)
