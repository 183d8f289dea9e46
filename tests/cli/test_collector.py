"""The garbage collector of `deltawire serve`."""

from __future__ import annotations

import subprocess
import sys

CALMED = """
import gc
from contextlib import ExitStack
import deltawire.gateway.cli.serve
from deltawire.gateway.cli.collector import THRESHOLDS, calm
before = gc.get_threshold()
stack = ExitStack()
calm(stack)
assert gc.get_threshold() == THRESHOLDS
assert gc.get_freeze_count() > 10_000, gc.get_freeze_count()
full = gc.get_stats()[2]["collections"]
crowd = [[] for _ in range(1_000_000)]
assert gc.get_stats()[2]["collections"] == full, "a crowd must not bring full collections"
assert gc.get_stats()[1]["collections"] > 0
stack.close()
assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)
"""


def test_a_crowd_brings_no_full_collection_until_the_gateway_ends() -> None:
    subprocess.run([sys.executable, "-c", CALMED], check=True, timeout=60)


ENDED = """
import atexit, gc, sys
atexit.register(lambda: print(gc.get_freeze_count() > 10_000))  # is called after what is registered later
from deltawire.gateway.cli import main
sys.argv[1:] = ["--version"]
main()
assert gc.get_freeze_count() == 0, "whoever calls it goes on to collect garbage"
"""


def test_a_command_that_ends_looks_for_no_garbage_in_all_that_it_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", ENDED], check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "True"
