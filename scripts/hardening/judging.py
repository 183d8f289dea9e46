"""What must not have come of an attack: pure.

Some of it is plainly wrong. Some may be the machine's doing, which others use too: such a row is played once more, and
fails only if it is so again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from scripts.hardening.answers import DROPPED, LATE, is_documented
from scripts.hardening.attack import Attack
from scripts.hardening.neighbours import Seen

FACTOR: Final = 2.0
"""How much longer neighbours may wait, where an attack is judged by that, than when nobody attacks in the same run."""

FLOOR_MS: Final = 10.0
"""A p99 that is never too long: the scheduler of a busy machine takes as much from a gateway that nobody attacks."""


class Found(NamedTuple):
    """What was found.

    Attributes:
        wrong: whatever the machine did meanwhile.
        slow: what a busy machine does too.
    """

    wrong: tuple[str, ...] = ()
    slow: tuple[str, ...] = ()

    @property
    def is_doubtful(self) -> bool:
        """Whether to play the attack once more."""
        return bool(self.slow) and not self.wrong


def judge(attack: Attack, given: Mapping[str, int], seen: Seen, quiet: Seen) -> Found:
    """Judge what attempts were answered, and what neighbours saw.

    Args:
        attack: that was played.
        given: answers, and how often each was given.
        seen: by the neighbours meanwhile.
        quiet: by them when nobody attacked.
    """
    wrong: list[str] = []
    slow: list[str] = []
    for answer, count in given.items():
        if answer not in attack.expected or not is_documented(answer):
            is_late = answer == DROPPED or answer.startswith(LATE)  # a handshake that takes too long is dropped
            (slow if is_late else wrong).append(f"answered {answer!r} ({count} times)")
    if seen.lost:
        wrong.append(f"neighbours lost {seen.lost}")
    if seen.shut_out and not attack.shuts_out:
        slow.append(f"{seen.shut_out} of {seen.newcomers} newcomers did not get in")
    longest = longest_wait(quiet)
    if attack.is_timed and seen.p99_ms > longest:
        slow.append(f"p99 is {seen.p99_ms:.1f} ms, and should be {longest:.1f} ms at most")
    return Found(tuple(wrong), tuple(slow))


def longest_wait(quiet: Seen) -> float:
    """Milliseconds that the p99 of neighbours may be, by what it was when nobody attacked."""
    return max(FACTOR * quiet.p99_ms, FLOOR_MS)
