"""The project's own scripts, run as a person runs them."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from os import PathLike

from tests.support.processes import ROOT


def complaints(errors: str, *expected: str) -> list[str]:
    """What a program said on standard error, but that the machine gave its event loop no time: that is no fault.

    Args:
        errors: all it said.
        expected: log facts of what it was to go through.
    """
    return [line for line in errors.splitlines() if not any(fact in line for fact in ("loop.blocked", *expected))]


async def run_script(*arguments: str | PathLike[str], expected: Sequence[str] = ()) -> str:
    """Run Python with these arguments in the project's folder, to its end.

    Args:
        arguments: of Python.
        expected: log facts that are no complaints.

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
    assert (process.returncode, complaints(errors.decode(), *expected)) == (0, []), output + errors
    return output.decode()
