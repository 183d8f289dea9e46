"""The keys on a server. Those of one stream share a hash tag, which a cluster would keep together."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

LIBRARY = "deltawire_2"
"""The functions of `functions.lua`; the number changes with what they take and answer: gateways of two versions may use
one server."""

OfStream: TypeAlias = tuple[str, str, str]
"""The keys that the functions take."""

_READING = ("read", "summary")


class Keys(NamedTuple):
    """All keys.

    Attributes:
        prefix: of them.
    """

    prefix: str

    def of_stream(self, stream: str) -> OfStream:
        """The hash of a stream, its entries, and the list that it is on."""
        tagged = f"{self.prefix}:{{{stream}}}"
        return f"{tagged}:state", f"{tagged}:events", self.streams

    @property
    def probe(self) -> OfStream:
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


def call(name: str, keys: OfStream, *args: str | bytes | int) -> tuple[str | bytes | int, ...]:
    """The command that calls a function."""
    return ("FCALL_RO" if name in _READING else "FCALL", f"{LIBRARY}_{name}", len(keys), *keys, *args)
