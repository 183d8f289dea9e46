"""`python -m scripts.bench`: measure, print, keep."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
from rich.console import Console

from scripts.bench.fan import Timing
from scripts.bench.figures import Metrics, Spread, summarize
from scripts.bench.peers import Deltawire, Peer, all_peers
from scripts.bench.process import LOAD_CORE, ServerError
from scripts.bench.report import machine, markdown, print_table, rows, verdict_rows
from scripts.bench.scenarios import SCENARIOS, Scenario
from scripts.bench.targets import TARGETS, judge

FULL = Timing(warmup=1.0, seconds=4.0)
QUICK = Timing(warmup=0.3, seconds=1.0)


class Options(NamedTuple):
    """What is asked for on the command line."""

    scenarios: dict[str, Scenario]
    peers: str
    rounds: int | None
    seconds: float | None
    quick: bool
    json_file: Path | None
    markdown_file: Path | None

    def timing(self) -> Timing:
        """How long a run takes."""
        timing = QUICK if self.quick else FULL
        return timing._replace(seconds=self.seconds) if self.seconds else timing


console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)


def choose_scenarios(_: click.Context, __: click.Parameter, value: str) -> dict[str, Scenario]:
    """The scenarios named by letters."""
    letters = [letter.strip().upper() for letter in value.split(",") if letter.strip()] or list(SCENARIOS)
    unknown = [letter for letter in letters if letter not in SCENARIOS]
    if unknown:
        raise click.BadParameter(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    return {letter: SCENARIOS[letter] for letter in letters}


def find_peers(wanted: str) -> list[Peer]:
    """The systems to compare with; says which are absent."""
    names = [name.strip().lower() for name in wanted.split(",") if name.strip()]
    present = []
    for peer in all_peers():
        if names and not any(peer.name.lower().startswith(name) for name in names):
            continue
        command = peer.absence()
        if command:
            console.print(f"absent: {peer.name}; to install it: [bold]{command}[/]")
        else:
            present.append(peer)
    return present


def measure_all(
    scenario: Scenario, letter: str, systems: list[Peer], rounds: int, timing: Timing
) -> dict[str, list[Metrics]]:
    """Rounds in which the systems take turns."""
    runs: dict[str, list[Metrics]] = {}
    for number in range(rounds):
        for system in systems:
            if not scenario.suits(system):
                continue
            with console.status(f"{letter}  round {number + 1} of {rounds}  {system.name}"):
                try:
                    runs.setdefault(system.name, []).append(scenario.measure(system, timing))
                except (ServerError, OSError) as error:
                    console.print(f"{letter}  {system.name}: {error}")
    return runs


def prepare() -> None:
    """Take the load generator's core, and as many descriptors as there may be."""
    if (os.cpu_count() or 1) < 2:
        raise click.ClickException("two cores are needed: one for the server, one for the load generator")
    os.sched_setaffinity(0, {LOAD_CORE})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--scenarios", callback=choose_scenarios, default="", help="Letters, such as A,C; all by default.")
@click.option("--peers", default="", help="Names, such as NATS,Nchan; all that are installed by default; `none`.")
@click.option("--rounds", type=click.IntRange(1), help="Rounds: 3, or 1 with --quick.")
@click.option("--seconds", type=float, help="Seconds a run counts: 4, or 1 with --quick.")
@click.option("--quick", is_flag=True, help="One short round: under two minutes in all.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="File for all figures.")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="File for the tables.")
def main(**values: Any) -> None:
    """Measure deltawire beside other systems on this machine."""
    prepare()
    options = Options(**values)
    timing, rounds = options.timing(), options.rounds or (1 if options.quick else 3)
    systems: list[Peer] = [Deltawire(), *find_peers(options.peers)]
    runs: dict[str, dict[str, list[Metrics]]] = {}
    summary: dict[str, Mapping[str, Mapping[str, Spread]]] = {}
    pages = []
    for letter, scenario in options.scenarios.items():
        runs[letter] = measure_all(scenario, letter, systems, rounds, timing)
        summary[letter] = {name: summarize(of_one) for name, of_one in runs[letter].items()}
        lines = rows(summary[letter], scenario.columns)
        print_table(console, f"{letter}: {scenario.title}", lines)
        pages.append(markdown(f"{letter}: {scenario.title}", lines))
    verdicts = [judge(target, summary[target.scenario]) for target in TARGETS if target.scenario in summary]
    print_table(console, "Targets", verdict_rows(verdicts))
    pages.append(markdown("Targets", verdict_rows(verdicts)))
    if options.json_file:
        written = {"machine": machine(), "rounds": rounds, "timing": timing._asdict(), "runs": runs, "summary": summary}
        options.json_file.write_bytes(msgspec.json.format(msgspec.json.encode(written)))
    if options.markdown_file:
        options.markdown_file.write_text("\n".join(pages))


if __name__ == "__main__":
    sys.exit(main())
