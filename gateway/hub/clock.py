"""The time of a hub: monotonic seconds for deadlines, and what they are by the wall clock."""

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
        self._offset = time.time() - self.now()  # from monotonic seconds to those since 1970

    def format(self, at: float) -> str:
        """Monotonic seconds as RFC 3339, by the wall clock when the hub started: the same each time."""
        return format_timestamp(self._offset + at)
