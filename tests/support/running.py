"""The project's own scripts, run as a person runs them."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from os import PathLike

from tests.support.processes import ROOT

NO_FAULTS = ("loop.blocked", "storage.failed")
"""Log facts of a gateway to which the machine gave no time, or whose store was made to fail."""


def complaints(errors: str) -> list[str]:
    """What a program said on standard error, but for what is no fault of its own."""
    return [line for line in errors.splitlines() if not any(fact in line for fact in NO_FAULTS)]


async def run_script(*arguments: str | PathLike[str]) -> str:
    """Run Python with these arguments in the project's folder, to its end.

    Returns:
        What it printed.

    Raises:
        AssertionError: it failed, or complained.
    """
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT, stdout=PIPE, stderr=PIPE)
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:  # its time was over
            process.kill()
            await process.wait()
    assert (process.returncode, complaints(errors.decode())) == (0, []), output + errors
    return output.decode()
