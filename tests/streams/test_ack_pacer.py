"""When an ack is sent at once, and when it waits for more events."""

from __future__ import annotations

import pytest

from deltawire.gateway.streams.publication import FIRST_READS, MAX_READS, MAX_WITHHELD, WITHHELD_FOR, AckPacer
from tests.support.soaking import lasting


class Producer:
    """What a producer would see of its acks, over virtual time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.acks = 0
        self.waited = 0.0
        self._pacer = AckPacer()

    def send(self, events: int = 1) -> None:
        if not self._pacer.withholds(events, self.now):
            self._acknowledge()

    def _acknowledge(self) -> None:
        self._pacer.sent()
        self.acks += 1

    def go_on(self, rate: float, seconds: float) -> None:
        """Send steadily, whatever is acknowledged, with a timer that looks every `WITHHELD_FOR`."""
        end, look = self.now + seconds, self.now + WITHHELD_FOR
        while self.now < end:
            self.now += 1 / rate
            while look <= self.now:
                self._look(look)
                look += WITHHELD_FOR
            self.send()

    def _look(self, now: float) -> None:
        if self._pacer.is_withholding and self._pacer.is_due(now):
            self._acknowledge()

    def send_and_wait(self, round_trip: float, window: int = 1) -> None:
        """Send a window, each event a read of its own, and stand still until all of it is acknowledged."""
        for _ in range(window):
            self.now += 0.0001
            self.send()
        if self._pacer.is_withholding:
            self.now += 2 * WITHHELD_FOR
            self.waited += 2 * WITHHELD_FOR
            self._look(self.now)
        assert not self._pacer.is_withholding
        self.now += round_trip


@pytest.fixture
def producer() -> Producer:
    return Producer()


def test_the_first_reads_are_acknowledged_at_once(producer: Producer) -> None:
    for sent in range(1, FIRST_READS + 1):
        producer.send()
        assert producer.acks == sent


@pytest.mark.parametrize("rate", [40, 80, 500])
def test_a_producer_that_goes_on_sending_gets_one_ack_for_several_events(producer: Producer, rate: float) -> None:
    producer.go_on(rate, seconds=1)
    before = producer.acks
    producer.go_on(rate, seconds=10)
    assert producer.acks - before <= max(10 / WITHHELD_FOR, 10 * rate / MAX_WITHHELD) + 1


def test_no_ack_waits_for_more_than_a_window_of_events(producer: Producer) -> None:
    for _ in range(FIRST_READS):
        producer.send()
    for _ in range(100):
        before = producer.acks
        for _ in range(MAX_WITHHELD):
            producer.send()
        assert producer.acks == before + 1


@pytest.mark.soak
@pytest.mark.parametrize("round_trip", [0.0001, 0.03, 0.2])
@pytest.mark.parametrize("window", [1, 8])
def test_a_producer_that_waits_for_its_acks_is_hardly_ever_kept_waiting(
    producer: Producer, round_trip: float, window: int
) -> None:
    reads = lasting(20_000, 100_000)
    for _ in range(reads // window):
        producer.send_and_wait(round_trip, window)
    assert producer.waited <= 2 * WITHHELD_FOR * (8 + reads / MAX_READS + 1)


def test_a_producer_that_stopped_waiting_is_found_out_within_some_reads(producer: Producer) -> None:
    for _ in range(10_000):
        producer.send_and_wait(0.0001)
    producer.go_on(100, seconds=2 * MAX_READS / 100)
    before = producer.acks
    producer.go_on(100, seconds=10)
    assert producer.acks - before <= 10 / WITHHELD_FOR + 1


def test_an_ack_sent_for_another_reason_settles_what_was_withheld() -> None:
    pacer = AckPacer()
    for _ in range(FIRST_READS):
        assert not pacer.withholds(1, 0.0)
    assert pacer.withholds(1, 0.0)
    assert pacer.is_withholding
    pacer.sent()
    assert not pacer.is_withholding
