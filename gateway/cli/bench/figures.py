"""The figures of `deltawire bench`: what readers got, how late it came, and the report. Pure; time is an argument."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from msgspec import Struct

BUSY = 0.9
"""Part of a core from which on this process may be what is slow, and not the gateway."""

LATE = 3.0
"""Milliseconds by which a process is late at times on any computer: timers are a millisecond late by themselves."""

ENOUGH = 0.9
"""Part of the wanted rate under which it was not reached."""


class Durations:
    """Durations in steps of ten microseconds, however many there are."""

    def __init__(self) -> None:
        self._steps: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count one."""
        self._steps[round(seconds * 100_000)] += 1

    def percentile(self, part: float) -> float | None:
        """The milliseconds that this part (0 to 1) of them does not exceed; None if there are none."""
        passed, wanted = 0, part * self._steps.total()
        for step in sorted(self._steps):
            passed += self._steps[step]
            if passed >= wanted:
                return step / 100
        return None

    def summarise(self) -> Milliseconds:
        """The usual percentiles."""
        return Milliseconds(p50=self.percentile(0.5), p99=self.percentile(0.99), max=self.percentile(1.0))


class Milliseconds(Struct, frozen=True):
    """Durations in milliseconds; None where there was nothing to measure."""

    p50: float | None
    p99: float | None
    max: float | None

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {'–' if value is None else f'{value:.2f} ms'}"
            for name, value in (("p50", self.p50), ("p99", self.p99), ("max", self.max))
        )


class Reader:
    """What one consumer of a stream got.

    Args:
        sent: when the event with the seq 1, 2, 3 … was sent, in seconds; grows as events are sent.
        latency: counts how much later each came.

    Attributes:
        delivered: events that came, folded ones included.
        altered: messages whose text was not that of their digest.
    """

    def __init__(self, sent: Sequence[float], latency: Durations) -> None:
        self.delivered = 0
        self.altered = 0
        self._sent = sent
        self._latency = latency

    def take(self, first: int, last: int, now: float) -> None:
        """Note a frame.

        Args:
            first: the first event that it stands for.
            last: the last one.
            now: seconds on the clock of `sent`.
        """
        self.delivered += last - first + 1
        for at in self._sent[first - 1 : last]:
            self._latency.add(now - at)

    @property
    def lost(self) -> int:
        """Events that were sent and did not come."""
        return max(0, len(self._sent) - self.delivered)


class Report(Struct, frozen=True, kw_only=True):
    """One run.

    Attributes:
        url: of the gateway.
        producers: one a stream.
        consumers: of each stream.
        rate: deltas per second of each producer that were asked for; 0 is as many as the gateway acks.
        seconds: in which events were sent.
        sent: events, each of which the gateway acked.
        delivered: events that consumers got, once for each.
        events_per_second: sent.
        deliveries_per_second: delivered.
        lost: events that a consumer should have got and did not, once for each.
        altered: messages that came with a text other than the one sent, once for each consumer.
        reconnects: connections that were lost and restored.
        producer_connect: from the first packet to the gateway's `ready`.
        consumer_connect: from the first packet to its `subscribed`.
        latency: from the call that sends an event to the arrival at a consumer.
        own_delay: by how much this process was late for what it had to do itself.
        cpu: of this process, in cores.
    """

    url: str
    producers: int
    consumers: int
    rate: float
    seconds: float
    sent: int
    delivered: int
    events_per_second: float
    deliveries_per_second: float
    lost: int
    altered: int
    reconnects: int
    producer_connect: Milliseconds
    consumer_connect: Milliseconds
    latency: Milliseconds
    own_delay: Milliseconds
    cpu: float

    @property
    def is_whole(self) -> bool:
        """Whether every consumer got everything, as it was sent."""
        return not (self.lost or self.altered)

    def lines(self) -> Iterator[str]:
        """The report for a person."""
        yield f"connect    producers  {self.producer_connect}"
        if self.consumers:
            yield f"           consumers  {self.consumer_connect}"
        yield f"sent       {self.sent} events in {self.seconds:.1f} s, {self.events_per_second:.0f} events/s, all acked"
        if self.consumers:
            yield f"delivered  {self.delivered} events, {self.deliveries_per_second:.0f} deliveries/s"
            yield f"latency    {self.latency}"
        yield f"lost       {self.lost}"
        if self.altered:
            yield f"altered    {self.altered} messages: their text is not what was sent"
        if self.reconnects:
            yield f"reconnects {self.reconnects}"

    def doubts(self) -> Iterator[str]:
        """Why the figures may say less about the gateway than they seem to."""
        wanted = self.producers * self.rate
        if wanted and self.events_per_second < ENOUGH * wanted:
            yield f"{wanted:g} events/s were asked for, and {self.events_per_second:.0f} were sent"
        own, all_in_all = self.own_delay.p99, self.latency.p99
        if self.cpu >= BUSY:
            yield f"this process used {self.cpu:.0%} of a core: the gateway may be faster than these figures"
        elif own and all_in_all and own >= max(LATE, all_in_all / 2):
            yield f"this computer is busy: it let this process wait too ({self.own_delay})"
