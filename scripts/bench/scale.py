"""`python -m scripts.bench.scale`: measure the curves, print them, draw them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import click

from scripts.bench.__main__ import console, find_peers, prepare
from scripts.bench.curves import CURVES, Curve
from scripts.bench.deltawire import Deltawire
from scripts.bench.effort import Effort
from scripts.bench.figures import Metrics, spread
from scripts.bench.peer import Peer
from scripts.bench.report import machine, print_table, show, title_of

PLOTS = Path(__file__).parent / "plots"

Measured = dict[str, dict[int, list[Metrics]]]
"""Figures by system and number, one a round."""


class Options(NamedTuple):
    """What is asked for on the command line."""

    curves: dict[str, Curve]
    peers: str
    rounds: int
    seconds: float
    most: int
    plots: Path
    json_file: Path | None


def choose_curves(_: click.Context, __: click.Parameter, value: str) -> dict[str, Curve]:
    """The curves by their names."""
    names = [name.strip() for name in value.split(",") if name.strip()] or list(CURVES)
    unknown = [name for name in names if name not in CURVES]
    if unknown:
        raise click.BadParameter(f"no curve {', '.join(unknown)}; there are {', '.join(CURVES)}")
    return {name: CURVES[name] for name in names}


def measure_curve(curve: Curve, systems: list[Peer], effort: Effort, most: int) -> Measured:
    """Rounds in which the systems take turns at each number."""
    measured: Measured = {system.name: {} for system in systems if curve.suits(system)}
    for value in curve.values:
        if value > most:
            break
        for number in range(effort.rounds):
            for system in systems:
                if system.name not in measured:
                    continue
                with console.status(f"{curve.title}: {value:,}  round {number + 1} of {effort.rounds}  {system.name}"):
                    measured[system.name].setdefault(value, []).append(curve.measure(system, value, effort))
    return measured


def table(curve: Curve, measured: Measured) -> list[list[str]]:
    """The rows of a curve's table, its heading first."""
    lines = [[curve.title, *(f"{title_of(metric)}, {name}" for metric in curve.figures for name in measured)]]
    values = list(next(iter(measured.values())))
    for value in values:
        cells = [
            show(metric, spread(run[metric] for run in by_value[value]))
            for metric in curve.figures
            for by_value in measured.values()
        ]
        lines.append([f"{value:,}", *cells])
    return lines


def draw_curve(path: Path, curve: Curve, measured: Measured) -> None:
    """Draw the medians."""
    from scripts.bench.plots import draw  # noqa: PLC0415 - the library takes a second to load

    panels = [
        (
            metric,
            {
                name: {value: spread(run[metric] for run in runs).median for value, runs in by_value.items()}
                for name, by_value in measured.items()
            },
        )
        for metric in curve.figures
    ]
    draw(path, curve.title, panels)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--curves", callback=choose_curves, default="", help=f"Of {', '.join(CURVES)}; all by default.")
@click.option("--peers", default="", help="Names, such as NATS,Nchan, or none; all that are installed by default.")
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--seconds", type=float, default=2.0, show_default=True, help="Seconds a run counts.")
@click.option("--most", type=int, default=1_000_000, help="Leave out numbers over this.")
@click.option("--plots", type=click.Path(path_type=Path), default=PLOTS, help="Folder for SVG files.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="File for all figures.")
def main(**values: Any) -> None:
    """Measure what a delivery, an append and a join cost as numbers grow."""
    options = Options(**values)
    prepare()
    systems: list[Peer] = [Deltawire(), *find_peers(options.peers)]
    effort = Effort(rounds=options.rounds, warmup=min(0.5, options.seconds), seconds=options.seconds)
    measured = {}
    for name, curve in options.curves.items():
        measured[name] = measure_curve(curve, systems, effort, options.most)
        print_table(console, curve.title, table(curve, measured[name]))
        draw_curve(options.plots / f"{name}.svg", curve, measured[name])
    if options.json_file:
        options.json_file.write_text(json.dumps({"machine": machine(), "curves": measured}, indent=1) + "\n")


if __name__ == "__main__":
    main()
