"""What a producer may send, and what it is answered (SPEC §4.3, §7)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from websockets.exceptions import InvalidStatus

from deltawire.gateway.hub.fair_queue import FairQueue
from deltawire.gateway.server import Gateway
from deltawire.gateway.server.connection.backlog import STEP
from deltawire.gateway.streams.publication import FIRST_READS
from deltawire.gateway.streams.view import View
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.codec import Codec
from deltawire.protocol.codes import CloseCode, ProblemCode
from deltawire.protocol.messages import Policy
from tests.server.conftest import StartGateway
from tests.support.peers import (
    Message,
    Peer,
    consumer,
    peer,
    producer,
    publish,
    text_delta,
    text_of,
    types_of,
)
from tests.support.rawpeer import CLOSE, PONG, RawPeer, frame, raw_peer, text
from tests.support.waiting import eventually, turn


async def read_answer(it: Peer) -> Message:
    """The next message that is not about the audience."""
    while (message := await it.read())["type"] == "audience":
        pass
    return message


async def read_problems(it: Peer) -> list[Message]:
    """Every problem until the close."""
    return [message for message in await it.read_all() if message["type"] == "problem"]


async def test_ready_says_where_the_stream_stands(gateway: Gateway) -> None:
    async with peer(gateway, "demo/publish") as first:
        ready = await first.read()
        assert ready == {
            "type": "ready",
            "stream": "demo",
            "epoch": gateway.hub.info("demo").epoch,
            "head": 0,
            "generation": 0,
            "producer_seq": 0,
        }
        await publish(first, text_delta("a"), text_delta("b"), upto=2)
    async with peer(gateway, "demo/publish?producer=p&generation=7") as second:
        assert await second.read() == ready | {"head": 2, "generation": 7}


async def test_events_are_numbered_stamped_and_encoded_anew(gateway: Gateway) -> None:
    async with consumer(gateway) as reading, producer(gateway) as writing:
        await reading.read_until("caught_up")
        await writing.say('  {"data": {"text": "\\u0041"},\n "type": "text_delta"}  ')
        await writing.say(text_delta("b", timestamp="2026-01-02T03:04:05+01:00"))
        first, second = await reading.read(), await reading.read()
    assert list(first) == ["type", "seq", "timestamp", "data"]
    assert (first["seq"], first["data"]) == (1, {"text": "A"})
    assert first["timestamp"].endswith("Z")
    assert (second["seq"], second["timestamp"]) == (2, "2026-01-02T03:04:05+01:00")


async def test_a_batch_is_appended_in_order_and_acknowledged_once(gateway: Gateway) -> None:
    async with producer(gateway) as writing:
        await writing.say([text_delta(str(number)) for number in range(1000)])
        assert await read_answer(writing) == {"type": "ack", "seq": 1000}
    async with consumer(gateway) as reading:
        assert text_of(await reading.read_until("caught_up")) == "".join(map(str, range(1000)))


async def test_acks_are_cumulative_and_rise(gateway: Gateway) -> None:
    async with producer(gateway, "producer=p") as writing:
        await writing.say(*(text_delta("x", producer_seq=number) for number in range(1, 301)))
        acks: list[Message] = []
        while not acks or acks[-1]["seq"] < 300:
            acks.append(await read_answer(writing))
    assert {ack["type"] for ack in acks} == {"ack"}
    numbers = [ack["seq"] for ack in acks]
    assert numbers == sorted(set(numbers))
    assert all(ack["producer_seq"] == ack["seq"] for ack in acks)


@pytest.mark.parametrize("read_before", [0, FIRST_READS])
@pytest.mark.parametrize(
    "ending",
    [frame(CLOSE, b"\x03\xe8"), b"", frame(PONG) * 1000, text({"type": "token", "token": "x"}) * 100],
    ids=["close", "end of input", "too many pongs", "too many tokens"],
)
async def test_what_came_before_the_end_of_a_connection_is_acknowledged_and_delivered(
    gateway: Gateway, read_before: int, ending: bytes
) -> None:
    async with consumer(gateway) as reader, raw_peer(gateway.port, "/v1/streams/demo/publish") as it:
        await it.read_until("ready")
        for seq in range(1, read_before + 1):
            await it.send(text(text_delta("x")))
            await it.read_until("ack", seq=seq)
        await it.send(text(text_delta("last")) + ending)
        if not ending:
            it.finish_sending()
        last = read_before + 1
        await it.read_until("ack", seq=last)
        assert (await reader.read_until("text_delta", seq=last))[-1]["data"] == {"text": "last"}


async def test_producers_are_acknowledged_though_a_consumer_fails(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: View, after: int, upto: int) -> None:
        raise RuntimeError(f"broken on purpose from {after} to {upto}")

    async with consumer(gateway), producer(gateway) as writing:
        monkeypatch.setattr(View, "raw", fail)
        await writing.say(text_delta("x"))
        assert (await read_answer(writing))["seq"] == 1


async def test_an_ack_counts_only_what_this_connection_appended(gateway: Gateway) -> None:
    async with producer(gateway) as one, producer(gateway) as other:
        await publish(one, text_delta("a"), upto=1)
        await publish(other, text_delta("b"), upto=2)
        await one.say("typo")
        assert (await read_answer(one))["type"] == "problem"


NESTED = "[" * 65 + "]" * 65

REFUSED: dict[str, tuple[str | bytes, str]] = {
    "an empty message": ("", "empty"),
    "no JSON": ("hello", "JSON"),
    "a number": ("5", ""),
    "an unknown type": ('{"type":"text","data":{"text":"x"}}', "text"),
    "no type": ('{"data":{"text":"x"}}', "type"),
    "no data": ('{"type":"text_delta"}', "data"),
    "an unknown field in data": ('{"type":"text_delta","data":{"text":"x","lang":"en"}}', "lang"),
    "an unknown field in the envelope": ('{"type":"text_delta","data":{"text":"x"},"id":"e"}', "id"),
    "a number for text": ('{"type":"text_delta","data":{"text":5}}', "text"),
    "null": ('{"type":"text_delta","data":{"text":"x","index":null}}', "index"),
    "a seq": ('{"type":"text_delta","data":{"text":"x"},"seq":4}', "seq"),
    "a first": ('{"type":"text_delta","data":{"text":"x"},"first":4}', "first"),
    "a timestamp without zone": (
        '{"type":"text_delta","data":{"text":"x"},"timestamp":"2026-11-22T11:00:00"}',
        "timestamp",
    ),
    "half a surrogate pair": ('{"type":"text_delta","data":{"text":"\\ud83d"}}', ""),
    "a negative count": (
        '{"type":"usage","data":{"prompt_tokens":-1,"completion_tokens":0,"total_tokens":0}}',
        "prompt_tokens",
    ),
    "a count as a fraction": (
        '{"type":"usage","data":{"prompt_tokens":1.5,"completion_tokens":0,"total_tokens":0}}',
        "prompt_tokens",
    ),
    "an empty message_id": ('{"type":"message_start","data":{"message_id":""}}', "message_id"),
    "NaN": ('{"type":"extension","data":{"provider":"p","name":"n","data":NaN}}', ""),
    "an overflowing number": ('{"type":"extension","data":{"provider":"p","name":"n","data":1e999}}', ""),
    "nesting over 64": ('{"type":"extension","data":{"provider":"p","name":"n","data":' + NESTED + "}}", "64"),
    "nesting beyond reason": ("[" * 60_000, ""),
    "something after it": ('{"type":"text_delta","data":{"text":"x"}} {}', ""),
    "a broken batch": ('[{"type":"text_delta","data":{"text":"x"}}', ""),
    "an over-long message": (json.dumps(text_delta("x" * 65536)), "max_message"),
    "a binary frame": (b"\x81\xa4type\xaatext_delta", "text frames"),
    "producer_seq without an id": ('{"type":"text_delta","data":{"text":"x"},"producer_seq":1}', "producer"),
    "a consumer's message": ('{"type":"signal","name":"cancel"}', "signal"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.hears(ProblemCode.INVALID_EVENT)
async def test_a_bad_event_is_refused_with_its_reason_and_the_connection_lives_on(gateway: Gateway, case: str) -> None:
    said, named = REFUSED[case]
    async with producer(gateway) as writing:
        await writing.say(said, text_delta("on"))
        problem = await read_answer(writing)
        assert (problem["type"], problem["code"], problem["retryable"]) == ("problem", "invalid_event", False)
        assert named in problem["message"]
        assert await read_answer(writing) == {"type": "ack", "seq": 1}


async def test_each_item_of_a_batch_is_judged_by_itself(gateway: Gateway) -> None:
    bad = [{"type": "text_delta"}, [text_delta("x")], {"type": "close_stream"}, 5]
    async with producer(gateway, "producer=p") as writing:
        await writing.say([text_delta("a", producer_seq=1), *bad, text_delta("b", producer_seq=2)])
        answers = [await read_answer(writing) for _ in range(5)]
        assert [answer["message"][:3] for answer in answers[:4]] == ["[1]", "[2]", "[3]", "[4]"]
        assert answers[4] == {"type": "ack", "seq": 2, "producer_seq": 2}
        await writing.say([])
        await publish(writing, text_delta("c", producer_seq=3), upto=3)


async def test_a_refused_event_keeps_its_number(gateway: Gateway) -> None:
    async with producer(gateway, "producer=p") as writing:
        await writing.say({"type": "text_delta", "producer_seq": 1, "data": {"txt": "a"}})
        assert (await read_answer(writing))["producer_seq"] == 1
        await writing.say(text_delta("a", producer_seq=1))
        assert await read_answer(writing) == {"type": "ack", "seq": 1, "producer_seq": 1}


async def test_a_repeat_is_acknowledged_again_and_not_appended_again(gateway: Gateway) -> None:
    async with producer(gateway, "producer=p") as writing:
        await writing.say(text_delta("a", producer_seq=1), text_delta("b", producer_seq=2))
        await eventually(lambda: gateway.hub.info("demo").head == 2)
        writing.connection.transport.abort()  # the acks may be lost on the way
    async with peer(gateway, "demo/publish?producer=p") as again:
        assert (await again.read())["producer_seq"] == 2
        await again.say(*(text_delta(letter, producer_seq=at) for at, letter in enumerate("abc", 1)))
        acks = [await read_answer(again)]
        while acks[-1].get("producer_seq") != 3:
            acks.append(await read_answer(again))
        assert acks[-1] == {"type": "ack", "seq": 3, "producer_seq": 3}
    async with consumer(gateway) as reading:
        assert text_of(await reading.read_until("caught_up")) == "abc"


@pytest.mark.hears(ProblemCode.SEQUENCE_GAP)
async def test_a_hole_is_a_sequence_gap_with_the_number_expected(gateway: Gateway) -> None:
    async with producer(gateway, "producer=p") as writing:
        await writing.say(text_delta("c", producer_seq=3))
        problem = await read_answer(writing)
        assert (problem["code"], problem["producer_seq"], problem["expected"]) == ("sequence_gap", 3, 1)
        await publish(writing, text_delta("a", producer_seq=1), upto=1)


async def test_close_stream_ends_it_for_everyone(gateway: Gateway) -> None:
    async with consumer(gateway) as reading, producer(gateway) as writing, producer(gateway) as other:
        await reading.read_until("caught_up")
        await writing.say(text_delta("a"), {"type": "close_stream"})
        assert types_of(await reading.read_all()) == ["text_delta", "stream_end"]
        assert [message for message in await writing.read_all() if message["type"] == "ack"] == [
            {"type": "ack", "seq": 1}
        ]
        await other.say(text_delta("late"))
        [problem] = await read_problems(other)
        assert (problem["code"], problem["retryable"]) == ("stream_closed", False)
    assert (reading.code, writing.code, other.code) == (1000, 1000, 4501)


@pytest.mark.hears(ProblemCode.STREAM_CLOSED, CloseCode.STREAM_CLOSED)
async def test_a_closed_stream_takes_no_new_producer(gateway: Gateway) -> None:
    gateway.hub.create("demo").close()
    async with peer(gateway, "demo/publish") as late:
        messages = await late.read_all()
    assert types_of(messages) == ["ready", "problem"]
    assert (messages[1]["code"], late.code) == ("stream_closed", 4501)


@pytest.mark.hears(ProblemCode.FENCED, CloseCode.FENCED)
async def test_a_newer_generation_fences_the_older(gateway: Gateway) -> None:
    async with producer(gateway, "producer=p&generation=1") as old, producer(gateway, "producer=q") as bystander:
        await publish(old, text_delta("a", producer_seq=1), upto=1)
        async with producer(gateway, "producer=p&generation=2") as new:
            [problem] = await read_problems(old)
            assert (problem["code"], problem["retryable"], old.code) == ("fenced", False, 4500)
            await publish(new, text_delta("b", producer_seq=1), upto=2)
            await publish(bystander, text_delta("c", producer_seq=1), upto=3)
            async with peer(gateway, "demo/publish?producer=p&generation=1") as zombie:
                [problem] = await zombie.read_all()
            assert (problem["code"], zombie.code) == ("fenced", 4500)


async def test_the_latest_connection_of_a_generation_goes_on_with_its_numbering(gateway: Gateway) -> None:
    async with producer(gateway, "producer=p") as one:
        await publish(one, text_delta("a", producer_seq=1), upto=1)
        async with producer(gateway, "producer=p") as other:
            await publish(other, text_delta("b", producer_seq=2), upto=2)
            await other.say(text_delta("a", producer_seq=1))
            assert (await read_answer(other))["producer_seq"] == 2
            await one.say(text_delta("without a number"))
            assert (await read_answer(one))["seq"] == 3
            await one.say(text_delta("late", producer_seq=3))
            problem = [message for message in await one.read_all() if message["type"] == "problem"][-1]
            assert (problem["code"], one.code) == ("fenced", 4500)
    assert gateway.hub.info("demo").head == 3


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("generation=1", "generation"),
        ("producer=", "producer"),
        ("producer=a%20b", "producer"),
        ("producer=p&generation=-1", "generation"),
        ("producer=p&generation=x", "generation"),
        ("on_full=drop", "on_full"),
        ("policy=block", "policy"),
    ],
)
@pytest.mark.hears(ProblemCode.BAD_REQUEST, CloseCode.BAD_REQUEST)
async def test_a_bad_parameter_is_named_in_place_of_ready(gateway: Gateway, query: str, named: str) -> None:
    async with peer(gateway, f"demo/publish?{query}") as refused:
        [problem] = await refused.read_all()
    assert (problem["code"], refused.code) == ("bad_request", 4502)
    assert named in problem["message"]


async def test_a_messagepack_producer_feeds_json_consumers(gateway: Gateway) -> None:
    async with consumer(gateway) as reading, peer(gateway, "demo/publish", "deltawire.v1.msgpack") as writing:
        await reading.read_until("caught_up")
        await writing.read_until("ready")
        await writing.say(msgspec.msgpack.encode([text_delta("a"), text_delta("é😀")]), b"", b"\xc1")
        assert text_of([await reading.read(), await reading.read()]) == "aé😀"
        codes = [(await read_answer(writing)).get("code") for _ in range(3)]
        assert sorted(codes, key=str) == [None, "invalid_event", "invalid_event"]


@pytest.mark.hears(ProblemCode.STREAM_FULL)
async def test_on_full_reject_refuses_each_event_until_there_is_room(gateway: Gateway) -> None:
    stream = gateway.hub.create("demo")
    async with (
        stream.subscribe(SubscribeRequest(policy=Policy.BLOCK, buffer=2)) as slow,
        producer(gateway, "on_full=reject&producer=p") as writing,
    ):
        first = asyncio.ensure_future(anext(slow))
        await turn()
        await publish(writing, text_delta("a", producer_seq=1), upto=1)
        await first
        await writing.say([text_delta(letter, producer_seq=at) for at, letter in enumerate("bcde", 2)])
        full, hole = [await read_answer(writing) for _ in range(2)]
        assert (full["code"], full["producer_seq"], full["retryable"]) == ("stream_full", 4, True)
        assert (hole["code"], hole["expected"]) == ("sequence_gap", 4)
        assert await read_answer(writing) == {"type": "ack", "seq": 3, "producer_seq": 3}
        await anext(slow)
        await publish(writing, text_delta("d", producer_seq=4), upto=4)


async def test_a_stream_closed_over_http_lets_waiting_producers_go(gateway: Gateway) -> None:
    stream = gateway.hub.create("demo")
    async with (
        stream.subscribe(SubscribeRequest(policy=Policy.BLOCK, buffer=1)) as slow,
        producer(gateway) as writing,
    ):
        first = asyncio.ensure_future(anext(slow))
        await turn()
        await writing.say(text_delta("a"), text_delta("b"), text_delta("c"))
        await first
        await eventually(lambda: len(stream) == 2)
        stream.close()
        messages = await writing.read_all()
    assert messages[-1]["code"] == "stream_closed"
    assert max(message["seq"] for message in messages if message["type"] == "ack") == 2
    assert writing.code == 4501


async def test_a_full_process_refuses_with_4003_and_503_what_would_not_fit(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(memory_limit=1 << 20)
    big: Any = text_delta("x" * 60_000)
    async with (
        consumer(gateway, "from=now", stream="one"),  # a stream nobody uses would be evicted
        producer(gateway, stream="one") as one,
        producer(gateway, stream="other") as other,
    ):
        await publish(other, text_delta("a"), upto=1)
        await one.say(*[big] * 30)
        problems = await read_problems(one)
        assert [(problem["code"], problem["retryable"]) for problem in problems] == [("overloaded", True)]
        assert one.code == 4003
        with pytest.raises(InvalidStatus) as refusal:
            async with consumer(gateway, stream="third"):
                pass
        assert refusal.value.response.status_code == 503
        assert b"memory_limit (1048576 bytes)" in refusal.value.response.body
        assert int(refusal.value.response.headers["Retry-After"]) >= 1


async def test_the_problems_of_bad_batches_wait_for_a_producer_that_does_not_read(gateway: Gateway) -> None:
    async with raw_peer(gateway.port, "/v1/streams/demo/publish", 4096) as it:
        await it.read_until("ready")
        [connection] = gateway._connections
        sending = asyncio.create_task(it.send(text([0] * 100) * 150 + text([text_delta("last")])))
        await eventually(lambda: connection.paused and connection._reading_held_by)
        assert connection.transport.get_write_buffer_size() < 256 * 1024, "of the MiB that all of them are"
        assert (await it.read_until("ack"))[-1]["seq"] == 1
        await sending
        await eventually(lambda: not connection._reading_held_by)


async def test_the_refusals_of_a_batch_are_bounded_and_its_good_items_are_appended(gateway: Gateway) -> None:
    async with producer(gateway) as writing:
        await writing.say([0] * 5000 + [text_delta("in"), 0, text_delta("last")])
        messages = await writing.read_until("ack", seq=2)
    problems = [message for message in messages if message["type"] == "problem"]
    assert len(problems) == 65
    assert problems[0]["message"].startswith("[0] Expected `object`")
    assert problems[-1]["message"] == "4937 more items of this batch are refused"


async def test_what_is_sent_behind_a_long_batch_is_done_behind_it(gateway: Gateway) -> None:
    """Also a close, and the end of the socket."""
    batch = text([text_delta(f"{number}") for number in range(1000)])
    for farewell in (frame(CLOSE, b"\x03\xe8"), b""):
        it = await RawPeer.connect(gateway.port)
        await it.upgrade("/v1/streams/demo/publish")
        await it.send(batch + text(text_delta("behind")) + farewell)
        if not farewell:
            it.finish_sending()
        messages, _ = await it.read_ending()
        assert messages[-1]["type"] == "ack"
        assert messages[-1]["seq"] % 1001 == 0


async def test_who_hangs_up_behind_a_long_batch_leaves_when_it_is_done(gateway: Gateway) -> None:
    it = await RawPeer.connect(gateway.port)
    await it.upgrade("/v1/streams/demo/publish")
    await it.send(text([text_delta(f"{number}") for number in range(1000)]))
    it.finish_sending()
    messages, _ = await it.read_ending()
    assert messages[-1] == {"type": "ack", "seq": 1000}
    await eventually(lambda: not gateway._connections)


async def test_who_is_ended_within_a_batch_has_its_close_heard_behind_it(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(message_rate=1.0)
    async with raw_peer(gateway.port, "/v1/streams/demo/publish") as it:
        await it.read_until("ready")
        gateway.hub.close("demo")
        await it.send(text([text_delta("")] * 1000) + frame(CLOSE, b"\x03\xe8"))
        messages, code = await it.read_ending()
    assert (messages[-1]["code"], code) == ("stream_closed", 4501)
    await eventually(lambda: not gateway._connections)


async def test_items_of_batches_and_refusals_count_towards_the_rate(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(message_rate=1.0)
    for items in ([text_delta("")] * 1000, [0] * 200):
        async with producer(gateway) as writing:
            for _ in range(6):
                await writing.say(items)
            messages = await writing.read_all()
            assert (messages[-1]["code"], writing.code) == ("rate_limited", 4002)


async def test_a_batch_of_nothing_holds_up_nobody(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the largest batch, no more is judged in a row than a step has, where there is time for no more."""
    in_a_row = [0]
    judge = Codec.decode_from_producer

    def count(codec: Codec, item: bytes | Raw) -> Any:
        in_a_row[-1] += 1
        return judge(codec, item)

    def end_turn(turnstile: FairQueue) -> None:
        in_a_row.append(0)
        take_turn(turnstile)

    take_turn = FairQueue._turn
    monkeypatch.setattr(Codec, "decode_from_producer", count)
    monkeypatch.setattr(FairQueue, "_turn", end_turn)
    monkeypatch.setattr(FairQueue, "has_time", lambda *_: False)
    async with producer(gateway) as writing:
        await writing.say(["no message"] * 4000)
        await writing.read_until("problem", message="3936 more items of this batch are refused")
        await writing.say([0] * 20_000)
        await writing.read_until("problem", message="19936 more items of this batch are refused")
    assert sum(in_a_row) == 4000 + 64, "items too short for a message are not judged"
    assert max(in_a_row) <= STEP
