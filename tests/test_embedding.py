"""A program that uses the gateway as a library: its output is its own."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.cli.processes import ROOT

PROGRAM = """
import asyncio
import structlog
from gateway.hub import Hub
from gateway.hub.hub import log

async def main():
    {before}
    async with Hub() as hub:
        hub.create("demo").close()
    log.warning("hub.worried", about="a test")

asyncio.run(main())
"""


def run(before: str = "") -> tuple[str, str]:
    """Standard output and error of a program that ends a stream and has something to warn of."""
    program = PROGRAM.format(before=before)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout, done.stderr


def test_a_program_that_says_nothing_about_logs_gets_warnings_only_on_standard_error() -> None:
    output, errors = run()
    assert output == ""
    assert "hub.worried" in errors
    assert "stream.closed" not in errors


def test_a_program_that_configures_structlog_gets_every_log_where_it_wants_them() -> None:
    output, errors = run("structlog.configure(processors=[structlog.processors.JSONRenderer()])")
    assert [json.loads(line)["event"] for line in output.splitlines()] == ["stream.closed", "hub.worried"]
    assert errors == ""
