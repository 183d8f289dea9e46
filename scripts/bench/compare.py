"""Two revisions of the gateway, compared run by run."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from scripts.bench.deltawire import MEMORY, Deltawire
from scripts.bench.figures import Metrics
from scripts.bench.peer import ROOT

TOLERANCE = 0.10
"""How much worse a figure may be than noise explains."""

UNJUDGED = {
    *("sent", "server_busy", "load_busy", "load_idle", "disturbed"),
    *("p999_ms", "alone_p99_ms", "beside_p99_ms", "join_max_ms"),
}
"""Figures that say how busy the machine was, or that hang on a handful of samples."""


class Ratio(NamedTuple):
    """A figure of one revision as a part of another's.

    Attributes:
        metric: the figure.
        base: its median before.
        value: its median now.
        ratio: median over rounds of now to before, turned so that more than 1 is worse.
        noise: how far the ratios of single rounds lie apart.
    """

    metric: str
    base: float
    value: float
    ratio: float
    noise: float

    @property
    def is_worse(self) -> bool:
        """Whether noise does not explain it."""
        return self.ratio > 1 + self.noise + TOLERANCE


def compare(runs: Sequence[Metrics], base_runs: Sequence[Metrics], columns: Iterable[str]) -> list[Ratio]:
    """Compare rounds in which two revisions took turns.

    Args:
        runs: figures of one.
        base_runs: figures of the other, in the same rounds.
        columns: which of them.
    """
    found = []
    for metric in columns:
        if metric.rpartition(".")[2] in UNJUDGED or not all(metric in run for run in (*runs, *base_runs)):
            continue
        ratios = [_ratio(metric, run[metric], base[metric]) for run, base in zip(runs, base_runs, strict=False)]
        found.append(
            Ratio(
                metric,
                median(base[metric] for base in base_runs),
                median(run[metric] for run in runs),
                median(ratios),
                max(ratios) - min(ratios),
            )
        )
    return found


def _ratio(metric: str, value: float, base: float) -> float:
    if value == base:
        return 1.0
    over, under = (base, value) if metric.endswith("_per_s") else (value, base)
    return over / under if under else 1000.0  # there was none before


@contextmanager
def checked_out(revision: str, *, engine: str = MEMORY, is_authenticating: bool = False) -> Iterator[Deltawire]:
    """Another revision of the gateway, in a temporary folder.

    Args:
        revision: as git names it.
        engine: where it keeps streams.
        is_authenticating: whether every connection has to bring a token.

    Raises:
        OSError: git does not know it.
    """
    packed = subprocess.run(
        ["git", "archive", revision],  # noqa: S607 - whichever git there is
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if packed.returncode:
        raise OSError(packed.stderr.decode().strip())
    with TemporaryDirectory(prefix="deltawire-base-") as folder:
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(folder, filter="data")
        yield Deltawire(Path(folder), f"base {revision}", engine=engine, is_authenticating=is_authenticating)
