"""File descriptors: as many as the system allows, and what happens when there are no more.

A connection is a descriptor. When they run out, libuv (under uvloop) accepts what waits with one it keeps in reserve,
and closes it at once: neither does the backlog grow nor the loop spin. asyncio's own loop stops accepting for a second.
Connections that are there are touched by neither.
"""

from __future__ import annotations

import sys

if sys.platform != "win32":
    import resource


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
