"""Shutdown, keep-alive, and that nothing is left when everything is closed (SPEC §8)."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import socket
import subprocess
import sys
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.hub import Hub
from deltawire.gateway.server import Gateway
from deltawire.gateway.server.connection.progress import look
from deltawire.protocol.codes import CloseCode, ProblemCode
from deltawire.protocol.events import TextDelta
from tests.server.conftest import StartGateway
from tests.server.stalling import say, stalled
from tests.support.asking import http_client
from tests.support.peers import consumer, producer, publish, ranges_of, text_delta, text_of, types_of
from tests.support.rawpeer import PING, PONG, RawPeer, frame, raw_peer
from tests.support.waiting import DEADLINE, eventually, turn

FDS = Path("/proc/self/fd")
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Version": "13",
}

# Drain


@pytest.mark.hears(ProblemCode.SHUTTING_DOWN, CloseCode.SHUTTING_DOWN)
async def test_a_drain_delivers_what_is_left_and_closes_1001_with_where_to_resume(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(drain_timeout=DEADLINE)
    async with consumer(gateway) as live, consumer(gateway, "interval=100") as calm, producer(gateway) as writing:
        for it in (live, calm):
            await it.read_until("caught_up")
        await publish(writing, text_delta("a"), upto=1)
        for it in (live, calm):
            await it.read_until("text_delta", seq=1)
        gateway.hub.get("demo").send_nowait(TextDelta("b"))
        await gateway.drain()
        for it in (live, calm):
            messages = await it.read_all()
            assert text_of(messages) == "b"
            problem = messages[-1]
            assert (problem["code"], problem["retryable"], it.code) == ("shutting_down", True, 1001)
            assert problem["resume_after"] == 2
        assert ((await writing.read_all())[-1]["code"], writing.code) == ("shutting_down", 1001)


async def test_a_drain_waits_for_a_slow_reader_that_reads(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(drain_timeout=DEADLINE)
    stream = gateway.hub.create("demo")
    async with stalled(gateway, "policy=block&buffer=10000") as slow:
        head = say(stream, 5000)
        draining = asyncio.ensure_future(gateway.drain())
        await turn()
        assert not draining.done()
        messages, code = await slow.raw.read_ending()
        await draining
    assert (messages[-1]["code"], messages[-1]["resume_after"], code) == ("shutting_down", head, 1001)
    assert ranges_of(messages)[-1][2] == head


async def test_a_drain_aborts_stalled_peers_by_drain_timeout(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(drain_timeout=0.1)
    async with stalled(gateway, "policy=coalesce"), stalled(gateway, "policy=block", stream="other"):
        async with asyncio.timeout(DEADLINE):
            await gateway.drain()
        assert not gateway._connections


@pytest.mark.parametrize("peers", [0, 1])
async def test_a_drain_says_that_its_time_was_over_where_somebody_was_left(
    start_gateway: StartGateway, logs: list[dict[str, Any]], peers: int
) -> None:
    gateway = await start_gateway(drain_timeout=0.01, drain_delay=30)
    async with AsyncExitStack() as stack:
        for _ in range(peers):
            await stack.enter_async_context(raw_peer(gateway.port, "/v1/streams/demo/subscribe"))
        await gateway.drain()
    assert [entry["connections"] for entry in logs if entry["event"] == "drain.timed_out"] == [1] * peers


async def test_a_drain_does_not_wait_for_who_has_asked_nothing_yet(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(drain_timeout=60.0)
    silent, halfway = await RawPeer.connect(gateway.port), await RawPeer.connect(gateway.port)
    await halfway.send(b"GET /v1/streams/demo/subscribe HTTP/1.1\r\n")
    await eventually(lambda: len(gateway._accepted) == 2)
    async with asyncio.timeout(DEADLINE):
        await gateway.drain()
    for it in (silent, halfway):
        assert await it.read_rest() == b""
        it.close()


async def test_while_a_gateway_drains_probes_get_503_and_new_peers_are_told_when_to_come_back(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway(drain_timeout=DEADLINE)
    stream = gateway.hub.create("demo")
    async with stalled(gateway, "policy=block&buffer=10000") as slow, http_client() as http:
        say(stream, 5000)
        base = f"http://127.0.0.1:{gateway.port}"
        draining = asyncio.ensure_future(gateway.drain())
        for path, status in (("/readyz", 503), ("/livez", 200), ("/v1/streams/demo", 200)):
            assert (await http.get(base + path)).status_code == status
        refused = await http.get(f"{base}/v1/streams/demo/subscribe", headers=UPGRADE)
        assert (refused.status_code, "shutting down" in refused.json()["detail"]) == (503, True)
        assert 1 <= int(refused.headers["Retry-After"]) <= 5
        assert not draining.done()
        await slow.raw.read_ending()
        await draining


async def test_before_it_drains_a_gateway_can_say_for_a_while_that_it_will(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await start_gateway(drain_timeout=2 * DEADLINE, drain_delay=DEADLINE)
    over, slept = asyncio.Event(), []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await over.wait()

    monkeypatch.setattr("deltawire.gateway.server.gateway.asyncio", Mock(wraps=asyncio, sleep=sleep))
    async with consumer(gateway) as live, http_client() as http:
        await live.read_until("caught_up")
        draining = asyncio.ensure_future(gateway.drain())
        await turn()
        assert (await http.get(f"http://127.0.0.1:{gateway.port}/readyz")).status_code == 503
        async with producer(gateway) as late:
            await publish(late, text_delta("still served"), upto=1)
            assert text_of(await live.read_until("text_delta")) == "still served"
            assert slept == [DEADLINE]
            over.set()
            await draining
            assert (await late.read_all())[-1]["code"] == "shutting_down"
        assert (await live.read_all())[-1]["code"] == "shutting_down"


async def test_a_drain_sends_many_peers_home_in_batches(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(drain_timeout=DEADLINE)
    async with AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(consumer(gateway)) for _ in range(60)]
        for reader in readers:
            await reader.read_until("caught_up")
        draining = asyncio.ensure_future(gateway.drain())
        await eventually(lambda: any(connection.is_finished for connection in gateway._connections))
        assert not all(connection.is_finished for connection in gateway._connections)
        await draining
        assert [(await reader.read_all())[-1]["code"] for reader in readers] == ["shutting_down"] * 60


async def test_a_drained_gateway_takes_no_connections(gateway: Gateway) -> None:
    port = gateway.port
    await gateway.drain()
    with pytest.raises(ConnectionRefusedError):
        await RawPeer.connect(port)


async def test_a_drain_ends_nothing_of_a_hub_that_is_not_its_own() -> None:
    async with Hub() as hub:
        stream = hub.create("demo")
        async with Gateway(Settings(port=0, drain_timeout=1.0), hub):
            stream.send_nowait(TextDelta("a"))
        assert not stream.is_closed
        assert stream.send_nowait(TextDelta("b")) == 2


async def test_a_busy_port_is_an_os_error_and_leaves_nothing_running() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gateway = Gateway(Settings(port=taken.getsockname()[1]))
        with pytest.raises(OSError, match="in use"):
            await gateway.__aenter__()
    assert gateway.hub.deadlines._timer is not None
    assert gateway.hub.deadlines._timer.cancelled()


# Keep-alive


@pytest.mark.parametrize("side", ["subscribe", "publish"])
async def test_a_peer_that_never_answers_pings_is_dropped(start_gateway: StartGateway, side: str) -> None:
    gateway = await start_gateway(ping_interval=0.05, ping_timeout=0.1)
    async with raw_peer(gateway.port, f"/v1/streams/demo/{side}") as dead:
        seen = []
        while (got := await dead.read_frame()) is not None:
            seen.append(got.opcode)
    assert PING in seen
    await eventually(lambda: not gateway._connections)
    info = gateway.hub.info("demo")
    assert (info.consumers, info.producers) == (0, 0)


async def test_a_peer_that_answers_pings_or_talks_stays(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    interval, timeout = gateway.settings.ping_interval, gateway.settings.ping_timeout
    async with consumer(gateway) as quiet, raw_peer(gateway.port, "/v1/streams/demo/publish") as talking:
        await quiet.read_until("caught_up")
        await talking.read_until("ready")
        await eventually(lambda: len(gateway._connections) == 2)
        for _ in range(4):
            now = gateway.hub.now()
            for it in gateway._connections:
                it.last_heard = now - interval
            gateway._housekeeping.sweep(now)
            while (got := await talking.read_frame()) is not None and got.opcode != PING:
                pass
            await talking.send(frame(PING, b"not a pong, but a sign of life"))
            await eventually(lambda now=now: all(it.last_heard >= now for it in gateway._connections))  # type: ignore[misc]
            gateway._housekeeping.sweep(now + timeout)
        assert len(gateway._connections) == 2
        gateway.hub.get("demo").send_nowait(TextDelta("a"))
        assert text_of(await quiet.read_until("text_delta")) == "a"


async def test_a_peer_that_has_yet_to_come_to_the_ping_stays_while_it_takes_what_stands_before_it(
    start_gateway: StartGateway,
) -> None:
    interval, timeout = 3600.0, 10.0  # of a time that goes on in leaps here, so that no busy machine shows in it
    gateway = await start_gateway(ping_interval=interval)
    stream = gateway.hub.create("demo")
    async with raw_peer(gateway.port, "/v1/streams/demo/subscribe?policy=block&buffer=10000", 2048) as slow:
        await slow.read_until("caught_up")
        head = say(stream, 700)
        [seen] = gateway._connections
        await eventually(lambda: look(seen.transport).is_behind)
        now = gateway.hub.now() + interval
        assert seen.keep_alive(now, interval, timeout)
        assert seen.pinged_at == now
        for _ in range(4):
            before = look(seen.transport).taken
            while look(seen.transport).taken == before:
                got = await slow.read_frame()
                assert got is not None, "the gateway hung up"
                assert got.opcode != PING
                assert json.loads(got.payload)["seq"] < head
            now += timeout
            assert seen.keep_alive(now, interval, timeout)
        leaps = itertools.count(now, timeout)
        await eventually(lambda: not seen.keep_alive(next(leaps), interval, timeout), "giving up on who takes no more")


async def test_a_blocked_loop_is_seen_and_drops_nobody(
    start_gateway: StartGateway, logs: list[dict[str, object]]
) -> None:
    gateway = await start_gateway()
    hub, interval, blocked = gateway.hub, gateway.settings.ping_interval, 1.5 * gateway.settings.ping_timeout

    def sweep(late: float = 0.0) -> None:
        """The next sweep, so many seconds late; there are none but these."""
        assert hub.deadlines._timer is not None
        hub.deadlines._due = time.monotonic() - late
        hub.deadlines._timer.cancel()
        hub.deadlines._sweep()
        hub.deadlines._timer.cancel()

    async def ping() -> float:
        """Have the peer pinged; returns when."""
        connection.last_heard -= interval
        sweep()
        while (got := await it.read_frame()) is not None and got.opcode != PING:
            pass
        assert connection.pinged_at is not None
        connection.pinged_at -= blocked  # as long ago as the loop is about to have been blocked
        return connection.pinged_at

    async with raw_peer(gateway.port, "/v1/streams/demo/subscribe") as it:
        await it.read_until("caught_up")
        [connection] = gateway._connections
        sweep()
        logs.clear()
        for _ in range(3):
            pinged_at = await ping()
            it.sock.send(frame(PONG))  # which is not read before the loop's next turn
            sweep(late=blocked)
            await eventually(lambda since=pinged_at: connection.last_heard >= since)  # type: ignore[misc]
            sweep()
            assert connection.pinged_at is None
        assert len([entry for entry in logs if entry["event"] == "loop.blocked"]) == 3
        assert hub.tally.loop_lag.sum >= 3 * blocked
        await ping()
        sweep(late=blocked)
        assert not connection.transport.is_closing()
        sweep(late=blocked)
        assert connection.transport.is_closing(), "whoever does not answer is judged also where the loop is always late"


# Nothing is left


def count_fds() -> int:
    if not FDS.exists():
        pytest.skip("no /proc/self/fd here")
    return len(list(FDS.iterdir()))


async def use_everything(gateway: Gateway) -> None:
    """A stream with readers and writers of every kind, which leave in every way."""
    async with consumer(gateway) as reading, producer(gateway, "producer=p") as writing:
        await publish(writing, text_delta("a"), upto=1)
        async with stalled(gateway, "policy=disconnect&buffer=1") as slow, consumer(gateway, "buffer=0"):
            say(gateway.hub.get("demo"), 20)
            await slow.raw.read_ending()
        async with stalled(gateway, "policy=block&buffer=5") as blocking, producer(gateway) as held:
            await held.say(*[text_delta("x")] * 50)
            await turn()
            blocking.raw.close()
            await held.read_until("ack")
        reading.connection.transport.abort()
    async with raw_peer(gateway.port, "/v1/streams/demo/subscribe") as rude:
        await rude.send(b"\xff\xff")
    gateway.hub.close("demo")
    async with consumer(gateway) as late:
        await late.read_all()
    await eventually(lambda: not gateway._connections and not gateway.hub.dispatcher._channels, "releasing everything")
    gateway.hub.manager._forget(gateway.hub.manager.get("demo"))
    await turn()
    gc.collect()


async def test_invariant_8_tasks_files_and_channels_are_back_at_the_baseline_when_everything_is_closed(
    gateway: Gateway,
) -> None:
    await use_everything(gateway)
    baseline = (
        len(asyncio.all_tasks()),
        count_fds(),
        len(gateway.hub.deadlines._swept),
        gateway.hub.manager.bytes - gateway.hub.manager.elsewhere,
    )
    for _ in range(5):
        await use_everything(gateway)
    assert (
        len(asyncio.all_tasks()),
        count_fds(),
        len(gateway.hub.deadlines._swept),
        gateway.hub.manager.bytes - gateway.hub.manager.elsewhere,
    ) == baseline
    assert gateway.hub.count() == 0


async def test_a_gateway_that_ended_leaves_no_task_and_no_file() -> None:
    async def come_and_go() -> None:
        async with (
            Gateway(Settings(port=0, drain_timeout=0.1)) as gateway,
            consumer(gateway) as reading,
            stalled(gateway, "policy=coalesce", stream="other"),
        ):
            await reading.read_until("caught_up")
            await gateway.drain()
        await turn()
        gc.collect()

    await come_and_go()  # what a loop opens once for itself is open now
    tasks, fds = len(asyncio.all_tasks()), count_fds()
    await come_and_go()
    await eventually(lambda: count_fds() <= fds, "closing every file")
    assert len(asyncio.all_tasks()) == tasks


# Death of others

CLIENT = """
import sys
import time
from websockets.sync.client import connect
with connect(sys.argv[1], proxy=None) as it:
    while True:
        it.recv()
        if "publish" in sys.argv[1]:
            it.send('{"type":"text_delta","data":{"text":"x"}}')
"""


def start(url: str) -> subprocess.Popen[bytes]:
    """A client in a process of its own."""
    return subprocess.Popen([sys.executable, "-c", CLIENT, url])


@pytest.mark.parametrize("side", ["subscribe?policy=block&buffer=1", "publish?producer=doomed"])
async def test_kill_9_of_a_peer_disturbs_nobody(gateway: Gateway, logs: list[dict[str, Any]], side: str) -> None:
    async with consumer(gateway) as reading, producer(gateway) as writing:
        await reading.read_until("caught_up")
        with start(f"{gateway.url}/v1/streams/demo/{side}") as doomed:
            await eventually(lambda: len(gateway._connections) == 3, "connecting")
            if side.startswith("publish"):
                await reading.read_until("text_delta")
            doomed.kill()
        await eventually(lambda: len(gateway._connections) == 2)
        head = gateway.hub.info("demo").head
        await publish(writing, text_delta("still here"), upto=head + 1)
        messages = await reading.read_until("text_delta", seq=head + 1)
    assert messages[-1]["data"] == {"text": "still here"}
    assert "problem" not in types_of(messages)
    assert [entry for entry in logs if entry["log_level"] == "error"] == []


async def test_a_drain_may_begin_in_the_turn_in_which_a_wait_for_a_stream_is_over(gateway: Gateway) -> None:
    admission = gateway._admission
    with suppress(TimeoutError):
        async with asyncio.timeout(60.0) as waiting:
            admission._waiting.add(waiting)
            waiting.reschedule(0.0)
            draining = asyncio.create_task(admission.refuse_new())  # its first turn comes after the end of the wait
            await asyncio.Event().wait()
    admission._waiting.discard(waiting)
    assert waiting.expired()
    await draining
