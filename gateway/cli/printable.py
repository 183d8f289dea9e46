"""Text of others, made fit for a terminal."""

from __future__ import annotations

import re

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Control characters but newline and tab, and the marks that reorder a line (Unicode UAX #9)."""


def make_printable(text: str) -> str:
    """Text with what could drive a terminal made visible: ESC becomes ␛."""
    return _UNSAFE.sub(lambda match: _picture(ord(match[0])), text)


def _picture(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)  # the block of control pictures
    return "\N{SYMBOL FOR DELETE}" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"
