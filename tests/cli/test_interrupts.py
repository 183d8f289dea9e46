"""Ctrl-C before a command has begun."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from deltawire.gateway.cli.interrupts import ending_at_once
from tests.support.processes import ROOT

INTERRUPTED_IMPORT = """
import os, signal, sys

class Impatient:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Impatient())
from deltawire.gateway.cli import main
sys.exit(main(["tail", "demo"]))
"""


@pytest.mark.parametrize(
    "module",
    [
        "deltawire.gateway.cli.command",
        "click",
        "msgspec",
        "deltawire.gateway.cli.tail.command",
        "deltawire.gateway.client",
    ],
)
async def test_ctrl_c_during_an_import_is_130_without_a_word(module: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", INTERRUPTED_IMPORT, module), cwd=ROOT, stdout=PIPE, stderr=PIPE
    )
    assert (await process.communicate(), process.returncode) == ((b"", b""), 130)


def test_whoever_handles_ctrl_c_already_goes_on_with_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ending_at_once():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with ending_at_once():
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


async def test_tests_start_programs_that_ignore_no_signal_even_where_pytest_was_started_to_ignore_them() -> None:
    """As a script does with SIGINT and SIGQUIT for what it starts with `&`, and nohup with SIGHUP."""
    inner = f"{Path(__file__).relative_to(ROOT)}::test_a_program_that_a_test_starts_ignores_no_signal"
    line = f"trap '' INT QUIT HUP; exec {sys.executable} -m pytest -q -p no:cacheprovider {inner}"
    process = await asyncio.create_subprocess_exec("sh", "-c", line, cwd=ROOT, stdout=PIPE, stderr=PIPE)
    output, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b""), output.decode()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
async def test_a_program_that_a_test_starts_ignores_no_signal(signum: signal.Signals) -> None:
    line = f"ulimit -c 0; kill -{signum} $$; echo it goes on"
    process = await asyncio.create_subprocess_exec("sh", "-c", line, stdout=PIPE, stderr=PIPE)
    assert (await process.communicate(), process.returncode) == ((b"", b""), -signum)
