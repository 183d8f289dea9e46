"""File descriptors: as many as the system allows, and a reserve of them that no connection gets.

Each connection takes a descriptor, and a second one where it may be relayed to another gateway. When they run out, a
new connection is refused like one over `max_connections`; the reserve is for files read again, keys fetched, and
connections being refused. If the reserve runs out too, libuv (under uvloop) accepts with a spare descriptor and closes
at once: the backlog does not grow, and the loop does not spin. The loop of asyncio stops accepting for a second, after
`ACCEPTED_AT_ONCE` errors. Neither touches existing connections.
"""

from __future__ import annotations

import sys
from typing import Final

if sys.platform != "win32":
    import resource

RESERVE: Final = 128
"""Descriptors not used for connections: the process starts with about twenty, the rest is spare."""


def raise_limit() -> int | None:
    """Raise the limit on descriptors as far as this process may.

    Returns:
        The new limit; None if the system doesn't say, or sets no limit.
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
        except (OSError, ValueError):  # a system may grant less than it says
            wanted = soft
    return None if wanted == resource.RLIM_INFINITY else wanted


_DARWIN_MAXIMUM = 10_240
"""OPEN_MAX: macOS says there is no limit, but refuses more than this."""


def connections_possible(limit: int, *, may_relay: bool = False) -> int:
    """How many connections fit into a limit on descriptors; into half of a small limit.

    Args:
        limit: descriptors the process may have.
        may_relay: whether every connection may need a second one, to another gateway.
    """
    return max(limit - RESERVE, limit // 2) // (2 if may_relay else 1)
