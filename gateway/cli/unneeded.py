"""Modules that libraries would load for parts of them that no command uses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(module: str) -> Iterator[None]:
    """A block in which a module can't be imported, unless it is already.

    Args:
        module: its whole name; whatever the block imports has to get by without it.
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # as the import system has it for a module not to be found
    try:
        yield
    finally:
        del sys.modules[module]
