"""What the load generator notes while it runs, and what can be told from it afterwards."""

from __future__ import annotations

import time
from array import array

from scripts.bench.figures import Histogram
from scripts.bench.wire import first_stamp, last_stamp

clock = time.monotonic_ns
"""The clock of stamps, schedules and notes."""


class Reads:
    """What came: how many events in all and, of one read in `stride`, who, when, how many, first and last stamp.

    Args:
        stride: how many reads there are to one that is noted. Prime to the number of consumers, lest it be always the
            same ones.
    """

    def __init__(self, stride: int = 1) -> None:
        self.stride = stride
        self.count = 0
        self.total = 0
        self.who = array("q")
        self.when = array("q")
        self.events = array("q")
        self.oldest = array("q")
        self.newest = array("q")

    def note(self, who: int, events: int, data: bytearray, size: int) -> None:
        """Note a read.

        Args:
            who: name of the consumer.
            events: how many it brought.
            data: the buffer.
            size: how much of it was read.
        """
        newest = last_stamp(data, size)
        self.who.append(who)
        self.when.append(clock() // 1000)
        self.events.append(events)
        self.oldest.append(newest if events == 1 else first_stamp(data, size))
        self.newest.append(newest)

    def latencies(self) -> Histogram:
        """From the scheduled time to the read, of the events of all reads noted."""
        histogram = Histogram()
        for when, events, oldest, newest in zip(self.when, self.events, self.oldest, self.newest, strict=True):
            if oldest and newest:
                histogram.add_read(when - oldest, when - newest, events)
        return histogram

    def by_consumer(self) -> dict[int, int]:
        """Events by consumer, when every read is noted."""
        counts: dict[int, int] = {}
        for who, events in zip(self.who, self.events, strict=True):
            counts[who] = counts.get(who, 0) + events
        return counts
