"""Workers die, are replaced, reload and drain as one gateway."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from asyncio.subprocess import Process
from pathlib import Path

import httpx
import pytest

from deltawire.gateway.client import Publisher, Subscriber
from deltawire.protocol.events import Event, TextDelta
from tests.support.manager import Manager, manager
from tests.support.minting import SECRET, bearer, everything, write_secret
from tests.support.processes import Run, Serve, Start, passing, wait_logged
from tests.support.rawpeer import CLOSE, text
from tests.support.waiting import DEADLINE, eventually
from tests.workers.gateways import StartWorkers, children_of, streams_of

__all__ = ["manager"]  # a fixture


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_one_worker_is_one_process(serve: Serve) -> None:
    served = await serve("--port=0", "--workers=1")
    assert children_of(served.process.pid) == []
    assert "workers" not in served.started


async def test_several_are_said_in_the_first_line_of_the_log(start_workers: StartWorkers) -> None:
    gateway = await start_workers("--workers=3")
    assert gateway.served.started["event"] == "gateway.started"
    assert gateway.served.started["workers"] == len(gateway.pids) == 3
    assert gateway.served.started["pid"] == gateway.supervisor


# Death


@pytest.mark.parametrize("worker", [0, 1])
async def test_a_worker_that_is_killed_under_load_costs_the_others_nothing_and_comes_back(
    start_workers: StartWorkers, client: httpx.AsyncClient, worker: int
) -> None:
    gateway = await start_workers()
    url = gateway.served.url
    kept, lost = (next(streams_of(number)) for number in (1 - worker, worker))
    seen: list[str] = []

    async def read() -> None:
        async with Subscriber(url, kept) as subscriber:
            async for item in subscriber:
                assert isinstance(item, Event), f"a gap: {item}"
                assert isinstance(item.data, TextDelta)
                seen.append(item.data.text)

    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
        tasks.create_task(read())
        victim = await gateway.subscribe(lost)
        async with Publisher(url, kept) as publisher:
            for number in range(400):
                await publisher.send(TextDelta(text=f"{number} "))
                if number == 100:
                    os.kill(gateway.pids[worker], signal.SIGKILL)
            await publisher.close_stream()
    assert "".join(seen) == "".join(f"{number} " for number in range(400))
    assert await victim.read_frame() is None, "its connections are lost"
    died = await wait_logged(gateway.served.process, "worker.died")
    assert (died["worker"], died["how"], died["restarts"]) == (worker, "SIGKILL", 1)
    started = await wait_logged(gateway.served.process, "worker.started")
    assert (started["worker"], started["pid"] in children_of(gateway.supervisor)) == (worker, True)
    await gateway.subscribe(lost)
    metrics = (await client.get(f"{gateway.http}/metrics")).text
    assert f'deltawire_worker_restarts_total{{worker="{worker}"}} 1.0' in metrics
    assert f'deltawire_worker_restarts_total{{worker="{1 - worker}"}} 0.0' in metrics


async def test_who_connects_while_a_worker_is_replaced_waits_for_the_next_one(start_workers: StartWorkers) -> None:
    gateway = await start_workers()
    stream = next(streams_of(1))
    os.kill(gateway.pids[1], signal.SIGKILL)
    for _ in range(5):
        await gateway.subscribe(stream)


async def test_a_dead_worker_s_connections_take_no_places(start_workers: StartWorkers) -> None:
    gateway = await start_workers("--max-connections=4")
    stream = next(streams_of(1))
    for _ in range(4):
        await gateway.subscribe(stream)
    os.kill(gateway.pids[1], signal.SIGKILL)
    await wait_logged(gateway.served.process, "worker.started")
    for _ in range(4):
        await gateway.subscribe(stream)


async def test_both_workers_may_be_killed_again_and_again(start_workers: StartWorkers) -> None:
    gateway = await start_workers()
    for _ in range(2):
        for pid in children_of(gateway.supervisor):
            os.kill(pid, signal.SIGKILL)
        for _ in range(2):
            await wait_logged(gateway.served.process, "worker.started")
    for worker in (0, 1):
        await gateway.subscribe(next(streams_of(worker)))


async def test_workers_leave_when_their_supervisor_is_killed(start_workers: StartWorkers) -> None:
    gateway = await start_workers("--drain-timeout=2")
    consumer = await gateway.subscribe(next(streams_of(1)))
    os.kill(gateway.supervisor, signal.SIGKILL)
    assert (await consumer.read_ending())[1] == 1001
    await eventually(lambda: not any(map(is_running, gateway.pids)), "the end of the workers")


async def test_signals_to_workers_are_not_for_them(start_workers: StartWorkers) -> None:
    gateway = await start_workers()
    for pid in gateway.pids:  # as a terminal does at Ctrl-C, and some service managers
        for it in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, it)
    for worker in (0, 1):
        await gateway.subscribe(next(streams_of(worker)))
    assert children_of(gateway.supervisor) == gateway.pids


# The end


async def test_all_workers_drain_with_the_signal(start_workers: StartWorkers) -> None:
    gateway = await start_workers()
    consumers = [await gateway.subscribe(next(streams_of(worker))) for worker in (0, 1)]
    producers = [await gateway.publish(next(streams_of(worker, prefix="p"))) for worker in (0, 1)]
    for producer in producers:
        await producer.send(text({"type": "text_delta", "data": {"text": "x"}}))
        await producer.read_until("ack")
    gateway.served.process.terminate()
    assert [(await peer.read_ending())[1] for peer in (*consumers, *producers)] == [1001] * 4
    assert await gateway.served.process.wait() == 0
    assert not any(map(is_running, gateway.pids))


async def test_a_second_signal_ends_all_at_once(start_workers: StartWorkers) -> None:
    gateway = await start_workers("--drain-delay=20")
    await gateway.subscribe(next(streams_of(1)))
    gateway.served.process.terminate()
    await wait_logged(gateway.served.process, "gateway.drain_started")
    gateway.served.process.terminate()
    assert await gateway.served.process.wait() == 128 + signal.SIGTERM
    await eventually(lambda: not any(map(is_running, gateway.pids)), "the end of the workers")


async def test_a_stream_of_another_worker_is_refused_while_all_drain(
    start_workers: StartWorkers, client: httpx.AsyncClient
) -> None:
    gateway = await start_workers()
    stalled = [await gateway.subscribe(next(streams_of(worker))) for worker in (0, 1)]
    gateway.served.process.terminate()
    await wait_logged(gateway.served.process, "gateway.drain_started")
    for peer in stalled:
        while (frame := await peer.read_frame()) is not None and frame.opcode != CLOSE:
            pass
    for number in range(4):  # their peers have not closed yet, so that both are there
        peer = await gateway.open()
        assert b" 503 " in await peer.upgrade(f"/v1/streams/{next(streams_of(number % 2))}/subscribe")
    assert (await client.get(f"{gateway.http}/readyz")).status_code == 503


@pytest.mark.slow
async def test_a_worker_that_does_not_leave_is_killed(start_workers: StartWorkers) -> None:
    gateway = await start_workers("--drain-timeout=0")
    os.kill(gateway.pids[1], signal.SIGSTOP)
    gateway.served.process.terminate()
    assert await gateway.served.process.wait() == 0
    assert not any(map(is_running, gateway.pids))


async def test_a_signal_while_workers_start_ends_it(start: Start) -> None:
    process = await start("serve", "--port=0", "--workers=2")
    await eventually(lambda: children_of(process.pid), "a worker")
    process.terminate()
    assert await process.wait() == 0


# Reload and replacement


async def test_all_workers_read_keys_again(
    start_workers: StartWorkers, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    path = Path(write_secret(tmp_path))
    write(path, b"another secret of tests, thirty-two bytes at least\n")
    gateway = await start_workers(f"--auth-key={path}")
    urls = [f"{gateway.http}/v1/streams/{next(streams_of(worker))}" for worker in (0, 1)]
    for url in urls:
        assert (await client.put(url, headers=bearer(everything()))).status_code == 401
    write(path, SECRET + b"\n")
    gateway.served.process.send_signal(signal.SIGHUP)
    reloaded = [await wait_logged(gateway.served.process, "gateway.reloaded") for _ in range(2)]
    assert {entry["worker"] for entry in reloaded} == {0, 1}
    for url in urls:
        assert (await client.put(url, headers=bearer(everything()))).status_code == 201


async def test_workers_are_replaced_one_after_the_other(start_workers: StartWorkers, client: httpx.AsyncClient) -> None:
    gateway = await start_workers()
    consumers = [await gateway.subscribe(next(streams_of(worker))) for worker in (0, 1)]
    gateway.served.process.send_signal(signal.SIGUSR2)
    assert [(await consumer.read_ending())[1] for consumer in consumers] == [1001, 1001]
    started = [await wait_logged(gateway.served.process, "worker.started") for _ in range(2)]
    assert [(entry["worker"], entry["restarts"]) for entry in started] == [(0, 0), (1, 0)]
    assert not set(children_of(gateway.supervisor)) & set(gateway.pids)
    for worker in (0, 1):
        await gateway.subscribe(next(streams_of(worker)))
    assert (await client.get(f"{gateway.http}/readyz")).status_code == 200


# The start


async def test_a_service_manager_hears_from_the_supervisor_alone(
    start_workers: StartWorkers, manager: Manager, tmp_path: Path
) -> None:
    gateway = await start_workers(env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"})
    assert (await manager.heard())[0] == "READY=1"
    assert await manager.hear() == ["WATCHDOG=1"]
    gateway.served.process.send_signal(signal.SIGHUP)
    assert (await manager.heard())[0] == "RELOADING=1"
    assert await manager.heard() == ["READY=1"]
    gateway.served.process.terminate()
    assert "STOPPING=1" in await manager.heard()
    assert await gateway.served.process.wait() == 0


async def test_a_socket_that_was_passed_is_served_by_all(serve: Serve, run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        served = await serve("--port=1", "--workers=2", **passing(listening.fileno()))
        assert served.started["port"] == listening.getsockname()[1]
        for worker in (0, 1):
            stream = next(streams_of(worker))
            assert (await run("streams", "create", stream, f"--url={served.url}")).status == 0
        listed = await run("streams", "list", "--json", f"--url={served.url}")
        assert len(json.loads(listed.output)) == 2


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--host=0.0.0.0",), "--insecure-no-auth"),
        (("--auth-key=/absent",), "auth_key"),
        (("--tls-cert=/absent", "--tls-key=/absent"), "tls_cert"),
        (("--data-dir=/dev/null",), "data_dir"),
        (("--max-streams=1",), "max_streams"),
        (("--host=192.0.2.1", "--insecure-no-auth"), "Cannot assign requested address"),
        (("--workers=65",), "--workers"),
        (("--workers=-1",), "--workers"),
    ],
)
async def test_wrong_settings_are_one_line_and_status_2(
    run_process: Run, arguments: tuple[str, ...], reason: str
) -> None:
    done = await run_process("serve", "--port=0", "--workers=2", *arguments)
    lines = [line for line in done.errors.splitlines() if not line.startswith("{")]
    assert (done.status, len(lines), done.output) == (2, 1, "")
    assert lines[0].startswith("deltawire: error: ")
    assert reason in lines[0]


async def test_a_worker_that_can_t_start_later_is_tried_again(
    start_workers: StartWorkers, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    path = Path(write_secret(tmp_path))
    gateway = await start_workers(f"--auth-key={path}")
    write(path, b"")
    os.kill(gateway.pids[1], signal.SIGKILL)
    await wait_logged_text(gateway.served.process, "auth_key")
    write(path, SECRET + b"\n")
    url = f"{gateway.http}/v1/streams/{next(streams_of(1))}"
    assert (await client.put(url, headers=bearer(everything()))).status_code == 201


async def wait_logged_text(process: Process, words: str) -> None:
    """Read what a process says up to a line that has some words."""
    assert process.stderr is not None
    async with asyncio.timeout(DEADLINE):
        while words not in (await process.stderr.readline()).decode():
            pass


async def test_no_worker_stays_when_one_can_t_start(start: Start) -> None:
    process = await start("serve", "--port=0", "--workers=2", "--auth-key=/absent")
    assert await process.wait() == 2
