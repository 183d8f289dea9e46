"""What a producer learns of its readers, and readers of a lost producer (SPEC §7.5, §7.7)."""

from __future__ import annotations

from hashlib import sha256

import pytest

from deltawire.gateway.server import Gateway
from deltawire.gateway.streams.ending import ABANDONED
from deltawire.protocol.codes import CloseCode
from tests.server.conftest import StartGateway
from tests.support.peers import Message, consumer, producer, publish, text_delta, types_of
from tests.support.rawpeer import RawPeer, raw_peer, text
from tests.support.waiting import eventually, turn

START = {"type": "message_start", "data": {"message_id": "m1"}}
STOP = {"type": "message_stop", "data": {"message_id": "m1", "stop_reason": "end_turn"}}


def start(message_id: str) -> Message:
    return {"type": "message_start", "data": {"message_id": message_id}}


def stop(message_id: str) -> Message:
    return {"type": "message_stop", "data": {"message_id": message_id, "stop_reason": "end_turn"}}


async def test_a_producer_is_told_how_many_follow_whenever_it_changes(gateway: Gateway) -> None:
    async with producer(gateway) as writing:
        async with consumer(gateway), consumer(gateway):
            await writing.read_until("audience", consumers=2)
        await writing.read_until("audience", consumers=0)


async def test_a_producer_that_comes_later_is_told_too(gateway: Gateway) -> None:
    async with consumer(gateway) as reading:
        await reading.read_until("caught_up")
        async with producer(gateway) as writing:
            assert (await writing.read_until("audience"))[-1]["consumers"] == 1


async def test_a_storm_of_joins_is_a_few_messages(gateway: Gateway) -> None:
    async with producer(gateway) as writing:
        began = gateway.hub.now()
        for _ in range(50):
            async with consumer(gateway) as reading:
                await reading.read_until("caught_up")
        messages = await writing.read_until("audience", consumers=0)
        took = gateway.hub.now() - began
    assert len(messages) <= 1 + 4 * took, "at most four a second"


async def test_a_producer_lost_inside_a_message_is_ended_for_its_readers(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(lease=0.05)
    async with consumer(gateway) as reading:
        async with producer(gateway, "producer=p") as writing:
            await publish(writing, START, text_delta("half"), upto=2)
            writing.connection.transport.abort()
        messages = await reading.read_until("message_stop")
    assert types_of(messages)[-2:] == ["error", "message_stop"]
    assert messages[-2]["data"]["code"] == "producer_lost"
    stop = messages[-1]["data"]
    assert (stop["message_id"], stop["stop_reason"]) == ("m1", "producer_lost")


async def test_a_producer_that_comes_back_in_time_goes_on_with_its_message(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(lease=3600)
    async with producer(gateway, "producer=p") as writing:
        await publish(writing, START, text_delta("half"), upto=2)
        writing.connection.transport.abort()
    await eventually(lambda: gateway.hub.dispatcher._leased, "the lease")
    async with producer(gateway, "producer=p") as again:
        gateway.hub.dispatcher.expire_leases(gateway.hub.now() + 3601)
        assert not gateway.hub.dispatcher._leased
        await publish(again, text_delta(" whole"), STOP, upto=4)
    async with consumer(gateway) as reading:
        messages = await reading.read_until("caught_up")
    assert "error" not in types_of(messages)
    assert messages[-2]["data"]["stop_reason"] == "end_turn"


@pytest.mark.parametrize("successor", ["producer=p", "producer=p&generation=1"])
@pytest.mark.parametrize("is_there_still", [False, True])
async def test_a_message_is_ended_when_its_producer_comes_back_and_begins_another(
    start_gateway: StartGateway,
    successor: str,
    is_there_still: bool,  # noqa: FBT001 - drawn
) -> None:
    gateway = await start_gateway(lease=3600)
    async with producer(gateway, "producer=p") as lost:
        await publish(lost, START, text_delta("half"), upto=2)
        if not is_there_still:
            lost.connection.transport.abort()
            await eventually(lambda: gateway.hub.dispatcher._leased, "the lease")
        async with producer(gateway, successor) as back:
            await publish(back, start("m2"), text_delta("whole"), stop("m2"), upto=7)
            async with consumer(gateway) as reading:
                messages = await reading.read_until("caught_up")
            assert not gateway.hub.get("demo")._stream.leases.waiting
    assert_ended_before_the_next(messages)


async def test_a_message_of_a_producer_without_an_id_is_ended_by_the_next_one(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(lease=3600)
    async with producer(gateway) as lost:
        await publish(lost, START, text_delta("half"), upto=2)
        lost.connection.transport.abort()
    await eventually(lambda: gateway.hub.dispatcher._leased, "the lease")
    async with producer(gateway) as back:
        await publish(back, start("m2"), text_delta("whole"), stop("m2"), upto=7)
        async with consumer(gateway) as reading:
            messages = await reading.read_until("caught_up")
    assert_ended_before_the_next(messages)


async def test_a_producer_without_an_id_does_not_end_what_another_is_at(gateway: Gateway) -> None:
    async with producer(gateway) as one:
        await publish(one, START, upto=1)
        async with producer(gateway) as other, consumer(gateway) as reading:
            await publish(other, start("m2"), stop("m2"), upto=3)
            await publish(one, text_delta("x"), STOP, upto=5)
            messages = await reading.read_until("message_stop", seq=5)
    assert "error" not in types_of(messages)
    assert ["digest" in message["data"] for message in messages if message["type"] == "message_stop"] == [False, False]


async def test_a_producer_without_an_id_is_lost_though_another_stays(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(lease=0.05)
    async with producer(gateway), consumer(gateway) as reading:
        async with producer(gateway) as going:
            await publish(going, START, upto=1)
        messages = await reading.read_until("message_stop")
    assert messages[-1]["data"]["stop_reason"] == "producer_lost"


def assert_ended_before_the_next(messages: list[Message]) -> None:
    events = [message for message in messages if "data" in message]
    assert types_of(events)[1:5] == ["text_delta", "error", "message_stop", "message_start"]
    error, ended = events[2]["data"], events[3]["data"]
    assert (error["code"], error["error"]) == ("producer_lost", ABANDONED)
    assert (ended["message_id"], ended["stop_reason"]) == ("m1", "producer_lost")
    assert ended["digest"] == {"first": 1, "characters": 4, "sha256": sha256(b"half").hexdigest()}
    assert events[-1]["data"]["digest"] == {"first": 5, "characters": 5, "sha256": sha256(b"whole").hexdigest()}


async def test_a_signal_does_not_count_a_producer_that_reads_nothing_nor_piles_up_there(gateway: Gateway) -> None:
    async with producer(gateway) as reading, raw_peer(gateway.port, "/v1/streams/demo/publish", 4096) as deaf:
        await deaf.read_until("ready")
        [seen] = [it for it in gateway._connections if it.peer is not None and it.remote_address == name_of(deaf)]
        while not seen.paused:
            await deaf.send(text("nonsense") * 200)
            await turn(3)
        unsent = seen.transport.get_write_buffer_size()
        async with consumer(gateway) as asking:
            await asking.say({"type": "signal", "name": "cancel"})
            assert (await asking.read_until("signal_result"))[-1]["delivered"] == 1
        assert (await reading.read_until("signal"))[-1]["name"] == "cancel"
        assert seen.transport.get_write_buffer_size() <= unsent + 200, "at most what tells it of its audience"


async def test_a_signal_does_not_count_a_producer_that_is_being_closed(gateway: Gateway) -> None:
    async with raw_peer(gateway.port, "/v1/streams/demo/publish") as closing:  # it does not answer the close
        await closing.read_until("ready")
        [seen] = gateway._connections
        async with consumer(gateway) as asking:
            await asking.read_until("caught_up")
            seen.finish(CloseCode.STREAM_ENDED)
            assert len(gateway._connections) == 2, "its socket is still there"
            await asking.say({"type": "signal", "name": "cancel"})
            assert (await asking.read_until("signal_result"))[-1]["delivered"] == 0


def name_of(peer: RawPeer) -> tuple[str, int]:
    """The address a peer connects from."""
    host, port = peer.sock.getsockname()
    return host, port


async def test_a_change_that_is_told_later_measures_nothing_once_everybody_has_gone(gateway: Gateway) -> None:
    async with producer(gateway) as writing:
        for _ in range(2):
            async with consumer(gateway) as reading:
                await reading.read_until("caught_up")
        [left] = gateway.hub.dispatcher._channels.values()
        await eventually(lambda: left.is_telling_later)
    await eventually(lambda: not gateway.hub.dispatcher._channels)
    async with consumer(gateway) as reading, producer(gateway) as writing:
        await reading.read_until("caught_up")
        await publish(writing, start("m1"), text_delta("a"), stop("m1"), start("m2"), upto=4)
        await eventually(lambda: not left.is_telling_later)
        await turn()
    assert gateway.hub.tally.first_token.count == 1
