"""Background jobs of a command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def run_alongside(*jobs: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run jobs while the block runs, and cancel them when it ends.

    An exception in a job ends the block. It is raised as it is, not in a group: a command ends for one reason.

    Args:
        jobs: coroutines; a job may return before the block ends.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job) for job in jobs]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
