"""Returning free memory to the operating system.

The C library keeps freed memory that lies between blocks in use. With `PYTHONMALLOC=malloc` Python's small objects are
there too; Python's own allocator keeps a whole MiB while a single object in it lives, and can't return the rest.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

UNEXPLAINED: Final = 1 / 4
"""Share of `memory_limit` that the process may have grown by beyond what is counted before free memory is returned
while there are connections."""

GROWN: Final = 1 / 16
"""Share of `memory_limit` that the process must have grown by since then for free memory to be returned again."""

_STATM: Final = Path("/proc/self/statm")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


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


def resident_bytes() -> int:
    """Bytes of memory the process takes; 0 where the system doesn't say so in Linux's way."""
    try:
        with _STATM.open("rb", buffering=0) as file:  # twice a second, while events wait: without buffer and decoder
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return 0


class FreeMemory:
    """When to return free memory. Pure.

    What short texts took and what long ones took adds up unless it is returned: they have an allocator each.

    Args:
        resident: bytes the process takes while it serves nobody.
    """

    def __init__(self, resident: int) -> None:
        self._first = resident
        self._least = resident  # bytes the process took at best since free memory was returned
        self._kept: int | None = None  # bytes counted when nobody was there and it was returned; None while somebody is

    def is_due(self, resident: int, counted: int, limit: int, *, is_used: bool) -> bool:
        """Whether to return it now: nobody waits meanwhile, or the process takes much more than what is counted.

        Args:
            resident: bytes the process takes.
            counted: bytes the gateway counts.
            limit: `memory_limit`.
            is_used: whether there are connections.
        """
        if is_used:
            self._kept = None
            self._least = min(self._least, resident)
            unexplained = resident - self._first - counted
            return unexplained > limit * UNEXPLAINED and resident - self._least > limit * GROWN
        if self._kept is None or counted < self._kept:
            self._kept = counted
            return True
        return False

    def returned(self, resident: int) -> None:
        """Note that it was returned, and what the process takes since."""
        self._least = resident
