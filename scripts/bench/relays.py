"""`python -m scripts.bench.relays`: what it costs that a client has reached another node than its stream's.

Two gateways on one Redis server, one stream, one producer at a fixed rate. The readers, or the producer, are at the
owner or at the other node, which follows the stream for its readers, or relays each of them (policy `block`).
Each event has the time in its text at which it was sent.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import socket
import sys
import tempfile
import time
from functools import partial
from itertools import product
from statistics import median
from typing import Final, NamedTuple, cast

import uvloop
from websockets.asyncio.client import connect

from deltawire.protocol.addresses import PREFIX
from scripts.bench.process import Server
from scripts.proof.children import Children, Served, serving

HEAD: Final = (
    "GET {path} HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
STAMP: Final = b'{"text":"'
DIGITS: Final = 19
"""Of a stamp, in nanoseconds."""


class Placement(NamedTuple):
    """Where clients are.

    Attributes:
        name: in the table.
        producer: number of the node that the producer has reached: the owner is 0.
        reader: of the node that the readers have reached.
        policy: of the readers.
    """

    name: str
    producer: int
    reader: int
    policy: str = "disconnect"


PLACEMENTS: Final = (
    Placement("all at the owner", 0, 0),
    Placement("readers elsewhere, which follows", 0, 1),
    Placement("readers elsewhere, relayed", 0, 1, "block"),
    Placement("producer elsewhere", 1, 0),
    Placement("all elsewhere, which follows", 1, 1),
)


class Cost(NamedTuple):
    """Of one placement.

    Attributes:
        latency: milliseconds from sending to reading, p50.
        late: likewise, p99.
        owner: microseconds of processor time of the owner, a delivery.
        other: of the other node.
    """

    latency: float
    late: float
    owner: float
    other: float


class Reader(asyncio.Protocol):
    """Reads frames, of which it knows the stamps alone."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.is_live = asyncio.Event()
        self.latencies: list[int] = []
        self.count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        cast("asyncio.Transport", transport).write(HEAD.format(path=self._path).encode())

    def data_received(self, data: bytes) -> None:
        """Count events, and note how old the newest one is."""
        if b'"caught_up"' in data:
            self.is_live.set()
        if found := data.count(STAMP):
            at = data.rfind(STAMP) + len(STAMP)
            self.count += found
            self.latencies.append(time.time_ns() - int(data[at : at + DIGITS]))


def _same(reader: Reader) -> Reader:
    return reader


async def measure(nodes: list[Served], stream: str, at: Placement, count: int, load: argparse.Namespace) -> Cost:
    """Publish for a while.

    Args:
        nodes: the owner, and the other one.
        stream: its id.
        at: where the clients are.
        count: readers.
        load: events a second, and seconds.
    """
    loop = asyncio.get_running_loop()
    path = f"{PREFIX}/{stream}/"
    first = f'[{{"type":"text_delta","data":{{"text":"{time.time_ns()}"}}}}]'
    async with connect(f"{nodes[0].url}{path}publish", proxy=None) as claiming:
        await claiming.send(first)
        while '"ack"' not in str(await claiming.recv()):
            pass
    port = int(nodes[at.reader].url.rpartition(":")[2])
    readers = [Reader(f"{path}subscribe?from=now&policy={at.policy}&buffer=10000") for _ in range(count)]
    transports = [(await loop.create_connection(partial(_same, it), "127.0.0.1", port))[0] for it in readers]
    for it in readers:
        await it.is_live.wait()
    processes = [Server(node.process.pid, 0) for node in nodes]
    async with connect(f"{nodes[at.producer].url}{path}publish", proxy=None, max_queue=None) as producer:
        before = [process.cpu() for process in processes]
        began, sent = time.monotonic(), 0
        while sent < load.rate * load.seconds:
            await asyncio.sleep(max(0.0, began + sent / load.rate - time.monotonic()))
            await producer.send(f'{{"type":"text_delta","data":{{"text":"{time.time_ns()}"}}}}')
            sent += 1
        await asyncio.sleep(0.5)  # what is on its way arrives
        spent = [process.cpu() - earlier for process, earlier in zip(processes, before, strict=True)]
    for transport in transports:
        transport.close()
    deliveries = sum(it.count for it in readers)
    assert deliveries >= sent * count * 0.99, f"{deliveries} deliveries of {sent * count}"
    latencies = sorted(latency for it in readers for latency in it.latencies)
    late = latencies[len(latencies) * 99 // 100]
    return Cost(median(latencies) / 1e6, late / 1e6, spent[0] / deliveries / 1e3, spent[1] / deliveries / 1e3)


async def run(program: str, load: argparse.Namespace) -> None:
    """Measure all placements, and print a row for each."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        redis, second = (it.getsockname()[1] for it in (one, two))
    engine = f"redis://127.0.0.1:{redis}"
    with tempfile.TemporaryDirectory() as folder:
        async with Children() as children:
            server = await asyncio.create_subprocess_exec(
                *(program, "--port", str(redis), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--loglevel"),
                "warning",
            )
            await asyncio.sleep(1.0)  # it has started
            try:
                async with (
                    serving(
                        children, engine_url=engine, port=second, advertise_url=f"ws://127.0.0.1:{second}"
                    ) as first,
                    serving(children, engine_url=engine) as other,
                ):
                    print("| clients | readers | p50 | p99 | owner | other node |\n|---|---|---|---|---|---|")
                    for turn, count in product(range(load.rounds), load.readers):
                        for number, at in enumerate(PLACEMENTS):
                            cost = await measure([first, other], f"s{turn}-{count}-{number}", at, count, load)
                            times = f"{cost.latency:.2f} ms | {cost.late:.2f} ms"
                            work = f"{cost.owner:.1f} µs | {cost.other:.1f} µs"
                            print(f"| {at.name} | {count} | {times} | {work} |", flush=True)
            finally:
                server.terminate()
                await server.wait()


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.relays", description="The cost of a relay.")
    parser.add_argument("--readers", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--rate", type=int, default=100, help="events a second")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=2)
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        parser.error("it needs redis-server or valkey-server")
    uvloop.run(run(program, parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
