"""The functions that a server has for gateways: how they are loaded, called, and loaded again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from deltawire.gateway.engines.redis.link import Command

LIBRARY: Final = "deltawire_3"
"""The functions of `functions.lua`; the number changes with what they are, take and answer. Each version of the gateway
calls its own, so that several may use one server; what they write is the same."""

SOURCE: Final = (Path(__file__).parent / "functions.lua").read_text(encoding="utf-8")

LOAD: Final[Command] = ("FUNCTION", "LOAD", "REPLACE", SOURCE)

_READING = ("read", "summary", "vacant")

_NOT_LOADED: Final = "Function not found"


def call(name: str, keys: Sequence[str], *args: str | bytes | int) -> Command:
    """The command that calls a function."""
    return ("FCALL_RO" if name in _READING else "FCALL", f"{LIBRARY}_{name}", len(keys), *keys, *args)


def is_unloaded(reply: Any) -> bool:
    """Whether a reply says that a server has lost our functions, or never had them."""
    return isinstance(reply, Exception) and _NOT_LOADED in str(reply)
