"""Soak: an hour's traffic in a few minutes past fifty consumers that stand still; memory, descriptors and tasks.

Publishes as many events a stream as an hour at 80 tokens a second brings, as fast as the gateway takes them. One
consumer a stream reads along and proves what it gets; the others stop reading at once and stay. Exits 1 if memory
outgrows what the settings allow or keeps growing, if a healthy consumer misses anything, or if anything is left open.

    python -m scripts.soak [--hours 1] [--streams 2] [--stuck 50]
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx

from deltawire.gateway.client import Publisher, Subscriber
from deltawire.protocol.events import TextDelta
from deltawire.protocol.messages import Gap, Policy
from scripts.proof.children import Children, Worker
from scripts.proof.stuck import Stuck
from scripts.proof.watched import Usage, Watched, watching
from scripts.proof.workers import Produce

EVENTS_AN_HOUR = 80 * 3600

MIB = 1024 * 1024

RETENTION = 8 * MIB
"""Bytes a stream keeps, as the gateway does by default."""

CONSUMER_COST = 256 * 1024
"""Bytes a consumer may hold: chunks of 64 KiB that came on top of a write buffer of 32 KiB, and its connection."""

ALLOWANCE = 1.25
"""How much more memory the allocator may take than is counted."""

GROWTH = 1.1
"""How much more memory may be taken in the second half of the time when streams are full than in the first."""

SETTINGS = {
    "retention_bytes": RETENTION,
    "send_timeout": 86_400,  # nobody who stands still is relieved
    "block_timeout": 1.0,
    "closed_retention": 0.5,
    "drain_timeout": 1.0,
}

SAMPLE_INTERVAL = 0.25

FINISH_TIMEOUT = 60.0
"""Seconds for producers to end, and for everything to be put away when everybody has left."""


class Reader:
    """A healthy consumer, for which producers wait: it gets every event.

    Attributes:
        events: how many it got.
        in_gaps: how many it was told it would not get.
        proven: messages whose text was what their digest says.
    """

    def __init__(self) -> None:
        self.events = 0
        self.in_gaps = 0
        self.proven = 0

    async def read(self, url: str, stream: str) -> None:
        """Read a stream to its end; the client raises on what is missing without a gap, or is not what was sent."""
        async with Subscriber(url, stream, policy=Policy.BLOCK, buffer=10_000) as subscriber:
            async for item in subscriber:
                if isinstance(item, Gap):
                    self.in_gaps += item.seq - item.first + 1
                else:
                    self.events += 1
            self.proven = subscriber.proven


class Soak:
    """One run.

    Args:
        gateway: its process.
        client: with its address as base URL.
        streams: their ids.
        directory: for what producers note.

    Attributes:
        held: bytes of the stream that held most.
        samples: what the gateway took, over time.
        full: those since every stream holds as much as it may.
        readers: the healthy consumers.
        failures: what must not have happened.
    """

    def __init__(self, gateway: Watched, client: httpx.AsyncClient, streams: list[str], directory: Path) -> None:
        self.held = 0
        self.samples: list[Usage] = []
        self.full: list[Usage] = []
        self.readers = {stream: Reader() for stream in streams}
        self.failures: list[str] = []
        self._gateway = gateway
        self._client = client
        self._directory = directory

    async def warm_up(self) -> Usage:
        """Have everything done that is done only once; what the gateway takes then."""
        url = self._gateway.url
        async with Publisher(url, "warm-up") as publisher, Subscriber(url, "warm-up") as subscriber:
            await publisher.send(TextDelta("x"))
            await publisher.close_stream()
            assert len([item async for item in subscriber]) == 1
        return await self.settle(None)

    async def run(self, children: Children, events: int, stuck: int) -> None:
        """Publish so many events a stream past so many consumers that stand still."""
        url = self._gateway.url
        producers = [Worker(children, self._job(stream), self._directory / f"{stream}.log") for stream in self.readers]
        async with asyncio.TaskGroup() as tasks:
            for stream, reader in self.readers.items():
                tasks.create_task(reader.read(url, stream))
            staying = tasks.create_task(Stuck(url, list(self.readers), stuck).stay())
            await asyncio.gather(*(producer.start() for producer in producers))
            await self._watch(events)
            for producer in producers:
                producer.signal(signal.SIGTERM)
            await asyncio.gather(*(producer.wait(0, FINISH_TIMEOUT) for producer in producers))
            for stream in self.readers:
                (await self._client.delete(f"/v1/streams/{stream}")).raise_for_status()
            staying.cancel()
        self.failures += [failure for producer in producers for failure in producer.failures]

    def _job(self, stream: str) -> Produce:
        return Produce(
            url=self._gateway.url,
            stream=stream,
            producer="p",
            generation=0,
            length=100,
            rate=1_000_000.0,
            notes=str(self._directory / f"{stream}.notes"),
            is_text=True,
        )

    async def _watch(self, events: int) -> None:
        """Take samples until every stream has brought so many events."""
        heads = [0]
        while min(heads) < events:
            await asyncio.sleep(SAMPLE_INTERVAL)
            self.samples.append(await self._gateway.usage())
            infos = await self._list_streams()
            heads = [info["head"] for info in infos if info["id"] in self.readers]
            if all(info["floor"] > 1 for info in infos):
                self.full.append(self.samples[-1])
            self.held = max(self.held, *(info["bytes"] for info in infos))

    async def settle(self, baseline: Usage | None) -> Usage:
        """What the gateway takes when it has put away its streams and has no more open than before."""
        deadline = asyncio.get_running_loop().time() + FINISH_TIMEOUT
        while True:
            usage = await self._gateway.usage()
            is_open = baseline and (usage.descriptors > baseline.descriptors or usage.tasks > baseline.tasks)
            if not is_open and not await self._list_streams():
                return usage
            if asyncio.get_running_loop().time() > deadline:
                self.failures.append(f"{FINISH_TIMEOUT:g} s after everybody left, not everything is put away")
                return usage
            await asyncio.sleep(SAMPLE_INTERVAL)

    async def _list_streams(self) -> list[dict[str, Any]]:
        streams: list[dict[str, Any]] = (await self._client.get("/v1/streams")).raise_for_status().json()
        return streams


def judge(soak: Soak, before: Usage, after: Usage, consumers: int) -> list[str]:
    """Print the table; what is beyond a limit."""
    memory = [sample.memory for sample in soak.samples]
    limit = before.memory + int(len(soak.readers) * RETENTION * ALLOWANCE) + consumers * CONSUMER_COST
    checks: list[tuple[str, int, int | None]] = [
        ("events got by healthy consumers", sum(reader.events for reader in soak.readers.values()), None),
        ("messages proven whole", sum(reader.proven for reader in soak.readers.values()), None),
        ("events in gaps", sum(reader.in_gaps for reader in soak.readers.values()), 0),
        ("KiB held by a stream, at most", soak.held // 1024, RETENTION // 1024),
        ("KiB of memory before", before.memory // 1024, None),
        ("KiB of memory, at most", max(memory) // 1024, limit // 1024),
        ("KiB of memory, second half", *measure_growth(soak.full)),
        ("KiB of memory after", after.memory // 1024, None),
        ("descriptors, at most", max(sample.descriptors for sample in soak.samples), None),
        ("descriptors after", after.descriptors, before.descriptors),
        ("tasks, at most", max(sample.tasks for sample in soak.samples), None),
        ("tasks after", after.tasks, before.tasks),
        ("threads after", after.threads, before.threads),
    ]
    print(f"{'':<34}{'seen':>12}{'limit':>12}")
    for what, seen, most in checks:
        print(f"{what:<34}{seen:>12}{'' if most is None else most:>12}")
    return [f"{what}: {seen}, limit {most}" for what, seen, most in checks if most is not None and seen > most]


def measure_growth(full: list[Usage]) -> tuple[int, int | None]:
    """KiB of memory in the second half of some samples, and how many they may be after the first half."""
    half = len(full) // 2
    if not half:  # a run too short to fill a stream
        return 0, None
    first, second = (max(sample.memory for sample in part) // 1024 for part in (full[:half], full[half:]))
    return second, int(first * GROWTH)


async def run(hours: float, streams: list[str], stuck: int, directory: Path) -> bool:
    """Run it and print the table; whether everything stayed within its limits."""
    async with AsyncExitStack() as stack:
        children = await stack.enter_async_context(Children())
        gateway = await stack.enter_async_context(watching(children, **SETTINGS))
        http = gateway.url.replace("ws://", "http://")
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=http, timeout=FINISH_TIMEOUT))
        soak = Soak(gateway, client, streams, directory)
        before = await soak.warm_up()
        await soak.run(children, int(hours * EVENTS_AN_HOUR), stuck)
        after = await soak.settle(before)
    failures = soak.failures + judge(soak, before, after, stuck + len(streams))
    for failure in failures:
        print(f"FAILED: {failure}")
    return not failures


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description="An hour's traffic past consumers that stand still.")
    parser.add_argument("--hours", type=float, default=1.0, help="of traffic, at 80 events a second and stream")
    parser.add_argument("--streams", type=int, default=2, help="how many streams, of one healthy consumer each")
    parser.add_argument("--stuck", type=int, default=50, help="how many consumers stand still")
    arguments = parser.parse_args()
    print(
        f"{arguments.hours:g} h of traffic, {arguments.streams} streams, {arguments.stuck} stuck consumers", flush=True
    )
    streams = [f"s{number}" for number in range(arguments.streams)]
    with tempfile.TemporaryDirectory() as directory:
        kept = asyncio.run(run(arguments.hours, streams, arguments.stuck, Path(directory)))
    print("everything stayed within its limits" if kept else "limits were BROKEN")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
