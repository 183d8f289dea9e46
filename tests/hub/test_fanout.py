"""A fan-out to many consumers: in slices, so that others have their turn, and with rests, so that writes are shared."""

from __future__ import annotations

from collections.abc import AsyncIterator
from math import inf

import pytest

from deltawire.gateway.hub import Hub, flushing
from deltawire.gateway.hub.channel import Channel
from deltawire.gateway.hub.cohort import COHORT_SIZE, Cohort
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.events import TextDelta
from deltawire.protocol.framing import payloads
from tests.support.waiting import eventually, turn

MANY = 3 * COHORT_SIZE + 1


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with Hub() as it:
        yield it


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every turn of the loop serves one cohort, and no stream rests for it."""
    monkeypatch.setattr(flushing, "FLUSH_SLICE", 0.0)
    monkeypatch.setattr(flushing, "LONG_FLUSH", inf)


class Reader:
    """A consumer whose socket takes everything."""

    def __init__(self, channel: Channel) -> None:
        self.subscription = channel.stream.subscribe(SubscribeRequest(), now=0.0)
        self.cohort: Cohort | None = None
        self.frames: list[bytes] = []
        self._channel = channel
        channel.pump_each_time(self)

    def write(self, data: bytes) -> None:
        self.frames.append(data)

    def write_failed(self) -> None:
        raise AssertionError("this reader takes everything")

    def pump(self) -> None:
        while (data := self.subscription.take()) != b"":
            self.write(data or b"")
        if self.subscription.is_live:
            self.cohort = self._channel.join(self)

    def check_lag(self) -> None:
        raise AssertionError("this reader never rests")

    def end(self, code: ProblemCode, message: str) -> None:
        raise AssertionError(f"this reader is always served: {code} {message}")

    def leave(self) -> None:
        if self.cohort is not None:
            self.cohort.remove(self)
        self._channel.leave(self, 0.0)

    @property
    def seqs(self) -> list[int]:
        """What it was given, after the greeting, by seq."""
        received = [payload for data in self.frames for payload in payloads(data)]
        return [int(payload.split(b'"seq":')[1].split(b",")[0]) for payload in received if b"_delta" in payload]


def followed_by(hub: Hub, readers: int, name: str = "s") -> tuple[Stream, Channel, list[Reader]]:
    """A stream with so many readers, all at its head."""
    hub.create(name)
    stream = hub.manager.get(name)
    channel = hub.dispatcher.attach(stream, "test")
    followers = [Reader(channel) for _ in range(readers)]
    channel.flush()
    return stream, channel, followers


def write(hub: Hub, channel: Channel, text: str = "x") -> None:
    hub.dispatcher.publish(channel, TextDelta(text))


async def test_a_flush_stops_between_cohorts_and_goes_on_where_it_stopped(hub: Hub) -> None:
    _, channel, readers = followed_by(hub, MANY)
    write(hub, channel)
    served = []
    for is_complete in (False, False, False, True):
        assert channel.flush(until=0.0) is is_complete
        served.append(sum(reader.seqs == [1] for reader in readers))
    assert served == [COHORT_SIZE, 2 * COHORT_SIZE, 3 * COHORT_SIZE, MANY]


@pytest.mark.usefixtures("interrupted")
async def test_what_is_appended_while_a_round_is_interrupted_reaches_everybody_once(hub: Hub) -> None:
    _, channel, readers = followed_by(hub, MANY)
    for _ in range(5):
        write(hub, channel)
        await turn(1)
    assert readers[0].seqs != readers[-1].seqs, "no round was interrupted"
    await eventually(lambda: all(reader.seqs == [1, 2, 3, 4, 5] for reader in readers), "the rest")


@pytest.mark.usefixtures("interrupted")
async def test_other_streams_are_served_between_the_slices_of_a_long_flush(hub: Hub) -> None:
    _, channel, readers = followed_by(hub, MANY)
    _, other, (neighbour,) = followed_by(hub, 1, "other")
    write(hub, channel)
    await turn(1)
    write(hub, other)
    while not neighbour.seqs:
        await turn(1)
    assert readers[0].seqs == [1]
    assert not readers[-1].seqs


@pytest.mark.usefixtures("interrupted")
async def test_a_stream_that_ends_in_the_middle_of_a_round_ends_for_everybody(hub: Hub) -> None:
    stream, channel, readers = followed_by(hub, MANY)
    write(hub, channel)
    await turn()
    hub.end(stream)
    await eventually(lambda: all(reader.subscription.ended for reader in readers), "the end")
    assert all(reader.seqs == [1] for reader in readers)


async def test_joining_fills_the_places_of_those_who_left(hub: Hub) -> None:
    _, channel, readers = followed_by(hub, 2 * COHORT_SIZE)
    for reader in readers[::2]:
        reader.leave()
    for reader in [Reader(channel) for _ in range(COHORT_SIZE)]:
        reader.pump()
    (cohorts,) = channel._cohorts.values()
    assert [len(cohort) for cohort in cohorts] == [COHORT_SIZE, COHORT_SIZE]


async def test_a_long_flush_is_followed_by_a_rest_in_which_events_gather(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushing, "LONG_FLUSH", -1.0)
    monkeypatch.setattr(flushing, "REST", 1e9)
    monkeypatch.setattr(flushing, "MAX_REST", 3600.0)
    _, channel, (reader,) = followed_by(hub, 1)
    write(hub, channel)
    await turn()
    assert reader.seqs == [1]
    greetings = len(reader.frames)
    write(hub, channel)
    await turn()
    assert reader.seqs == [1]
    write(hub, channel)
    hub.dispatcher._scheduler._resting[channel].cancel()
    hub.dispatcher._scheduler._end_rest(channel)
    await eventually(lambda: reader.seqs == [1, 2, 3], "what came in the rest")
    assert len(reader.frames) == greetings + 1


async def test_a_short_flush_is_not_followed_by_a_rest(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flushing, "LONG_FLUSH", 1e9)
    _, channel, (reader,) = followed_by(hub, 1)
    for seq in (1, 2, 3):
        write(hub, channel)
        await turn()
        assert reader.seqs[-1] == seq


async def test_a_whole_flush_waits_for_no_rest(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flushing, "LONG_FLUSH", -1.0)
    monkeypatch.setattr(flushing, "REST", 1e9)
    monkeypatch.setattr(flushing, "MAX_REST", 1e9)
    _, channel, (reader,) = followed_by(hub, 1)
    for seq in (1, 2, 3):
        write(hub, channel)
        hub.flush()
        assert reader.seqs[-1] == seq
    assert not hub.dispatcher._scheduler._resting
