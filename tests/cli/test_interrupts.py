"""Ctrl-C before a command has begun."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE

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
    ["deltawire.gateway.cli.command", "click", "msgspec", "deltawire.gateway.cli.tail", "deltawire.gateway.client"],
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
