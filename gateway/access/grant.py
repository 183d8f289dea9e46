"""What a connection may do: pure.

For each action, a grant lists the streams on which it is allowed, by exact ids and by prefixes. It is matched against
the stream id that was percent-decoded once from the request's path; the same text is used to look up the stream.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from msgspec import Struct

from deltawire.protocol.messages import Policy
from deltawire.protocol.priority import StreamClass

_ENTRY = re.compile(r"[A-Za-z0-9._:@-]{1,128}\*?|\*", re.ASCII)


class Action(StrEnum):
    """The actions on a stream."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    SIGNAL = "signal"
    ADMIN = "admin"


class Streams(Struct, frozen=True):
    """A set of stream ids.

    Attributes:
        exact: ids in the set.
        prefixes: prefixes of ids in the set; the empty prefix matches all ids.
    """

    exact: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()

    def __contains__(self, stream_id: str) -> bool:
        return stream_id in self.exact or stream_id.startswith(self.prefixes)


def parse_streams(entries: Iterable[str]) -> Streams:
    """Parse a list of streams in a token (SPEC §11.2).

    Args:
        entries: exact ids, or prefixes of ids followed by `*`.

    Raises:
        ValueError: an entry is neither.
    """
    exact: set[str] = set()
    prefixes: list[str] = []
    for entry in entries:
        if _ENTRY.fullmatch(entry) is None:
            raise ValueError("expected stream ids, or prefixes followed by *")
        if entry.endswith("*"):
            prefixes.append(entry[:-1])
        else:
            exact.add(entry)
    return Streams(frozenset(exact), tuple(prefixes))


NO_STREAMS: Final = Streams()
ALL_STREAMS: Final = Streams(prefixes=("",))


class Grant(Struct, frozen=True, kw_only=True):
    """What one token allows.

    Attributes:
        subject: the subject of the token (`sub`), for logs; empty if it has none.
        key: identifies the holder for limits: not secret, and the same for each use of a token; empty without
            authentication.
        expires_at: seconds since 1970, by the wall clock.
        publish: streams to which the holder may publish.
        subscribe: streams that the holder may read.
        signal: streams to whose producers the holder may send signals.
        admin: streams that the holder may create, close and inspect.
        policies: policies that a consumer may choose; None means all.
        stream_class: class of the streams to which the holder publishes; None leaves it to the gateway.
    """

    subject: str = ""
    key: str = ""
    expires_at: float = math.inf
    publish: Streams = NO_STREAMS
    subscribe: Streams = NO_STREAMS
    signal: Streams = NO_STREAMS
    admin: Streams = NO_STREAMS
    policies: frozenset[Policy] | None = None
    stream_class: StreamClass | None = None

    def may(self, action: Action, stream_id: str) -> bool:
        """Whether an action is allowed on a stream."""
        match action:
            case Action.PUBLISH:
                return stream_id in self.publish
            case Action.SUBSCRIBE:
                return stream_id in self.subscribe
            case Action.SIGNAL:
                return stream_id in self.signal
            case Action.ADMIN:
                return stream_id in self.admin

    def may_choose(self, policy: Policy | None) -> bool:
        """Whether a consumer may have the policy it asks for; asking for none is always allowed."""
        return policy is None or self.policies is None or policy in self.policies

    def may_see(self, stream_id: str) -> bool:
        """Whether the holder may see a stream's info."""
        return stream_id in self.subscribe or stream_id in self.admin

    @property
    def seen(self) -> Streams:
        """The streams whose info the holder may see."""
        return Streams(self.subscribe.exact | self.admin.exact, self.subscribe.prefixes + self.admin.prefixes)

    @property
    def may_administer_all(self) -> bool:
        """Whether this is an operator's grant, which includes requests about the gateway itself."""
        return "" in self.admin.prefixes


EVERYTHING: Final = Grant(publish=ALL_STREAMS, subscribe=ALL_STREAMS, signal=ALL_STREAMS, admin=ALL_STREAMS)
"""The grant of every peer of a gateway without authentication."""
