"""The keys on a server. Those of one stream share a hash tag, so that a cluster keeps them together."""

from __future__ import annotations

from typing import NamedTuple

LIBRARY = "deltawire_1"
"""The functions of `functions.lua`; the number changes with what they expect of the keys."""


class Keys(NamedTuple):
    """All keys.

    Attributes:
        prefix: of them.
    """

    prefix: str

    def of_stream(self, stream: str) -> tuple[str, str]:
        """The hash of a stream, and its entries."""
        tagged = f"{self.prefix}:{{{stream}}}"
        return f"{tagged}:state", f"{tagged}:events"

    @property
    def probe(self) -> tuple[str, str]:
        """Keys to try permissions on; no id of a stream has a star."""
        return self.of_stream("*")

    @property
    def streams(self) -> str:
        """The ids of all streams, by the time they were created."""
        return f"{self.prefix}:streams"

    @property
    def nodes(self) -> str:
        """The gateways, by when they were last there."""
        return f"{self.prefix}:nodes"

    def of_node(self, node: str) -> str:
        """The session of a gateway."""
        return f"{self.prefix}:node:{node}"


def call(name: str, keys: tuple[str, str], *args: str | bytes | int) -> tuple[str | bytes | int, ...]:
    """The command that calls a function."""
    return ("FCALL_RO" if name == "read" else "FCALL", f"{LIBRARY}_{name}", 2, *keys, *args)
