"""Why a payload could not be decoded, in words that name field and reason (SPEC §4.3)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Raw

from deltawire.protocol.events import MAX_NESTING

DECODE_ERRORS: Final = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)
"""All exceptions with which msgspec refuses a payload. Some come from Python's constructors: `UnicodeDecodeError` for
text that is not UTF-8, `ValueError` for a MessagePack timestamp after the year 9999."""

_NAMED_LEVELS = 3
"""Number of levels with field names of this protocol: `$.data.data` is the deepest path."""

_AT_BYTE = re.compile(r"\(byte ([0-9]+)\)$", re.ASCII)
_VALUE = re.compile(r"'(.*)'", re.DOTALL)
_LONE_SURROGATE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])")
_JSON_NAME = re.compile(rb'"([^"\\]*)"\s*:')


class Explainer:
    """Turns the decoding errors of one encoding into reasons.

    Args:
        is_text: whether the encoding is JSON.
        make_decoder: returns a function that decodes a payload to a value of the given type.
    """

    def __init__(self, *, is_text: bool, make_decoder: Callable[[Any], Callable[[bytes | Raw], Any]]) -> None:
        self._is_text = is_text
        self._fields = make_decoder(dict[str, Raw])
        self._any = make_decoder(Any)

    def explain(self, error: Exception, payload: bytes, known: str) -> str:
        """Say what was wrong with a payload.

        Args:
            error: one of `DECODE_ERRORS`.
            payload: the payload that could not be decoded.
            known: the valid message types.
        """
        if not payload.strip():
            return "empty message"
        if isinstance(error, RecursionError):
            return f"nested deeper than {MAX_NESTING} levels"
        if not isinstance(error, msgspec.MsgspecError):
            return f"{_explain_value(error)} - at `{self._locate(payload)}`"
        reason = str(error)
        if reason.startswith("Invalid value") and reason.endswith("at `$.type`"):
            return _explain_type(reason, known)
        if self._is_text and not isinstance(error, msgspec.ValidationError):
            return _explain_malformed(reason, payload)
        return reason

    def _locate(self, payload: bytes | Raw) -> str:
        """The path of the deepest named value that contains the fault."""
        path = "$"
        for _ in range(_NAMED_LEVELS):
            try:
                fields: dict[str, Raw] = self._fields(payload)
            except DECODE_ERRORS:
                break
            faulty = next((name for name, value in fields.items() if not self._is_decodable(value)), None)
            if faulty is None:
                break
            path, payload = f"{path}.{faulty}", fields[faulty]
        return path

    def _is_decodable(self, payload: Raw) -> bool:
        try:
            self._any(payload)
        except DECODE_ERRORS:
            return False
        return True


def _explain_value(error: Exception) -> str:
    """The reason for a value that Python can't represent."""
    if isinstance(error, UnicodeDecodeError):
        return f"invalid UTF-8: {error.reason} at byte {error.start} of a string"
    return f"invalid value: {error}"


def _explain_type(reason: str, known: str) -> str:
    """The reason for an unknown type, or for two types that differ."""
    if (value := _VALUE.search(reason)) and value[1] in known.split(", "):
        return f"two types that differ: {value[1]!r} after another one - at `$.type`"
    return f"unknown type: {reason}; the types are {known}"


def _explain_malformed(reason: str, payload: bytes) -> str:
    """The reason for malformed JSON, with the last name before the fault."""
    end = len(payload)
    if place := _AT_BYTE.search(reason):
        end = int(place[1])
    elif surrogate := _LONE_SURROGATE.search(payload):  # at the end of a string, msgspec reports truncated input
        reason, end = "JSON is malformed: a \\u escape of a lone surrogate", surrogate.start()
    names = _JSON_NAME.findall(payload, 0, end)
    return f"{reason}, after `{names[-1].decode(errors='replace')}`" if names else reason
