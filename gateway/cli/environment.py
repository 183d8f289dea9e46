"""Variables that begin with `DELTAWIRE_`: which there are, and which are none of ours. Pure.

One that is misspelt would do nothing, and a limit that was meant not hold. Whoever runs a gateway is refused with it,
as with an unknown key of the file. Commands that connect run where others keep variables of their own, so that they
warn, and only of what looks misspelt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

from deltawire.gateway.config import Settings

PREFIX: Final = "DELTAWIRE_"

BESIDE_SETTINGS: Final = ("CONFIG", "URL", "TOKEN", "TLS_CA", "TLS_CLIENT_CERT", "TLS_CLIENT_KEY")
"""What commands read that is no setting of a gateway, without the prefix."""

LIKENESS: Final = 0.75
"""How like a known name one must be to be taken for it misspelt: one letter of four, or two of nine."""

_SERVICE = re.compile(r"DELTAWIRE_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_SERVICE_PORT = re.compile(r"(tcp|udp|sctp)://")


def known_variables() -> set[str]:
    """Every variable that a command reads."""
    settings = (name.upper() for name in Settings.__struct_fields__)
    return {f"{PREFIX}{name}" for name in (*settings, *BESIDE_SETTINGS)}


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that nobody reads, with the known one each is like; empty where there is none.

    Kubernetes makes some of a service named `deltawire`, and of `deltawire-…`: nobody meant these.
    """
    known = known_variables()
    unknown = [name for name, value in environment.items() if name.startswith(PREFIX) and name not in known and value]
    return {name: _closest(name, known) for name in unknown if not _is_of_a_service(name, environment[name])}


def _is_of_a_service(name: str, value: str) -> bool:
    return bool(_SERVICE.fullmatch(name) or (name.endswith("_PORT") and _SERVICE_PORT.match(value)))


def _closest(name: str, known: set[str]) -> str:
    rest = [it.removeprefix(PREFIX) for it in sorted(known)]
    return "".join(PREFIX + it for it in get_close_matches(name.removeprefix(PREFIX), rest, n=1, cutoff=LIKENESS))
