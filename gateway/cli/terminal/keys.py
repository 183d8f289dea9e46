"""Keys of a terminal: characters, and the names of those that send an escape sequence. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[@-~])")
"""A control sequence (ECMA-48 §5.4), or a function key in application mode."""

_NAMES: Final = {
    "A": "up",
    "B": "down",
    "C": "right",
    "D": "left",
    "F": "end",
    "H": "home",
    "1~": "home",
    "4~": "end",
    "5~": "pageup",
    "6~": "pagedown",
    "7~": "home",
    "8~": "end",
}
_CHARACTERS: Final = {"\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", "\x1b": "escape"}


def parse_keys(typed: str) -> Iterator[str]:
    """The keys that were pressed: a character each, or a name of several letters; keys without a name are left out.

    Args:
        typed: what came from the terminal at once. An ESC that begins no sequence is the key itself.
    """
    at = 0
    while at < len(typed):
        if sequence := _SEQUENCE.match(typed, at):
            at = sequence.end()
            if name := _NAMES.get(sequence[0][2:]):
                yield name
        else:
            yield _CHARACTERS.get(typed[at], typed[at])
            at += 1
