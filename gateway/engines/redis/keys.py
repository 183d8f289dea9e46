"""The keys on a server. Those of one stream share a hash tag, which a cluster keeps together."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from deltawire.gateway.engines.redis.topology import TAGS, bucket_of

OfStream: TypeAlias = tuple[str, str, str]
"""The keys that the functions take."""


class Keys(NamedTuple):
    """All keys.

    Attributes:
        prefix: of them.
        is_clustered: many streams share a tag, and a list.
    """

    prefix: str
    is_clustered: bool = False

    def of_stream(self, stream: str) -> OfStream:
        """The hash of a stream, its entries, and the list that it is on."""
        if self.is_clustered:
            return self._of_bucket(TAGS[bucket_of(stream)], stream)
        tagged = f"{self.prefix}:{{{stream}}}"
        return f"{tagged}:state", f"{tagged}:events", f"{self.prefix}:streams"

    def tell_foreign(self, stream: str, why: str) -> str:
        """What is told of a stream whose keys are not what a gateway writes, as another program has them.

        Args:
            stream: its id.
            why: what the server, or who parsed them, says.
        """
        state, events, streams = self.of_stream(stream)
        return (
            f"stream {stream!r} can't be served: one of the keys {state}, {events} and {streams} is not what a gateway "
            f"writes ({why}): delete or rename that one, or set another engine_prefix"
        )

    def _of_bucket(self, tag: str, stream: str) -> OfStream:
        tagged = f"{self.prefix}:{{{tag}}}"
        return f"{tagged}:{stream}:state", f"{tagged}:{stream}:events", f"{tagged}:streams"

    @property
    def probes(self) -> list[OfStream]:
        """Keys to try permissions on, on every server; no id of a stream has a star."""
        return [self._of_bucket(tag, "*") for tag in TAGS] if self.is_clustered else [self.of_stream("*")]

    @property
    def lists(self) -> list[str]:
        """The ids of all streams, by the time they were created."""
        return [streams for _, _, streams in self.probes]

    @property
    def nodes(self) -> str:
        """The gateways, by when they were last there."""
        return f"{self._common}:nodes"

    def of_node(self, node: str) -> str:
        """The session of a gateway."""
        return f"{self._common}:node:{node}"

    @property
    def _common(self) -> str:
        """What keys begin with that are of no stream; in a cluster they are together, like those of one."""
        return f"{self.prefix}:{{{TAGS[0]}}}" if self.is_clustered else self.prefix
