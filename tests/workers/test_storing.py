"""Workers that store their streams: a kill loses nothing, and neither does another number of workers."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from deltawire.gateway.client import Publisher, Subscriber
from deltawire.gateway.config import Settings
from deltawire.gateway.engines.folder import FILE, LOCK
from deltawire.gateway.engines.sqlite import SqliteEngine
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.workers import claim_storage
from deltawire.gateway.workers.storage import back_up_all
from deltawire.protocol.events import Event, TextDelta
from tests.support.processes import Run, Serve, wait_logged
from tests.support.rawpeer import text
from tests.support.waiting import DEADLINE
from tests.workers.gateways import StartWorkers, streams_of

STREAMS = [f"s{number}" for number in range(12)]

StartStored = Callable[[int], Awaitable[str]]


@pytest.fixture
def start_stored(serve: Serve, tmp_path: Path) -> Any:
    """End the gateway before, and start one with another number of workers on the same folder; returns its address."""
    running: list[Any] = []

    async def start_stored(workers: int) -> str:
        for served in running:
            served.process.terminate()
            assert await served.process.wait() == 0
        running[:] = [await serve("--port=0", f"--workers={workers}", f"--data-dir={tmp_path / 'data'}", "--sync=off")]
        return str(running[0].url)

    return start_stored


async def fill(url: str) -> None:
    for stream in STREAMS:
        async with Publisher(url, stream, producer="p") as publisher:
            for number in range(20):
                await publisher.send(TextDelta(text=f"{stream}:{number} "))
            await publisher.flush()


async def epochs(client: httpx.AsyncClient, url: str) -> dict[str, tuple[str, int]]:
    listed = (await client.get(f"{url.replace('ws', 'http', 1)}/v1/streams")).json()
    return {info["id"]: (info["epoch"], info["head"]) for info in listed}


async def read(client: httpx.AsyncClient, url: str, stream: str) -> str:
    page = await client.get(f"{url.replace('ws', 'http', 1)}/v1/streams/{stream}/events")
    lines = [httpx.Response(200, text=line).json() for line in page.text.splitlines()]
    return "".join(line["data"]["text"] for line in lines)


async def test_another_number_of_workers_finds_every_stream_as_it_was(
    start_stored: StartStored, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    url = await start_stored(2)
    await fill(url)
    before = await epochs(client, url)
    assert set(before) == set(STREAMS)
    for workers in (3, 1, 2, 2):
        url = await start_stored(workers)
        assert await epochs(client, url) == before
        for stream in STREAMS:
            assert await read(client, url, stream) == "".join(f"{stream}:{number} " for number in range(20))
        found = sorted(path.parent.name for path in (tmp_path / "data").rglob("deltawire.sqlite"))
        assert found == (["data"] if workers == 1 else [f"worker-{worker}-of-{workers}" for worker in range(workers)])


def store_on_workers(root: Path) -> None:
    """Have two workers store a stream each."""
    for worker in range(2):
        engine = SqliteEngine(root / f"worker-{worker}-of-2", "off")
        asyncio.run(engine.open(lambda function: function()))
        engine.create(f"s{worker}", "e", StreamSettings())
        asyncio.run(engine.close())


def told_by_start(root: Path, workers: int) -> list[str]:
    """What the next start on a folder tells of new epochs."""
    with capture_logs() as lines:
        lock = claim_storage(Settings(data_dir=str(root)), workers)
    assert lock is not None
    os.close(lock)
    return [line["detail"] for line in lines if line["event"] == "storage.epochs_renewed"]


@pytest.mark.parametrize("workers", [1, 3])
def test_new_epochs_of_streams_that_move_after_a_crash_of_the_machine_are_told_once(
    tmp_path: Path, workers: int
) -> None:
    store_on_workers(tmp_path)
    for worker in range(2):
        (tmp_path / f"worker-{worker}-of-2" / LOCK).write_text("an earlier start")
    [detail] = told_by_start(tmp_path, workers)
    assert "the machine was started again" in detail
    assert told_by_start(tmp_path, 2) == []


def test_new_epochs_of_a_backup_that_is_spread_over_workers_are_told_once(tmp_path: Path) -> None:
    store_on_workers(tmp_path / "data")
    root = tmp_path / "restored"
    root.mkdir()
    (root / FILE).touch()
    with capture_logs() as lines:
        back_up_all(tmp_path / "data", root / FILE)
    assert lines == []
    [detail] = told_by_start(root, 2)
    assert "this backup" in detail
    assert told_by_start(root, 3) == []


async def test_producers_go_on_with_their_numbers_wherever_their_stream_lives_now(start_stored: StartStored) -> None:
    await fill(await start_stored(3))
    url = await start_stored(2)
    for stream in STREAMS[:4]:
        async with Publisher(url, stream, producer="p") as publisher:
            await publisher.send(TextDelta(text="more"))
            await publisher.flush()
            assert publisher.lost == 0
            assert publisher.seq == 21


async def test_a_worker_that_is_killed_comes_back_with_everything_that_was_acked(
    start_workers: StartWorkers, tmp_path: Path
) -> None:
    gateway = await start_workers(f"--data-dir={tmp_path}", "--sync=off")
    stream = next(streams_of(1))
    seen: list[str] = []

    async def follow() -> None:
        async with Subscriber(gateway.served.url, stream) as subscriber:
            async for item in subscriber:
                assert isinstance(item, Event), f"a gap: {item}"
                assert isinstance(item.data, TextDelta)
                seen.append(item.data.text)

    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
        tasks.create_task(follow())
        async with Publisher(gateway.served.url, stream) as publisher:
            for number in range(300):
                await publisher.send(TextDelta(text=f"{number} "))
                if number == 150:
                    await publisher.flush()
                    os.kill(gateway.pids[1], signal.SIGKILL)
            await publisher.close_stream()
            assert publisher.lost == 0
    assert "".join(seen) == "".join(f"{number} " for number in range(300))
    assert (await wait_logged(gateway.served.process, "worker.died"))["worker"] == 1


async def test_a_second_gateway_on_the_same_folder_is_refused(
    start_workers: StartWorkers, run_process: Run, tmp_path: Path
) -> None:
    await start_workers(f"--data-dir={tmp_path}")
    for workers in (1, 2, 3):
        done = await run_process("serve", "--port=0", f"--workers={workers}", f"--data-dir={tmp_path}")
        assert (done.status, "another gateway uses it" in done.errors) == (2, True)


async def test_the_folder_is_in_use_until_workers_without_a_supervisor_are_gone(
    start_workers: StartWorkers, run_process: Run, tmp_path: Path
) -> None:
    gateway = await start_workers(f"--data-dir={tmp_path}", "--drain-timeout=20")
    producer = await gateway.publish(next(streams_of(0)))
    await producer.send(text({"type": "text_delta", "data": {"text": "x"}}))
    await producer.read_until("ack")
    os.kill(gateway.supervisor, signal.SIGKILL)
    done = await run_process("serve", "--port=0", "--workers=3", f"--data-dir={tmp_path}")
    assert (done.status, "another gateway uses it" in done.errors) == (2, True)
