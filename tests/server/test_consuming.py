"""What a consumer gets, and in which order (SPEC §5)."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from deltawire.gateway.server import Gateway
from deltawire.protocol.codes import CloseCode, ProblemCode
from deltawire.protocol.events import ContentStart, Data, MessageStart, MessageStop, TextDelta, Thinking, Usage
from deltawire.protocol.messages import Policy
from tests.server.conftest import StartGateway
from tests.server.stalling import consumers_of
from tests.support.peers import (
    Message,
    consumer,
    peer,
    producer,
    publish,
    ranges_of,
    text_delta,
    text_of,
    types_of,
)

ANSWER: list[Data] = [
    MessageStart(message_id="m1", model="m-large"),
    TextDelta("The"),
    TextDelta(" quick"),
    TextDelta(" fox"),
    Usage(prompt_tokens=1, completion_tokens=3, total_tokens=4),
    MessageStop(message_id="m1", stop_reason="end_turn"),
]


def fill(gateway: Gateway, *events: Data, stream: str = "demo") -> str:
    """Append events to a stream; returns its epoch."""
    local = gateway.hub.get_or_create(stream)
    for event in events:
        local.send_nowait(event)
    return local.statistics().epoch


async def test_an_empty_stream_is_subscribed_caught_up_then_live_then_over(gateway: Gateway) -> None:
    async with consumer(gateway) as reading, producer(gateway) as writing:
        opening = await reading.read_until("caught_up")
        await publish(writing, text_delta("Hi"), upto=1)
        live = await reading.read()
        await writing.say({"type": "close_stream"})
        end = await reading.read_all()
        await writing.read_all()
    epoch = gateway.hub.info("demo").epoch
    assert opening == [
        {
            "type": "subscribed",
            "stream": "demo",
            "epoch": epoch,
            "floor": 1,
            "head": 0,
            "after": 0,
            "policy": "coalesce",
            "buffer": 100,
            "recovered": False,
            "closed": False,
        },
        {"type": "caught_up", "seq": 0},
    ]
    assert live["data"] == {"text": "Hi"}
    assert live["seq"] == 1
    assert end == [{"type": "stream_end", "seq": 1, "reason": "closed"}]
    assert (reading.code, writing.code) == (1000, 1000)


async def test_a_late_joiner_gets_the_answer_so_far_folded(gateway: Gateway) -> None:
    fill(gateway, *ANSWER)
    async with consumer(gateway) as late:
        messages = await late.read_until("caught_up")
    assert types_of(messages) == ["subscribed", "message_start", "text_delta", "usage", "message_stop", "caught_up"]
    assert (messages[2]["first"], messages[2]["seq"]) == (2, 4)
    assert messages[2]["data"] == {"text": "The quick fox"}


@pytest.mark.parametrize("policy", ["block", "drop_newest", "drop", "drop_oldest", "disconnect"])
async def test_other_policies_replay_every_event_by_itself(gateway: Gateway, policy: str) -> None:
    fill(gateway, *ANSWER)
    async with consumer(gateway, f"policy={policy}&buffer=1") as late:
        messages = await late.read_until("caught_up")
    assert messages[0]["policy"] == ("drop_newest" if policy == "drop" else policy)
    assert [message["seq"] for message in messages[1:-1]] == [1, 2, 3, 4, 5, 6]
    assert all("first" not in message for message in messages)


async def test_from_now_gets_nothing_of_the_past(gateway: Gateway) -> None:
    fill(gateway, *ANSWER)
    async with consumer(gateway, "from=now") as late:
        opening = await late.read_until("caught_up")
        fill(gateway, TextDelta("!"))
        live = await late.read()
    assert types_of(opening) == ["subscribed", "caught_up"]
    assert (opening[0]["after"], opening[1]["seq"]) == (6, 6)
    assert live["seq"] == 7


@pytest.mark.parametrize(
    ("after", "recovered", "expected"),
    [
        pytest.param(0, False, [("gap", 1, 2), ("text_delta", 3, 6)], id="far below the floor"),
        pytest.param(1, False, [("gap", 2, 2), ("text_delta", 3, 6)], id="just below the floor"),
        pytest.param(2, True, [("text_delta", 3, 6)], id="at the floor"),
        pytest.param(4, True, [("text_delta", 5, 6)], id="in the middle"),
        pytest.param(6, True, [], id="at the head"),
    ],
)
@pytest.mark.parametrize("names_epoch", [True, False])
async def test_a_resume_gets_exactly_what_is_missing(
    start_gateway: StartGateway,
    after: int,
    recovered: bool,  # noqa: FBT001 - a column of the table
    expected: list[Any],
    names_epoch: bool,  # noqa: FBT001 - likewise
) -> None:
    gateway = await start_gateway(retention_events=4)
    epoch = fill(gateway, *(TextDelta(letter) for letter in "abcdef"))
    async with consumer(gateway, f"after={after}" + (f"&epoch={epoch}" if names_epoch else "")) as resumed:
        messages = await resumed.read_until("caught_up")
    assert (messages[0]["after"], messages[0]["recovered"]) == (after, recovered)
    assert ranges_of(messages) == expected
    assert {message["reason"] for message in messages if message["type"] == "gap"} <= {"evicted"}


async def test_a_position_of_another_epoch_starts_over_and_says_so(gateway: Gateway) -> None:
    epoch = fill(gateway, TextDelta("a"), TextDelta("b"))
    async with consumer(gateway, "after=17&epoch=elsewhere") as resumed:
        messages = await resumed.read_until("caught_up")
    assert (messages[0]["epoch"], messages[0]["after"], messages[0]["recovered"]) == (epoch, 0, False)
    assert messages[1] == {"type": "gap", "first": 1, "seq": 0, "reason": "epoch_changed"}
    assert ranges_of(messages[2:]) == [("text_delta", 1, 2)]


@pytest.mark.hears(ProblemCode.NOT_FOUND, CloseCode.NOT_FOUND)
@pytest.mark.parametrize("query", ["create=false", "create=false&after=7&epoch=gone"])
async def test_a_stream_that_is_not_there_is_not_made_where_none_is_to_be(gateway: Gateway, query: str) -> None:
    async with consumer(gateway, query) as reading:
        [problem] = await reading.read_all()
    assert (problem["type"], problem["code"], problem["retryable"]) == ("problem", "not_found", False)
    assert "'demo'" in problem["message"]
    assert reading.code == 4505
    assert gateway.hub.count() == 0


async def test_a_stream_that_is_there_is_followed_where_none_is_to_be_made(gateway: Gateway) -> None:
    fill(gateway, *ANSWER)
    gateway.hub.close("demo")
    async with consumer(gateway, "create=false") as reading:
        assert text_of(await reading.read_all()) == "The quick fox"
    assert reading.code == 1000


@pytest.mark.hears(ProblemCode.POSITION_AHEAD, CloseCode.POSITION_AHEAD)
async def test_a_position_ahead_of_the_head_is_refused_in_band(gateway: Gateway) -> None:
    fill(gateway, TextDelta("a"))
    async with consumer(gateway, "after=2") as ahead:
        [problem] = await ahead.read_all()
    assert (problem["code"], problem["retryable"], ahead.code) == ("position_ahead", False, 4504)


@pytest.mark.parametrize(
    ("query", "code"), [("after=99", "position_ahead"), ("policy=block", "forbidden"), ("interval=5", "bad_request")]
)
async def test_a_consumer_that_is_refused_leaves_no_stream_and_displaces_none(
    start_gateway: StartGateway, query: str, code: str
) -> None:
    gateway = await start_gateway(allow_block=False, policy=Policy.DROP_OLDEST, max_streams=1)
    gateway.hub.create("idle")
    async with consumer(gateway, query) as refused:
        [problem] = await refused.read_all()
    assert problem["code"] == code
    assert [stream.id for stream in gateway.hub.list()] == ["idle"]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("buffer=0", "buffer"),
        ("buffer=10001", "buffer"),
        ("from=yesterday", "from"),
        ("policy=drop_all", "policy"),
        ("types=text", "types"),
        ("interval=1001", "interval"),
        ("interval=5&policy=block", "interval"),
        ("after=-1", "after"),
        ("epoch=x", "epoch"),
        ("colour=red", "colour"),
        ("buffer=1&buffer=2", "buffer"),
        ("%ff=1", "query"),
    ],
)
async def test_a_bad_parameter_is_named_in_band_and_closed_4502(gateway: Gateway, query: str, named: str) -> None:
    async with consumer(gateway, query) as refused:
        [problem] = await refused.read_all()
    assert (problem["type"], problem["code"], refused.code) == ("problem", "bad_request", 4502)
    assert named in problem["message"]
    assert gateway.hub.count() == 0


async def test_a_bad_stream_id_is_named_in_band(gateway: Gateway) -> None:
    async with consumer(gateway, stream="a%20b") as refused:
        [problem] = await refused.read_all()
    assert (problem["code"], refused.code) == ("bad_request", 4502)
    assert "'a b'" in problem["message"]


async def test_a_lost_consumer_resumes_without_loss_or_double_while_events_go_on(gateway: Gateway) -> None:
    async with consumer(gateway) as first:
        opening = await first.read_until("caught_up")
        fill(gateway, *(TextDelta(letter) for letter in "abc"))
        seen = await first.read_until("text_delta", seq=3)
        first.connection.transport.abort()
    fill(gateway, *(TextDelta(letter) for letter in "def"))
    async with consumer(gateway, f"after=3&epoch={opening[0]['epoch']}") as second:
        resumed = await second.read_until("caught_up")
        fill(gateway, *(TextDelta(letter) for letter in "ghi"))
        resumed += await second.read_until("text_delta", seq=9)
    assert resumed[0]["recovered"] is True
    assert text_of(seen + resumed) == "abcdefghi"
    assert ranges_of(resumed)[0] == ("text_delta", 4, 6)


async def test_types_leaves_the_others_out_without_a_gap(gateway: Gateway) -> None:
    fill(gateway, *ANSWER)
    async with consumer(gateway, "types=usage,message_stop") as filtered:
        replay = await filtered.read_until("caught_up")
        fill(gateway, TextDelta("x"), Thinking("y"), MessageStop(message_id="m2", stop_reason="end_turn"))
        live = await filtered.read()
    assert types_of(replay) == ["subscribed", "usage", "message_stop", "caught_up"]
    assert (live["type"], live["seq"]) == ("message_stop", 9)


async def test_an_interval_folds_what_comes_in_between(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async with consumer(gateway, "interval=50") as calm:
        await calm.read_until("caught_up")
        fill(gateway, TextDelta("a"))
        messages = await calm.read_until("text_delta", seq=1)
        [seen] = consumers_of(gateway)
        with monkeypatch.context() as patch:
            patch.setattr(gateway.hub, "now", lambda: seen._next_write - 0.05)  # time stands still
            for letter in "bcdef":
                fill(gateway, TextDelta(letter))
                await asyncio.sleep(0)
        messages += await calm.read_until("text_delta", seq=6)
    assert text_of(messages) == "abcdef"
    assert ranges_of(messages) == [("text_delta", 1, 1), ("text_delta", 2, 6)]


async def test_an_interval_delays_the_end_of_a_stream_but_loses_nothing_of_it(gateway: Gateway) -> None:
    async with consumer(gateway, "interval=20") as calm:
        await calm.read_until("caught_up")
        fill(gateway, TextDelta("a"), TextDelta("b"))
        gateway.hub.close("demo")
        messages = await calm.read_all()
    assert text_of(messages) == "ab"
    assert messages[-1] == {"type": "stream_end", "seq": 2, "reason": "closed"}
    assert calm.code == 1000


async def test_messagepack_says_the_same_in_the_same_order(gateway: Gateway) -> None:
    fill(gateway, *ANSWER)
    gateway.hub.close("demo")
    read: list[list[Message]] = []
    for subprotocol in ("deltawire.v1.json", "deltawire.v1.msgpack"):
        async with peer(gateway, "demo/subscribe", subprotocol) as it:
            assert it.connection.subprotocol == subprotocol
            read.append(await it.read_all())
    assert read[0] == read[1]
    assert [list(message) for message in read[0]] == [list(message) for message in read[1]]


async def test_consumers_of_both_encodings_and_filters_get_the_same_live_text(gateway: Gateway) -> None:
    async with (
        peer(gateway, "demo/subscribe", "deltawire.v1.msgpack") as packed,
        peer(gateway, "demo/subscribe?types=text_delta", "deltawire.v1.msgpack") as filtered,
        consumer(gateway) as plain,
        consumer(gateway, "policy=block") as blocking,
        consumer(gateway, "interval=10") as calm,
    ):
        peers = (packed, filtered, plain, blocking, calm)
        for it in peers:
            await it.read_until("caught_up")
        for number in range(50):
            fill(gateway, TextDelta(f"{number} "), ContentStart(index=number))
            if number % 7 == 0:
                await asyncio.sleep(0)
        gateway.hub.close("demo")
        texts = {text_of(await it.read_all()) for it in peers}
    assert texts == {"".join(f"{number} " for number in range(50))}


@pytest.mark.hears(CloseCode.STREAM_ENDED)
async def test_a_closed_stream_replays_and_ends(gateway: Gateway) -> None:
    fill(gateway, TextDelta("a"))
    gateway.hub.close("demo")
    async with consumer(gateway) as late:
        messages = await late.read_all()
    assert types_of(messages) == ["subscribed", "text_delta", "caught_up", "stream_end"]
    assert messages[0]["closed"] is True
    assert late.code == 1000


async def test_an_inactive_stream_ends_with_that_reason(gateway: Gateway) -> None:
    async with consumer(gateway) as idle:
        await idle.read_until("caught_up")
        gateway.hub.cleanup_inactive(0.0)
        messages = await idle.read_all()
    assert messages == [{"type": "stream_end", "seq": 0, "reason": "inactive"}]


async def test_more_than_the_retention_in_one_turn_is_a_gap_for_live_consumers(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(retention_events=10)
    async with consumer(gateway) as one, consumer(gateway) as other:
        for it in (one, other):
            await it.read_until("caught_up")
        fill(gateway, *(TextDelta(str(number % 10)) for number in range(25)))
        for it in (one, other):
            messages = await it.read_until("text_delta", seq=25)
            assert ranges_of(messages)[0] == ("gap", 1, 15)
            assert messages[0]["reason"] == "evicted"
            assert text_of(messages) == "5678901234"


async def test_a_large_replay_comes_whole(gateway: Gateway) -> None:
    texts = [f"{number:>1000}" for number in range(3000)]  # 3 MB: many chunks, several turns
    fill(gateway, *map(TextDelta, texts))
    async with consumer(gateway) as folded, consumer(gateway, "policy=drop_oldest&buffer=1") as raw:
        for it in (folded, raw):
            messages = await it.read_until("caught_up")
            assert text_of(messages) == "".join(texts)


async def test_a_signal_reaches_every_producer_and_is_answered_with_their_number(gateway: Gateway) -> None:
    async with consumer(gateway) as reading, producer(gateway) as one, producer(gateway) as other:
        await reading.read_until("caught_up")
        await reading.say({"type": "signal", "name": "cancel", "id": "s1", "data": {"why": ["no", 1]}})
        assert await reading.read() == {"type": "signal_result", "delivered": 2, "id": "s1"}
        for it in (one, other):
            messages = await it.read_until("signal")
            assert messages[-1] == {"type": "signal", "name": "cancel", "id": "s1", "data": {"why": ["no", 1]}}


async def test_a_signal_without_producers_is_answered_zero(gateway: Gateway) -> None:
    async with consumer(gateway) as reading:
        await reading.read_until("caught_up")
        await reading.say({"type": "signal", "name": "cancel"})
        assert await reading.read() == {"type": "signal_result", "delivered": 0}


async def test_a_messagepack_signal_reaches_a_json_producer(gateway: Gateway) -> None:
    async with peer(gateway, "demo/subscribe", "deltawire.v1.msgpack") as reading, producer(gateway) as writing:
        await reading.read_until("caught_up")
        await reading.say(msgspec.msgpack.encode({"type": "signal", "name": "cancel", "data": {"n": 1}}))
        assert (await reading.read())["delivered"] == 1
        assert (await writing.read_until("signal"))[-1]["data"] == {"n": 1}


@pytest.mark.parametrize(
    "said",
    [
        "",
        "   ",
        "hello",
        "[]",
        "null",
        "{}",
        '{"type":"signal"}',
        '{"type":"signal","name":""}',
        '{"type":"signal","name":"cancel","reason":"late"}',
        '{"type":"text_delta","data":{"text":"Hi"}}',
        '{"type":"close_stream"}',
        '{"type":"signal","name":"x","data":' + "[" * 5000 + "]" * 5000 + "}",
        "x" * 70_000,
        b"\x81\xa4type",
    ],
)
@pytest.mark.hears(ProblemCode.UNKNOWN_MESSAGE)
async def test_anything_but_a_signal_is_a_problem_and_the_consumer_reads_on(
    gateway: Gateway, said: str | bytes
) -> None:
    async with consumer(gateway) as reading:
        await reading.read_until("caught_up")
        await reading.say(said)
        problem = await reading.read()
        assert (problem["type"], problem["code"], problem["retryable"]) == ("problem", "unknown_message", False)
        fill(gateway, TextDelta("on"))
        assert (await reading.read())["data"] == {"text": "on"}
