"""A program that uses the gateway as a library: its output is its own."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from deltawire.gateway.server.accepting.listening import ACCEPTED_AT_ONCE
from tests.support.processes import ROOT

PROGRAM = """
import asyncio
import structlog
from deltawire.gateway.hub import Hub
from deltawire.gateway.hub.hub import log

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


CROWDED = """
import asyncio, asyncio.constants, os, resource, sys
from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from tests.support.waiting import eventually

asyncio.constants.ACCEPT_RETRY_DELAY = 0.5

async def main():
    failures = []
    failed = asyncio.Event()

    def note(_, context):
        failures.append(context["message"])
        failed.set()

    asyncio.get_running_loop().set_exception_handler(note)
    async with Gateway(Settings(port=0, drain_timeout=0)) as gateway:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 5, limits[1]))
        print(gateway.port, flush=True)
        await failed.wait()
        print(len(failures), set(failures), flush=True)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        await eventually(lambda: len(gateway._handshakes) == 40)
        print("recovered", flush=True)

asyncio.run(main())
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc/self/fd here")
def test_without_descriptors_the_loop_of_asyncio_is_not_held_up_by_those_it_cannot_accept() -> None:
    """It tries again as often as it would accept at once, and says so each time: that must not be 4096 times."""
    with subprocess.Popen([sys.executable, "-c", CROWDED], stdout=PIPE, text=True, cwd=ROOT) as program:
        assert program.stdout is not None
        port = int(program.stdout.readline())
        crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
        count, _, what = program.stdout.readline().partition(" ")
        assert "out of system resource" in what
        assert int(count) <= ACCEPTED_AT_ONCE
        assert program.stdout.readline() == "recovered\n"
        for it in crowd:
            it.close()
    assert program.returncode == 0
