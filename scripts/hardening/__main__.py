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

import uvloop

from scripts.hardening import at_the_door, in_masses, on_the_wire, standing_still
from scripts.hardening.answers import is_documented
from scripts.hardening.attack import STREAM, Attack, ShutOutError, Target
from scripts.hardening.guarded import Guarded, guarded
from scripts.hardening.hostile import NoAnswerError
from scripts.hardening.neighbours import Job, Neighbours, Seen, living
from scripts.hardening.together import PLAYED, all_for
from scripts.hardening.tokens import Mint
from scripts.proof.children import Children

KINDS = {
    "door": at_the_door.ATTACKS,
    "wire": on_the_wire.ATTACKS,
    "masses": in_masses.ATTACKS,
    "still": standing_still.ATTACKS,
}

PAUSE = 0.02
"""Seconds between two goes of an attack: what is measured is what it does, not how fast this process is."""

REST = 0.3
"""Seconds after an attack, for what it left to end before the next one is measured; half of it in a short go."""

FACTOR = 2.0
"""How much longer neighbours may wait while everything is played at once than in a quiet run."""

YIELDING = 10
"""By how much attackers give way to the neighbours, which share a core with them where there are only two."""


class Bench:
    """Plays attacks and prints a line for each.

    Args:
        gateway: under attack.
        neighbours: of it.
        seconds: a line lasts at least.
        rest: seconds after it.

    Attributes:
        failures: what must not have happened, in words.
        quiet: what neighbours see when nobody attacks.
    """

    def __init__(self, gateway: Guarded, neighbours: Neighbours, seconds: float, rest: float) -> None:
        self._gateway = gateway
        self._neighbours = neighbours
        self._seconds = seconds
        self._rest = rest
        self._faults = 0
        self.failures: list[str] = []
        self.quiet = Seen()

    async def rest(self, seconds: float) -> Seen:
        """Let nobody attack for a while, and see how the neighbours are."""
        await self._neighbours.look()
        await asyncio.sleep(seconds)
        seen = await self._neighbours.look()
        self.quiet = max(self.quiet, seen, key=lambda it: it.p99_ms)
        _print_line("nobody attacks", "", seen)
        return seen

    async def play(self, attack: Attack, target: Target) -> Seen:
        """One attack, for as long as a line lasts."""
        await self._neighbours.look()
        given: Counter[str] = Counter()
        until = asyncio.get_running_loop().time() + self._seconds
        try:
            while True:
                async for answer in attack.play(target):
                    given[answer] += 1
                if not attack.is_repeated or asyncio.get_running_loop().time() >= until:
                    break
                await asyncio.sleep(PAUSE)
        except (NoAnswerError, ShutOutError, OSError) as error:
            given[f"{type(error).__name__}: {error}"] += 1
        await asyncio.sleep(self._rest)
        seen = await self._neighbours.look()
        _print_line(attack.name, _summary(given), seen)
        await self._judge(attack, given, seen)
        return seen

    async def _judge(self, attack: Attack, given: Counter[str], seen: Seen) -> None:
        found = [
            f"answered {answer!r} ({count} times)"
            for answer, count in given.items()
            if answer not in attack.expected or not is_documented(answer)
        ]
        if seen.lost:
            found.append(f"neighbours lost {seen.lost}")
        if seen.shut_out and not attack.shuts_out:
            found.append(f"{seen.shut_out} of {seen.newcomers} newcomers did not get in")
        if self._gateway.is_alive:
            faults = await self._gateway.faults()
            if faults > self._faults:
                found.append(f"the gateway counted {faults - self._faults} faults")
            self._faults = faults
        else:
            found.append("the gateway died")
        found += [f"the gateway logged {line:.300}" for line in self._gateway.complaints()]
        self.failures += [f"{attack.name}: {what}" for what in found]

    def compare(self, seen: Seen) -> None:
        """Neighbours must not have waited much longer than in the quiet runs."""
        longest = FACTOR * self.quiet.p99_ms
        if seen.p99_ms > longest:
            self.failures.append(f"all at once: p99 is {seen.p99_ms:.1f} ms, and should be {longest:.1f} ms at most")


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
        bench = Bench(gateway, neighbours, *((0.15, REST / 2) if arguments.quick else (1.5, REST)))
        print(f"{'attempt':<46}{'p50 ms':>8}{'p99 ms':>9}{'max ms':>9}{'lost':>6}{'joined':>9}   answers")
        await bench.rest(1.0 if arguments.quick else 5.0)
        attacks = [attack for kind in arguments.only for attack in KINDS[kind]]
        networks = iter(range(1, 200))
        for attack in attacks:
            await bench.play(attack, Target(gateway.port, mint, next(networks)))
        if not arguments.apart:
            together = all_for(
                5.0 if arguments.quick else 30.0, [Target(gateway.port, mint, next(networks)) for _ in PLAYED]
            )
            seen = await bench.play(together, Target(gateway.port, mint, next(networks)))
            await bench.rest(2.0 if arguments.quick else 5.0)
            bench.compare(seen)
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
    arguments = parser.parse_args()
    arguments.only = arguments.only or [kind for kind in KINDS if kind != "still" or not arguments.quick]
    with tempfile.TemporaryDirectory() as directory:
        failures = uvloop.run(run(arguments, Path(directory)))
    for failure in failures:
        print(f"FAILED: {failure}")
    print("nothing was lost, and every answer is a documented one" if not failures else f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
