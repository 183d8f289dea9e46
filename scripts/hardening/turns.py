"""The proof *loop*: no message of the largest size makes a turn of the loop long, or a healthy group wait.

Turns are timed in a gateway whose loop never rests. The group is watched beside another one, in rounds: before a few
messages are sent nobody attacks it for as long, so that whatever else the machine does falls on both alike.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Final

from scripts.hardening import largest, neighbours
from scripts.hardening.generated import LARGEST
from scripts.hardening.largest import messages, send, sending
from scripts.hardening.measured import measuring
from scripts.hardening.neighbours import Seen, living, pooled
from scripts.proof.children import Children

TURN_MS: Final = 50.0
"""Milliseconds of a turn, at most."""

FACTOR: Final = 2.0
"""Times its p99 in a quiet run that the group's may be."""

FLOOR_MS: Final = 1.0
"""What a quiet p99 counts as if it is below: timers of a loop have a resolution of a millisecond, so that half of the
events of a group that nobody attacks are late by as much."""

WAITED: Final = "neighbours waited"
"""What a busy machine makes them do too."""

ROUNDS: Final = 10
"""So many can be judged by latency: each is half a second of attack, and 100 events or more for each reader."""

AFTER: Final = 0.05
"""Seconds after an attack that still belong to it."""

SHOWN: Final = 5
"""Messages that took longest, which are shown."""


async def prove_loop(every: int, seed: int, rounds: int) -> list[str]:
    """Return what was wrong with the turns of the loop.

    Args:
        every: one of so many shapes is sent.
        seed: which.
        rounds: of watching neighbours, at least.
    """
    return [*await _time_turns(every, seed), *await _watch_neighbours(every, seed, rounds)]


async def _time_turns(every: int, seed: int) -> list[str]:
    async with AsyncExitStack() as stack:
        children = await stack.enter_async_context(Children())
        gateway = await stack.enter_async_context(measuring(children, is_timed=True, connection_rate=0.0))
        await gateway.measure()
        took: dict[str, float] = {}
        for message in messages(largest.Job(gateway.port, every, seed)):
            await send(gateway.port, message)
            took[message.name] = (await gateway.measure()).longest_ms
        faults = (await gateway.measure()).faults
    print(
        f"loop: {len(took)} messages of {LARGEST // 1024} KiB, turns of {max(took.values()):.1f} ms (limit {TURN_MS:g})"
    )
    for name in sorted(took, key=lambda it: -took[it])[:SHOWN]:
        print(f"    {took[name]:5.1f} ms: {name}")
    slow = [f"{name}: a turn of {ms:.0f} ms" for name, ms in took.items() if ms > TURN_MS]
    return slow + _counted(faults)


async def _watch_neighbours(every: int, seed: int, rounds: int) -> list[str]:
    async with AsyncExitStack() as stack:
        children = await stack.enter_async_context(Children())
        gateway = await stack.enter_async_context(measuring(children, is_timed=False, connection_rate=0.0))
        job = neighbours.Job(url=gateway.url, stream="neighbours", token="none")  # noqa: S106 - it asks for none
        group = await stack.enter_async_context(living(children, job))
        sender = await stack.enter_async_context(sending(children, largest.Job(gateway.port, every, seed)))
        quiet, attacked = list[Seen](), list[Seen]()
        lasts = 0.5
        whole = len([*messages(largest.Job(gateway.port, every, seed))]) / largest.AT_A_TIME
        while len(attacked) < max(whole, rounds):
            await sender.make()
            await group.look()  # what they saw meanwhile is nobody's doing
            await asyncio.sleep(lasts)
            quiet.append(await group.look())
            began = time.monotonic()
            await sender.send()
            await asyncio.sleep(AFTER)
            lasts = time.monotonic() - began
            attacked.append(await group.look())
        await group.finish()
        faults = (await gateway.measure()).faults
    seen, before = pooled(attacked), pooled(quiet)
    longest = FACTOR * max(before.p99_ms, FLOOR_MS)
    print(
        f"  a neighbour's p99 {seen.p99_ms:.2f} ms of {seen.events} events, {before.p99_ms:.2f} ms when nobody attacks"
    )
    return [
        *([f"{WAITED} {seen.p99_ms:.1f} ms, more than {longest:.1f} ms"] if seen.p99_ms > longest else []),
        *([f"neighbours lost {seen.lost} events"] if seen.lost else []),
        *_counted(faults),
    ]


def _counted(faults: int) -> list[str]:
    return [f"{faults} faults"] if faults else []
