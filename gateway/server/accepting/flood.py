"""How much one peer may send: messages, and frames that say nothing. Pure; time is an argument."""

from __future__ import annotations

from sys import maxsize
from typing import Final

from deltawire.gateway.server.accepting.rate import TokenBucket

JUDGED_FRAMES: Final = 256
"""Frames after which messages are judged: seldom enough that it costs an event nothing."""

MIN_BURST: Final = 4096
"""Messages a producer may send at once, whatever the rate: what it had on the way when its connection was lost comes
again in one piece, and would be refused again and again if that were too much."""

SCRAP: Final = 1024
"""Bytes under which a frame that ends no message is a scrap, and counts as a ping does. Libraries that send a long
message in pieces make them longer; short ones cost as much as events, and there is no end to them."""

_LAST_FRAGMENT: Final = 0x80


class FloodGuard:
    """Judges what comes on one connection.

    Args:
        message_rate: messages a second; 0 is no limit.
        control_rate: pings, pongs and scraps of messages a second.
        now: monotonic seconds.
    """

    __slots__ = ("_control_rate", "_controls", "_frames", "_judged_frames", "_message_rate", "_messages")

    def __init__(self, message_rate: float, control_rate: float, now: float) -> None:
        self._message_rate = message_rate
        self._messages = TokenBucket(message_rate, max(message_rate, MIN_BURST), now)
        self._frames = 0  # since they were last judged
        self._judged_frames = JUDGED_FRAMES if message_rate else maxsize
        self._control_rate = control_rate
        self._controls = TokenBucket(control_rate, max(2 * control_rate, 1), now)

    def judge_messages(self, count: int, now: float) -> str:
        """So many messages came at once, or events in one: what is wrong about it, in words; empty where nothing is."""
        self._frames += count
        if self._frames < self._judged_frames:
            return ""
        frames, self._frames = self._frames, 0
        if self._messages.take(now, frames):
            return ""
        return f"more than {self._message_rate:g} messages a second (message_rate): send fewer"

    def judge_other(self, frame: bytes, now: float) -> str:
        """A frame came that is no whole message: what is wrong about it, in words; empty where nothing is."""
        if len(frame) >= SCRAP or frame[0] == _LAST_FRAGMENT or self._controls.take(now):
            return ""
        return f"more than {self._control_rate:g} pings, pongs and scraps of messages a second (control_rate)"
