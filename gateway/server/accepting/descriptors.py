"""File descriptors: as many as the system allows, and a reserve of them that no connection gets.

A connection is a descriptor. Who comes when there are no more to give is refused like one over `max_connections`; the
reserve is for files read again, keys fetched, and those who are being refused. Where it is used up too, libuv (under
uvloop) accepts with one it keeps for this and closes at once: neither does the backlog grow nor the loop spin. The loop
of asyncio stops accepting for a second, after `ACCEPTED_AT_ONCE` errors. Connections that are there are touched by
neither.
"""

from __future__ import annotations

import sys
from typing import Final

if sys.platform != "win32":
    import resource

RESERVE: Final = 128
"""Descriptors that are no connections: about twenty the process begins with, the rest to spare."""


def raise_limit() -> int | None:
    """Allow this process as many descriptors as it may allow itself.

    Returns:
        How many those are; None where the system doesn't say, or sets no limit.
    """
    if sys.platform == "win32":
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard
    if wanted == resource.RLIM_INFINITY and sys.platform == "darwin":
        wanted = _DARWIN_MAXIMUM
    if soft != wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # a system may keep less than it says
            wanted = soft
    return None if wanted == resource.RLIM_INFINITY else wanted


_DARWIN_MAXIMUM = 10_240
"""OPEN_MAX: macOS says there is no limit, and refuses more."""


def connections_possible(limit: int) -> int:
    """How many connections fit into a limit of descriptors; of a small one, half.

    Args:
        limit: descriptors the process may have.
    """
    return max(limit - RESERVE, limit // 2)
