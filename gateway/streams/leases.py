"""Messages in progress, and how long a lost producer has to come back and finish them (SPEC §7.5).

    message_start ──► open ──► message_stop
                      │  ▲
      connection lost │  │ it goes on
                      ▼  │
                    lost ──► back
        lease is over │        │ it begins another message
                      ▼        ▼
                  expired    abandoned: the gateway ends the message itself

A message belongs to a producer id, or to one connection where that has none. A connection that comes is its producer
come back, whether the one before was seen to go or not. Lost messages of connections without an id are the next one's.
"""

from __future__ import annotations

from math import inf, isfinite
from typing import TypeAlias

from deltawire.gateway.streams.producers import Writer
from deltawire.protocol.events import Data, MessageStart, MessageStop

MAX_OPEN = 64
"""Messages a stream may have in progress; the one begun first is forgotten, as nobody interleaves that many."""

MAX_OPEN_BYTES = 16 * 1024
"""Bytes their ids may have together: 64 of 256 characters, where a message's id could be as long as a message."""

OPEN_COST = 128
"""Bytes a message in progress costs beside its id's characters (CPython 3.11)."""

Owner: TypeAlias = str | Writer | None
"""A producer id, a connection without one, or the gateway's own process, which is never lost."""


class Leases:
    """The messages in progress on one stream, by whom they belong to.

    Attributes:
        bytes: what they cost.
        waiting: owners of messages that are waited for → when their lease is over, in monotonic seconds; `inf` for one
            that is back and has yet to show whether it goes on with them.
    """

    __slots__ = ("_open", "_over", "bytes", "waiting")

    def __init__(self) -> None:
        self._open: dict[tuple[str, Owner], None] = {}  # two owners may have messages with one id
        self._over: tuple[str, ...] = ()  # ids of messages that were ended here, and whose stops are still to come
        self.waiting: dict[Owner, float] = {}
        self.bytes = 0

    def begin(self, message_id: str, writer: Writer | None) -> bool:
        """A message begins; those begun first are forgotten where it is one too many, or too long.

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
        """A message has ended: that of the one who says so, else that of whoever began it first.

        Args:
            message_id: its id.
            writer: what the one who says so writes with; the gateway says so of what has expired or was abandoned.
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
        """The last connection of a producer is gone.

        Args:
            writer: what it wrote with.
            deadline: monotonic seconds when its lease is over.

        Returns:
            Whether it left a message in progress, so that there is a lease.
        """
        owner = _owner(writer)
        if owner not in self._owners():
            return False
        self.waiting[owner] = min(deadline, self.waiting.get(owner, inf))  # one that was lost before gains nothing
        return True

    def returned(self, writer: Writer) -> None:
        """A producer connected: what its id, or those lost without one, left in progress is its own."""
        owner = _owner(writer)
        if writer.id is None:
            self._open = {(message_id, self._heir(other, owner)): None for message_id, other in self._open}
            self.bytes = sum(_cost(message_id) for message_id, _ in self._open)  # two with one id are one now
            owners = self._owners()
            self.waiting = {other: until for other, until in self.waiting.items() if other in owners}
        if owner in self._owners():
            self.waiting[owner] = inf

    def _heir(self, owner: Owner, new: Owner) -> Owner:
        """Who has the messages of an owner when a connection without an id comes."""
        return new if not isinstance(owner, str) and isfinite(self.waiting.get(owner, inf)) else owner

    def resume(self, writer: Writer, data: Data) -> list[str]:
        """A producer writes, and shows thereby what it does about the messages it came back to.

        Args:
            writer: what it writes with.
            data: what it is about to say. A `message_stop` names its message and says nothing of others; a
                `message_start` leaves all others behind; everything else may be of any of them.

        Returns:
            Messages it has abandoned, which are in progress no more.
        """
        owner = _owner(writer)
        if self.waiting.get(owner) != inf or isinstance(data, MessageStop):
            return []
        del self.waiting[owner]
        if not isinstance(data, MessageStart):
            return []
        return self._end_of([owner], but=data.message_id)

    def expire(self, now: float) -> list[str]:
        """The messages whose lease is over, which nobody will finish any more."""
        return self._end_of([owner for owner, deadline in self.waiting.items() if deadline <= now])

    def _end_of(self, owners: list[Owner], but: str = "") -> list[str]:
        ended = [(message_id, owner) for message_id, owner in self._open if owner in owners and message_id != but]
        for key in ended:
            self._forget(key)
        self._over = tuple(message_id for message_id, _ in ended)
        return list(self._over)

    @property
    def is_running(self) -> bool:
        """Whether a lease is running."""
        return any(map(isfinite, self.waiting.values()))


def _owner(writer: Writer | None) -> Owner:
    return writer if writer is None or writer.id is None else writer.id


def _cost(message_id: str) -> int:
    return len(message_id.encode()) + OPEN_COST
