"""Streams in the process of the hub: `async for`, `send`, threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.hub import Hub, LocalStream, LocalSubscription
from deltawire.gateway.streams.log import Retention
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.view import READ_EVENTS
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.errors import DeltawireError, StreamError, is_closed, is_full, is_invalid
from deltawire.protocol.events import Event, EventType, Extension, MessageStop, TextDelta, Usage
from deltawire.protocol.messages import Gap, Policy
from deltawire.protocol.position import Position


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with Hub(Settings(block_timeout=60)) as it:
        yield it


@pytest.fixture
def stream(hub: Hub) -> LocalStream:
    return hub.create("demo")


async def read_text(subscription: LocalSubscription) -> str:
    """The text of everything until the stream ends."""
    return "".join([item.data.text async for item in subscription if isinstance(item.data, TextDelta)])  # type: ignore[union-attr]


async def take(subscription: LocalSubscription, count: int) -> list[Event | Gap]:
    """The next items."""
    return [await anext(subscription) for _ in range(count)]


def blocking(buffer: int) -> SubscribeRequest:
    return SubscribeRequest(policy=Policy.BLOCK, buffer=buffer)


async def catch_up(subscription: LocalSubscription, stream: LocalStream) -> None:
    """Read the stream to its end and one event more, so that the policy holds from now on."""
    reading = asyncio.ensure_future(anext(subscription))
    await asyncio.sleep(0)
    stream.send_nowait(TextDelta("begin"))
    assert isinstance(await reading, Event)


async def test_async_for_yields_every_event_and_ends_with_the_stream(stream: LocalStream) -> None:
    for letter in "abc":
        stream.send_nowait(TextDelta(letter))
    async with stream.subscribe(SubscribeRequest(policy=Policy.BLOCK)) as subscription:
        stream.close()
        events = [item async for item in subscription]
    assert [item.seq for item in events] == [1, 2, 3]
    assert all(isinstance(item, Event) for item in events)


async def test_a_reader_waits_for_what_is_sent_later(stream: LocalStream) -> None:
    subscription = stream.subscribe()
    reading = asyncio.ensure_future(read_text(subscription))
    for letter in "abc":
        await stream.send(TextDelta(letter))
        await asyncio.sleep(0)
    stream.close()
    assert await reading == "abc"


async def test_any_number_of_readers_get_the_same(stream: LocalStream) -> None:
    readers = [asyncio.ensure_future(read_text(stream.subscribe())) for _ in range(20)]
    for letter in "abcdef":
        await stream.send(TextDelta(letter))
    stream.close()
    assert set(await asyncio.gather(*readers)) == {"abcdef"}


async def test_a_subscription_resumes_after_a_position(stream: LocalStream) -> None:
    for letter in "abc":
        stream.send_nowait(TextDelta(letter))
    epoch = stream.statistics().epoch
    stream.close()
    resumed = stream.subscribe(SubscribeRequest(position=Position(epoch, 1)))
    assert await read_text(resumed) == "bc"
    with pytest.raises(StreamError) as error:
        stream.subscribe(SubscribeRequest(position=Position(epoch, 4)))
    assert is_invalid(error.value)


async def test_a_reader_whose_filter_lets_nothing_through_lets_others_have_their_turn(stream: LocalStream) -> None:
    for _ in range(5 * READ_EVENTS):
        stream.send_nowait(TextDelta("x"))
    stream.send_nowait(Usage(1, 2, 3))
    async with stream.subscribe(SubscribeRequest(types=frozenset({EventType.USAGE}))) as subscription:
        reading = asyncio.ensure_future(anext(subscription))
        turns = 0
        while not reading.done():
            await asyncio.sleep(0)
            turns += 1
        assert (await reading).seq == 5 * READ_EVENTS + 1
    assert turns >= 5


async def test_what_was_evicted_is_yielded_as_a_gap(hub: Hub) -> None:
    stream = hub.create("short", StreamSettings(retention=Retention(events=2)))
    for letter in "abcde":
        stream.send_nowait(TextDelta(letter))
    assert len(stream) == 2
    async with stream.subscribe() as subscription:
        gap = await anext(subscription)
    assert gap == Gap(first=1, seq=3, reason="evicted")


async def test_send_waits_for_a_block_reader_and_goes_on_when_it_reads(stream: LocalStream) -> None:
    async with stream.subscribe(blocking(2)) as slow:
        await catch_up(slow, stream)
        assert [await stream.send(TextDelta(letter)) for letter in "ab"] == [2, 3]
        waiting = asyncio.ensure_future(stream.send(TextDelta("c")))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        assert (len(slow), slow.buffer, slow.policy) == (2, 2, Policy.BLOCK)
        await anext(slow)
        assert await waiting == 4


async def test_send_raises_full_when_its_timeout_ends(stream: LocalStream) -> None:
    async with stream.subscribe(blocking(1)) as slow:
        await catch_up(slow, stream)
        await stream.send(TextDelta("a"))
        with pytest.raises(StreamError, match=r"no room within 0\.0123457 s: .*'block'") as error:
            await stream.send(TextDelta("b"), timeout=0.0123456789)
        assert is_full(error.value)
        assert not stream._hub.dispatcher.channel(stream._stream)._waiting
    assert await stream.send(TextDelta("c"), timeout=0.01) == 3


async def test_send_nowait_raises_full_at_once_and_appends_nothing(stream: LocalStream) -> None:
    async with stream.subscribe(blocking(1)) as slow:
        await catch_up(slow, stream)
        stream.send_nowait(TextDelta("a"))
        with pytest.raises(StreamError) as error:
            stream.send_nowait(TextDelta("b"))
        assert is_full(error.value)
        assert len(stream) == 2


async def test_a_sender_goes_on_when_the_reader_leaves(stream: LocalStream) -> None:
    slow = stream.subscribe(blocking(1))
    await catch_up(slow, stream)
    await stream.send(TextDelta("a"))
    waiting = asyncio.ensure_future(stream.send(TextDelta("b")))
    await asyncio.sleep(0)
    slow.close()
    assert await waiting == 3


async def test_several_senders_wait_and_all_go_on(stream: LocalStream) -> None:
    async with stream.subscribe(blocking(1)) as slow:
        await catch_up(slow, stream)
        senders = [asyncio.ensure_future(stream.send(TextDelta(str(number)))) for number in range(5)]
        assert [item.seq for item in await take(slow, 5)] == [2, 3, 4, 5, 6]
        assert sorted(await asyncio.gather(*senders)) == [2, 3, 4, 5, 6]


async def test_a_sender_that_waits_on_a_stream_that_closes_is_told_so(stream: LocalStream) -> None:
    async with stream.subscribe(blocking(1)) as slow:
        await catch_up(slow, stream)
        await stream.send(TextDelta("a"))
        waiting = asyncio.ensure_future(stream.send(TextDelta("b")))
        await asyncio.sleep(0)
        stream.close()
        with pytest.raises(StreamError) as error:
            await waiting
        assert is_closed(error.value)


async def test_a_cancelled_sender_appends_nothing_and_leaves_no_turn(stream: LocalStream) -> None:
    async with stream.subscribe(blocking(1)) as slow:
        await catch_up(slow, stream)
        await stream.send(TextDelta("a"))
        waiting = asyncio.ensure_future(stream.send(TextDelta("b")))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not stream._hub.dispatcher.channel(stream._stream)._waiting
        assert len(stream) == 2


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy.DROP_OLDEST, [("gap", 2, 8), ("event", 9, 9), ("event", 10, 10), ("event", 11, 11)]),
        (Policy.DROP_NEWEST, [("event", 2, 2), ("event", 3, 3), ("event", 4, 4), ("gap", 5, 11)]),
        (Policy.COALESCE, [("event", 2, 11)]),
    ],
)
async def test_a_policy_decides_what_a_late_reader_gets(
    stream: LocalStream, policy: Policy, expected: list[tuple[str, int, int]]
) -> None:
    async with stream.subscribe(SubscribeRequest(policy=policy, buffer=3)) as late:
        await catch_up(late, stream)
        for _ in range(10):
            stream.send_nowait(TextDelta("x"))
        assert len(late) == 10
        got: list[tuple[str, int, int]] = []
        while not got or got[-1][2] < 11:
            item = await anext(late)
            assert isinstance(item.seq, int)
            first = item.first if isinstance(item.first, int) else item.seq
            got.append(("gap" if isinstance(item, Gap) else "event", first, item.seq))
    assert got == expected


async def test_a_disconnect_reader_that_is_too_late_is_told_full(stream: LocalStream) -> None:
    async with stream.subscribe(SubscribeRequest(policy=Policy.DISCONNECT, buffer=3)) as late:
        await catch_up(late, stream)
        for _ in range(4):
            stream.send_nowait(TextDelta("x"))
        with pytest.raises(StreamError) as error:
            await anext(late)
        assert is_full(error.value)
        with pytest.raises(StopAsyncIteration):
            await anext(late)
    assert stream.statistics().counters.disconnected == 1


async def test_leaving_a_loop_early_frees_the_subscription(stream: LocalStream) -> None:
    stream.send_nowait(TextDelta("a"))
    async with stream.subscribe() as subscription:
        async for _ in subscription:
            break
    assert stream.statistics().consumers == 0
    await asyncio.sleep(0)
    assert not stream._hub.dispatcher._channels


async def test_a_second_task_that_reads_the_same_subscription_is_told_so(stream: LocalStream) -> None:
    async with stream.subscribe() as reader:
        first = asyncio.ensure_future(anext(reader))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task already reads this subscription"):
            await anext(reader)
        stream.send_nowait(TextDelta("x"))
        assert await first


async def test_closing_a_subscription_wakes_its_reader(stream: LocalStream) -> None:
    subscription = stream.subscribe()
    reading = asyncio.ensure_future(read_text(subscription))
    await asyncio.sleep(0)
    subscription.close()
    assert await reading == ""


async def test_a_closed_stream_takes_nothing_and_says_so(stream: LocalStream) -> None:
    stream.close()
    assert stream.is_closed
    with pytest.raises(StreamError) as refused:
        stream.send_nowait(TextDelta("a"))
    with pytest.raises(StreamError) as waited:
        await stream.send(TextDelta("a"))
    assert is_closed(refused.value)
    assert is_closed(waited.value)


@pytest.mark.parametrize(
    "data",
    [
        TextDelta("\ud83d"),
        Usage(prompt_tokens=-1, completion_tokens=0, total_tokens=0),
        MessageStop(message_id="", stop_reason="end_turn"),
        Extension(provider="p", name="n", data=float("nan")),
        Extension(provider="p", name="n", data=object()),
    ],
    ids=["lone surrogate", "negative usage", "no message id", "NaN", "no JSON"],
)
async def test_data_that_could_not_travel_is_invalid(stream: LocalStream, data: TextDelta) -> None:
    with pytest.raises(StreamError) as error:
        stream.send_nowait(data)
    assert is_invalid(error.value)
    assert len(stream) == 0


async def test_length_and_statistics_say_what_is_held(stream: LocalStream) -> None:
    assert (len(stream), bool(stream)) == (0, True)
    stream.send_nowait(TextDelta("a"))
    async with stream.subscribe() as subscription:
        assert (len(subscription), bool(subscription)) == (1, True)
        info = stream.statistics()
    assert (info.id, info.head, info.events, info.consumers) == ("demo", 1, 1, 1)


# Threads


async def test_other_threads_send_and_read_through_the_one_door(hub: Hub, stream: LocalStream) -> None:
    def work(number: int) -> list[int]:
        return [hub.call_from_thread(lambda: stream.send(TextDelta(f"{number} "))) for _ in range(20)]

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(4) as pool:
        seqs = await asyncio.gather(*(loop.run_in_executor(pool, work, number) for number in range(4)))
    assert sorted(seq for some in seqs for seq in some) == list(range(1, 81))
    assert all(some == sorted(some) for some in seqs)


async def test_a_thread_waits_for_room_at_most_its_timeout(hub: Hub, stream: LocalStream) -> None:
    async with stream.subscribe(blocking(1)) as slow:
        await catch_up(slow, stream)
        stream.send_nowait(TextDelta("a"))
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(hub.call_from_thread, lambda: stream.send(TextDelta("b")), 0.01)
        await asyncio.sleep(0)
        assert len(stream) == 2


async def test_errors_reach_the_thread_that_called(hub: Hub, stream: LocalStream) -> None:
    stream.close()
    with pytest.raises(StreamError) as error:
        await asyncio.to_thread(hub.call_from_thread, lambda: stream.send(TextDelta("a")))
    assert is_closed(error.value)


async def test_the_door_refuses_the_loops_own_thread(hub: Hub, stream: LocalStream) -> None:
    with pytest.raises(DeltawireError, match="await"):
        hub.call_from_thread(lambda: stream.send(TextDelta("a")))
    assert len(stream) == 0


def test_the_door_of_a_hub_that_is_not_running_says_so() -> None:
    async def never() -> None:
        raise AssertionError("it runs nowhere")

    hub = Hub()
    with pytest.raises(DeltawireError, match="running"):
        hub.call_from_thread(never)

    async def come_and_go() -> None:
        async with hub:
            pass

    asyncio.run(come_and_go())
    with pytest.raises(DeltawireError, match="running"):
        hub.call_from_thread(never)


async def test_a_block_reader_that_never_read_holds_the_sender_up(stream: LocalStream) -> None:
    async with stream.subscribe(SubscribeRequest(policy=Policy.BLOCK, buffer=2)):
        stream.send_nowait(TextDelta("1"))
        stream.send_nowait(TextDelta("2"))
        with pytest.raises(StreamError, match="not keeping up"):
            stream.send_nowait(TextDelta("3"))


async def test_a_drop_newest_reader_that_never_read_gets_what_fitted(stream: LocalStream) -> None:
    async with stream.subscribe(SubscribeRequest(policy=Policy.DROP_NEWEST, buffer=2)) as subscription:
        for text in "abcd":
            stream.send_nowait(TextDelta(text))
        first, second, gap = await take(subscription, 3)
        assert [item.data.text for item in (first, second) if isinstance(item, Event)] == ["a", "b"]
        assert gap == Gap(first=3, seq=4, reason="dropped")


async def test_a_block_reader_holds_senders_up_for_block_timeout_and_is_told() -> None:
    async with Hub(Settings(block_timeout=0.2)) as hub:
        stream = hub.create("demo")
        subscription = stream.subscribe(SubscribeRequest(policy=Policy.BLOCK, buffer=1))
        await stream.send(TextDelta("1"))
        await stream.send(TextDelta("2"), timeout=10)
        with pytest.raises(StreamError, match="block_timeout"):
            await anext(subscription)
        with pytest.raises(StopAsyncIteration):
            await anext(subscription)
        assert stream.statistics().counters.disconnected == 1


async def test_a_handle_of_a_stream_that_is_forgotten_touches_no_stream_of_the_same_name(hub: Hub) -> None:
    old = hub.create("again")
    old.close()
    hub.manager.expire(hub.now() + hub.settings.closed_retention)
    new = hub.create("again")
    old.close()
    assert not new.is_closed
    assert old.is_closed
    assert old.statistics().closed
