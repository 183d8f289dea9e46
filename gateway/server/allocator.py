"""Returning free memory to the operating system.

The C library keeps what is freed between blocks in use. `PYTHONMALLOC=malloc` has Python's small objects there too; its
own allocator keeps a whole MiB for as long as a single object in it lives, and can't be asked to return the rest.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable


def _find_trim() -> Callable[[int], int] | None:
    """`malloc_trim(3)` of the GNU C library; None with any other."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
    return trim


_TRIM = _find_trim()


def return_free_memory() -> None:
    """Return what the C library keeps free, where it can be asked: milliseconds for 100 MB."""
    if _TRIM is not None:
        _TRIM(0)
