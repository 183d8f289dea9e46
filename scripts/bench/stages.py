"""Scenario R: what the stages of middleware take of one event, in one process, without sockets.

As a program it measures the source tree that `PYTHONPATH` names and prints microseconds.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

EVENTS = 200_000

STAGES = ("none", "one", "five", "personal")
"""No middleware; the secrets redacted; that and four other stages; secrets and personal data redacted."""

WORDS = (" the", " answer", " begins", " with", " a", " short", " summary", ",", " then", " goes", " on", ".\n")
"""Deltas as a model sends them, over and over."""

A_TURN = 100
"""Events between two looks at the clock."""


def pass_through(chosen: str, events: int) -> float:
    """Microseconds that an event takes through its stages into the log."""
    from deltawire.gateway import middleware as m  # noqa: PLC0415 - of the tree that is measured
    from deltawire.gateway.middleware.screen import Screen  # noqa: PLC0415
    from deltawire.gateway.streams.log import Ledger  # noqa: PLC0415
    from deltawire.gateway.streams.settings import StreamSettings  # noqa: PLC0415
    from deltawire.gateway.streams.stream import Stream  # noqa: PLC0415
    from deltawire.protocol.events import EventType, TextDelta  # noqa: PLC0415

    stages: dict[str, Callable[[], list[m.Plan]]] = {
        "none": list,
        "one": lambda: [m.redact(m.SECRETS)],
        "five": lambda: [
            m.drop([EventType.USAGE]),
            m.split_thinking(),
            m.redact(m.SECRETS),
            m.set_fields(EventType.MESSAGE_START, {"model": "ours"}),
            m.limit(10**9),
        ],
        "personal": lambda: [m.redact(m.SECRETS + m.PERSONAL)],
    }
    stream = Stream("s0", "bench", StreamSettings(), 0.0, Ledger())
    plans = stages[chosen]()
    watcher: Any = None  # nothing fails, and nobody sends
    put: Callable[..., Any] = Screen(stream, plans, 0.25, watcher).take if plans else stream.append
    deltas = [TextDelta(WORDS[number % len(WORDS)]) for number in range(A_TURN)]
    took = 0.0
    for turn in range(events // A_TURN):
        began = time.perf_counter()
        for delta in deltas:
            put(delta, "2026-11-22T11:00:00.123456Z", turn / 1000, None)
        took += time.perf_counter() - began
    return took / events * 1e6


def measure_stages(root: Path, core: int, events: int = EVENTS) -> dict[str, float]:
    """Run this file on a source tree, once for each choice of stages.

    Returns:
        Microseconds for an event, and how many of them are the stages'.
    """
    from scripts.bench.inprocess import run_on_tree  # noqa: PLC0415 - as a program, this file has no package around it

    times = {it: run_on_tree(root, Path(__file__), it, str(events), str(core))["event_us"] for it in STAGES}
    metrics: dict[str, float] = {}
    for chosen, took in times.items():
        metrics |= {f"{chosen}.event_us": took, f"{chosen}.stages_us": took - times["none"]}
    return metrics


if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[3])})
    sys.stdout.write(json.dumps({"event_us": pass_through(sys.argv[1], int(sys.argv[2]))}))
