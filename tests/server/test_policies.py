"""What happens to a consumer that stops reading, and that nobody else feels it (SPEC §6)."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from deltawire.gateway.streams.view import READ_EVENTS
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.codes import CloseCode, ProblemCode
from deltawire.protocol.events import MessageStop, TextDelta, Usage
from deltawire.protocol.messages import Policy
from tests.server.conftest import StartGateway
from tests.server.stalling import consumers_of, say, stalled
from tests.support.peers import Message, consumer, producer, publish, ranges_of, text_delta, text_of, types_of
from tests.support.rawpeer import raw_peer, text
from tests.support.waiting import DEADLINE, eventually, turn


def assert_whole(messages: list[Message], upto: int) -> None:
    """Each seq up to one is delivered, folded or in a gap; none of them twice."""
    ranges = ranges_of(messages)
    assert ranges[0][1] == 1
    assert ranges[-1][2] == upto
    assert all(after[1] == before[2] + 1 for before, after in pairwise(ranges)), ranges


async def test_coalesce_gives_everything_in_few_frames(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    stream = gateway.hub.create("demo")
    async with stalled(gateway, "policy=coalesce&buffer=10") as slow:
        head = say(stream, 5000)
        messages = await slow.raw.read_until("text_delta", seq=head)
    assert_whole(messages, head)
    assert text_of(messages).count("x") == 5000
    folded = [message for message in messages if message.get("first")]
    assert len(folded) <= 5000 // READ_EVENTS + 2
    assert stream.statistics().counters.folded >= 5000


async def test_coalesce_within_its_buffer_gives_every_event_by_itself(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    stream = gateway.hub.create("demo")
    async with stalled(gateway, "policy=coalesce&buffer=1000") as slow:
        head = say(stream, 100)
        messages = await slow.raw.read_until("text_delta", seq=head)
    assert all("first" not in message for message in messages)
    assert_whole(messages, head)


async def test_drop_oldest_keeps_the_newest_of_its_buffer(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    stream = gateway.hub.create("demo")
    async with stalled(gateway, "policy=drop_oldest&buffer=10") as slow:
        head = say(stream, 100)
        messages = await slow.raw.read_until("text_delta", seq=head)
    gaps = [message for message in messages if message["type"] == "gap"]
    assert gaps == [{"type": "gap", "first": slow.cursor + 1, "seq": head - 10, "reason": "dropped"}]
    assert_whole(messages, head)
    assert stream.statistics().counters.dropped == head - 10 - slow.cursor


async def test_drop_newest_keeps_the_oldest_of_its_buffer(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    stream = gateway.hub.create("demo")
    async with stalled(gateway, "policy=drop_newest&buffer=10") as slow:
        head = say(stream, 100)
        messages = await slow.raw.read_until("gap", seq=head)
    assert messages[-1] == {"type": "gap", "first": slow.cursor + 11, "seq": head, "reason": "dropped"}
    assert_whole(messages, head)


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
async def test_only_deltas_are_dropped(start_gateway: StartGateway, policy: str) -> None:
    gateway = await start_gateway()
    stream = gateway.hub.create("demo")
    async with stalled(gateway, f"policy={policy}&buffer=1") as slow:
        say(stream, 20)
        usage = stream.send_nowait(Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3))
        say(stream, 20)
        stop = stream.send_nowait(MessageStop(message_id="m", stop_reason="end_turn"))
        messages = await slow.raw.read_until("message_stop")
    assert ("usage", usage, usage) in ranges_of(messages)
    assert ranges_of(messages)[-1] == ("message_stop", stop, stop)
    assert_whole(messages, stop)
    assert text_of(messages).count("x") <= 1


async def test_a_filtered_drop_names_only_what_was_dropped_of_the_wanted(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    stream = gateway.hub.create("demo")
    async with stalled(gateway, "policy=drop_oldest&buffer=5&types=text_delta,message_stop") as slow:
        head = say(stream, 50)
        messages = await slow.raw.read_until("text_delta", seq=head)
    assert_whole(messages, head)


@pytest.mark.hears(ProblemCode.SLOW_CONSUMER, CloseCode.SLOW_CONSUMER)
async def test_disconnect_closes_4000_and_says_where_to_resume(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    stream = gateway.hub.create("demo")
    async with stalled(gateway, "policy=disconnect&buffer=10") as slow:
        head = say(stream, 11)
        await eventually(lambda: stream.statistics().consumers == 0)
        messages, code = await slow.raw.read_ending()
    problem = messages[-1]
    assert (problem["code"], problem["retryable"], code) == ("slow_consumer", True, 4000)
    assert problem["resume_after"] == slow.cursor
    assert_whole(messages[:-1], slow.cursor)
    async with consumer(gateway, f"policy=disconnect&after={problem['resume_after']}") as resumed:
        again = await resumed.read_until("caught_up")
    assert again[0]["recovered"] is True
    assert ranges_of(again) == [("text_delta", seq, seq) for seq in range(slow.cursor + 1, head + 1)]


async def test_a_disconnected_consumer_is_counted_once(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    stream = gateway.hub.create("demo")
    async with stalled(gateway, "policy=disconnect&buffer=10") as slow:
        say(stream, 11)
        await turn()
        say(stream, 50)
        await slow.raw.read_ending()
    await eventually(lambda: not gateway._connections)
    assert stream.statistics().counters.disconnected == 1


async def test_a_consumer_that_vanished_while_stalled_is_not_counted_as_disconnected(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway()
    stream = gateway.hub.create("demo")
    async with stalled(gateway, "policy=disconnect&buffer=10") as slow:
        slow.raw.close()
        await eventually(lambda: not gateway._connections)
        async with consumer(gateway, "from=now") as other:
            await other.read_until("caught_up")
            say(stream, 50)
            await turn()
    assert stream.statistics().counters.disconnected == 0


async def test_a_consumer_that_stalled_once_and_reads_again_is_not_disconnected_later(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway()
    stream = gateway.hub.create("demo")
    async with stalled(gateway, "policy=disconnect&buffer=10") as slow:
        await slow.raw.read_until("text_delta", seq=len(stream))
        for _ in range(50):  # one a turn: it never lags
            seq = say(stream, 1)
            await slow.raw.read_until("text_delta", seq=seq)
        assert len(consumers_of(gateway)) == 1
    assert stream.statistics().counters.disconnected == 0


async def test_block_holds_producers_at_its_buffer_and_lets_them_go_on(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    async with stalled(gateway, "policy=block&buffer=50") as slow, producer(gateway) as writing:
        await writing.say(*(text_delta("x") for _ in range(200)))
        await eventually(lambda: gateway.hub.info("demo").head == slow.cursor + 50)
        acked = [await writing.read()]
        while acked[-1].get("seq") != slow.cursor + 50:
            acked.append(await writing.read())
        await turn(50)
        assert gateway.hub.info("demo").head == slow.cursor + 50
        messages = await slow.raw.read_until("text_delta", seq=slow.cursor + 200)
        while acked[-1].get("seq") != slow.cursor + 200:
            acked.append(await writing.read())
    assert_whole(messages, slow.cursor + 200)
    assert all("first" not in message for message in messages)
    assert {message["type"] for message in acked} <= {"ack", "audience"}


async def test_block_releases_producers_when_its_consumer_leaves(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    async with stalled(gateway, "policy=block&buffer=5") as slow, producer(gateway) as writing:
        await writing.say(*(text_delta("x") for _ in range(50)))
        await eventually(lambda: gateway.hub.info("demo").head == slow.cursor + 5)
        slow.raw.close()
        await writing.read_until("ack", seq=slow.cursor + 50)


async def test_block_timeout_closes_4000_and_releases_producers(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(block_timeout=0.1234567)
    async with stalled(gateway, "policy=block&buffer=5") as slow, producer(gateway) as writing:
        await writing.say(*(text_delta("x") for _ in range(50)))
        await writing.read_until("ack", seq=slow.cursor + 50)
        messages, code = await slow.raw.read_ending()
    assert "block_timeout (0.123457 s)" in messages[-1]["message"], "in as many digits as a person reads"
    assert (messages[-1]["code"], messages[-1]["resume_after"], code) == ("slow_consumer", slow.cursor, 4000)


async def test_block_timeout_holds_for_a_buffer_full_of_bytes_too(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(block_timeout=0.1, buffer_bytes=64 * 1024)
    async with stalled(gateway, "policy=block&buffer=10000") as slow, producer(gateway) as writing:
        await writing.say(*(text_delta("#" * 8192) for _ in range(20)))
        await writing.read_until("ack", seq=slow.cursor + 20)
        messages, code = await slow.raw.read_ending()
    assert (messages[-1]["code"], code) == ("slow_consumer", 4000)


async def test_a_held_producer_is_not_taken_for_dead(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    stream = gateway.hub.create("demo")
    async with stream.subscribe(SubscribeRequest(policy=Policy.BLOCK, buffer=1)) as slow, producer(gateway) as writing:
        first = asyncio.ensure_future(anext(slow))
        await turn()
        await writing.say(text_delta("a"), text_delta("b"), text_delta("c"))
        await first
        [held] = gateway._connections
        await eventually(lambda: held._reading_held_by)
        now = gateway.hub.now()
        for pings in range(1, 5):
            gateway._housekeeping.sweep(now + pings * gateway.settings.ping_interval)
            assert not held.transport.is_closing()
        assert [(await anext(slow)).seq for _ in range(2)] == [2, 3]
        await writing.read_until("ack", seq=3)


@pytest.mark.parametrize("policy", ["coalesce", "block", "drop_newest", "drop_oldest", "disconnect"])
async def test_a_socket_that_takes_no_byte_for_send_timeout_is_aborted(
    start_gateway: StartGateway, policy: str
) -> None:
    gateway = await start_gateway(send_timeout=0.1)
    async with stalled(gateway, f"policy={policy}&buffer=10") as slow:
        await eventually(lambda: not gateway._connections)
        messages, code = await slow.raw.read_ending()
    assert code is None
    assert "problem" not in types_of(messages)


async def test_a_producer_that_never_reads_its_acks_is_aborted(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(send_timeout=0.1)
    async with raw_peer(gateway.port, "/v1/streams/demo/publish", 4096) as deaf:
        await deaf.read_until("ready")

        async def flood() -> None:
            bad = b"\x81\x82\0\0\0\0no" * 4096  # each is answered with a problem
            while gateway._connections:
                await deaf.send(bad)
                await turn(1)

        async with asyncio.timeout(DEADLINE):
            await flood()


@pytest.mark.parametrize("policy", ["coalesce", "drop_newest", "drop_oldest", "disconnect"])
async def test_invariant_7_a_stalled_consumer_holds_nobody_up(start_gateway: StartGateway, policy: str) -> None:
    gateway = await start_gateway()
    async with (
        consumer(gateway) as lively,
        stalled(gateway, f"policy={policy}&buffer=10") as slow,
        producer(gateway) as writing,
    ):
        await publish(writing, *(text_delta(f"{number} ") for number in range(300)), upto=slow.cursor + 300)
        messages = await lively.read_until("text_delta", seq=slow.cursor + 300)
    assert text_of(messages).replace("#", "") == "".join(f"{number} " for number in range(300))


async def test_a_consumer_that_is_behind_all_the_time_can_still_cancel(start_gateway: StartGateway) -> None:
    """Its socket is full again as soon as it has taken something: what it says must be read all the same."""
    gateway = await start_gateway()
    stream = gateway.hub.create("demo")
    async with producer(gateway) as writing, stalled(gateway, "policy=coalesce&buffer=10000") as slow:
        head = say(stream, 800, "#" * 8192)
        await slow.raw.send(text({"type": "signal", "name": "cancel"}))
        messages = await slow.raw.read_until("signal_result")
        assert ranges_of(messages)[-1][2] < head / 2, "that took until it was behind no more"
        assert messages[-1]["delivered"] == 1
        assert (await writing.read_until("signal"))[-1]["name"] == "cancel"


async def test_a_consumer_that_stalls_in_its_replay_is_not_judged(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    stream = gateway.hub.create("demo")
    for _ in range(100):
        stream.send_nowait(TextDelta("#" * 8192))
    async with raw_peer(gateway.port, "/v1/streams/demo/subscribe?policy=disconnect&buffer=1", 4096) as slow:
        await eventually(lambda: [it for it in consumers_of(gateway) if it._is_stalled])
        say(stream, 50)
        messages = await slow.read_until("caught_up")
        assert_whole(messages, 100)


async def test_a_consumer_that_stalls_beyond_the_retention_gets_a_gap(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(retention_events=50)
    stream = gateway.hub.create("demo")
    async with stalled(gateway, "policy=coalesce") as slow:
        head = say(stream, 200)
        messages = await slow.raw.read_until("text_delta", seq=head)
    [gap] = [message for message in messages if message["type"] == "gap"]
    assert gap == {"type": "gap", "first": slow.cursor + 1, "seq": head - 50, "reason": "evicted"}
    assert_whole(messages, head)


async def test_a_stream_that_ends_under_a_stalled_consumer_is_delivered_whole(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    stream = gateway.hub.create("demo")
    async with stalled(gateway, "policy=coalesce&buffer=10") as slow:
        head = say(stream, 100)
        stream.close()
        messages, code = await slow.raw.read_ending()
    assert messages[-1] == {"type": "stream_end", "seq": head, "reason": "closed"}
    assert code == 1000
    assert_whole(messages[:-1], head)
