"""Make untrusted text safe for a terminal."""

from __future__ import annotations

import re

_UNSAFE = re.compile(r"\r\n|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Control characters except newline and tab, and the characters that reorder a line (Unicode UAX #9); CRLF is one."""

_DIRECTIONS = re.compile(r"[\u061c\u200e\u200f]")
"""Zero-width direction marks, which change the direction of adjacent text; Arabic or Hebrew text may need them."""

_UNSAFE_IN_JSON = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters that JSON need not escape but a terminal obeys; in JSON they occur only inside strings."""


def make_printable(text: str) -> str:
    """Replace characters that control a terminal by visible ones: ESC becomes ␛, CR becomes ␍, CRLF a newline."""
    return _UNSAFE.sub(lambda match: "\n" if match[0] == "\r\n" else _picture(ord(match[0])), text)


def make_line(text: str) -> str:
    """Text as one line, without characters that control a terminal or change the direction of adjacent text."""
    return _DIRECTIONS.sub("\N{REPLACEMENT CHARACTER}", make_printable(" ".join(text.split())))


def escape_json(text: str) -> str:
    """Equal JSON without characters that control a terminal."""
    spaced = text.replace("\r", " ")  # only between tokens: strings can't contain it
    return _UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", spaced)


def _picture(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)  # the Unicode block Control Pictures
    return "\N{SYMBOL FOR DELETE}" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"
