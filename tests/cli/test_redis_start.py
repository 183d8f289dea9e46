"""How a gateway starts on a Redis server: it says what it found, or refuses in one line that names no secret."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.asking import http_client
from tests.support.processes import ROOT, Run, Serve, Start, wait_logged
from tests.support.redis_server import RIGHTS, RedisServer
from tests.support.waiting import DEADLINE


@pytest.fixture
def server(server: RedisServer) -> RedisServer:
    server.command("ACL", "SETUSER", "gate", "on", ">s3cret", "~*", "+@all")
    return server


async def not_served(start: Start, url: str, status: int = 2) -> str:
    """`serve` refuses with one line, which is returned."""
    process = await start("serve", "--port=0", "--engine-url", url)
    output, errors = await process.communicate()
    assert (process.returncode, output) == (status, b"")
    assert b"s3cret" not in errors
    assert len(errors.strip().splitlines()) == 1, errors
    return errors.decode()


async def refused(run: Run, start: Start, url: str, status: int = 2) -> str:
    """Both commands refuse with the same line, which is returned; `serve` with a status."""
    done = await run("check-config", "--engine-url", url)
    assert (done.status, done.output) == (2, "")
    assert done.errors == await not_served(start, url, status)
    return done.errors


async def test_the_start_says_what_was_found(server: RedisServer, serve: Serve) -> None:
    url = f"redis://gate:s3cret@127.0.0.1:{server.port}"
    served = await serve("--port=0", "--engine-url", url)
    opened = await wait_logged(served.process, "storage.opened")
    assert opened["server"].endswith(f"at 127.0.0.1:{server.port}")
    assert (opened["streams"], opened["elsewhere"], opened["persistence"]) == (0, 0, "none")
    assert "loses events" in (await wait_logged(served.process, "storage.unpersisted"))["detail"]


async def test_a_server_without_an_append_only_file_is_told_where_nothing_else_can_be_known(
    server: RedisServer, serve: Serve
) -> None:
    server.command("ACL", "SETUSER", "deltawire", *RIGHTS.split())
    served = await serve("--port=0", "--engine-url", f"redis://deltawire:s3cret@127.0.0.1:{server.port}")
    assert (await wait_logged(served.process, "storage.opened"))["persistence"] == "snapshots at most"
    detail = (await wait_logged(served.process, "storage.unpersisted"))["detail"]
    assert detail.startswith("the server has no append-only file")


async def test_replicas_that_events_would_wait_for_are_missed_at_the_start(server: RedisServer, serve: Serve) -> None:
    served = await serve("--port=0", "--engine-url", server.url, "--engine-replicas=1")
    detail = (await wait_logged(served.process, "storage.unreplicated"))["detail"]
    assert detail == "engine_replicas is 1, and 0 are connected: events wait until they fail"


async def test_settings_are_shown_without_the_password(server: RedisServer, run: Run) -> None:
    done = await run("check-config", "--engine-url", f"redis://gate:s3cret@127.0.0.1:{server.port}")
    assert done.status == 0, done.errors
    assert "s3cret" not in done.output + done.errors


async def test_a_wrong_password_is_told(server: RedisServer, run: Run, start: Start) -> None:
    assert "accepts neither" in await refused(run, start, f"redis://gate:s3cret2@127.0.0.1:{server.port}")


async def test_a_missing_password_is_told_from_a_wrong_one(server: RedisServer, run: Run, start: Start) -> None:
    assert "has no password, and the URL has one" in await refused(run, start, server.url.replace("//", "//:s3cret@"))
    server.command("CONFIG", "SET", "requirepass", "s3cret")
    assert "asks for a password, and the URL has none" in await refused(run, start, server.url)


async def test_a_gateway_that_does_not_say_where_it_is_is_told_so_once(
    server: RedisServer, run: Run, serve: Serve
) -> None:
    expected = "advertise_url is not set: other gateways"
    for workers in ("1", "2"):
        served = await serve("--port=0", "--engine-url", server.url, f"--workers={workers}")
        assert (await wait_logged(served.process, "node.unadvertised"))["detail"].startswith(expected)
        served.process.terminate()
        _, errors = await served.process.communicate()
        assert b"node.unadvertised" not in errors
    done = await run("check-config", "--engine-url", server.url)
    assert (done.status, expected in done.errors) == (0, True)
    done = await run("check-config", "--engine-url", server.url, "--advertise-url=ws://one:1")
    assert done.errors == "deltawire: these settings are good\n"


async def test_a_server_that_evicts_is_refused(server: RedisServer, run: Run, start: Start) -> None:
    server.command("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
    assert "set it to noeviction" in await refused(run, start, server.url)


async def test_a_replica_is_refused(server: RedisServer, run: Run, start: Start) -> None:
    server.command("REPLICAOF", "127.0.0.1", "1")
    assert "name its primary" in await refused(run, start, server.url)


@pytest.fixture
def nowhere() -> Iterator[str]:
    """The URL of a server that is not there."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"redis://u:s3cret@127.0.0.1:{unused.getsockname()[1]}"


async def test_a_server_that_can_not_be_reached_is_told_with_a_status_that_has_systemd_try_again(
    run: Run, start: Start, nowhere: str
) -> None:
    assert "can't be reached" in await refused(run, start, nowhere, status=1)
    unit = (ROOT / "scripts" / "deploy" / "deltawire.service").read_text(encoding="utf-8")
    assert "\nRestartPreventExitStatus=2\n" in unit


async def test_workers_that_can_not_reach_it_end_with_that_status_too(start: Start, nowhere: str) -> None:
    process = await start("serve", "--port=0", "--workers=2", "--engine-url", nowhere)
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"can't be reached" in errors


async def test_a_password_is_never_told(server: RedisServer, serve: Serve) -> None:
    url = f"redis://gate:s3cret@127.0.0.1:{server.port}"
    served = await serve("--port=0", "--log-level=debug", "--engine-timeout=0.2", env={"DELTAWIRE_ENGINE_URL": url})
    said = json.dumps(served.started)
    async with http_client(base_url=served.url.replace("ws:", "http:")) as client:
        event = {"type": "text_delta", "data": {"text": "one"}}
        assert (await client.post("/v1/streams/demo/events", json=event)).status_code == 200
        server.command("ACL", "SETUSER", "gate", "resetpass", ">another")
        server.command("CLIENT", "KILL", "TYPE", "normal")
        async with asyncio.timeout(DEADLINE):
            while (await client.get("/readyz")).status_code == 200:
                await client.post("/v1/streams/demo/events", json=event)
        for path in ("/readyz", "/metrics", "/v1/streams"):
            said += (await client.get(path)).text
        said += (await client.post("/v1/streams/demo/events", json=event)).text
    assert "WRONGPASS" in said
    served.process.terminate()
    output, errors = await served.process.communicate()
    said += (output + errors).decode()
    assert "s3cret" not in said


async def test_a_missing_permission_is_told(server: RedisServer, start: Start) -> None:
    server.command("ACL", "SETUSER", "poor", "on", ">s3cret", "~*", "+@all", "-xadd")
    assert "XADD in functions (ACL)" in await not_served(start, f"redis://poor:s3cret@127.0.0.1:{server.port}")


async def test_two_stores_are_one_too_many(run: Run, tmp_path: Path) -> None:
    done = await run("check-config", "--engine-url", "redis://127.0.0.1", "--data-dir", str(tmp_path))
    assert done.status == 2
    assert "not in both" in done.errors


@pytest.mark.parametrize("url", ["redis://u:1234s3cret?x@127.0.0.1:1", "redis://:s3cret@[::1"])
async def test_a_password_that_is_not_encoded_is_refused(run: Run, start: Start, url: str) -> None:
    assert "percent-encoded" in await refused(run, start, url)


async def test_another_scheme_is_refused(run: Run, start: Start) -> None:
    assert "expected redis://" in await refused(run, start, "http://u:s3cret@host")


def test_redis_brings_no_metrics_of_its_own() -> None:
    pytest.importorskip("opentelemetry.sdk", reason="needs the extra: pip install 'deltawire[otel]'")
    program = """
import sys
from deltawire.gateway.cli import main
main(["serve", "--port=0", "--engine-url=redis://127.0.0.1:1"])
print("redis" in sys.modules, "opentelemetry" in sys.modules)
import opentelemetry.sdk.metrics
"""
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n", "and whoever wants them afterwards can load them"
