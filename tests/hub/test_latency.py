"""How long events take through a channel (SPEC §9.1)."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from deltawire.gateway.hub.latency import FEW_STREAMS, FOLLOWED, INTERVAL, SAMPLED, LatencyMeter
from deltawire.gateway.metrics.tally import Tally
from deltawire.gateway.streams.log import Ledger, Log, Retention
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.events import Data, MessageStart, MessageStop, TextDelta, Usage

START, STOP = MessageStart("m"), MessageStop("m", "end_turn")
TOKEN = TextDelta("x")


class Flushed:
    """A stream that is flushed at chosen times."""

    def __init__(self, retention: Retention | None = None) -> None:
        settings = StreamSettings(retention=retention or Retention())
        self.stream = Stream("s", "e", settings, 0.0, Ledger())
        self.tally = Tally()
        self._latency = LatencyMeter(self.stream)

    def follow(self) -> None:
        self.stream.subscribe(SubscribeRequest(), now=0.0)

    def at(self, now: float, *events: Data, took: float = 0.0) -> None:
        """Append events in a turn that began `took` seconds before it was flushed, as the hub does."""
        for event in events:
            self.stream.append(event, "t", now)
        if now - took >= self.stream.measure_at:
            self._latency.measure(self.tally, now - took, now)


@pytest.fixture
def flushed() -> Flushed:
    flushed = Flushed()
    flushed.follow()
    return flushed


def test_the_write_delay_is_that_of_the_first_event_of_the_turn(flushed: Flushed) -> None:
    flushed.at(1.0, TOKEN, TOKEN, took=0.25)
    assert (flushed.tally.write_delay.count, flushed.tally.write_delay.sum) == (2, 0.5)


def test_the_first_token_is_measured_from_message_start(flushed: Flushed) -> None:
    flushed.at(1.0, START)
    flushed.at(1.5, Usage(1, 0, 1))
    flushed.at(3.0, TOKEN)
    assert (flushed.tally.first_token.count, flushed.tally.first_token.sum) == (1, 2.0)


def test_a_first_token_at_once_is_not_missed(flushed: Flushed) -> None:
    flushed.at(1.0, START)
    flushed.at(1.0 + INTERVAL / 4, TOKEN)
    assert flushed.tally.first_token.sum == pytest.approx(INTERVAL / 4)


def test_time_between_tokens_is_measured_inside_messages_alone(flushed: Flushed) -> None:
    flushed.at(1.0, START, TOKEN)
    flushed.at(1.5, TOKEN)
    flushed.at(1.75, TOKEN, STOP)
    flushed.at(100.0, TOKEN)
    flushed.at(200.0, START, TOKEN)
    assert (flushed.tally.inter_token.count, flushed.tally.inter_token.sum) == (2, 0.75)


def test_a_fast_stream_is_measured_in_samples_that_stand_for_all(flushed: Flushed) -> None:
    step = INTERVAL / 10
    flushed.at(1.0, START, TOKEN)
    for number in range(1, 1001):
        flushed.at(1.0 + number * step, TOKEN)
    inter_token = flushed.tally.inter_token
    assert inter_token.sum / inter_token.count == pytest.approx(step)
    assert inter_token.count == pytest.approx(1000, rel=0.02)
    assert flushed.tally.write_delay.count == pytest.approx(1002, rel=0.02)


def test_what_nobody_follows_is_not_measured_until_somebody_does() -> None:
    flushed = Flushed()
    flushed.at(1.0, START)
    flushed.at(2.0, TOKEN)
    flushed.at(3.0, TOKEN)
    assert {flushed.tally.write_delay.count, flushed.tally.first_token.count, flushed.tally.inter_token.count} == {0}
    flushed.follow()
    flushed.at(3.5, TOKEN)
    assert (flushed.tally.inter_token.count, flushed.tally.inter_token.sum) == (1, 0.5)


def test_events_that_are_trimmed_before_they_are_measured_are_no_fault() -> None:
    flushed = Flushed(Retention(events=3))
    flushed.follow()
    flushed.at(1.0, START, *[TOKEN] * 100)
    assert flushed.tally.write_delay.count == 101


def test_of_many_streams_one_in_eight_is_measured_in_full_and_all_at_their_first_token() -> None:
    measured = {number for number in range(200) if count_measured(number) > 1}
    assert measured == {*range(FEW_STREAMS + 1), *range(FEW_STREAMS, 200, SAMPLED)}
    assert all(count_measured(number) for number in range(200))


def count_measured(number: int) -> int:
    """How many flushes are measured of a message of four tokens, on the stream that came with a number."""
    stream = Stream("s", "e", StreamSettings(), 0.0, Ledger())
    stream.subscribe(SubscribeRequest(), now=0.0)
    latency = LatencyMeter(stream, number)
    count = 0
    for now, event in enumerate((START, TOKEN, TOKEN, TOKEN, TOKEN), 1):
        stream.append(event, "t", now)
        if now >= stream.measure_at:
            latency.measure(Tally(), now - 0.5, now)
            count += event is TOKEN
    return count


def test_a_channel_that_was_replaced_counts_nothing_again() -> None:
    stream = Stream("s", "e", StreamSettings(), 0.0, Ledger())
    stream.subscribe(SubscribeRequest(), now=0.0)
    replaced, tally = LatencyMeter(stream), Tally()
    for event in (START, TOKEN, TOKEN):
        stream.append(event, "t", 1.0)
    LatencyMeter(stream).measure(tally, 1.0, 1.0)
    assert stream.measure_at > 1.0, "so that a flush of the other one in this moment is not measured"
    assert tally.write_delay.count == 0
    replaced.measure(tally, 2.0, 2.0)
    assert tally.first_token.count == 0, "its message is not gone through again"


def test_a_stream_that_is_measured_at_first_tokens_alone_counts_no_time_between_tokens() -> None:
    """And does not go through all tokens of an answer when it ends: 20,000 would take 8 ms."""
    stream = Stream("s", "e", StreamSettings(), 0.0, Ledger())
    stream.subscribe(SubscribeRequest(), now=0.0)
    latency, tally = LatencyMeter(stream, FEW_STREAMS + 1), Tally()
    with patch.object(Log, "kinds", autospec=True, side_effect=Log.kinds) as kinds:
        for now, event in enumerate([START, *[TOKEN] * 20_000, STOP], 1):
            stream.append(event, "t", now)
            if now >= stream.measure_at:
                latency.measure(tally, now - 0.5, now)
    assert (tally.first_token.count, tally.inter_token.count) == (1, 0)
    assert sum(last - after for _, after, last in (call.args for call in kinds.call_args_list)) <= 3 * FOLLOWED
