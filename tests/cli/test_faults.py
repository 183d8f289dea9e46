"""A gateway in a process of its own, under what an operator and a machine do to it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import shutil
import signal
import socket
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from math import inf
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect

from deltawire.gateway.cli import serve
from deltawire.gateway.client import ClientError, Publisher, Subscriber
from deltawire.gateway.config import Settings
from deltawire.gateway.server.accepting.descriptors import connections_possible
from deltawire.protocol.events import Event, TextDelta
from deltawire.protocol.messages import Gap, Policy
from tests.support.asking import http_client
from tests.support.processes import Serve, Served, Start, passing, wait_logged
from tests.support.rawpeer import HANDSHAKE
from tests.support.running import complaints
from tests.support.waiting import DEADLINE, eventually


async def open_stalled(served: Served) -> socket.socket:
    """A consumer that asked and then never reads."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect((served.started["host"], served.started["port"]))
    sock.sendall(HANDSHAKE.format(path="/v1/streams/demo/subscribe?policy=coalesce", headers="").encode())
    await wait_logged(served.process, "consumer.connected")
    return sock


async def exhaust(items: AsyncIterator[Event | Gap]) -> None:
    async for _ in items:
        pass


async def publish_until_it_ends(url: str) -> int:
    """Publish as fast as it goes; returns how many were sent when the gateway went away."""
    sent = 0
    try:
        async with Publisher(url, "demo", retry_for=0) as publisher:
            while True:
                await publisher.send(TextDelta(text="x" * 500))
                sent += 1
    except ClientError:
        return sent


async def test_sigterm_under_load_with_stalled_peers_ends_within_drain_timeout(serve: Serve) -> None:
    served = await serve("--port=0", "--drain-timeout=1", "--send-timeout=600")
    stalled = [await open_stalled(served) for _ in range(3)]
    async with asyncio.TaskGroup() as tasks:
        publishing = tasks.create_task(publish_until_it_ends(served.url))
        async with Subscriber(served.url, "demo", retry_for=0) as healthy:
            items = aiter(healthy)
            for _ in range(500):
                await anext(items)
        began = time.monotonic()
        served.process.terminate()
        assert (await wait_logged(served.process, "drain.timed_out"))["connections"] == 3
        assert time.monotonic() - began > 0.9, "it waited for the stalled ones"
        assert await publishing > 500
        assert await served.process.wait() == 0
    for sock in stalled:
        sock.close()


async def test_sigterm_under_load_tells_who_reads_and_waits_for_who_does_not(serve: Serve) -> None:
    served = await serve("--port=0", "--drain-timeout=600", "--send-timeout=600")
    stalled = [await open_stalled(served) for _ in range(3)]
    async with Subscriber(served.url, "demo", retry_for=0) as healthy, asyncio.TaskGroup() as tasks:
        publishing = tasks.create_task(publish_until_it_ends(served.url))
        items = aiter(healthy)
        for _ in range(500):
            await anext(items)
        served.process.terminate()
        await wait_logged(served.process, "gateway.drain_started")
        base = f"http://{urlsplit(served.url).netloc}"
        async with http_client() as http:
            assert (await http.get(f"{base}/readyz")).status_code == 503
            assert (await http.get(f"{base}/livez")).status_code == 200
        with pytest.raises(ClientError, match="closed with 1001: the gateway is shutting down"):
            await exhaust(items)
        assert await publishing > 500
        assert served.process.returncode is None
        for sock in stalled:
            sock.close()
        assert await served.process.wait() == 0


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc here")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc here")
@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.05, 0.1, 0.2, 0.3, inf])  # of CPU time; some machines start in less
async def test_sigterm_at_any_moment_of_the_start_ends_without_a_word(start: Start, seconds: float) -> None:
    process = await start("serve", "--port=0")
    assert process.stderr is not None
    said = asyncio.ensure_future(process.stderr.readline())  # nothing before it has started
    await eventually(lambda: said.done() or cpu_seconds(process.pid) >= seconds)
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(DEADLINE):
        errors = await said
        errors += (await process.communicate())[1]
    assert process.returncode in (0, -signal.SIGTERM)
    assert all(json.loads(line)["level"] == "info" for line in complaints(errors.decode()))


async def test_a_producer_killed_inside_a_message_is_ended_for_its_readers(serve: Serve, start: Start) -> None:
    served = await serve("--port=0", "--lease=0.2")
    async with Subscriber(served.url, "demo", retry_for=0) as reading, Subscriber(served.url, "other") as neighbour:
        writing = await start("publish", "demo", "--format=events", f"--url={served.url}", stdin=PIPE)
        assert writing.stdin is not None
        writing.stdin.write(b'{"type":"message_start","data":{"message_id":"m1"}}\n')
        items, types = aiter(reading), []
        types.append(_type_of(await anext(items)))
        writing.send_signal(signal.SIGKILL)
        types += [_type_of(await anext(items)) for _ in range(2)]
        assert types == ["message_start", "error", "message_stop"]
        async with Publisher(served.url, "other", retry_for=0) as another:
            await another.send(TextDelta(text="unharmed"))
            assert _type_of(await anext(aiter(neighbour))) == "text_delta"


def _type_of(item: Event | Gap) -> str:
    assert isinstance(item, Event)
    return str(item.__struct_config__.tag)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def start_limited(start: Start, descriptors: int) -> Served:
    """A gateway that may have so many descriptors."""
    wrapper = ("prlimit", f"--nofile={descriptors}:{descriptors}")
    process = await start("serve", "--port=0", wrapper=wrapper)
    started = await wait_logged(process, "gateway.started")
    limited = await wait_logged(process, "descriptors.limited")
    assert limited["max_connections"] == connections_possible(descriptors)
    return Served(process, started)


@pytest.mark.parametrize(
    ("limit", "connections"), [(80, 40), (255, 127), (256, 128), (1024, 896), (1_048_576, 1_048_448)]
)
def test_connections_leave_a_reserve_of_descriptors(limit: int, connections: int) -> None:
    assert connections_possible(limit) == connections


def test_of_descriptors_a_connection_that_may_be_relayed_has_two() -> None:
    settings = Settings(max_connections=1000, engine_url="redis://127.0.0.1")
    assert [serve._fit(settings, limit).max_connections for limit in (None, 1024, 10_000)] == [1000, 448, 1000]


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit is not here")
async def test_who_comes_when_connections_are_used_up_is_told_so(start: Start) -> None:
    served = await start_limited(start, 80)
    address = (served.started["host"], served.started["port"])
    crowd = [socket.create_connection(address) for _ in range(40)]
    base = f"http://{address[0]}:{address[1]}"
    async with http_client() as http:
        refused = await http.get(f"{base}/v1/streams")
        assert (refused.status_code, "max_connections" in refused.json()["detail"]) == (503, True)
        assert int(refused.headers["Retry-After"]) >= 1
    for sock in crowd:
        sock.close()


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit is not here")
async def test_without_descriptors_who_is_there_stays_the_loop_rests_and_it_recovers(start: Start) -> None:
    served = await start_limited(start, 80)
    address = (served.started["host"], served.started["port"])
    loop = asyncio.get_running_loop()
    async with (
        Subscriber(served.url, "demo", retry_for=0) as reading,
        Subscriber(served.url, "demo", policy=Policy.COALESCE, interval=25, retry_for=0) as pacing,
        Publisher(served.url, "demo", retry_for=0) as writing,
    ):
        items, paces = aiter(reading), aiter(pacing)

        async def median_delay() -> float:
            """Of forty events, as this machine is now."""
            delays = []
            for number in range(40):
                sent_at = loop.time()
                await writing.send(TextDelta(text=str(number)))
                item = await anext(items)
                assert isinstance(item, Event)
                assert item.data == TextDelta(text=str(number))
                delays.append(loop.time() - sent_at)
                await anext(paces)  # an event every 25 ms
            return sorted(delays)[20]

        quiet = await median_delay()
        crowd = [socket.create_connection(address) for _ in range(150)]  # more than refused ones get descriptors
        cpu, began = cpu_seconds(served.process.pid), loop.time()
        assert await median_delay() < 20 * quiet + 0.1
        assert cpu_seconds(served.process.pid) - cpu < (loop.time() - began) / 2, "it does not spin"
        for sock in crowd:
            sock.close()
        async with Subscriber(served.url, "demo", retry_for=DEADLINE) as late:
            first = await anext(aiter(late))
            assert isinstance(first, Event)
        assert served.process.returncode is None


async def test_a_log_on_a_terminal_that_nobody_reads_holds_nobody_up(start: Start) -> None:
    keyboard, side = pty.openpty()
    try:
        with socket.create_server(("127.0.0.1", 0)) as listening:  # which takes connections before there is a gateway
            url = f"ws://127.0.0.1:{listening.getsockname()[1]}/v1/streams/demo/subscribe"
            await start("serve", stderr=side, **passing(listening.fileno()))
            for _ in range(200):  # each leaves two lines
                async with connect(url, proxy=None, open_timeout=DEADLINE) as reading, asyncio.timeout(DEADLINE):
                    assert "subscribed" in str(await reading.recv())
    finally:
        os.close(keyboard)
        os.close(side)
