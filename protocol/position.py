"""A reader's position in a stream: an epoch and a seq (SPEC §3.2).

A stream's epoch is an opaque string that is created when its log begins. A seq has meaning only within its epoch.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from deltawire.protocol.events import MAX_SEQ

_DIGITS = re.compile(r"[0-9]{1,16}", re.ASCII)


class Position(NamedTuple):
    """The last seq a reader has, and the epoch it belongs to; an empty epoch means the current one."""

    epoch: str
    seq: int


def parse_integer(text: str, low: int, high: int) -> int:
    """Parse a decimal integer within `low … high`, digits only.

    Raises:
        ValueError: the text is anything else; the message says what is expected.
    """
    if _DIGITS.fullmatch(text) is None or not low <= int(text) <= high:
        raise ValueError(f"expected an integer from {low} to {high}, got {text!r}")
    return int(text)


def parse_seq(text: str) -> int:
    """Parse a seq from a URL; 0 is the position before the first event.

    Raises:
        ValueError: the text is not an integer from 0 to 2^53-1.
    """
    return parse_integer(text, 0, MAX_SEQ)
