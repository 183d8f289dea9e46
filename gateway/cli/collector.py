"""Settings of the garbage collector for a process that only serves.

A full collection visits every object, and the gateway serves nobody meanwhile: 140 ms with 10,000 connections, at times
300 ms, and one collection after another while thousands connect at once. Reference counting alone frees closed
connections; the collector is needed only for reference cycles, which rare failures leave behind.
"""

from __future__ import annotations

import gc
from contextlib import AsyncExitStack, ExitStack
from typing import Final

THRESHOLDS: Final = (2_000, 10, 1_000)
"""Thresholds of `gc.set_threshold`: new objects per collection of generation 0; collections of generation 0 per one of
generation 1 (2 to 4 ms for 20,000 objects); collections of generation 1 per full one. A full collection thus needs 20
million new objects, more than any number of connections makes."""


def calm(stack: ExitStack | AsyncExitStack) -> None:
    """Exclude all present objects from collections, as they live as long as the process, and make full ones rare.

    Args:
        stack: restores the defaults when it closes.
    """
    stack.callback(gc.set_threshold, *gc.get_threshold())
    stack.callback(gc.unfreeze)
    gc.freeze()  # what a start leaves of garbage too: 840 of 41,000 objects, which to find would take 20 ms
    gc.set_threshold(*THRESHOLDS)
