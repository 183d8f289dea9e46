"""Events sent and not yet acked, in order, and the numbers they go by: pure.

The n-th event after the last acked one has number `acked + n`: to number anew is to change `acked`.

- `ack` n forgets the events up to n.
- A lost connection, then `ready` n of the same epoch: forgets up to n and sends the rest again under the same numbers.
- `ready` n of another epoch, or below what was acked: the gateway lost its memory. All events are numbered anew from
  n + 1 on and sent again. What was acked in the old epoch is gone with it, and counted as `lost`.
- `ready` n of an epoch there was before: behind an address are several gateways, each with a memory of its own. What
  this one has, acked or not, is not sent to it again, and no longer `lost`.
- The first `ready` n of all: an earlier program with this producer id got as far as n. Numbers go on from n + 1.
- A refused event n is forgotten; those after it move up, as the gateway still waits for number n.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from msgspec import structs

from deltawire.gateway.client.errors import ProtocolFault
from deltawire.protocol.events import Event
from deltawire.protocol.messages import Ready

EPOCHS: Final = 16
"""Epochs remembered beside the present one: of more gateways behind one address, one is as new."""


class _Left(NamedTuple):
    """An epoch that another one followed. Events are counted from the first of the window there ever was.

    Attributes:
        offset: what an event's number is over its count.
        sent: events that had gone out by then.
        acked: events of these that were acked there.
    """

    offset: int
    sent: int
    acked: int


class Window:
    """At most `size` events sent and not yet acked.

    Args:
        size: events.

    Attributes:
        epoch: that of the last connection, empty before.
        acked: the number of the last event acked.
        lost: events acked in epochs that are gone.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"window must hold at least 1 event, got {size}")
        self.size = size
        self.epoch = ""
        self.acked = 0
        self.lost = 0
        self._acked_here = 0  # events of this window that were acked in the present epoch
        self._events: deque[tuple[Event, int]] = deque()  # with their size in bytes
        self._sent = 0  # how many of them went out on the present connection
        self._ever_sent = 0  # how many of them went out on any
        self._gone = 0  # how many were acked before them, in any epoch
        self._left: dict[str, _Left] = {}

    def __len__(self) -> int:
        return len(self._events)

    @property
    def has_room(self) -> bool:
        """Whether one more event may be appended."""
        return len(self._events) < self.size

    @property
    def has_unsent(self) -> bool:
        """Whether an event waits to be sent on the present connection."""
        return self._sent < len(self._events)

    @property
    def in_flight(self) -> int:
        """How many events went out on the present connection and are not acked."""
        return self._sent

    def append(self, event: Event, size: int) -> None:
        """Take an event; it has to have room.

        Args:
            event: what is to be sent, without a number.
            size: its encoded size in bytes.
        """
        self._events.append((event, size))

    def take(self, max_events: int, max_bytes: int) -> list[Event]:
        """The next events to send, numbered; one at least if there is one, whatever its size."""
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
        """Forget the events up to a number, which may be one sent on an earlier connection.

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
        """Begin a new connection, with what the gateway says it has.

        Raises:
            ProtocolFault: the gateway has more than was sent: another program publishes as this producer.
        """
        self._sent = 0
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
        """Forget one event that the gateway refused.

        Returns:
            Whether events after it were on their way already: the gateway refuses them too, as it misses this number.

        Raises:
            ProtocolFault: it was never sent, or acked already.
        """
        index = number - self.acked - 1
        if not 0 <= index < self._sent:
            raise ProtocolFault(f"the gateway refused event {number}, which is not one of those it was sent")
        del self._events[index]
        self._left.clear()  # what follows has other numbers than those it was sent under elsewhere
        self._sent -= 1
        self._ever_sent -= 1
        return self._sent > index
