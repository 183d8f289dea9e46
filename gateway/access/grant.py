"""What a connection may do: pure.

A grant says, for each action, on which streams: by exact ids and by prefixes. It is matched against a stream id that
was decoded once, when the request's path was parsed, and that is the very text the stream is looked up by.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from msgspec import Struct

from deltawire.protocol.messages import Policy

_ENTRY = re.compile(r"[A-Za-z0-9._:@-]{1,128}\*?|\*", re.ASCII)


class Action(StrEnum):
    """What can be done to a stream."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    SIGNAL = "signal"
    ADMIN = "admin"


class Streams(Struct, frozen=True):
    """A set of stream ids.

    Attributes:
        exact: ids that are in it.
        prefixes: beginnings of ids that are in it; the empty one is that of all.
    """

    exact: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()

    def __contains__(self, stream_id: str) -> bool:
        return stream_id in self.exact or stream_id.startswith(self.prefixes)


def parse_streams(entries: Iterable[str]) -> Streams:
    """The streams that a list in a token names (SPEC §11.2).

    Args:
        entries: exact ids, or beginnings of ids with `*` after them.

    Raises:
        ValueError: an entry is neither.
    """
    exact: set[str] = set()
    prefixes: list[str] = []
    for entry in entries:
        if _ENTRY.fullmatch(entry) is None:
            raise ValueError("expected stream ids, or beginnings of them with * after")
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
        subject: whom it was made for (`sub`), for logs; empty where it does not say.
        key: tells holders apart for limits: the same for each use of a token, and no secret; empty without
            authentication.
        expires_at: seconds since 1970, on the wall's clock.
        publish: streams that may be published to.
        subscribe: streams that may be read.
        signal: streams whose producers may be signalled.
        admin: streams that may be created, closed and described.
        policies: what a consumer may choose; None is all.
    """

    subject: str = ""
    key: str = ""
    expires_at: float = math.inf
    publish: Streams = NO_STREAMS
    subscribe: Streams = NO_STREAMS
    signal: Streams = NO_STREAMS
    admin: Streams = NO_STREAMS
    policies: frozenset[Policy] | None = None

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
        """Whether a consumer may have the policy it asks for; to ask for none is always allowed."""
        return policy is None or self.policies is None or policy in self.policies

    def may_see(self, stream_id: str) -> bool:
        """Whether a stream's info may be known."""
        return stream_id in self.subscribe or stream_id in self.admin

    @property
    def seen(self) -> Streams:
        """The streams whose info may be known."""
        return Streams(self.subscribe.exact | self.admin.exact, self.subscribe.prefixes + self.admin.prefixes)

    @property
    def may_administer_all(self) -> bool:
        """Whether it is an operator's: for what is about the gateway and about no stream."""
        return "" in self.admin.prefixes


EVERYTHING: Final = Grant(publish=ALL_STREAMS, subscribe=ALL_STREAMS, signal=ALL_STREAMS, admin=ALL_STREAMS)
"""What everybody may do who reaches a gateway without authentication."""
