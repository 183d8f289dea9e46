"""Scenario I: events appended and read in one process, without sockets.

As a program it measures the source tree that `PYTHONPATH` names and prints events a second.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

EVENTS = 500_000
A_TURN = 100
"""Events between two reads, as in one turn of a busy loop."""


def append_and_read(events: int) -> dict[str, float]:
    """Append events to a stream of default settings and read them with one consumer.

    Args:
        events: how many.

    Returns:
        Events a second, and bytes read of each.
    """
    from deltawire.gateway.config import Settings  # noqa: PLC0415 - of the tree that is measured
    from deltawire.gateway.hub.hub import stream_settings  # noqa: PLC0415
    from deltawire.gateway.streams.manager import StreamManager  # noqa: PLC0415
    from deltawire.protocol.addresses import parse_subscribe  # noqa: PLC0415
    from deltawire.protocol.events import TextDelta  # noqa: PLC0415

    manager = StreamManager(stream_settings(Settings()), make_epoch=lambda: "bench")
    stream: Any = manager.create("s0", 0.0)
    subscription = stream.subscribe(parse_subscribe(""), now=0.0)
    while subscription.take():
        pass
    read = 0
    began = time.perf_counter()
    for turn in range(events // A_TURN):
        timestamp = "2026-11-22T11:00:00.123456Z"
        for _ in range(A_TURN):
            stream.append(TextDelta(text=" word"), timestamp, turn / 1000)
        while data := subscription.take():
            read += len(data)
    took = time.perf_counter() - began
    return {"events_per_s": events / took, "bytes_an_event": read / events}


def measure_in_process(root: Path, core: int, events: int = EVENTS) -> dict[str, float]:
    """Run this file on a source tree, in a process and on a core of its own."""
    return run_on_tree(root, Path(__file__), str(events), str(core))


def run_on_tree(root: Path, program: Path, *arguments: str) -> dict[str, float]:
    """Run a program with the package of a source tree; returns the figures that it prints."""
    package = root / "scripts" / "package"
    if not package.is_dir():
        raise OSError("a revision before there was one package can't be measured in one process")
    done = subprocess.run(
        [sys.executable, "-P", program, *arguments],  # its folder has a `deltawire` too
        env=os.environ | {"PYTHONPATH": str(package)},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OSError(done.stderr.strip().rpartition("\n")[2])
    metrics: dict[str, float] = json.loads(done.stdout)
    return metrics


if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[2])})
    sys.stdout.write(json.dumps(append_and_read(int(sys.argv[1]))))
