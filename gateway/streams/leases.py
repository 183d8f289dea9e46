"""Messages in progress, and how long a lost producer has to return and finish them (SPEC §7.5).

    message_start ──► open ──► message_stop
                      │  ▲
      connection lost │  │ it goes on
                      ▼  │
                    lost ──► back
        lease is over │        │ it begins another message
                      ▼        ▼
                  expired    abandoned: the gateway ends the message itself

A message belongs to a producer id, or to its connection if that has no id. A new connection counts as the producer's
return, even if the old one has not closed. Lost messages of connections without an id go to the next such connection.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf, isfinite
from typing import TypeAlias

from deltawire.gateway.streams.producers import Writer
from deltawire.protocol.events import Data, MessageStart, MessageStop

MAX_OPEN = 64
"""Messages a stream may have in progress; beyond that the oldest is forgotten, as nobody interleaves that many."""

MAX_OPEN_BYTES = 16 * 1024
"""Bytes their ids may take together: 64 ids of 256 characters. Otherwise an id could be as long as a wire message."""

OPEN_COST = 128
"""Bytes a message in progress costs beside its id's characters (CPython 3.11)."""

Owner: TypeAlias = str | Writer | None
"""A producer id, a connection without one, or the gateway's own process, which is never lost."""


class Leases:
    """The messages in progress on one stream, by owner.

    Attributes:
        bytes: what they cost.
        waiting: lost owners → when their lease is over, in monotonic seconds; `inf` for an owner that is back but has
            not shown yet whether it continues its messages.
    """

    __slots__ = ("_open", "bytes", "waiting")

    def __init__(self) -> None:
        self._open: dict[str, Owner] = {}
        self.waiting: dict[Owner, float] = {}
        self.bytes = 0

    def begin(self, message_id: str, writer: Writer | None) -> bool:
        """Record that a message begins; forget the oldest ones if there are too many, or their ids too long.

        Returns:
            Whether it is the only one in progress.
        """
        self.end(message_id)
        self._open[message_id] = _owner(writer)
        self.bytes += _cost(message_id)
        while len(self._open) > MAX_OPEN or self.bytes > MAX_OPEN_BYTES:
            self.end(next(iter(self._open)))
        return len(self._open) == 1

    def end(self, message_id: str) -> None:
        """Record that a message has ended, whoever ended it."""
        if message_id in self._open:
            owner = self._open.pop(message_id)
            self.bytes -= _cost(message_id)
            if owner in self.waiting and owner not in self._open.values():
                del self.waiting[owner]

    def lost(self, writer: Writer, deadline: float) -> bool:
        """Record that the last connection of a producer is gone.

        Args:
            writer: of that connection.
            deadline: monotonic seconds when its lease is over.

        Returns:
            Whether it left a message in progress, so that a lease runs.
        """
        owner = _owner(writer)
        if owner not in self._open.values():
            return False
        self.waiting[owner] = min(deadline, self.waiting.get(owner, inf))  # being lost again extends no lease
        return True

    def returned(self, writer: Writer) -> None:
        """Record that a producer connected, and give it its messages in progress.

        These are the messages of its producer id; without an id, those of lost connections that had none either.
        """
        owner = _owner(writer)
        if writer.id is None:
            for message_id, other in self._open.items():
                if not isinstance(other, str) and isfinite(self.waiting.get(other, inf)):
                    self._open[message_id] = owner
            self.waiting = {other: until for other, until in self.waiting.items() if other in self._open.values()}
        if owner in self._open.values():
            self.waiting[owner] = inf

    def resume(self, writer: Writer, data: Data) -> list[str]:
        """Note what a producer that came back writes: it shows whether it continues its messages or abandons them.

        Args:
            writer: of its connection.
            data: the event it is about to append. A `message_stop` names its message and says nothing about others;
                a `message_start` abandons all others; any other event may belong to any of them.

        Returns:
            Messages it has abandoned; they are no longer in progress.
        """
        owner = _owner(writer)
        if self.waiting.get(owner) != inf or isinstance(data, MessageStop):
            return []
        del self.waiting[owner]
        if not isinstance(data, MessageStart):
            return []
        return self._end_of([owner], but=data.message_id)

    def expire(self, now: float) -> list[str]:
        """End and return the messages whose lease is over; nobody will finish them."""
        return self._end_of([owner for owner, deadline in self.waiting.items() if deadline <= now])

    def _end_of(self, owners: list[Owner], but: str = "") -> list[str]:
        ended = [message_id for message_id, owner in self._open.items() if owner in owners and message_id != but]
        for message_id in ended:
            self.end(message_id)
        return ended

    def restore(self, messages: Iterable[tuple[str, str | None]], deadline: float) -> None:
        """Take over messages in progress before a restart; their producers have until a deadline to return.

        Args:
            messages: with the producer ids they belong to.
            deadline: monotonic seconds.
        """
        nobody = Writer(None, 0)  # stands for the lost connections without an id
        for message_id, owner in messages:
            self._open[message_id] = owner or nobody
            self.bytes += _cost(message_id)
            self.waiting[owner or nobody] = deadline

    def owners(self) -> list[tuple[str, str | None]]:
        """The messages in progress, with the producer ids they belong to; None for connections without an id."""
        return [(message_id, owner if isinstance(owner, str) else None) for message_id, owner in self._open.items()]

    @property
    def is_running(self) -> bool:
        """Whether a lease is running."""
        return any(map(isfinite, self.waiting.values()))


def _owner(writer: Writer | None) -> Owner:
    return writer if writer is None or writer.id is None else writer.id


def _cost(message_id: str) -> int:
    return len(message_id.encode()) + OPEN_COST
