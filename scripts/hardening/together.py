"""Everything at once: connections by the minute, half-open handshakes, and one slow attacker of each kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from scripts.hardening import at_the_door, on_the_wire, standing_still
from scripts.hardening.attack import Attack, Play, Target, attempt

PLAYED: tuple[Attack, ...] = (
    at_the_door.connections,
    at_the_door.dripping,
    *(it for it in standing_still.ATTACKS if not it.is_repeated),
    on_the_wire.unread,
)


def all_for(seconds: float, targets: list[Target]) -> Attack:
    """Each again and again, side by side.

    Args:
        seconds: how long to begin anew.
        targets: the gateway, seen from a network for each of `PLAYED`.
    """

    async def play(_: Target) -> AsyncIterator[str]:
        until = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as tasks:
            playing = [
                tasks.create_task(_keep_playing(it.play, target, until))
                for it, target in zip(PLAYED, targets, strict=True)
            ]
        for it, task in zip(PLAYED, playing, strict=True):
            for answer in task.result():
                yield answer if answer in it.expected else f"{answer} to {it.name}"

    return Attack(
        "all at once", play, frozenset().union(*(it.expected for it in PLAYED)), is_repeated=False, is_timed=True
    )


async def _keep_playing(play: Play, target: Target, until: float) -> list[str]:
    given: list[str] = []
    while asyncio.get_running_loop().time() < until:
        given += await attempt(play, target)
        await asyncio.sleep(0.02)
    return given
