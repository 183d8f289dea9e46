"""Returning free memory to the operating system.

The C library keeps freed memory that lies between blocks in use. With `PYTHONMALLOC=malloc` Python's small objects are
there too; Python's own allocator keeps a whole MiB while a single object in it lives, and can't return the rest.
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
    """Return the free memory of the C library, if it can be asked to; takes milliseconds for 100 MB."""
    if _TRIM is not None:
        _TRIM(0)
