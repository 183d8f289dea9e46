"""The event loop of commands that serve."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["new_event_loop"]

new_event_loop: Callable[[], asyncio.AbstractEventLoop]
try:
    from uvloop import new_event_loop
except ImportError:  # not available on this platform
    from asyncio import new_event_loop
