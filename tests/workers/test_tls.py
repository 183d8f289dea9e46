"""With TLS, connections to streams of other workers are relayed."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from deltawire.gateway.client import Publisher, Subscriber
from deltawire.protocol.events import Event, TextDelta
from tests.support.asking import http_client
from tests.support.certificates import Certificates, make_certificates
from tests.support.processes import wait_logged
from tests.support.tlspeer import TlsPeer
from tests.support.waiting import DEADLINE
from tests.workers.gateways import Many, StartWorkers, streams_of


@pytest.fixture
def files(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path / "certificates")


BOTH = [next(streams_of(worker)) for worker in (0, 1)]


async def test_producers_and_consumers_meet_whoever_accepted_them(
    start_workers: StartWorkers, files: Certificates
) -> None:
    gateway = await start_workers(*files.flags)
    url, tls = gateway.served.url, files.context()
    words = [f"{number} " for number in range(300)]

    async def read(stream: str) -> str:
        async with Subscriber(url, stream, tls=tls) as subscriber:
            return "".join(
                [
                    item.data.text
                    async for item in subscriber
                    if isinstance(item, Event) and isinstance(item.data, TextDelta)
                ]
            )

    async def publish(stream: str) -> None:
        async with Publisher(url, stream, tls=tls) as publisher:
            for word in words:
                await publisher.send(TextDelta(text=word))
            await publisher.close_stream()

    streams = [next(streams_of(number % 2, prefix=f"t{number}-")) for number in range(8)]
    async with asyncio.timeout(DEADLINE):
        readers = [asyncio.ensure_future(read(stream)) for stream in streams for _ in range(2)]
        await asyncio.gather(*map(publish, streams))
        assert set(await asyncio.gather(*readers)) == {"".join(words)}


async def test_requests_and_pages_of_events_come_through(start_workers: StartWorkers, files: Certificates) -> None:
    gateway = await start_workers(*files.flags)
    https = gateway.http.replace("http", "https")
    async with http_client() as client:
        for stream in BOTH * 3:
            await client.put(f"{https}/v1/streams/{stream}")
            assert (await client.get(f"{https}/v1/streams/{stream}")).json()["id"] == stream
        async with Publisher(gateway.served.url, BOTH[1], tls=files.context()) as publisher:
            for _ in range(30):
                await publisher.send(TextDelta(text="x" * 20_000))
            await publisher.flush()
        for _ in range(4):
            page = await client.get(f"{https}/v1/streams/{BOTH[1]}/events")
            assert len(page.text.splitlines()) == 30
        assert [info["id"] for info in (await client.get(f"{https}/v1/streams")).json()] == sorted(BOTH)
        assert (await client.get(f"{https}/readyz")).status_code == 200


async def test_a_certificate_is_asked_for_where_it_is_shown(start_workers: StartWorkers, files: Certificates) -> None:
    gateway = await start_workers(*files.flags, f"--tls-client-ca={files.ca}")
    https = gateway.http.replace("http", "https")
    async with (
        http_client(verify=files.context(with_certificate=True)) as known,
        http_client(verify=files.context()) as unknown,
    ):
        for stream in BOTH * 3:
            assert (await unknown.get(f"{https}/v1/streams/{stream}")).status_code == 403
            assert (await known.get(f"{https}/v1/streams/{stream}")).status_code == 404
        assert (await known.get(f"{https}/v1/streams")).status_code == 200
        assert (await unknown.get(f"{https}/v1/streams")).status_code == 403


async def test_relayed_connections_drain_too(start_workers: StartWorkers, files: Certificates) -> None:
    gateway = await start_workers(*files.flags)
    peers = [await follow_with_tls(gateway, files, stream) for stream in BOTH * 3]
    gateway.served.process.terminate()
    for peer in peers:
        await peer.read_until(b"\x03\xe9shutting_down")
        assert not peer.is_over
        peer.close()
    async with asyncio.timeout(DEADLINE):
        assert await gateway.served.process.wait() == 0


async def test_a_relayed_reader_that_stops_reading_is_ended_in_time(
    start_workers: StartWorkers, files: Certificates
) -> None:
    gateway = await start_workers(*files.flags, "--send-timeout=0.5", "--ping-interval=3600")
    peers = []
    for stream in BOTH:
        peer = await TlsPeer.connect(gateway.port, files.context(), receive_buffer=4096)
        peers.append(peer)
        await peer.upgrade(f"/v1/streams/{stream}/subscribe")
        await peer.read_until(b"caught_up")
        async with Publisher(gateway.served.url, stream, tls=files.context()) as publisher:
            for _ in range(200):
                await publisher.send(TextDelta(text="x" * 20_000))
            await publisher.flush()
    ended = [await wait_logged(gateway.served.process, "consumer.ended") for _ in BOTH]
    assert {entry["stream"] for entry in ended} == set(BOTH)
    for peer in peers:
        peer.close()


async def test_the_death_of_the_other_worker_ends_what_is_relayed_to_it(
    start_workers: StartWorkers, files: Certificates
) -> None:
    gateway = await start_workers(*files.flags)
    peers = [await follow_with_tls(gateway, files, BOTH[1]) for _ in range(6)]
    os.kill(gateway.pids[1], signal.SIGKILL)
    for peer in peers:
        await peer.read_until(b"never said")
        assert peer.is_over
        peer.close()
    again = await follow_with_tls(gateway, files, BOTH[1])
    again.close()


async def follow_with_tls(gateway: Many, files: Certificates, stream: str) -> TlsPeer:
    peer = await TlsPeer.connect(gateway.port, files.context())
    await peer.upgrade(f"/v1/streams/{stream}/subscribe")
    await peer.read_until(b"caught_up")
    assert not peer.is_over
    return peer
