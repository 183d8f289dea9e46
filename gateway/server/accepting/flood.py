"""How much one peer may send: messages, and frames without a message. Pure; time is an argument."""

from __future__ import annotations

from sys import maxsize
from typing import Final

from deltawire.gateway.server.accepting.rate import TokenBucket

JUDGED_FRAMES: Final = 256
"""Frames after which messages are judged: so rarely that it adds nothing to the cost of an event."""

MIN_BURST: Final = 4096
"""Messages a producer may send at once, whatever the rate: after a lost connection it sends everything that was in
flight again at once. If that were too much, it would be refused again and again."""

SCRAP: Final = 1024
"""Bytes under which a frame that ends no message is a scrap, and counts like a ping. Libraries that fragment a long
message send longer fragments; short ones cost as much as events, and a message may have any number of them."""

_LAST_FRAGMENT: Final = 0x80


class FloodGuard:
    """Counts the frames of one connection against its rates.

    Args:
        message_rate: messages a second; 0 is no limit.
        control_rate: pings, pongs and scraps of messages a second.
        now: monotonic seconds.
    """

    __slots__ = ("_control_rate", "_controls", "_frames", "_judged_frames", "_message_rate", "_messages")

    def __init__(self, message_rate: float, control_rate: float, now: float) -> None:
        self._message_rate = message_rate
        self._messages = TokenBucket(message_rate, max(message_rate, MIN_BURST), now)
        self._frames = 0  # since messages were last judged
        self._judged_frames = JUDGED_FRAMES if message_rate else maxsize
        self._control_rate = control_rate
        self._controls = TokenBucket(control_rate, max(2 * control_rate, 1), now)

    def judge_messages(self, count: int, now: float) -> str:
        """Count messages that came at once, or events in a message; return an error message, or an empty one."""
        self._frames += count
        if self._frames < self._judged_frames:
            return ""
        frames, self._frames = self._frames, 0
        if self._messages.take(now, frames):
            return ""
        return f"more than {self._message_rate:g} messages a second (message_rate): send fewer"

    def judge_other(self, frame: bytes, now: float) -> str:
        """Count a frame that is no whole message; return an error message, or an empty one."""
        if len(frame) >= SCRAP or frame[0] == _LAST_FRAGMENT or self._controls.take(now):
            return ""
        return f"more than {self._control_rate:g} pings, pongs and scraps of messages a second (control_rate)"
