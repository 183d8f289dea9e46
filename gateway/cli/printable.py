"""Text of others, made fit for a terminal."""

from __future__ import annotations

import re

_UNSAFE = re.compile(r"\r\n|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Control characters but newline and tab, and the marks that reorder a line (Unicode UAX #9); a CRLF is one piece."""

_DIRECTIONS = re.compile(r"[\u061c\u200e\u200f]")
"""Marks without a width that turn what is beside them, which text in Arabic or Hebrew may need."""

_UNSAFE_IN_JSON = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What JSON need not escape and a terminal obeys; all of it is in strings."""


def make_printable(text: str) -> str:
    """Text with what could drive a terminal made visible: ESC becomes ␛, and a CR ␍ unless an LF follows it."""
    return _UNSAFE.sub(lambda match: "\n" if match[0] == "\r\n" else _picture(ord(match[0])), text)


def make_line(text: str) -> str:
    """Text as one line that drives no terminal and turns nothing of ours beside it."""
    return _DIRECTIONS.sub("\N{REPLACEMENT CHARACTER}", make_printable(" ".join(text.split())))


def escape_json(text: str) -> str:
    """JSON that is equal and drives no terminal."""
    spaced = text.replace("\r", " ")  # between tokens: in a string there is none
    return _UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", spaced)


def _picture(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)  # the block of control pictures
    return "\N{SYMBOL FOR DELETE}" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"
