"""Events that are sent but not yet acked, in order, and their numbers: pure.

The n-th event after the last acked one has number `acked + n`; changing `acked` therefore renumbers all events.

- `ack` n removes the events up to n.
- `ready` n of the same epoch, after a lost connection: removes the events up to n; the rest are resent with the same
  numbers.
- `ready` n of another epoch that continues the last one: the same; of what was acked, only the events after n are lost,
  and counted in `lost`.
- `ready` n of any other epoch, or n below the last ack: the gateway lost its memory. All events get new numbers from
  n + 1 on and are resent. Events that were acked in the old epoch are lost with it, and counted in `lost`.
- `ready` n of an earlier epoch: several gateways, each with its own memory, share an address. Events that this gateway
  has, acked or not, are not resent to it, and no longer count in `lost`.
- The very first `ready` n: an earlier program with this producer id got as far as n. Numbering continues at n + 1.
- A refused event n is removed; the events after it move up, because the gateway still expects number n.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from msgspec import UNSET, structs

from deltawire.gateway.client.errors import ProtocolFault
from deltawire.protocol.events import Event
from deltawire.protocol.messages import Ready

EPOCHS: Final = 16
"""Epochs remembered besides the current one; with more gateways behind one address, an old one counts as new."""


class _Left(NamedTuple):
    """An earlier epoch. Event indices count from the first event that was ever in the window.

    Attributes:
        offset: difference between an event's number and its index.
        sent: number of events sent when the epoch was left.
        acked: number of these events that were acked in the epoch.
    """

    offset: int
    sent: int
    acked: int


class Window:
    """At most `size` events sent and not yet acked.

    Args:
        size: maximum number of events.

    Attributes:
        epoch: the epoch of the last connection; empty before the first.
        acked: the number of the last acked event.
        lost: number of events acked in epochs that are lost.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"window must hold at least 1 event, got {size}")
        self.size = size
        self.epoch = ""
        self.acked = 0
        self.lost = 0
        self._acked_here = 0  # events of this window that were acked in the current epoch
        self._events: deque[tuple[Event, int]] = deque()  # with their size in bytes
        self._sent = 0  # how many of them were sent on the current connection
        self._ever_sent = 0  # how many of them were sent on any connection
        self._gone = 0  # how many events before them were acked, in any epoch
        self._left: dict[str, _Left] = {}

    def __len__(self) -> int:
        return len(self._events)

    @property
    def has_room(self) -> bool:
        """Whether one more event may be appended."""
        return len(self._events) < self.size

    @property
    def has_unsent(self) -> bool:
        """Whether an event waits to be sent on the current connection."""
        return self._sent < len(self._events)

    @property
    def in_flight(self) -> int:
        """Number of unacked events that were sent on the current connection."""
        return self._sent

    def append(self, event: Event, size: int) -> None:
        """Add an event; the window must have room.

        Args:
            event: the event to send, without a number.
            size: its encoded size in bytes.
        """
        self._events.append((event, size))

    def take(self, max_events: int, max_bytes: int) -> list[Event]:
        """The next events to send, with numbers; at least one if any is unsent, whatever its size."""
        batch: list[Event] = []
        room = max_bytes
        while self.has_unsent and len(batch) < max_events:
            event, size = self._events[self._sent]
            if batch and size > room:
                break
            room -= size
            self._sent += 1
            batch.append(structs.replace(event, producer_seq=self.acked + self._sent))
        self._ever_sent = max(self._ever_sent, self._sent)
        return batch

    def ack(self, number: int) -> None:
        """Remove the events up to a number, which may have been sent on an earlier connection.

        Raises:
            ProtocolFault: the gateway has more than was sent: another program publishes as this producer.
        """
        count = number - self.acked
        if count > self._ever_sent:
            raise ProtocolFault(
                f"the gateway has event {number} of this producer, but only {self.acked + self._ever_sent} were sent: "
                "does another program publish with the same producer id?"
            )
        if count > 0:
            self._forget(count)
            self.acked = number
            self._sent = max(0, self._sent - count)
            self._ever_sent -= count

    def _forget(self, count: int) -> None:
        for _ in range(count):
            self._events.popleft()
        self._gone += count
        self._acked_here += count

    def resume(self, ready: Ready) -> None:
        """Begin a new connection, given what the gateway has.

        Raises:
            ProtocolFault: the gateway has more than was sent: another program publishes as this producer.
        """
        self._sent = 0
        if ready.epoch != self.epoch and ready.continues is not UNSET and self.epoch in ready.continues:
            lost = min(max(0, self.acked - ready.producer_seq), self._acked_here)
            self.lost += lost
            self._acked_here -= lost
            self.epoch = ready.epoch
        if ready.epoch != self.epoch:
            self._change_epoch(ready)
        elif ready.producer_seq < self.acked:
            self.acked = ready.producer_seq
            self._ever_sent = 0
        else:
            self.ack(ready.producer_seq)

    def _change_epoch(self, ready: Ready) -> None:
        if self.epoch:
            self._left[self.epoch] = _Left(self.acked - self._gone, self._gone + self._ever_sent, self._acked_here)
            if len(self._left) > EPOCHS:
                del self._left[next(iter(self._left))]
        back = self._left.pop(ready.epoch, _Left(0, 0, 0))
        self.lost += self._acked_here - back.acked
        self._acked_here = back.acked
        self.epoch = ready.epoch
        self.acked = ready.producer_seq
        self._ever_sent = 0
        self._forget(max(0, min(ready.producer_seq - back.offset, back.sent) - self._gone))

    def refuse(self, number: int) -> bool:
        """Remove one event that the gateway refused.

        Returns:
            Whether events after it were sent already: the gateway refuses them too, because this number is missing.

        Raises:
            ProtocolFault: it was never sent, or was acked already.
        """
        index = number - self.acked - 1
        if not 0 <= index < self._sent:
            raise ProtocolFault(f"the gateway refused event {number}, which is not one of those it was sent")
        del self._events[index]
        self._left.clear()  # later events now have other numbers than when they were sent to other gateways
        self._sent -= 1
        self._ever_sent -= 1
        return self._sent > index
