"""Programs of Node.js, where it is."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

START: Final = 60.0
"""Seconds node may need to start on a busy machine."""


@cache
def node() -> Sequence[str]:
    """The command of a Node.js with WebSockets; skips the test where there is none."""
    for command in (["node"], ["node", "--experimental-websocket"]):  # 22 and newer; 20
        if shutil.which("node") is None:
            break
        probe = [*command, "--eval", "process.exit(typeof WebSocket === 'function' ? 0 : 1)"]
        if subprocess.run(probe, capture_output=True, timeout=START, check=False).returncode == 0:
            return command
    pytest.skip("this needs Node.js 20 or newer")


async def run_node(*arguments: str | Path, given: Any = None) -> Any:
    """Run a program of Node.js to its end; return the JSON that it prints.

    Args:
        arguments: the script, and its own.
        given: what it reads, as JSON.
    """
    process = await asyncio.create_subprocess_exec(
        *node(), *map(str, arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(START):
            output, errors = await process.communicate(json.dumps(given).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return json.loads(output)
