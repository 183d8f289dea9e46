"""`python -m scripts.bench.workers`: whether two workers take twice the load of one, on a machine with two cores.

Two workers that fill a core each leave none for the load. So each worker gets a part of one core here, by a quota of
the kernel, which it fills, and the load generator has the other core.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from statistics import median
from typing import Final

from scripts.bench.deltawire import Deltawire
from scripts.bench.fan import Fan, connect, measure_connected, publish
from scripts.bench.figures import Metrics
from scripts.bench.load import Load
from scripts.bench.process import LOAD_CORE

FANS: Final = {"D": Fan(250, 2, 40), "J": Fan(200, 3, 80, is_jittered=True)}
"""As in the scenarios of these names, at another rate."""

PART: Final = 0.45
"""Of a core, for a worker: two have 0.9 of the core that they share, and their supervisor the rest."""

PERIOD: Final = 20_000
"""Microseconds in which a worker may use its part; once it has, it pauses until the next. The kernel measures in ticks
of 4 ms."""

WARMUP: Final = 0.5
"""Seconds before the measured ones."""

ROOT: Final = Path("/sys/fs/cgroup")


def quotas() -> Path:
    """The root of the groups of processes that have quotas of the processor, in either version of their interface."""
    return ROOT if _is_second() else ROOT / "cpu"


def _is_second() -> bool:
    return (ROOT / "cgroup.controllers").exists()


def group_of(pid: int) -> Path:
    """The group that a process is in."""
    lines = (line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    wanted = "" if _is_second() else "cpu"
    return quotas() / next(path for _, names, path in lines if wanted in names.split(",")).lstrip("/")


@contextmanager
def limited(pids: Iterable[int], part: float) -> Iterator[None]:
    """Give each process a part of a core, for the time of the block; it is in its old group again afterwards.

    Raises:
        OSError: the kernel has no such quotas, or does not allow it.
    """
    quota = int(PERIOD * part)
    homes: dict[Path, Path] = {}
    try:
        for pid in pids:
            group, home = quotas() / f"deltawire-{pid}", group_of(pid)
            group.mkdir()
            homes[group] = home
            if _is_second():
                (group / "cpu.max").write_text(f"{quota} {PERIOD}")
            else:
                (group / "cpu.cfs_period_us").write_text(str(PERIOD))
                (group / "cpu.cfs_quota_us").write_text(str(quota))
            (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for group, home in homes.items():
            for process in (group / "cgroup.procs").read_text().split():
                with suppress(OSError):  # it may have ended
                    (home / "cgroup.procs").write_text(process)
            group.rmdir()


def measure(workers: int, fan: Fan, seconds: float) -> Metrics:
    """One run of a new gateway, in which each worker has its part of a core."""
    peer = Deltawire(workers=workers)
    with peer.running() as server, Load() as load:
        first, *children = server.pids()
        with limited(children or [first], PART):
            connect(load, peer, server.port, fan)
            publish(load, fan, fan.schedule(WARMUP))
            return measure_connected(load, server, fan, seconds)


def row(name: str, workers: int, runs: list[Metrics]) -> str:
    """The medians of some runs."""
    lost, unsent = (max(it[key] for it in runs) for key in ("lost", "unsent"))
    per_s, p50, p99, cpu, busy, load = (
        median(it[key] for it in runs)
        for key in ("delivered_per_s", "p50_ms", "p99_ms", "cpu_us", "server_busy", "load_busy")
    )
    cells = [name, f"{workers}", f"{per_s:,.0f}", f"{lost:.0f}, {unsent:.0f}", f"{p50:.1f}", f"{p99:.1f}", f"{cpu:.1f}"]
    return f"| {' | '.join(cells)} | {busy:.2f} | {load:.2f} |"


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.workers", description="Two workers beside one.")
    parser.add_argument("--scenarios", default=",".join(FANS), help=f"of {', '.join(FANS)}")
    parser.add_argument("--rates", default="0.75,1,1.5", help="parts of the scenario's rate, for each worker")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    asked = parser.parse_args()
    names, parts = asked.scenarios.split(","), [float(it) for it in asked.rates.split(",")]
    if unknown := [it for it in names if it not in FANS]:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(FANS)}")
    try:
        with limited([os.getpid()], 1.0):
            pass
    except OSError as error:
        parser.error(f"it needs the kernel's CPU quotas, and the rights to set them: {error}")
    os.sched_setaffinity(0, {LOAD_CORE})
    print("| scenario | workers | deliveries/s in time | lost, unsent | p50 ms | p99 ms | CPU µs | cores | load |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, part in product(names, parts):
        runs: dict[int, list[Metrics]] = {1: [], 2: []}
        for _ in range(asked.rounds):
            for workers, found in runs.items():
                fan = FANS[name]._replace(rate=FANS[name].rate * part * workers)
                found.append(measure(workers, fan, asked.seconds))
        for workers, found in runs.items():
            print(row(f"{name} × {part * workers:g}", workers, found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
