"""Known and unknown variables that begin with `DELTAWIRE_`. Pure.

A misspelt variable would be ignored, and the limit it should set would not apply. `serve` therefore refuses unknown
variables, like unknown keys of the file. Commands that connect may run where other programs have variables with this
prefix; they only warn, and only of variables that look misspelt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

from deltawire.gateway.config import Settings

PREFIX: Final = "DELTAWIRE_"

BESIDE_SETTINGS: Final = ("CONFIG", "URL", "TOKEN", "TLS_CA", "TLS_CLIENT_CERT", "TLS_CLIENT_KEY")
"""Variables that commands read besides the settings, without the prefix."""

LIKENESS: Final = 0.75
"""Similarity to a known name from which a name counts as misspelt: one wrong letter in four, or two in nine."""

_SERVICE = re.compile(r"DELTAWIRE_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_SERVICE_PORT = re.compile(r"(tcp|udp|sctp)://")


def known_variables() -> set[str]:
    """Every variable that a command reads."""
    settings = (name.upper() for name in Settings.__struct_fields__)
    return {f"{PREFIX}{name}" for name in (*settings, *BESIDE_SETTINGS)}


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that no command reads, each with the known name it resembles, or an empty string.

    Variables that Kubernetes injects for services named `deltawire` or `deltawire-…` are left out.
    """
    known = known_variables()
    unknown = [name for name, value in environment.items() if name.startswith(PREFIX) and name not in known and value]
    return {name: _closest(name, known) for name in unknown if not _is_of_a_service(name, environment[name])}


def _is_of_a_service(name: str, value: str) -> bool:
    return bool(_SERVICE.fullmatch(name) or (name.endswith("_PORT") and _SERVICE_PORT.match(value)))


def _closest(name: str, known: set[str]) -> str:
    rest = [it.removeprefix(PREFIX) for it in sorted(known)]
    return "".join(PREFIX + it for it in get_close_matches(name.removeprefix(PREFIX), rest, n=1, cutoff=LIKENESS))
