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
from scripts.bench.deltawire import ENGINES, MEMORY, Deltawire
from scripts.bench.effort import FULL, QUICK, Effort
from scripts.bench.figures import summarize
from scripts.bench.handshake import HandshakeError
from scripts.bench.peer import Peer
from scripts.bench.peers import all_peers
from scripts.bench.process import LOAD_CORE, ServerError
from scripts.bench.report import (
    Results,
    disk_rows,
    print_table,
    ratio_rows,
    rows,
    verdict_rows,
    write_json,
    write_markdown,
)
from scripts.bench.scenarios import SCENARIOS, STORED, UNSTORED, Scenario
from scripts.bench.stores import DISK, measure_disk
from scripts.bench.targets import TARGETS, judge

BASE_ROUNDS = 3
"""Rounds when two revisions are compared: fewer would say nothing of the noise."""

SLOW = "BH"
"""Scenarios that say little of a revision for the time they take: B is between A and C."""

console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


class Options(NamedTuple):
    """What is asked for on the command line."""

    named: dict[str, Scenario]
    engines: list[str]
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
        """Those named, or those for what is measured; in little time revisions are not compared by the longest."""
        letters = STORED if self.is_storing else UNSTORED
        left_out = SLOW if self.base and self.quick else ""
        return self.named or {letter: SCENARIOS[letter] for letter in letters if letter not in left_out}

    @property
    def is_storing(self) -> bool:
        """Whether stores are measured."""
        return self.engines != [MEMORY]

    @property
    def wanted_peers(self) -> str:
        """Names of peers; those that keep up when there is little time."""
        return self.peers or ("floor,nchan,nats" if self.quick and not self.is_storing else "")

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


def choose_engines(_: click.Context, __: click.Parameter, value: str) -> list[str]:
    """The engines by their names."""
    names = [name.strip().lower() for name in value.split(",") if name.strip()]
    unknown = [name for name in names if name not in ENGINES]
    if unknown:
        raise click.BadParameter(f"no engine {', '.join(unknown)}; there are {', '.join(ENGINES)}")
    return names or [MEMORY]


def find_peers(wanted: str, *, is_storing: bool = False) -> list[Peer]:
    """The systems to compare with, those that store beside stores; says which are absent."""
    names = [name.strip().lower() for name in wanted.split(",") if name.strip()]
    present = []
    for peer in all_peers():
        if not any(peer.name.lower().startswith(name) for name in names) if names else peer.is_durable != is_storing:
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
        if options.is_storing:
            results.disk.append(measure_disk())
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


def judge_all(results: Results, options: Options, own: Peer, base: Peer | None) -> bool:
    """Compare with the targets, or with another revision; whether nothing became worse."""
    if results.disk:
        title = "Disk: 36 KiB written and synced"
        results.tables[title] = disk_rows(results.disk)
        print_table(console, title, results.tables[title])
    if base is None:
        verdicts = [
            judge(target, {**results.summary[target.scenario], DISK: summarize(results.disk)})
            for target in TARGETS
            if target.system in results.summary.get(target.scenario, {})
        ]
        title, table, is_good = "Targets", verdict_rows(verdicts), True
    else:
        ratios = {
            letter: compare(runs[own.name], runs[base.name], options.scenarios[letter].metrics)
            for letter, runs in results.runs.items()
        }
        title, table = f"{own.name} against {base.name}", ratio_rows(ratios)
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
@click.option(
    "--engine", "engines", callback=choose_engines, default="", help=f"Of {','.join(ENGINES)}; memory by default."
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
                base = stack.enter_context(
                    checked_out(options.base, engine=options.engines[0], is_authenticating=options.auth)
                )
            except OSError as error:
                raise click.ClickException(str(error)) from None
        storing = options.is_storing
        others = find_peers(options.wanted_peers, is_storing=storing) if options.peers or base is None else []
        own = [Deltawire(engine=engine, is_authenticating=options.auth) for engine in options.engines]
        if options.workers > 1:
            name = f"{options.workers} workers"
            own += [
                Deltawire(name=name, engine=engine, is_authenticating=options.auth, workers=options.workers)
                for engine in options.engines
            ]
        systems = [*own, *([base] if base else []), *others]
        results = Results()
        measure_all(results, options, systems)
        is_good = judge_all(results, options, own[0], base) and not results.failures
    if options.json_file:
        write_json(options.json_file, results, options.effort)
    if options.markdown_file:
        write_markdown(options.markdown_file, results)
    console.print(f"took {time.monotonic() - began:.0f} s")
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
