"""The publishing side of the load generator: connections, and the schedule they send by."""

from __future__ import annotations

import socket
from array import array
from collections.abc import Callable

from scripts.bench.schedule import Schedule
from scripts.bench.wire import Template


class Producer:
    """A publishing connection.

    Args:
        sock: connected, not blocking.
        template: of what it publishes.
        on_blocked: called when the socket begins (True) or ceases to be full.

    Attributes:
        sent: events, those that the socket has not accepted yet included.
        heard: the end of what came last.
        on_heard: called when something came.
    """

    def __init__(self, sock: socket.socket, template: Template, on_blocked: Callable[[bool], None]) -> None:
        self.sock = sock
        self.template = template
        self.sent = 0
        self.heard = b""
        self.on_heard: Callable[[], None] | None = None
        self._on_blocked = on_blocked
        self._unsent = b""

    @property
    def is_blocked(self) -> bool:
        """Whether the socket has yet to accept something."""
        return bool(self._unsent)

    @property
    def acked(self) -> int:
        """The seq in the last ack of this gateway's protocol; 0 if there was none."""
        _, found, rest = self.heard.rpartition(b'"ack","seq":')
        return int(rest.partition(b"}")[0].partition(b",")[0]) if found else 0

    def send(self, data: bytes = b"") -> None:
        """Send as much as the socket takes; the rest, which keeps its stamps, when it takes more."""
        was_blocked = self.is_blocked
        data = self._unsent + data
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = len(data)  # the connection is gone, which reading from it notices
        self._unsent = data[sent:]
        if was_blocked != self.is_blocked:
            self._on_blocked(self.is_blocked)


class Sender:
    """Producers that send by a schedule."""

    def __init__(self) -> None:
        self.producers: list[Producer] = []
        self.stop()

    def start(self, schedule: Schedule, start: int) -> None:
        """Begin a schedule.

        Args:
            schedule: when which producer sends.
            start: its beginning, in nanoseconds of the monotonic clock.
        """
        self._schedule = schedule
        self._started_at = start
        self._next = 0

    def stop(self) -> None:
        """Send nothing more of the schedule."""
        self.start(Schedule(array("q"), array("q"), 0), 0)

    @property
    def is_busy(self) -> bool:
        """Whether there is something on the schedule, or not accepted by a socket yet."""
        return self.next_due is not None or any(producer.is_blocked for producer in self.producers)

    @property
    def next_due(self) -> int | None:
        """When the next event is due, in nanoseconds; None when there is none."""
        if self._next == len(self._schedule.times):
            return None
        return self._started_at + self._schedule.times[self._next]

    def send_due(self, now: int) -> None:
        """Send what is due; each event is stamped with the time it was due."""
        times, who, _ = self._schedule
        elapsed = now - self._started_at
        total = len(times)
        index = self._next
        while index < total and times[index] <= elapsed:
            number = who[index]
            producer = self.producers[number]
            fill = producer.template.fill
            begun = index
            frames = []
            while index < total and times[index] <= elapsed and who[index] == number:
                frames.append(fill((self._started_at + times[index]) // 1000))
                index += 1
            producer.sent += index - begun
            producer.send(b"".join(frames))
        self._next = index
