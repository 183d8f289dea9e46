"""Tables for a terminal and for a README, and JSON for programs."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from scripts.bench.compare import Ratio
from scripts.bench.effort import Effort
from scripts.bench.figures import Metrics, Spread, summarize
from scripts.bench.peer import ROOT
from scripts.bench.scenarios import Scenario
from scripts.bench.stores import DISK
from scripts.bench.targets import Verdict

UNITS = {
    "delivered_per_s": ("delivered/s", 0),
    "lost": ("lost", 0),
    "doubled": ("doubled", 0),
    "unacked": ("unacked", 0),
    "sent": ("sent", 0),
    "cpu_us": ("CPU µs", 2),
    "append_us": ("CPU µs/append", 1),
    "join_us": ("CPU µs/join", 0),
    "p50_ms": ("p50 ms", 2),
    "p99_ms": ("p99 ms", 2),
    "p999_ms": ("p99.9 ms", 2),
    "rss_mb": ("RSS MB", 1),
    "server_busy": ("server %", 0),
    "load_busy": ("load %", 0),
    "disturbed": ("disturbed %", 0),
    "first_token_p50_ms": ("first token p50", 2),
    "first_token_p99_ms": ("first token p99", 2),
    "inter_token_p50_ms": ("inter-token p50", 2),
    "inter_token_p99_ms": ("inter-token p99", 2),
    "idle_mib": ("idle MiB", 1),
    "consumer_kib": ("KiB/consumer", 1),
    "streams_1000_mib": ("1,000 streams MiB", 1),
    "streams_10000_mib": ("10,000 streams MiB", 1),
    "handshakes_per_s": ("handshakes/s", 0),
    "handshake_us": ("CPU µs/handshake", 0),
    "join_ms": ("join ms", 2),
    "join_max_ms": ("slowest ms", 2),
    "folded_bytes": ("folded bytes", 0),
    "raw_bytes": ("raw bytes", 0),
    "folded_part": ("folded/raw", 3),
    "raw_join_ms": ("raw join ms", 1),
    "alone_p99_ms": ("p99 ms alone", 2),
    "beside_p99_ms": ("p99 ms beside", 2),
    "p99_ratio": ("p99 ratio", 2),
    "stall_ms": ("longest wait ms", 0),
    "events_per_s": ("events/s", 0),
    "bytes_an_event": ("bytes/event", 0),
    "event_us": ("µs/event", 2),
    "stages_us": ("µs of stages", 2),
    "storm_s": ("storm s", 2),
    "ready_s": ("ready after s", 2),
    "fill_s": ("filled in s", 1),
    "syncs_per_s": ("syncs/s", 0),
    "not_caught_up": ("not caught up", 0),
    "ack_p50_ms": ("ack p50 ms", 2),
    "ack_p99_ms": ("ack p99 ms", 2),
    "reconnects_per_s": ("reconnects/s", 0),
    "reconnect_us": ("CPU µs/reconnect", 0),
}
"""Title and decimals of each figure in a table."""

Systems = dict[str, dict[str, Spread]]
"""Figures of systems by their names."""


class Results(msgspec.Struct):
    """What was measured so far.

    Attributes:
        runs: figures by scenario and system, one a round.
        summary: their medians and ranges.
        tables: as printed, by title, their heading first.
        disk: what it takes to write and sync, where streams are stored, each time a scenario began.
        failures: runs of this gateway that failed.
    """

    runs: dict[str, dict[str, list[Metrics]]] = {}
    summary: dict[str, Systems] = {}
    tables: dict[str, list[list[str]]] = {}
    disk: list[Metrics] = []
    failures: int = 0


def title_of(metric: str) -> str:
    """The name of a figure for people."""
    variant, _, name = metric.rpartition(".")
    return " ".join(filter(None, (variant, UNITS.get(name, (name, 2))[0])))


def show(metric: str, figure: Spread) -> str:
    """A figure with its range, if it has one."""
    median, low, high = (show_number(metric, value) for value in (figure.median, figure.low, figure.high))
    return median if low == high or _is_about_the_machine(metric) else f"{median} ({low}–{high})"


def show_number(metric: str, value: float) -> str:
    """A value in the precision of its figure."""
    name = metric.rpartition(".")[2]
    scale = 100 if _is_about_the_machine(name) else 1
    return f"{scale * value:,.{UNITS.get(name, ('', 2))[1]}f}"


def _is_about_the_machine(metric: str) -> bool:
    """Whether a figure is a part of a core's time."""
    return metric.endswith(("_busy", "disturbed"))


def rows(systems: Systems, scenario: Scenario) -> list[list[str]]:
    """The rows of a scenario's table, its heading first."""
    table = [["system", *map(title_of, scenario.columns)]]
    for name, figures in systems.items():
        for variant in scenario.variants or ("",):
            metrics = [f"{variant}.{column}".lstrip(".") for column in scenario.columns]
            cells = [show(metric, figures[metric]) if metric in figures else "–" for metric in metrics]
            table.append([f"{name} {variant}".rstrip(), *cells])
    return table


def disk_rows(runs: Iterable[Metrics]) -> list[list[str]]:
    """The rows of the table of the disk, its heading first."""
    figures = summarize(runs)
    return [[DISK, *map(title_of, figures)], ["", *(show(metric, figure) for metric, figure in figures.items())]]


def ratio_rows(ratios: Mapping[str, Iterable[Ratio]]) -> list[list[str]]:
    """The rows of the table of two revisions, its heading first."""
    table = [["", "figure", "base", "now", "ratio (over 1: worse)", "noise", ""]]
    for letter, of_scenario in ratios.items():
        for ratio in of_scenario:
            values = [show_number(ratio.metric, value) for value in (ratio.base, ratio.value)]
            worse = "WORSE" if ratio.is_worse else ""
            table.append([letter, title_of(ratio.metric), *values, f"{ratio.ratio:.2f}", f"± {ratio.noise:.2f}", worse])
    return table


def verdict_rows(verdicts: Iterable[Verdict]) -> list[list[str]]:
    """The rows of the table of targets, its heading first."""
    table = [["", "target", "measured", "limit", "ratio", ""]]
    for verdict in verdicts:
        target = verdict.target
        versus = f"{target.bound:g} × {target.against}" if target.against else f"{target.bound:,g}"
        versus = f"{target.over} + {versus}" if target.over else versus
        reached = {True: "reached", False: "NOT reached", None: "not measured"}[verdict.is_reached]
        table.append(
            [
                target.scenario,
                f"{target.system}: {title_of(target.metric)} {target.sense} {versus}",
                *(
                    "–" if value is None else show_number(target.metric, value)
                    for value in (verdict.value, verdict.limit)
                ),
                "–" if verdict.ratio is None else f"{verdict.ratio:.2f}",
                reached,
            ]
        )
    return table


def print_table(console: Console, title: str, lines: list[list[str]]) -> None:
    """A table on a terminal."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, heading in enumerate(lines[0]):
        table.add_column(heading, justify="left" if index == 0 else "right", no_wrap=True)
    for line in lines[1:]:
        table.add_row(*(cell.replace(" (", "\n(") for cell in line))  # the range under its median
    console.print(table)


def write_markdown(path: Path, results: Results) -> None:
    """The tables for a README."""
    pages = []
    for title, (heading, *lines) in results.tables.items():
        ruler = ["---"] + ["---:"] * (len(heading) - 1)
        pages += [f"**{title}**", "", *("| " + " | ".join(line) + " |" for line in (heading, ruler, *lines)), ""]
    pages.append(" · ".join(f"{name} {value}" for name, value in machine().items()))
    path.write_text("\n".join(pages) + "\n")


def write_json(path: Path, results: Results, effort: Effort) -> None:
    """Everything that was measured."""
    written = {
        "machine": machine(),
        "effort": effort._asdict(),
        "runs": results.runs,
        "summary": results.summary,
        "disk": results.disk,
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(written)) + b"\n")


def machine() -> dict[str, str]:
    """Where and with what it was measured."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("websockets", "uvloop", "msgspec")},
        "revision": revision(ROOT),
        "command": " ".join(sys.argv[1:]),
    }


def revision(root: Path) -> str:
    """The git revision of a source tree, marked when it was changed since."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607 - whichever git there is
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"
