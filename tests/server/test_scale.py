"""Thousands of streams and of consumers, with default limits on a small machine."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

import pytest

from tests.support.rawpeer import RawPeer, text
from tests.support.soaking import lasting

STREAMS = lasting(2_000, 10_000)
CONSUMERS = lasting(1_000, 2_000)
KIB_A_STREAM = 8
KIB_A_CONSUMER = 60

SERVE = """
import asyncio, uvloop
from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
async def main():
    async with Gateway(Settings(port=0, drain_timeout=0, log_level="error")) as gateway:
        print(gateway.port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, input)
uvloop.run(main())
"""


class Served(NamedTuple):
    """A gateway in a process of its own, so that its memory is its own."""

    port: int
    pid: int

    def rss(self) -> int:
        """Its resident memory in KiB."""
        return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(self.pid)]))


@contextmanager
def many_files(wanted: int) -> Iterator[None]:
    """Raise the limit of open files, which the gateway's process inherits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"only {hard} open files are allowed here, {wanted} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def served() -> Iterator[Served]:
    with (
        many_files(CONSUMERS + 500),
        subprocess.Popen([sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        yield Served(int(process.stdout.readline()), process.pid)
        process.kill()


@asynccontextmanager
async def connected(served: Served, path: str) -> AsyncIterator[RawPeer]:
    it = await RawPeer.connect(served.port)
    try:
        await it.upgrade(path)
        yield it
    finally:
        it.close()


Report = Callable[[str, object], None]


@pytest.mark.slow
@pytest.mark.soak
async def test_thousands_of_streams_with_one_event_each(served: Served, record_property: Report) -> None:
    before = served.rss()

    async def make(first: int, upto: int) -> None:
        for number in range(first, upto):
            async with connected(served, f"/v1/streams/s{number}/publish") as it:
                await it.send(text({"type": "text_delta", "data": {"text": f"event of {number}"}}))
                await it.read_until("ack", seq=1)

    step = STREAMS // 20
    await asyncio.gather(*(make(first, first + step) for first in range(0, STREAMS, step)))
    grown = served.rss() - before
    record_property("kib_per_stream", grown / STREAMS)
    print(f"{STREAMS} streams: {grown / 1024:.0f} MiB, {grown / STREAMS:.1f} KiB each")  # noqa: T201 - the report that was asked for
    for number in (0, STREAMS // 2, STREAMS - 1):
        async with connected(served, f"/v1/streams/s{number}/subscribe") as it:
            [event] = [message for message in await it.read_until("caught_up") if "data" in message]
            assert event["data"]["text"] == f"event of {number}"
    assert grown < STREAMS * KIB_A_STREAM


@pytest.mark.soak
async def test_a_thousand_consumers_on_one_stream_all_get_everything(served: Served, record_property: Report) -> None:
    before = served.rss()
    consumers = []
    try:
        for _ in range(CONSUMERS):
            it = await RawPeer.connect(served.port)
            consumers.append(it)
            await it.upgrade("/v1/streams/demo/subscribe")
            await it.read_until("caught_up")
        grown = served.rss() - before
        record_property("kib_per_consumer", grown / CONSUMERS)
        print(f"{CONSUMERS} consumers: {grown / 1024:.0f} MiB, {grown / CONSUMERS:.1f} KiB each")  # noqa: T201 - the report that was asked for
        async with connected(served, "/v1/streams/demo/publish") as writing:
            for number in range(1, 11):
                await writing.send(text({"type": "text_delta", "data": {"text": f"{number} "}}))
                await writing.read_until("ack", seq=number)
        expected = "".join(f"{number} " for number in range(1, 11))
        for it in consumers:
            events = await it.read_until("text_delta", seq=10)
            assert "".join(event["data"]["text"] for event in events) == expected
    finally:
        for it in consumers:
            it.close()
    assert grown < CONSUMERS * KIB_A_CONSUMER
