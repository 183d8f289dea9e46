"""What a person is told while nothing comes: pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

SILENCE: Final = 2.0
"""Seconds without an event after which a person is told; tokens seldom come less often."""

_FRAMES: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAMES_PER_SECOND: Final = 10


class Phase(StrEnum):
    """What a reader waits for, in words."""

    CONNECTING = "connecting"
    RECONNECTING = "reconnecting"
    NO_ANSWER = "waiting for an answer"
    NO_TOKEN = "waiting for the first token"  # noqa: S105 - of text
    THINKING = "thinking"
    CALLING = "calling a tool"
    WRITING = "writing"
    STOPPED = "waiting for the next answer"
    ENDED = "ended"


_FLOWING: Final = {Phase.THINKING, Phase.CALLING, Phase.WRITING}
"""Phases in which what comes is a sign by itself."""


def make_sign(phase: Phase, silent: float, now: float) -> str:
    """The sign that a terminal shows below what has come.

    Args:
        phase: what is waited for.
        silent: seconds since something came.
        now: seconds, by which the sign turns.

    Returns:
        One line; empty while things come, and when nothing more will.
    """
    if phase is Phase.ENDED or (silent < SILENCE and phase in _FLOWING):
        return ""
    frame = _FRAMES[int(now * _FRAMES_PER_SECOND) % len(_FRAMES)]
    return f"{frame} {phase}" + (f", nothing for {int(silent)} s" if silent >= SILENCE else "")
