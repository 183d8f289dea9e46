"""What only stores do: N, a start with many stored streams; and how fast the disk below them is."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from statistics import quantiles

import httpx

from deltawire.gateway.engines.sqlite import SqliteEngine
from deltawire.gateway.streams.coalesce import kind_of
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.staging import Commit
from deltawire.protocol.codec import encode_event
from deltawire.protocol.events import TextDelta, format_timestamp
from deltawire.protocol.framing import TEXT, frame
from scripts.bench.deltawire import Deltawire
from scripts.bench.effort import Effort
from scripts.bench.figures import Metrics
from scripts.bench.process import ServerError

STREAMS = 10_000
EVENTS = 100

PATIENCE = 60.0
"""Seconds in which a gateway has to be ready."""

DISK = "disk"
"""What stands for the disk among the systems of a table."""

SYNCED = 36 * 1024
"""Bytes that are written and synced at once: 200 events of 180 bytes."""

SYNCS = 200
"""How often, to know how long it takes: a tenth of a second, about."""


def measure_disk() -> Metrics:
    """Milliseconds to append `SYNCED` bytes to a file where stores are, and to sync them."""
    data = os.urandom(SYNCED)
    took = []
    with tempfile.TemporaryFile() as file:
        for _ in range(SYNCS):
            began = time.monotonic()
            os.write(file.fileno(), data)
            os.fdatasync(file.fileno())
            took.append(1000 * (time.monotonic() - began))
    percentiles = quantiles(took, n=100)
    return {"p50_ms": percentiles[49], "p99_ms": percentiles[98], "syncs_per_s": 1000 * len(took) / sum(took)}


def measure_start(peer: Deltawire, effort: Effort) -> Metrics:
    """The time from the start of a gateway until it is ready, when its store has `STREAMS` streams of `EVENTS`."""
    streams = effort.size(STREAMS)
    with tempfile.TemporaryDirectory(prefix="deltawire-bench-") as name:
        store = Path(name) / "data"
        began = time.monotonic()
        fill(store, streams)
        filled = time.monotonic()
        with peer.running(("--data-dir", str(store))) as server:
            _wait_until_ready(server.port)
            ready = time.monotonic()
            memory = server.memory()
    return {"fill_s": filled - began, "ready_s": ready - filled, "rss_mb": memory / 1e6}


def fill(folder: Path, streams: int) -> None:
    """Store streams of `EVENTS` events, a row for each: most tokens of a model are committed by themselves."""
    engine = SqliteEngine(folder, "off")
    engine.open(lambda function: function())
    data = TextDelta(" word")
    kind, timestamp = kind_of(data), format_timestamp(time.time())
    for number in range(streams):
        engine.create(f"s{number}", "epoch", StreamSettings())
    for seq in range(1, EVENTS + 1):
        frames = [frame(TEXT, encode_event(data, seq, timestamp))]
        done = threading.Event()
        engine.commit(
            [Commit(f"s{number}", "epoch", seq, [kind], frames, (), None, None) for number in range(streams)], done.set
        )
        done.wait()
    engine.close()


def _wait_until_ready(port: int) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with suppress(httpx.HTTPError):
            if httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).is_success:
                return
        time.sleep(0.01)
    raise ServerError(f"it is not ready after {PATIENCE:g} s")
