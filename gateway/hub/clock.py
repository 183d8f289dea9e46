"""The time, as a hub tells it: monotonic seconds for deadlines, RFC 3339 for events and streams."""

from __future__ import annotations

import asyncio
import time

from deltawire.protocol.events import format_timestamp


class Clock:
    """The time of one event loop."""

    def __init__(self) -> None:
        self._stamp = ""
        self._stamped_at = -1.0  # the millisecond of the timestamp

    def start(self) -> None:
        """Take the time of the running loop."""
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time  # monotonic seconds
        self._offset = time.time() - self.now()  # from monotonic seconds to those since 1970

    def timestamp(self) -> str:
        """The time now, RFC 3339; events of one millisecond share it."""
        now = self.now() // 0.001
        if now != self._stamped_at:
            self._stamped_at = now
            self._stamp = format_timestamp(time.time())
        return self._stamp

    def format(self, at: float) -> str:
        """Monotonic seconds as RFC 3339, by the wall clock when the hub started: the same each time."""
        return format_timestamp(self._offset + at)
