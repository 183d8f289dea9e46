"""`python -m scripts.bench.nodes`: what two nodes on one Redis server take, by events a second and by streams.

Each stream has a producer at its owner and one reader: at a gateway in memory, at the owner, or at the other node.
Processor time is that of an event, in the owner, in the server and in the other node. The owner has a core of its own;
the server, the other node and the load generator share one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socket import create_connection, socket
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from scripts.bench.deltawire import Deltawire
from scripts.bench.fan import SETTLING, Fan, measure_connected, publish
from scripts.bench.handshake import Door, open_all
from scripts.bench.load import Load
from scripts.bench.process import LOAD_CORE, SERVER_CORE, Server, free_port, serving

WARMUP: Final = 1.0
"""Seconds before the measured ones."""


class Place(NamedTuple):
    """Where the readers are.

    Attributes:
        name: in the table.
        has_server: whether events are stored on a server.
        is_other: whether readers are at the other node.
    """

    name: str
    has_server: bool
    is_other: bool


PLACES: Final = (
    Place("in memory", has_server=False, is_other=False),
    Place("owner", has_server=True, is_other=False),
    Place("other node", has_server=True, is_other=True),
)


@contextmanager
def redis(program: str) -> Iterator[Server]:
    """A server that keeps everything in memory."""
    port = free_port()
    with TemporaryDirectory(prefix="deltawire-bench-") as folder:
        process = subprocess.Popen(
            [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""],
            stdout=subprocess.DEVNULL,
        )
        try:
            _wait_until_open(port)
            yield Server(process.pid, port)
        finally:
            process.terminate()
            process.wait()


def _wait_until_open(port: int) -> None:
    for _ in range(100):
        try:
            create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return


@contextmanager
def node(engine: str, core: int) -> Iterator[Server]:
    """A gateway, which says where it is, on a core."""
    peer, port = Deltawire(), free_port()
    with TemporaryDirectory(prefix="deltawire-bench-") as name:
        folder = Path(name)
        flags = ["--engine-url", engine, "--advertise-url", f"ws://127.0.0.1:{port}"] if engine else []
        command = [*peer.command(port, folder), *flags]
        with serving(command, peer.environment(), port, folder / "log", folder, core=core) as server:
            yield server


def _connect(load: Load, owner: Server, readers: Server, streams: int) -> None:
    """Open the producers, so that the streams are the owner's, then the readers."""
    peer = Deltawire()

    def producer(stream: str) -> Callable[[socket, bytes], None]:
        return lambda sock, _: (load.produce(sock, peer.template(stream)), None)[1]

    def consumer(number: int) -> Callable[[socket, bytes], None]:
        return lambda sock, rest: load.consume(sock, number, rest)

    names = [f"s{number}" for number in range(streams)]
    open_all(load, owner.port, [Door(peer.publish_request(it, owner.port), producer(it)) for it in names])
    load.run(SETTLING)
    requests = [peer.subscribe_request(it, readers.port) for it in names]
    open_all(load, readers.port, [Door(request, consumer(at)) for at, request in enumerate(requests)])
    load.run(SETTLING)


def measure(program: str, place: Place, streams: int, rate: int, seconds: float) -> str:
    """One row: latencies in milliseconds, and microseconds of processor time an event."""
    with ExitStack() as stack:
        server = stack.enter_context(redis(program)) if place.has_server else None
        engine = f"redis://127.0.0.1:{server.port}" if server is not None else ""
        owner = stack.enter_context(node(engine, SERVER_CORE))
        other = stack.enter_context(node(engine, LOAD_CORE)) if place.is_other else None
        load = stack.enter_context(Load())
        _connect(load, owner, other or owner, streams)
        fan = Fan(streams, 1, rate / streams)
        publish(load, fan, fan.schedule(WARMUP))
        others = [it for it in (server, other) if it is not None]
        before = [it.cpu() for it in others]
        figures = measure_connected(load, owner, fan, seconds)
        spent = [(it.cpu() - earlier) / figures["sent"] / 1e3 for it, earlier in zip(others, before, strict=True)]
        costs = [f"{it:.1f}" for it in (figures["append_us"], *spent)] + ["–"] * (2 - len(spent))
        cells = [
            f"{rate:,}",
            f"{streams:,}",
            place.name,
            f"{figures['p50_ms']:.2f}",
            f"{figures['p99_ms']:.1f}",
            *costs,
        ]
        flaws = f"lost {figures['lost']:.0f}, disturbed {figures['disturbed']:.0%}, load {figures['load_busy']:.0%}"
        return f"| {' | '.join(cells)} | {flaws} |"


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.nodes", description="The cost of two nodes.")
    parser.add_argument("--rates", default="2000,10000,20000", help="events a second, of all streams together")
    parser.add_argument("--streams", default="10,250,2500", help="how many, at the middle rate")
    parser.add_argument("--seconds", type=float, default=4.0)
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        parser.error("it needs redis-server or valkey-server")
    asked = parser.parse_args()
    rates = [int(it) for it in asked.rates.split(",")]
    counts = [int(it) for it in asked.streams.split(",")]
    middle = counts[len(counts) // 2]
    runs = [(rate, middle) for rate in rates]
    os.sched_setaffinity(0, {LOAD_CORE})  # and with it the server on that core; the owner has one of its own
    runs += [(rates[len(rates) // 2], count) for count in counts if count != middle]
    print("| events/s | streams | readers at | p50 ms | p99 ms | owner µs | Redis µs | other µs | run |")
    print("|---|---|---|---|---|---|---|---|---|")
    for rate, streams in runs:
        for place in PLACES:
            print(measure(program, place, streams, rate, asked.seconds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
