"""Chaos: real processes, real sockets, random faults; and a count of what became of every event.

Starts a gateway, producers, and consumers of every policy, some of them slow, each behind an address of its own of a
proxy. Cuts, truncates, half-closes and delays connections, kills and stops processes, replaces stopped producers by
newer generations. Then lets all of them finish and compares what each consumer noted with what the producers were
acked for and with what the stream held. Exits 1 if anything was lost, doubled, misordered or altered.

    python -m scripts.chaos [--seconds 60] [--streams 2] [--seed N]
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import httpx

from deltawire.protocol.messages import Policy
from scripts.proof.actors import Actor, Consumer, Producer
from scripts.proof.children import Children, serving
from scripts.proof.faults import Faults
from scripts.proof.history import History
from scripts.proof.journal import read_messages
from scripts.proof.proxy import open_door
from scripts.proof.verdict import Tally, judge_consumer, judge_stream

SETTINGS = {
    "retention_events": 2000,  # 5 s: a consumer that was away for long finds that something was evicted
    "lease": 1.0,  # shorter than some producers stay away
    "block_timeout": 1.5,  # shorter than some consumers stand still
    "send_timeout": 3.0,
    "drain_timeout": 1.0,
    "buffer_bytes": 64 * 1024,
}

PRODUCERS = 2
"""Producers a stream: their messages interleave."""

RATE = 200.0
"""Events a second of each producer; an event has 400 bytes in the mean."""

MESSAGE_LENGTH = 40
"""Events of a message: short enough that most begin and end between two faults; those that overlap have no digest."""

SLOW_RATE = 20_000.0
"""Bytes a second towards a slow consumer: an eighth of what its stream brings."""

FINISH_TIMEOUT = 60.0
"""Seconds processes have to finish when the faults are over."""


class Trial:
    """One stream, who writes it and who reads it.

    Args:
        number: of the stream, from 0.
        history: what the stream holds.
    """

    def __init__(self, number: int, history: History) -> None:
        self.stream = f"s{number}"
        self.history = history
        self.producers: list[Producer] = []
        self.consumers: list[Consumer] = []
        self._slow = set(Policy) - {Policy.BLOCK} if number % 2 == 0 else {Policy.BLOCK}

    async def open(self, stack: AsyncExitStack, children: Children, gateway: str, directory: Path) -> None:
        """Start everybody: two producers, a consumer of each policy, and one that wants its deltas folded."""
        for name in (f"{self.stream}-p{number}" for number in range(PRODUCERS)):
            door = await stack.enter_async_context(open_door(gateway))
            producer = Producer(
                door, children, directory, stream=self.stream, name=name, length=MESSAGE_LENGTH, rate=RATE
            )
            self.producers.append(producer)
        for number, policy in enumerate((*Policy, Policy.COALESCE)):
            is_last = number == len(Policy)
            door = await stack.enter_async_context(
                open_door(gateway, SLOW_RATE if policy in self._slow and not is_last else None)
            )
            notes = directory / f"{self.stream}-{policy}{'-folded' if is_last else ''}.notes"
            consumer = Consumer(door, children, notes, stream=self.stream, policy=policy, interval=50 if is_last else 0)
            self.consumers.append(consumer)
        await asyncio.gather(*(actor.worker.start() for actor in self.actors()))

    def actors(self) -> list[Actor]:
        """Everybody."""
        return [*self.producers, *self.consumers]

    async def finish(self, client: httpx.AsyncClient) -> None:
        """Let everybody end what they are at."""
        for actor in self.actors():
            actor.door.rate = None
        await asyncio.gather(*(producer.finish(FINISH_TIMEOUT) for producer in self.producers))
        (await client.delete(f"/v1/streams/{self.stream}")).raise_for_status()
        await asyncio.gather(*(consumer.worker.wait(0, FINISH_TIMEOUT) for consumer in self.consumers))
        await self.history.catch_up()

    async def judge(self) -> Tally:
        """Compare what everybody noted."""
        acked = {key: number for producer in self.producers for key, number in producer.acked().items()}
        tally = judge_stream(self.history.events, acked, MESSAGE_LENGTH)
        tally.altered += await self.history.count_changed()
        for consumer in self.consumers:
            judged = judge_consumer(read_messages(consumer.notes), self.history.events)
            if not judged.is_clean:
                print(f"  {consumer.notes.stem}: {judged}")
            tally.add(judged)
        return tally

    def failures(self) -> list[str]:
        """Processes that ended as they must not."""
        workers = [consumer.worker for consumer in self.consumers]
        workers += [worker for producer in self.producers for worker in producer.workers]
        return [failure for worker in workers for failure in worker.failures]


async def run(seed: int, seconds: float, streams: int, directory: Path) -> bool:
    """Run it and print the table; whether every promise was kept."""
    async with AsyncExitStack() as stack:
        children = await stack.enter_async_context(Children())
        gateway = await stack.enter_async_context(serving(children, **SETTINGS))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=gateway.http, timeout=FINISH_TIMEOUT))
        trials = [Trial(number, History(client, f"s{number}")) for number in range(streams)]
        for trial in trials:
            (await client.put(f"/v1/streams/{trial.stream}")).raise_for_status()
            await trial.open(stack, children, gateway.url, directory)
        producers = [producer for trial in trials for producer in trial.producers]
        consumers = [consumer for trial in trials for consumer in trial.consumers]
        faults = Faults(Random(seed), producers, consumers)  # noqa: S311 - has to come again with the same seed
        async with asyncio.TaskGroup() as tasks:
            following = [tasks.create_task(trial.history.follow()) for trial in trials]
            await faults.inject(seconds)
            await asyncio.gather(*(trial.finish(client) for trial in trials))
            for task in following:
                task.cancel()
        tally = Tally()
        for trial in trials:
            tally.add(await trial.judge())
    failures = [failure for trial in trials for failure in trial.failures()]
    report(faults.injected, tally, failures)
    return tally.is_clean and not failures


def report(injected: Counter[str], tally: Tally, failures: list[str]) -> None:
    """Print the table."""
    print("faults injected")
    for kind, count in sorted(injected.items()):
        print(f"  {kind:<24}{count:>10}")
    print("events")
    for name in tally.__struct_fields__:
        print(f"  {name:<24}{getattr(tally, name):>10}")
    for failure in failures:
        print(f"FAILED: {failure}")


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description="Random faults against real processes; counts what became of events.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to inject faults")
    parser.add_argument("--streams", type=int, default=2, help="how many streams, of 8 processes each")
    parser.add_argument("--seed", type=int, default=None, help="makes the faults the same again")
    parser.add_argument(
        "--keep", type=Path, default=None, help="folder to be made, which keeps the notes of all processes"
    )
    arguments = parser.parse_args()
    seed = secrets.randbelow(2**32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}, {arguments.seconds:g} s, {arguments.streams} streams", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        directory = arguments.keep or Path(scratch)
        directory.mkdir(parents=True, exist_ok=directory == Path(scratch))  # processes resume from notes that are there
        kept = asyncio.run(run(seed, arguments.seconds, arguments.streams, directory))
    print("every promise was kept" if kept else f"promises were BROKEN; again with --seed {seed}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
