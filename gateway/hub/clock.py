"""The time of a hub: monotonic seconds for deadlines, and their conversion to wall-clock time."""

from __future__ import annotations

import asyncio
import time

from deltawire.protocol.events import format_timestamp


class Clock:
    """The time of one event loop."""

    def start(self) -> None:
        """Take the time of the running loop."""
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time  # monotonic seconds
        self._offset = time.time() - self.now()  # from monotonic seconds to seconds since 1970

    def monotonic(self, at: float) -> float:
        """Convert seconds since 1970."""
        return at - self._offset

    def format(self, at: float) -> str:
        """Format monotonic seconds as RFC 3339. The offset is from the hub's start, so that results stay the same."""
        return format_timestamp(self._offset + at)
