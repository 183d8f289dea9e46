"""Lists, metrics, readiness and limits are those of one gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.minting import bearer, everything, token, write_secret
from tests.support.rawpeer import text
from tests.workers.gateways import Many, StartWorkers, streams_of


async def create(client: httpx.AsyncClient, gateway: Many, *streams: str) -> None:
    for stream in streams:
        assert (await client.put(f"{gateway.http}/v1/streams/{stream}")).status_code == 201


async def listed(client: httpx.AsyncClient, gateway: Many, query: str = "", **headers: str) -> list[str]:
    response = await client.get(f"{gateway.http}/v1/streams{query}", headers=headers)
    assert response.status_code == 200, response.text
    return [info["id"] for info in response.json()]


async def metrics(client: httpx.AsyncClient, gateway: Many) -> dict[str, dict[str, float]]:
    """The sum of the samples of each name, by worker."""
    values: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families((await client.get(f"{gateway.http}/metrics")).text):
        for sample in family.samples:
            of_workers = values.setdefault(sample.name, {})
            worker = sample.labels["worker"]
            of_workers[worker] = of_workers.get(worker, 0.0) + sample.value
    return values


async def test_a_list_has_the_streams_of_all_workers_in_the_order_of_their_ids(
    start_workers: StartWorkers, client: httpx.AsyncClient
) -> None:
    gateway = await start_workers()
    names = sorted(f"s{number}" for number in range(20))
    await create(client, gateway, *reversed(names))
    assert await listed(client, gateway) == names
    pages, after = [], ""
    while page := await listed(client, gateway, f"?limit=3&after={after}" if after else "?limit=3"):
        assert len(page) == 3 or page[-1] == names[-1]
        pages += page
        after = page[-1]
    assert pages == names


async def test_a_list_shows_what_the_token_allows_and_needs_one(
    start_workers: StartWorkers, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    gateway = await start_workers(f"--auth-key={write_secret(tmp_path)}")
    mine = [next(streams_of(worker, prefix="mine-")) for worker in (0, 1)]
    for name in (*mine, *(next(streams_of(worker, prefix="other-")) for worker in (0, 1))):
        response = await client.put(f"{gateway.http}/v1/streams/{name}", headers=bearer(everything()))
        assert response.status_code == 201
    narrow = bearer(token(subscribe=["mine-*"]))
    assert await listed(client, gateway, **narrow) == sorted(mine)
    assert (await client.get(f"{gateway.http}/v1/streams")).status_code == 401
    assert (await client.get(f"{gateway.http}/metrics", headers=narrow)).status_code == 403
    assert (await client.get(f"{gateway.http}/metrics", headers=bearer(everything()))).status_code == 200


async def test_a_wrong_parameter_is_refused_as_by_one_process(
    start_workers: StartWorkers, client: httpx.AsyncClient
) -> None:
    gateway = await start_workers()
    assert (await client.get(f"{gateway.http}/v1/streams?limit=0")).status_code == 400
    assert (await client.head(f"{gateway.http}/v1/streams")).status_code == 200
    assert (await client.post(f"{gateway.http}/v1/streams")).status_code == 405


async def test_every_series_says_which_worker_it_is_of(start_workers: StartWorkers, client: httpx.AsyncClient) -> None:
    gateway = await start_workers()
    names = [next(streams_of(0)), next(streams_of(1)), *(f"t{number}" for number in range(6))]
    await create(client, gateway, *names)
    values = await metrics(client, gateway)
    assert {tuple(sorted(of_workers)) for of_workers in values.values()} == {("0", "1")}
    assert sum(values["deltawire_streams"].values()) == len(names)
    assert all(values["deltawire_streams"].values())
    assert values["deltawire_worker_restarts_total"] == {"0": 0.0, "1": 0.0}
    assert "process_cpu_seconds_total" in values


async def test_a_worker_that_does_not_answer_is_named_and_its_series_are_absent(
    start_workers: StartWorkers, client: httpx.AsyncClient
) -> None:
    gateway = await start_workers()
    with gateway.stopped(1):
        paths = ("/v1/streams", "/readyz", "/healthz")
        asking = asyncio.gather(*(client.get(f"{gateway.http}{path}") for path in paths))  # each waits for the worker
        values = await metrics(client, gateway)
        for response in await asking:
            assert (response.status_code, "worker 1 does not answer" in response.text) == (503, True)
        assert set(values["deltawire_events_total"]) == {"0"}
        assert (await client.get(f"{gateway.http}/livez")).status_code == 200
    assert (await client.get(f"{gateway.http}/readyz")).status_code == 200


@pytest.mark.parametrize("asked", [0, 1])
async def test_all_are_not_ready_if_one_is_not(start_workers: StartWorkers, asked: int) -> None:
    gateway = await start_workers(f"--memory-limit={2 * 1024 * 1024}")
    stream = next(streams_of(1))
    await gateway.subscribe(stream)  # the stream is in use, so nothing is evicted
    producer = await gateway.publish(stream)
    for _ in range(100):  # until it is full; what connections hold counts too, for a moment
        await producer.send(text({"type": "text_delta", "data": {"text": "x" * 60_000}}))
        peer = await gateway.connect(asked)
        await peer.send(b"GET /readyz HTTP/1.1\r\n\r\n")
        head, body = await peer.read_head(), await peer.read_rest()
        peer.close()
        if b" 200 " not in head:
            break
    assert b" 503 " in head
    assert b"memory_limit" in body


@pytest.mark.parametrize("scope", ["max-connections", "max-connections-per-address"])
async def test_limits_on_connections_hold_over_all_workers(start_workers: StartWorkers, scope: str) -> None:
    gateway = await start_workers(f"--{scope}=6")
    streams = [next(streams_of(number % 2)) for number in range(6)]
    for stream in streams:
        await gateway.subscribe(stream)
    for owner in (0, 1, 0, 1):
        peer = await gateway.open()
        head = await peer.upgrade(f"/v1/streams/{next(streams_of(owner))}/subscribe")
        assert head.split()[1] in (b"429", b"503")
        assert scope.replace("-", "_").encode() in await peer.read_rest()
    gateway.peers[0].close()
    await gateway.wait_room(streams[0])


async def test_a_limit_of_a_token_holds_over_all_workers(start_workers: StartWorkers, tmp_path: Path) -> None:
    gateway = await start_workers(f"--auth-key={write_secret(tmp_path)}", "--max-connections-per-token=3")
    headers = "".join(f"{name}: {value}\r\n" for name, value in bearer(everything()).items())
    statuses = []
    for number in range(5):
        peer = await gateway.open()
        head = await peer.upgrade(f"/v1/streams/{next(streams_of(number % 2))}/subscribe", headers)
        statuses.append(int(head.split()[1]))
    assert statuses == [101, 101, 101, 429, 429]


async def test_a_rate_of_an_address_holds_over_all_workers_and_counts_a_connection_once(
    start_workers: StartWorkers,
) -> None:
    gateway = await start_workers("--connection-rate=0.001", "--connection-burst=6")
    for number in range(6):
        await gateway.subscribe(next(streams_of(number % 2)))
    for number in range(2):
        peer = await gateway.open()
        head = await peer.upgrade(f"/v1/streams/{next(streams_of(number))}/subscribe")
        assert b" 429 " in head
        assert b"connection_rate" in await peer.read_rest()
    other = await gateway.open(source="127.0.0.2")
    assert b" 101 " in await other.upgrade(f"/v1/streams/{next(streams_of(0))}/subscribe")


async def test_probes_are_answered_when_there_is_no_room_for_connections(
    start_workers: StartWorkers, client: httpx.AsyncClient
) -> None:
    gateway = await start_workers("--max-connections=2")
    for worker in (0, 1):
        await gateway.subscribe(next(streams_of(worker)))
    assert (await client.get(f"{gateway.http}/readyz")).status_code == 200
    assert (await client.get(f"{gateway.http}/metrics")).status_code == 200
