"""A producer or a consumer, through all its processes, and its own address of the proxy."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TypeAlias

import msgspec

from deltawire.protocol.messages import Policy
from scripts.proof.children import Children, Worker
from scripts.proof.journal import read_number
from scripts.proof.proxy import Door
from scripts.proof.workers import Consume, Produce

BUFFER = 50
"""Events a consumer may lag behind: less than one burst of a producer."""


class Consumer:
    """One that reads.

    Args:
        door: its address.
        children: where its processes are started.
        notes: file of everything it gets.
        stream: the stream's id.
        policy: what happens when it falls behind.
        interval: milliseconds between writes.

    Attributes:
        worker: its process.
        is_busy: something is being done to its process.
    """

    def __init__(  # noqa: PLR0913 - what it is and where it stands
        self, door: Door, children: Children, notes: Path, *, stream: str, policy: Policy, interval: int = 0
    ) -> None:
        self.door = door
        self.notes = notes
        self.is_busy = False
        job = Consume(
            url=door.url,
            stream=stream,
            policy=policy,
            buffer=BUFFER,
            interval=interval,
            notes=str(notes),
            is_text=interval == 0,
        )
        self.worker = Worker(children, job, notes.with_suffix(".log"))


class Producer:
    """One that writes, in one generation after another.

    Args:
        door: its address.
        children: where its processes are started.
        directory: of its notes.
        stream: the stream's id.
        name: its producer id.
        length: events of a message.
        rate: events a second.

    Attributes:
        worker: the process of the present generation.
        workers: of all generations.
        is_busy: something is being done to its process.
    """

    def __init__(  # noqa: PLR0913 - what it is and where it stands
        self, door: Door, children: Children, directory: Path, *, stream: str, name: str, length: int, rate: float
    ) -> None:
        self.door = door
        self.name = name
        self.is_busy = False
        self._children = children
        self._directory = directory
        self._first = Produce(
            url=door.url,
            stream=stream,
            producer=name,
            generation=0,
            length=length,
            rate=rate,
            notes=str(self._notes(0)),
            is_text=True,
        )
        self.worker = Worker(children, self._first, self._notes(0).with_suffix(".log"))
        self.workers = [self.worker]

    def begin_generation(self) -> Worker:
        """Make a worker of the next generation, to be started; returns the one before."""
        before = self.worker
        generation = len(self.workers)
        notes = self._notes(generation)
        job = msgspec.structs.replace(self._first, generation=generation, notes=str(notes), is_text=generation % 2 == 0)
        self.worker = Worker(self._children, job, notes.with_suffix(".log"))
        self.workers.append(self.worker)
        return before

    def acked(self) -> dict[tuple[str, int], int]:
        """By producer id and generation, the last number it noted as acked."""
        return {(self.name, number): read_number(self._notes(number)) for number in range(len(self.workers))}

    async def finish(self, timeout: float) -> None:
        """Have it send what it has begun, and end.

        Args:
            timeout: seconds it has.
        """
        self.worker.signal(signal.SIGTERM)
        await self.worker.wait(0, timeout)

    def _notes(self, generation: int) -> Path:
        return self._directory / f"{self.name}-{generation}.notes"


Actor: TypeAlias = Consumer | Producer
