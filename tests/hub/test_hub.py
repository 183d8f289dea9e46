"""The hub: stream operations on a loop, deadlines, and faults that stay where they are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime
from unittest.mock import Mock

import pytest
import structlog

from deltawire.gateway.config import Settings
from deltawire.gateway.hub import Hub
from deltawire.gateway.hub.channel import Channel
from deltawire.gateway.streams.producers import Writer
from deltawire.gateway.streams.publication import WITHHELD_FOR
from deltawire.gateway.streams.stream import Stream
from deltawire.protocol.addresses import parse_subscribe
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import StreamError, is_full, is_invalid, is_not_found
from deltawire.protocol.events import EventType, MessageStart, TextDelta
from deltawire.protocol.messages import Gap
from tests.support.waiting import DEADLINE, eventually, turn


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with Hub() as it:
        yield it


async def test_create_refuses_an_id_that_exists_or_is_malformed(hub: Hub) -> None:
    hub.create("demo")
    for bad in ("demo", "", "a b", "..", "x" * 129):
        with pytest.raises(StreamError) as error:
            hub.create(bad)
        assert is_invalid(error.value)


@pytest.mark.parametrize("operation", ["get", "close", "info"])
async def test_an_unknown_stream_is_not_found(hub: Hub, operation: str) -> None:
    with pytest.raises(StreamError, match=f"^{operation} 'unknown'") as error:
        getattr(hub, operation)("unknown")
    assert is_not_found(error.value)


async def test_get_or_create_makes_a_stream_once(hub: Hub) -> None:
    epoch = hub.get_or_create("demo").statistics().epoch
    assert hub.get_or_create("demo").statistics().epoch == epoch == hub.get("demo").statistics().epoch
    assert hub.count() == 1


async def test_list_is_oldest_first_with_closed_ones(hub: Hub) -> None:
    for name in ("one", "two", "three"):
        hub.create(name)
    hub.close("two")
    assert [stream.id for stream in hub.list()] == ["one", "two", "three"]
    assert [info.closed for info in hub.list_info()] == [False, True, False]


@pytest.mark.parametrize("jump", [0.0, 86_400.0])
async def test_when_a_stream_was_made_and_used_is_told_alike_each_time(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    hub.create("demo").send_nowait(TextDelta("a"))
    real = time.time
    before = hub.info("demo")
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    moment = hub.now()
    await eventually(lambda: hub.now() > moment)
    assert hub.info("demo") == before
    assert hub.list_info() == [hub.get("demo").statistics()] == [before]
    assert abs(datetime.fromisoformat(before.created_at).timestamp() - real()) < DEADLINE


async def test_close_all_ends_every_open_stream_and_its_readers(hub: Hub) -> None:
    streams = [hub.create(name) for name in ("one", "two", "three")]
    hub.close("three")
    subscriptions = [stream.subscribe() for stream in streams]
    for stream in streams[:2]:
        stream.send_nowait(TextDelta("last"))
    assert hub.close_all() == 2
    assert [[item.seq async for item in it] for it in subscriptions] == [[1], [1], []]
    assert hub.close_all() == 0


async def test_cleanup_inactive_ends_only_what_was_quiet_for_so_long(hub: Hub) -> None:
    quiet, busy = hub.create("quiet"), hub.create("busy")
    quiet._stream.last_active_at -= 100
    assert hub.cleanup_inactive(50) == 1
    assert (quiet.is_closed, busy.is_closed) == (True, False)


async def test_inactive_streams_are_ended_without_being_asked() -> None:
    async with Hub(Settings(inactive_after=0.01, cleanup_interval=0.01, send_timeout=0.04)) as hub:
        stream = hub.create("quiet")
        await eventually(lambda: stream.is_closed)
        assert stream._stream.end_reason == "inactive"


async def test_closed_streams_are_forgotten_after_their_retention() -> None:
    async with Hub(Settings(closed_retention=0.01, send_timeout=0.04)) as hub:
        hub.create("kept")
        hub.create("done").close()
        await eventually(lambda: hub.count() == 1)
        assert [stream.id for stream in hub.list()] == ["kept"]
        assert hub.create("done").statistics().head == 0


async def test_old_events_expire_while_nothing_is_sent() -> None:
    async with Hub(Settings(retention_age=0.05, send_timeout=0.04)) as hub:
        stream = hub.create("demo")
        stream.send_nowait(TextDelta("old"))
        assert len(stream) == 1
        await eventually(lambda: len(stream) == 0)


async def test_a_full_hub_evicts_what_nobody_uses_then_refuses() -> None:
    async with Hub(Settings(memory_limit=1 << 20)) as hub:
        idle = hub.create("idle")
        idle.send_nowait(TextDelta("x" * 60_000))
        used = hub.create("used")
        async with used.subscribe() as reader:
            while hub.count() == 2 or hub.manager.bytes <= hub.manager.memory_limit:
                used.send_nowait(TextDelta("x" * 60_000))
            with pytest.raises(StreamError) as error:
                used.send_nowait(TextDelta("x"))
            assert is_full(error.value)
            assert [stream.id for stream in hub.list()] == ["used"]
            assert not isinstance(await anext(reader), Gap)


async def test_a_lease_that_ends_while_the_memory_limit_is_reached_ends_its_message_all_the_same() -> None:
    async with Hub(Settings(lease=0.04, memory_limit=1 << 20)) as hub:
        stream = hub.create("demo")
        async with stream.subscribe():  # in use, so that it is not evicted
            channel, writer = hub.dispatcher.channel(stream._stream), Writer("p", 0)
            hub.dispatcher.publish(channel, MessageStart("m"), writer=writer)
            while hub.manager.bytes <= hub.manager.memory_limit:
                hub.dispatcher.publish(channel, TextDelta("x" * 60_000), writer=writer)
            with pytest.raises(StreamError):
                hub.dispatcher.publish(channel, TextDelta("x"), writer=writer)
            hub.dispatcher.lease(channel, writer)
            head = stream._stream.log.head
            await eventually(lambda: not hub.dispatcher._leased)
            kinds = stream._stream.log.kinds(head, stream._stream.log.head)
            assert [kind.type for kind in kinds] == [EventType.ERROR, EventType.MESSAGE_STOP]


async def test_cohorts_whose_members_have_all_left_are_forgotten_though_others_stay(hub: Hub) -> None:
    stream = hub.create("demo")._stream
    channel = hub.dispatcher.attach(stream, Mock())
    stays = Listener(stream, "")
    assert channel.join(stays) is not None
    for types in ("usage", "error", "thinking"):
        passing = Listener(stream, f"types={types}")
        cohort = channel.join(passing)
        assert cohort is not None
        cohort.remove(passing)
        channel.leave(passing, hub.now())
        hub.dispatcher.publish(channel, TextDelta("x"))
        hub.flush()
        assert list(channel._cohorts) == [stays.subscription.view]
    assert len(stays.written) == 3


class Listener:
    """Takes whatever comes."""

    def __init__(self, stream: Stream, query: str) -> None:
        self.subscription = stream.subscribe(parse_subscribe(query), now=0.0)
        while self.subscription.take():
            pass
        self.written: list[bytes] = []

    def pump(self) -> None:
        self.written.append(self.subscription.take() or b"")

    def write_failed(self) -> None:
        raise AssertionError("this reader takes everything")

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def check_lag(self) -> None:
        raise AssertionError("it never stalls")

    def end(self, code: ProblemCode, why: str) -> None:
        raise AssertionError(f"nobody ends it: {code} {why}")


async def test_leaving_the_hub_ends_every_stream_as_shutdown() -> None:
    async with Hub() as hub:
        stream = hub.create("demo")
        reading = asyncio.ensure_future(anext(stream.subscribe()))
        await asyncio.sleep(0)
    with pytest.raises(StopAsyncIteration):
        await reading
    assert stream._stream.end_reason == "shutdown"


async def test_a_channel_that_fails_does_not_keep_others_from_their_events(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = hub.create("bad"), hub.create("good")
    waiting = [asyncio.ensure_future(anext(stream.subscribe())) for stream in (bad, good)]
    await turn()
    deliver = Channel.deliver

    def fail(channel: Channel, until: float) -> bool:
        if channel.stream.id == "bad":
            raise RuntimeError("broken on purpose")
        return deliver(channel, until)

    monkeypatch.setattr(Channel, "deliver", fail)
    with structlog.testing.capture_logs() as logs:
        bad.send_nowait(TextDelta("a"))
        good.send_nowait(TextDelta("b"))
        assert (await waiting[1]).seq == 1
        await eventually(lambda: logs)  # a busy machine makes a flush a long one, after which it rests
    assert [entry["stream"] for entry in logs if entry["log_level"] == "error"] == ["bad"]
    monkeypatch.undo()
    bad.send_nowait(TextDelta("c"))
    assert (await waiting[0]).seq in (1, 2)  # folded, or not


async def test_a_sweep_that_fails_does_not_stop_the_others(hub: Hub) -> None:
    class Broken:
        def sweep(self, now: float) -> None:
            raise RuntimeError(f"broken on purpose at {now}")

    class Counting:
        count = 0

        def sweep(self, now: float) -> None:
            assert now > 0
            self.count += 1

    broken, counting = Broken(), Counting()
    for swept in (broken, counting):
        hub.deadlines.add(swept)
    with structlog.testing.capture_logs() as logs:
        await eventually(lambda: counting.count >= 2)
    assert {entry["event"] for entry in logs} - {"loop.blocked"} == {"sweep.failed"}
    for swept in (broken, counting):
        hub.deadlines.remove(swept)


async def test_events_of_one_turn_share_a_flush(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = hub.create("demo")
    async with stream.subscribe():
        flushes: list[Channel] = []
        flush = Channel.flush

        def note(channel: Channel, until: float) -> bool:
            flushes.append(channel)
            return flush(channel, until)

        monkeypatch.setattr(Channel, "flush", note)
        monkeypatch.setattr(
            "deltawire.gateway.hub.flushing.monotonic", lambda: 0.0
        )  # no flush is a long one, after which they rest
        await turn()
        flushes.clear()
        for letter in "abc":
            stream.send_nowait(TextDelta(letter))
        await turn()
        assert len(flushes) == 1


async def test_one_timer_sends_withheld_acks_however_often_a_producer_begins_to_withhold(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    inlet = Mock(acknowledge_if_due=Mock(side_effect=[False, True]))
    loop = asyncio.get_running_loop()
    timers = Mock(wraps=loop.call_later)
    monkeypatch.setattr(loop, "call_later", timers)
    for _ in range(10):  # as of one whose acks are sent for 64 events sooner than for their age
        hub.dispatcher.acknowledge_late(inlet)
    begun = [call for call in timers.call_args_list if call.args[0] == WITHHELD_FOR]
    assert len(begun) == 1
    await eventually(lambda: inlet.acknowledge_if_due.call_count == 2, "the ack that was not due at first")
    hub.dispatcher.acknowledge_late(inlet)
    inlet.acknowledge_if_due.side_effect = [True]
    await eventually(lambda: inlet.acknowledge_if_due.call_count == 3, "the next one")


async def test_the_time_is_told_anew_every_millisecond(hub: Hub) -> None:
    stamps = {hub.dispatcher.timestamp(hub.now())}
    await eventually(lambda: stamps.add(hub.dispatcher.timestamp(hub.now())) or len(stamps) > 1, "another millisecond")  # type: ignore[func-returns-value]
    assert sorted(stamps) == [min(stamps), max(stamps)]


async def test_channels_nobody_uses_are_forgotten(hub: Hub) -> None:
    for number in range(100):
        hub.create(f"s{number}").send_nowait(TextDelta("x"))
    await turn()
    assert not hub.dispatcher._channels
