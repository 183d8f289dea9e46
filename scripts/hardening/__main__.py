"""`python -m scripts.hardening`: play the attacks, print the table."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import uvloop

from scripts.hardening import at_the_door, in_masses, on_the_wire, reading_much, standing_still
from scripts.hardening.attack import STREAM, Attack, Target, attempt
from scripts.hardening.guarded import Guarded, guarded
from scripts.hardening.hostile import YIELDING
from scripts.hardening.judging import Found, judge
from scripts.hardening.neighbours import Job, Neighbours, Seen, living
from scripts.hardening.together import PLAYED, all_for
from scripts.hardening.tokens import Mint
from scripts.proof.children import Children

KINDS = {
    "door": at_the_door.ATTACKS,
    "wire": on_the_wire.ATTACKS,
    "masses": in_masses.ATTACKS,
    "reading": reading_much.ATTACKS,
    "still": standing_still.ATTACKS,
}

PAUSE = 0.02
"""Seconds between two goes of an attack: what is measured is what it does, not how fast this process is."""


class Times(NamedTuple):
    """How long things last, in seconds.

    Attributes:
        line: an attack that is repeated, at least.
        rest: what comes after each, for what it left to end before the next one is measured.
        quiet: a while in which nobody attacks, to compare with.
    """

    line: float
    rest: float
    quiet: float


QUICK = Times(0.15, 0.15, 1.0)
WHOLE = Times(1.5, 0.3, 5.0)


class Bench:
    """Plays attacks and prints a line for each.

    Args:
        gateway: under attack.
        neighbours: of it.
        times: how long things last.
        is_judged_by_waits: whether neighbours must not wait longer than in a quiet run.

    Attributes:
        failures: what must not have happened, in words.
    """

    def __init__(
        self, gateway: Guarded, neighbours: Neighbours, times: Times, *, is_judged_by_waits: bool = True
    ) -> None:
        self._gateway = gateway
        self._neighbours = neighbours
        self._times = times
        self._is_judged_by_waits = is_judged_by_waits
        self._faults = 0
        self._quiet = Seen()
        self.failures: list[str] = []

    async def rest(self) -> None:
        """Let nobody attack for a while, and see how the neighbours are."""
        await self._neighbours.look()
        await asyncio.sleep(self._times.quiet)
        seen = await self._neighbours.look()
        self._quiet = max(self._quiet, seen, key=lambda it: it.p99_ms)
        _print_line("nobody attacks", "", seen)

    async def play(self, attack: Attack, target: Target) -> None:
        """One attack, for as long as a line lasts; once more where the machine may be to blame for what was found."""
        found = await self._go(attack, attack.name, target)
        if found.is_doubtful:
            print(f"  {'; '.join(found.slow)}: once more", flush=True)
            found = await self._go(attack, f"{attack.name} (again)", target)
        slow = found.slow if self._is_judged_by_waits else ()
        self.failures += [f"{attack.name}: {what}" for what in (*found.wrong, *slow)]

    async def _go(self, attack: Attack, name: str, target: Target) -> Found:
        await self._neighbours.look()
        given = await self._attempt(attack, target)
        await asyncio.sleep(self._times.rest)
        seen = await self._neighbours.look()
        _print_line(name, _summary(given), seen)
        if attack.is_timed:
            await self.rest()  # the machine may be another than it was in the beginning
        found = judge(attack, given, seen, self._quiet)
        return Found((*found.wrong, *await self._complaints()), found.slow)

    async def _attempt(self, attack: Attack, target: Target) -> Counter[str]:
        given: Counter[str] = Counter()
        until = asyncio.get_running_loop().time() + self._times.line
        while True:
            answers = await attempt(attack.play, target)
            given.update(answers)
            is_over = not attack.is_repeated or asyncio.get_running_loop().time() >= until
            if is_over or not attack.expected.issuperset(answers):
                break
            await asyncio.sleep(PAUSE)
        return given

    async def _complaints(self) -> list[str]:
        """What the gateway itself has to say."""
        found = []
        if self._gateway.is_alive:
            faults = await self._gateway.faults()
            if faults > self._faults:
                found.append(f"the gateway counted {faults - self._faults} faults")
            self._faults = faults
        else:
            found.append("the gateway died")
        return found + [f"the gateway logged {line:.300}" for line in self._gateway.complaints()]


def _summary(given: Counter[str]) -> str:
    return ", ".join(f"{answer} ×{count}" for answer, count in sorted(given.items()))


def _print_line(name: str, answers: str, seen: Seen) -> None:
    joined = f"{seen.newcomers - seen.shut_out}/{seen.newcomers}"
    numbers = f"{seen.p50_ms:8.2f}{seen.p99_ms:9.2f}{seen.max_ms:9.1f}{seen.lost:6}{joined:>9}"
    print(f"{name:<46}{numbers}   {answers}", flush=True)


async def run(arguments: argparse.Namespace, directory: Path) -> list[str]:
    """Play everything; what must not have happened."""
    key = directory / "key"
    mint = Mint(key)
    async with AsyncExitStack() as stack:
        children = await stack.enter_async_context(Children())
        gateway = await stack.enter_async_context(guarded(children, mint, key, directory / "log"))
        job = Job(url=gateway.url, stream=STREAM, token=mint.token(publish=[STREAM], subscribe=[STREAM]))
        neighbours = await stack.enter_async_context(living(children, job))
        os.nice(YIELDING)
        times = QUICK if arguments.quick else WHOLE
        bench = Bench(gateway, neighbours, times, is_judged_by_waits=not arguments.beside_others)
        print(f"{'attempt':<46}{'p50 ms':>8}{'p99 ms':>9}{'max ms':>9}{'lost':>6}{'joined':>9}   answers")
        await bench.rest()
        attacks = [attack for kind in arguments.only for attack in KINDS[kind]]
        networks = iter(range(1, 200))
        for attack in attacks:
            await bench.play(attack, Target(gateway.port, mint, next(networks)))
        if not arguments.apart:
            together = all_for(
                5.0 if arguments.quick else 30.0, [Target(gateway.port, mint, next(networks)) for _ in PLAYED]
            )
            await bench.play(together, Target(gateway.port, mint, next(networks)))
        final = await neighbours.finish()
        if final.lost:
            bench.failures.append(f"in the end neighbours lacked {final.lost} events")
    return bench.failures + [f"while it stopped, the gateway logged {line}" for line in gateway.complaints()]


def _kinds(text: str) -> list[str]:
    kinds = text.split(",")
    if unknown := set(kinds) - set(KINDS):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(KINDS)}")
    return kinds


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.hardening", description="Attacks on a gateway that runs.")
    parser.add_argument("--quick", action="store_true", help="a short go of each")
    parser.add_argument("--only", type=_kinds, help=f"of {','.join(KINDS)}; a short go leaves `still` to the end")
    parser.add_argument("--apart", action="store_true", help="leave out what comes last, all at once")
    parser.add_argument("--beside-others", action="store_true", help="judge no waits, as other things run meanwhile")
    arguments = parser.parse_args()
    arguments.only = arguments.only or [kind for kind in KINDS if kind != "still" or not arguments.quick]
    with tempfile.TemporaryDirectory() as directory:
        failures = uvloop.run(run(arguments, Path(directory)))
    for failure in failures:
        print(f"FAILED: {failure}")
    print("nothing was lost, and every answer is a documented one" if not failures else f"{len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
