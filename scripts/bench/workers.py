"""`python -m scripts.bench.workers`: what two workers take at most, beside one, on a machine with two cores.

Two workers that fill a core each leave none for the load. So each worker gets a part of one core here, by a quota of
the kernel, and the load generator has the other core. The highest rate is found by halving.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from scripts.bench.deltawire import Deltawire
from scripts.bench.fan import Fan, connect, measure_connected, publish
from scripts.bench.load import Load
from scripts.bench.process import LOAD_CORE

FANS: Final = {"D": Fan(250, 2, 40), "J": Fan(200, 3, 80, is_jittered=True)}
"""As in the scenarios of these names, at another rate."""

PART: Final = 0.45
"""Of a core, for a worker: two have 0.9 of the core that they share, and their supervisor the rest."""

PERIOD: Final = 2_500
"""Microseconds in which a worker may use its part; once it has, it pauses until the next."""

IN_TIME: Final = 50.0
"""Milliseconds in which 99 of 100 deliveries must come for a rate to be called sustained."""

HIGHEST: Final = 2.5
"""Times the rate of the scenario, for each worker with a whole core: more than any takes."""

STEPS: Final = 7
"""Halvings: a rate is found to 1/128 of the highest."""

WARMUP: Final = 0.5
"""Seconds before the measured ones."""

ROOT: Final = Path("/sys/fs/cgroup")


class Sustained(NamedTuple):
    """A load that a gateway took.

    Attributes:
        deliveries: a second.
        p50_ms: latency.
        p99_ms: likewise.
        load_busy: part of its core that the load generator used.
    """

    deliveries: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    load_busy: float = 0.0


@contextmanager
def limited(pids: Iterable[int], part: float) -> Iterator[None]:
    """Give each process a part of a core, for the time of the block.

    Raises:
        OSError: the kernel has no such quotas, or does not allow it.
    """
    is_second = (ROOT / "cgroup.controllers").exists()  # of two versions of the interface
    parent, quota = ROOT if is_second else ROOT / "cpu", int(PERIOD * part)
    groups: list[Path] = []
    try:
        for pid in pids:
            group = parent / f"deltawire-{pid}"
            group.mkdir()
            groups.append(group)
            if is_second:
                (group / "cpu.max").write_text(f"{quota} {PERIOD}")
            else:
                (group / "cpu.cfs_period_us").write_text(str(PERIOD))
                (group / "cpu.cfs_quota_us").write_text(str(quota))
            (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for group in groups:
            for process in (group / "cgroup.procs").read_text().split():
                with suppress(OSError):  # it may have ended
                    (parent / "cgroup.procs").write_text(process)
            group.rmdir()


def measure(workers: int, fan: Fan, seconds: float) -> Sustained | None:
    """Run a load on a new gateway; None if it is more than the gateway takes."""
    peer = Deltawire(workers=workers)
    with peer.running() as server, Load() as load:
        first, *children = server.pids()
        with limited(children or [first], PART):
            connect(load, peer, server.port, fan)
            publish(load, fan, fan.schedule(WARMUP))
            figures = measure_connected(load, server, fan, seconds)
    if figures["lost"] or figures["unsent"] or figures["p99_ms"] > IN_TIME:
        return None
    return Sustained(figures["delivered"] / seconds, figures["p50_ms"], figures["p99_ms"], figures["load_busy"])


def find_highest(workers: int, fan: Fan, seconds: float) -> Sustained:
    """The highest load that a gateway takes."""
    taken, low, high = Sustained(), 0.0, HIGHEST * PART * workers
    for _ in range(STEPS):
        middle = (low + high) / 2
        if found := measure(workers, fan._replace(rate=fan.rate * middle), seconds):
            taken, low = found, middle
        else:
            high = middle
    return taken


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.workers", description="Two workers beside one.")
    parser.add_argument("--scenarios", default=",".join(FANS), help=f"of {', '.join(FANS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    asked = parser.parse_args()
    if unknown := [it for it in asked.scenarios.split(",") if it not in FANS]:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(FANS)}")
    try:
        with limited([], PART), limited([os.getpid()], 1.0):
            pass
    except OSError as error:
        parser.error(f"it needs the kernel's CPU quotas, and the rights to set them: {error}")
    os.sched_setaffinity(0, {LOAD_CORE})
    print("| scenario | workers | deliveries/s | p50 ms | p99 ms | load busy | times one |")
    print("|---|---|---|---|---|---|---|")
    for name in asked.scenarios.split(","):
        ratios = []
        for _ in range(asked.rounds):
            one, two = (find_highest(workers, FANS[name], asked.seconds) for workers in (1, 2))
            ratios.append(two.deliveries / max(1.0, one.deliveries))
            for workers, it, ratio in ((1, one, "–"), (2, two, f"{ratios[-1]:.2f}")):
                cells = [name, workers, f"{it.deliveries:,.0f}", f"{it.p50_ms:.1f}", f"{it.p99_ms:.1f}"]
                print(f"| {' | '.join(map(str, cells))} | {it.load_busy:.0%} | {ratio} |", flush=True)
        print(f"| {name} | median | | | | | {median(ratios):.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
