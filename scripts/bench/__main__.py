"""`python -m scripts.bench`: measure, print, keep."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console

from scripts.bench.compare import checked_out, compare
from scripts.bench.deltawire import Deltawire
from scripts.bench.effort import FULL, QUICK, Effort
from scripts.bench.figures import summarize
from scripts.bench.handshake import HandshakeError
from scripts.bench.peer import Peer
from scripts.bench.peers import all_peers
from scripts.bench.process import LOAD_CORE, ServerError
from scripts.bench.report import Results, print_table, ratio_rows, rows, verdict_rows, write_json, write_markdown
from scripts.bench.scenarios import SCENARIOS, Scenario
from scripts.bench.targets import TARGETS, judge

BASE_ROUNDS = 3
"""Rounds when two revisions are compared: fewer would say nothing of the noise."""

SLOW = "BH"
"""Scenarios that say little of a revision for the time they take: B is between A and C."""

console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


class Options(NamedTuple):
    """What is asked for on the command line."""

    named: dict[str, Scenario]
    peers: str
    base: str
    rounds: int | None
    seconds: float | None
    part: float | None
    quick: bool
    auth: bool
    workers: int
    json_file: Path | None
    markdown_file: Path | None

    @property
    def scenarios(self) -> dict[str, Scenario]:
        """Those named, or all; in little time two revisions are not compared by those that take longest."""
        left_out = SLOW if self.base and self.quick else ""
        return self.named or {letter: it for letter, it in SCENARIOS.items() if letter not in left_out}

    @property
    def wanted_peers(self) -> str:
        """Names of peers; those that keep up when there is little time."""
        return self.peers or ("floor,nchan,nats" if self.quick else "")

    @property
    def effort(self) -> Effort:
        """How much is to be done."""
        effort = QUICK if self.quick else FULL
        rounds = self.rounds or (BASE_ROUNDS if self.base else effort.rounds)
        effort = effort._replace(rounds=rounds, seconds=self.seconds or effort.seconds)
        return effort._replace(part=self.part, part_of_load=self.part, warmup=0.1) if self.part else effort


def choose_scenarios(_: click.Context, __: click.Parameter, value: str) -> dict[str, Scenario]:
    """The scenarios named by letters; none where there are no letters."""
    letters = [letter.strip().upper() for letter in value.split(",") if letter.strip()]
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


def measure_all(results: Results, options: Options, systems: list[Peer]) -> None:
    """Rounds in which the systems take turns, in one order and then in the other."""
    effort = options.effort
    for letter, scenario in options.scenarios.items():
        suited = [system for system in systems if scenario.suits(system)]
        runs = results.runs[letter] = {system.name: [] for system in suited}
        for number in range(effort.rounds):
            for system in suited[:: -1 if number % 2 else 1]:
                with console.status(f"{letter}  round {number + 1} of {effort.rounds}  {system.name}"):
                    try:
                        runs[system.name].append(scenario.measure(system, effort))
                    except (ServerError, HandshakeError, OSError) as error:
                        console.print(f"{letter}  {system.name} failed: {error}")
                        results.failures += isinstance(system, Deltawire)
        results.summary[letter] = {name: summarize(of_one) for name, of_one in runs.items() if of_one}
        results.tables[f"{letter}: {scenario.title}"] = rows(results.summary[letter], scenario)
        print_table(console, *list(results.tables.items())[-1])


def judge_all(results: Results, options: Options, base: Peer | None) -> bool:
    """Compare with the targets, or with another revision; whether nothing became worse."""
    if base is None:
        verdicts = [
            judge(target, results.summary[target.scenario]) for target in TARGETS if target.scenario in results.summary
        ]
        title, table, is_good = "Targets", verdict_rows(verdicts), True
    else:
        ratios = {
            letter: compare(runs["deltawire"], runs[base.name], options.scenarios[letter].metrics)
            for letter, runs in results.runs.items()
        }
        title, table = f"deltawire against {base.name}", ratio_rows(ratios)
        is_good = not any(ratio.is_worse for of_scenario in ratios.values() for ratio in of_scenario)
    results.tables[title] = table
    print_table(console, title, table)
    return is_good


def prepare() -> None:
    """Take the load generator's core, and as many descriptors as there may be; end servers when told to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if (os.cpu_count() or 1) < 2:
        raise click.ClickException("two cores are needed: one for the server, one for the load generator")
    os.sched_setaffinity(0, {LOAD_CORE})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--scenarios", "named", callback=choose_scenarios, default="", help="Letters, such as A,C; all by default."
)
@click.option("--peers", default="", help="Names, such as NATS,Nchan, or none; all that are installed by default.")
@click.option("--base", default="", help="Compare with this git revision; beside peers only if they are named.")
@click.option("--rounds", type=click.IntRange(1), help="Rounds: 3, or 1 with --quick.")
@click.option("--seconds", type=float, help="Seconds a run counts: 4, or 1 with --quick.")
@click.option("--part", type=float, help="Part of all sizes, to try things out; the figures mean nothing then.")
@click.option("--quick", is_flag=True, help="Short runs of fewer systems: two minutes in all.")
@click.option("--auth", is_flag=True, help="With authentication on: every connection of this gateway brings a token.")
@click.option(
    "--workers", type=click.IntRange(1), default=1, help="Beside it, this gateway with as many worker processes."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="File for all figures.")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="File for the tables.")
def main(**values: Any) -> None:
    """Measure deltawire beside other systems on this machine.

    Exits with 1 when a run of this gateway failed, or when --base was given and a figure is worse than noise explains.
    """
    options = Options(**values)
    prepare()
    began = time.monotonic()
    with ExitStack() as stack:
        base: Peer | None = None
        if options.base:
            try:
                base = stack.enter_context(checked_out(options.base, is_authenticating=options.auth))
            except OSError as error:
                raise click.ClickException(str(error)) from None
        others = find_peers(options.wanted_peers) if options.peers or base is None else []
        systems: list[Peer] = [Deltawire(is_authenticating=options.auth)]
        if options.workers > 1:
            name = f"{options.workers} workers"
            systems.append(Deltawire(name=name, is_authenticating=options.auth, workers=options.workers))
        systems += [*([base] if base else []), *others]
        results = Results()
        measure_all(results, options, systems)
        is_good = judge_all(results, options, base) and not results.failures
    if options.json_file:
        write_json(options.json_file, results, options.effort)
    if options.markdown_file:
        write_markdown(options.markdown_file, results)
    console.print(f"took {time.monotonic() - began:.0f} s")
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
