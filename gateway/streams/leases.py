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

    __slots__ = ("_open", "_over", "bytes", "waiting")

    def __init__(self) -> None:
        self._open: dict[tuple[str, Owner], None] = {}  # two owners may have messages with one id
        self._over: tuple[str, ...] = ()  # ids of messages that were ended here, and whose stops are still to come
        self.waiting: dict[Owner, float] = {}
        self.bytes = 0

    def begin(self, message_id: str, writer: Writer | None) -> bool:
        """Record that a message begins; forget the oldest ones if there are too many, or their ids too long.

        Returns:
            Whether it is the only one in progress.
        """
        key = (message_id, _owner(writer))
        self._forget(key)
        self._open[key] = None
        self.bytes += _cost(message_id)
        while len(self._open) > MAX_OPEN or self.bytes > MAX_OPEN_BYTES:
            self._forget(next(iter(self._open)))
        return len(self._open) == 1

    def end(self, message_id: str, writer: Writer | None = None) -> None:
        """Record that a message has ended: that of the writer, or else the first one with this id.

        Args:
            message_id: its id.
            writer: of the connection that ended it; None for the gateway, which ends expired and abandoned messages.
        """
        if writer is None and message_id in self._over:
            place = self._over.index(message_id)
            self._over = self._over[:place] + self._over[place + 1 :]
            return
        key = (message_id, _owner(writer))
        if key not in self._open:
            key = next((other for other in self._open if other[0] == message_id), key)
        self._forget(key)

    def _forget(self, key: tuple[str, Owner]) -> None:
        if key not in self._open:
            return
        del self._open[key]
        message_id, owner = key
        self.bytes -= _cost(message_id)
        if owner in self.waiting and owner not in self._owners():
            del self.waiting[owner]

    def _owners(self) -> set[Owner]:
        return {owner for _, owner in self._open}

    def lost(self, writer: Writer, deadline: float) -> bool:
        """Record that the last connection of a producer is gone.

        Args:
            writer: of that connection.
            deadline: monotonic seconds when its lease is over.

        Returns:
            Whether it left a message in progress, so that a lease runs.
        """
        owner = _owner(writer)
        if owner not in self._owners():
            return False
        self.waiting[owner] = min(deadline, self.waiting.get(owner, inf))  # being lost again extends no lease
        return True

    def returned(self, writer: Writer) -> None:
        """Record that a producer connected, and give it its messages in progress.

        These are the messages of its producer id; without an id, those of lost connections that had none either.
        """
        owner = _owner(writer)
        if writer.id is None:
            self._open = {(message_id, self._heir(other, owner)): None for message_id, other in self._open}
            self.bytes = sum(_cost(message_id) for message_id, _ in self._open)  # two with one id are one now
            owners = self._owners()
            self.waiting = {other: until for other, until in self.waiting.items() if other in owners}
        if owner in self._owners():
            self.waiting[owner] = inf

    def _heir(self, owner: Owner, new: Owner) -> Owner:
        """Return the owner of an owner's messages after a connection without an id has come."""
        return new if not isinstance(owner, str) and isfinite(self.waiting.get(owner, inf)) else owner

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
        ended = [(message_id, owner) for message_id, owner in self._open if owner in owners and message_id != but]
        for key in ended:
            self._forget(key)
        self._over = tuple(message_id for message_id, _ in ended)
        return list(self._over)

    def restore(self, messages: Iterable[tuple[str, str | None]], deadline: float) -> None:
        """Take over messages in progress before a restart; their producers have until a deadline to return.

        Args:
            messages: with the producer ids they belong to.
            deadline: monotonic seconds.
        """
        nobody = Writer(None, 0)  # stands for the lost connections without an id
        for message_id, owner in messages:
            self._open[message_id, owner or nobody] = None
            self.bytes += _cost(message_id)
            self.waiting[owner or nobody] = deadline

    def owners(self) -> list[tuple[str, str | None]]:
        """The messages in progress, with the producer ids they belong to; None for connections without an id."""
        return [(message_id, owner if isinstance(owner, str) else None) for message_id, owner in self._open]

    @property
    def is_running(self) -> bool:
        """Whether a lease is running."""
        return any(map(isfinite, self.waiting.values()))


def _owner(writer: Writer | None) -> Owner:
    return writer if writer is None or writer.id is None else writer.id


def _cost(message_id: str) -> int:
    return len(message_id.encode()) + OPEN_COST
