"""Several jobs of a command at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any


@asynccontextmanager
async def run_alongside(*jobs: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run jobs while the block runs, and cancel them when it ends.

    An exception in a job ends the block. It is raised as it is, not in a group: a command ends for one reason.

    Args:
        jobs: coroutines; a job may return before the block ends.
    """
    with _one_reason():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job) for job in jobs]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()


async def run_together(*jobs: Coroutine[Any, Any, None]) -> None:
    """Run jobs to their end; an exception in one cancels the others, and is raised as it is."""
    with _one_reason():
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job)


@contextmanager
def _one_reason() -> Iterator[None]:
    """Raise the first exception of a group in place of the group."""
    try:
        yield
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
