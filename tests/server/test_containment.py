"""Whatever is raised inside the gateway ends one connection, with 1011, and is put on record once (SPEC §8)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from deltawire.gateway.hub import Hub
from deltawire.gateway.hub.channel import Channel
from deltawire.gateway.server import Gateway
from deltawire.gateway.server.connection import sending
from deltawire.gateway.server.connection.connection import GatewayConnection
from deltawire.gateway.streams.leases import Leases
from deltawire.gateway.streams.manager import StreamManager
from deltawire.gateway.streams.producers import Producers
from deltawire.gateway.streams.stream import Stream
from deltawire.gateway.streams.subscription import Subscription
from deltawire.gateway.streams.view import View
from deltawire.protocol.codec import Codec
from deltawire.protocol.events import TextDelta
from tests.server.conftest import StartGateway
from tests.server.stalling import stalled
from tests.support.peers import consumer, producer, publish, text_delta, text_of
from tests.support.rawpeer import RawPeer, raw_peer, text
from tests.support.waiting import eventually

Logs = list[dict[str, Any]]
SIGNAL = {"type": "signal", "name": "cancel"}


class DeliberateError(Exception):
    """Raised on purpose."""


class Broken:
    """Breaks a method for one stream: whoever touches another must not notice.

    Attributes:
        times: how often it was met.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type[object], name: str) -> None:
        self.times = 0
        inner = getattr(owner, name)

        def fail(it: Any, *args: Any, **kwargs: Any) -> Any:
            if "good" in (getattr(it, "id", ""), getattr(getattr(it, "stream", None), "id", "")):
                return inner(it, *args, **kwargs)
            self.times += 1
            raise DeliberateError(f"{name} is broken on purpose")

        monkeypatch.setattr(owner, name, fail)


async def assert_all_is_well(gateway: Gateway) -> None:
    """A consumer and a producer of another stream are served."""
    async with consumer(gateway, stream="good") as reading, producer(gateway, stream="good") as writing:
        await reading.read_until("caught_up")
        await publish(writing, text_delta("well"), upto=gateway.hub.info("good").head + 1)
        assert text_of(await reading.read_until("text_delta")).endswith("well")


def faults_in(logs: Logs) -> list[str]:
    return [entry["event"] for entry in logs if entry["log_level"] == "error"]


Act = Callable[[Gateway, RawPeer, RawPeer], Awaitable[object]]


async def _say(_: Gateway, _reading: RawPeer, writing: RawPeer) -> None:
    await writing.send(text(text_delta("a")))


async def _signal(_: Gateway, reading: RawPeer, _writing: RawPeer) -> None:
    await reading.send(text(SIGNAL))


async def _end(gateway: Gateway, *_: RawPeer) -> None:
    gateway.hub.close("demo")


async def _come(gateway: Gateway, *_: RawPeer) -> None:
    async with raw_peer(gateway.port, "/v1/streams/demo/subscribe") as it:
        await it.read_ending()


async def _come_to_write(gateway: Gateway, *_: RawPeer) -> None:
    async with raw_peer(gateway.port, "/v1/streams/demo/publish") as it:
        await it.read_ending()


async def _come_beside(gateway: Gateway, *_: RawPeer) -> None:
    async with raw_peer(gateway.port, "/v1/streams/demo/publish") as it:
        await it.read_until("ready")


@pytest.mark.parametrize(
    ("owner", "name", "act", "query"),
    [
        (Stream, "append", _say, ""),
        (Subscription, "take", _say, "interval=1"),
        (Subscription, "take", _say, "policy=block"),
        (Subscription, "take", _end, ""),
        (Stream, "subscribe", _come, ""),
        (Channel, "join", _come, ""),
        (Stream, "open_producer", _come_to_write, ""),
        (Producers, "is_current", _come_beside, ""),
        (Leases, "returned", _come_to_write, ""),
    ],
    ids=lambda it: it if isinstance(it, str) else getattr(it, "__name__", ""),
)
async def test_a_fault_ends_its_connection_with_1011(  # noqa: PLR0917
    gateway: Gateway,
    monkeypatch: pytest.MonkeyPatch,
    logs: Logs,
    owner: type[object],
    name: str,
    act: Act,
    query: str,
) -> None:
    async with raw_peer(gateway.port, f"/v1/streams/demo/subscribe?{query}") as reading:
        await reading.read_until("caught_up")
        async with raw_peer(gateway.port, "/v1/streams/demo/publish") as writing:
            await writing.read_until("ready")
            with monkeypatch.context() as patch:
                broken = Broken(patch, owner, name)
                await act(gateway, reading, writing)
                await eventually(lambda: gateway.hub.tally.closes["1011", "gateway"] or gateway.hub.tally.faults)
                assert broken.times
            faults = gateway.hub.tally.faults
            assert faults_in(logs) == ["connection.failed"] * faults
            assert faults == 1
            await assert_all_is_well(gateway)
    await eventually(lambda: not gateway._connections)
    assert gateway.hub.tally.closes["1011", "gateway"] == 1
    assert gateway.hub.tally.problems["gateway_fault"] == 1  # type: ignore[index]
    [entry] = [entry for entry in logs if entry["event"] == "connection.failed"]
    assert {"connection", "remote", "stream", "exc_info"} <= set(entry)


async def test_a_stream_that_cannot_be_read_lets_its_cohort_go(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, logs: Logs
) -> None:
    async with consumer(gateway) as one, consumer(gateway) as two, producer(gateway) as writing:
        for reading in (one, two):
            await reading.read_until("caught_up")
        with monkeypatch.context() as patch:
            Broken(patch, View, "raw")
            await writing.say(text_delta("a"))
            for reading in (one, two):
                problem = (await reading.read_all())[-1]
                assert (problem["code"], problem["resume_after"], reading.code) == ("gateway_fault", 0, 1011)
        assert faults_in(logs) == ["channel.flush_failed"]
        await publish(writing, text_delta("b"), upto=2)
        async with consumer(gateway, "after=0") as again:
            assert text_of(await again.read_until("caught_up")) == "ab"


@pytest.mark.parametrize("name", ["check_frame", "hold_reading", "release_reading"])
async def test_a_fault_of_the_connection_itself_ends_it(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, logs: Logs, name: str
) -> None:
    async with raw_peer(gateway.port, "/v1/streams/demo/subscribe", 4096) as reading:
        await reading.read_until("caught_up")
        with monkeypatch.context() as patch:
            broken = Broken(patch, GatewayConnection, name)
            local = gateway.hub.get("demo")
            [seen] = gateway._connections
            for _ in range(2000):
                local.send_nowait(TextDelta("#" * 1000))
            local.close()
            await eventually(lambda: seen.paused)
            await reading.send(text(SIGNAL))
            if name != "release_reading":
                await eventually(lambda: broken.times)
            await reading.read_ending()
            await eventually(lambda: not gateway._connections)
            assert broken.times
    assert faults_in(logs) == ["connection.failed"]
    await assert_all_is_well(gateway)


async def test_a_fault_in_telling_a_peer_of_a_fault_aborts_it(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, logs: Logs
) -> None:
    async with raw_peer(gateway.port, "/v1/streams/demo/publish") as writing:
        await writing.read_until("ready")
        with monkeypatch.context() as patch:
            patch.setattr(Codec, "frame", lambda *_: 1 / 0)
            patch.setattr(Codec, "decode_from_producer", lambda *_: 1 / 0)
            await writing.send(text(text_delta("a")))
            assert await writing.read_ending() == ([], None)
    await eventually(lambda: not gateway._connections)
    assert faults_in(logs) == ["connection.failed"]
    await assert_all_is_well(gateway)


async def test_a_fault_in_one_producer_is_not_that_of_the_consumer_that_signals(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with consumer(gateway) as reading, producer(gateway) as one, producer(gateway) as two:
        first = next(it for it in gateway._connections if it.record.role == "producer")
        monkeypatch.setattr(first, "tell", lambda _: 1 / 0)
        monkeypatch.setattr(first, "write", lambda _: 1 / 0)
        await reading.say(SIGNAL)
        assert (await reading.read_until("signal_result"))[-1]["delivered"] == 1
        await eventually(lambda: first not in gateway._connections)
        assert gateway.hub.tally.signals == 1
        assert {one.code, two.code} >= {None}


async def test_a_fault_in_a_deadline_is_that_of_its_connection(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch, logs: Logs
) -> None:
    gateway = await start_gateway(send_timeout=0.04)
    async with consumer(gateway, stream="good") as reading:
        await reading.read_until("caught_up")
        async with raw_peer(gateway.port, "/v1/streams/demo/subscribe") as failing:
            await failing.read_until("caught_up")
            found = next(it for it in gateway._connections if it.target.stream_id == "demo")
            monkeypatch.setattr(found, "keep_alive", lambda *_: 1 / 0)
            messages, code = await failing.read_ending()
        assert (messages[-1]["code"], code) == ("gateway_fault", 1011)
        assert faults_in(logs) == ["connection.failed"]
        await assert_all_is_well(gateway)
        assert reading.code is None


async def test_a_fault_in_a_stalled_consumer_is_its_own(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch, logs: Logs
) -> None:
    gateway = await start_gateway()
    monkeypatch.setattr(sending, "CLOSE_TIMEOUT", 0.05)
    async with stalled(gateway, "policy=disconnect&buffer=1"):
        Broken(monkeypatch, Subscription, "judge")
        gateway.hub.get("demo").send_nowait(TextDelta("x"))
        gateway.hub.get("demo").send_nowait(TextDelta("x"))
        await eventually(lambda: not gateway._connections)
        assert faults_in(logs) == ["connection.failed"]
        await assert_all_is_well(gateway)


@pytest.mark.parametrize(("owner", "name"), [(StreamManager, "expire"), (Leases, "expire")])
async def test_a_fault_in_tidying_stops_nobody(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch, logs: Logs, owner: type[object], name: str
) -> None:
    gateway = await start_gateway(send_timeout=0.04, lease=0.04)
    async with producer(gateway) as writing:
        await publish(writing, {"type": "message_start", "data": {"message_id": "m"}}, upto=1)
    with monkeypatch.context() as patch:
        Broken(patch, owner, name)
        await eventually(lambda: "sweep.failed" in faults_in(logs))
        await assert_all_is_well(gateway)
    assert gateway.hub.tally.faults == len(faults_in(logs))


@pytest.mark.parametrize("name", ["unsubscribe"])
async def test_a_fault_after_the_end_is_counted_and_nothing_more(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, logs: Logs, name: str
) -> None:
    async with raw_peer(gateway.port, "/v1/streams/demo/subscribe") as leaving:
        await leaving.read_until("caught_up")
        Broken(monkeypatch, Stream, name)
    await eventually(lambda: not gateway._connections)
    assert faults_in(logs) == ["connection.failed"]
    assert [entry["event"] for entry in logs if entry["event"] == "consumer.ended"] == ["consumer.ended"]
    await assert_all_is_well(gateway)


async def test_a_fault_in_answering_http_is_a_500(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, logs: Logs
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Hub, "page", lambda *_: 1 / 0)
        it = await RawPeer.connect(gateway.port)
        await it.send(b"GET /v1/streams HTTP/1.1\r\nHost: gateway\r\n\r\n")
        head, body = await it.read_head(), await it.read_rest()
        it.close()
    assert b" 500 " in head.splitlines()[0]
    assert b"application/problem+json" in head
    assert b"division" not in body
    assert gateway.hub.tally.faults == 1
    assert faults_in(logs) == ["admission.failed"]
    await assert_all_is_well(gateway)
