"""What a producer learns of its readers, and readers of a lost producer (SPEC §7.5, §7.7)."""

from __future__ import annotations

from gateway.server import Gateway
from protocol.codes import CloseCode
from tests.server.conftest import StartGateway
from tests.server.peers import consumer, producer, publish, text_delta, types_of
from tests.server.rawpeer import RawPeer, raw_peer, text
from tests.server.waiting import eventually, turn

START = {"type": "message_start", "data": {"message_id": "m1"}}
STOP = {"type": "message_stop", "data": {"message_id": "m1", "stop_reason": "end_turn"}}


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
    await eventually(lambda: gateway.hub._leased, "the lease")
    async with producer(gateway, "producer=p") as again:
        gateway.hub._expire_leases(gateway.hub.now() + 3601)
        assert not gateway.hub._leased
        await publish(again, text_delta(" whole"), STOP, upto=4)
    async with consumer(gateway) as reading:
        messages = await reading.read_until("caught_up")
    assert "error" not in types_of(messages)
    assert messages[-2]["data"]["stop_reason"] == "end_turn"


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
