"""Waiting for a condition nobody announces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

DEADLINE = 30.0
"""Seconds after which a condition is taken to never come true: only a test that fails takes them, however busy the
machine is."""


async def eventually(condition: Callable[[], object], what: str = "the condition", pause: float = 0.002) -> None:
    """Return as soon as a condition holds.

    Args:
        condition: is looked at again and again.
        what: it is, for a person.
        pause: seconds between two looks: more where a look takes long, and what it looks for takes longer.

    Raises:
        AssertionError: it did not within `DEADLINE`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE
    while not condition():
        assert loop.time() < deadline, f"{what} never came true"
        await asyncio.sleep(pause)


async def turn(times: int = 20) -> None:
    """Let everything run that is ready to, a few times over."""
    for _ in range(times):
        await asyncio.sleep(0)
