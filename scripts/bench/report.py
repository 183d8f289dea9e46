"""Tables for a terminal and for a README, and JSON for programs."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

from scripts.bench.figures import Spread
from scripts.bench.peers import ROOT
from scripts.bench.targets import Verdict

UNITS = {
    "delivered_per_s": ("delivered/s", 0),
    "lost": ("lost", 0),
    "sent": ("sent", 0),
    "cpu_us": ("CPU µs", 2),
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
}
"""Title and decimals of each figure in a table."""

Systems = Mapping[str, Mapping[str, Spread]]


def title_of(metric: str) -> str:
    """The name of a figure for people."""
    return UNITS.get(metric, (metric, 2))[0]


def show(metric: str, figure: Spread) -> str:
    """A figure with its range, if it has one."""
    text = show_number(metric, figure.median)
    if figure.low == figure.high:
        return text
    return f"{text} ({show_number(metric, figure.low)}–{show_number(metric, figure.high)})"


def show_number(metric: str, value: float) -> str:
    """A value in the precision of its figure."""
    if metric.endswith("_busy") or metric == "disturbed":
        return f"{100 * value:.0f}"
    return f"{value:,.{UNITS.get(metric, ('', 2))[1]}f}"


def rows(systems: Systems, columns: Iterable[str]) -> list[list[str]]:
    """The rows of a scenario's table, its heading first."""
    columns = list(columns)
    return [["system", *map(title_of, columns)]] + [
        [name, *(show(column, figures[column]) if column in figures else "–" for column in columns)]
        for name, figures in systems.items()
    ]


def verdict_rows(verdicts: Iterable[Verdict]) -> list[list[str]]:
    """The rows of the table of targets, its heading first."""
    table = [["", "target", "measured", "limit", "ratio", ""]]
    for verdict in verdicts:
        target = verdict.target
        versus = f"{target.bound:g} × {target.against}" if target.against else f"{target.bound:,g}"
        reached = {True: "reached", False: "NOT reached", None: "not measured"}[verdict.is_reached]
        table.append(
            [
                target.scenario,
                f"{title_of(target.metric)} {target.sense} {versus}",
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
        table.add_row(*line)
    console.print(table)


def markdown(title: str, lines: list[list[str]]) -> str:
    """A table for a README."""
    heading, *others = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([f"**{title}**", "", heading, "|" + "---|" * len(lines[0]), *others, ""])


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
