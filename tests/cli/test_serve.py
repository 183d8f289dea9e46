"""`deltawire serve` as a process: starting, what it says, signals."""

from __future__ import annotations

import json
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.processes import Run, Serve, Start, Terminal, wait_logged


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_program_learns_the_port_from_the_log_and_a_signal_drains(
    serve: Serve, run: Run, signum: signal.Signals
) -> None:
    served = await serve()
    url = urlsplit(served.url)
    assert (served.started["host"], served.started["port"]) == (url.hostname, url.port)
    assert (await run("streams", "list", f"--url={served.url}")).status == 0
    served.process.send_signal(signum)
    assert (await wait_logged(served.process, "gateway.drain_started"))["signal"] == signum.name
    output, errors = await served.process.communicate()
    assert served.process.returncode == 0
    assert output == b""
    assert b'"gateway.stopped"' in errors.splitlines()[-1]


async def test_a_second_signal_ends_a_drain_at_once(serve: Serve, run: Run) -> None:
    served = await serve("--port=0", "--drain-timeout=600", "--send-timeout=600")
    answer = b"x" * 60_000
    with socket.create_connection((served.started["host"], served.started["port"])) as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.sendall(
            b"GET /v1/streams/demo/subscribe HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        stalled.recv(12)
        published = await run("publish", "demo", "--format=text", f"--url={served.url}", stdin=answer * 50)
        assert published.status == 0
        served.process.terminate()
        await wait_logged(served.process, "gateway.drain_started")
        served.process.terminate()
        _, errors = await served.process.communicate()
    assert served.process.returncode == 128 + signal.SIGTERM
    assert b'"gateway.killed"' in errors
    assert b"Traceback" not in errors


async def test_a_person_is_given_the_address_and_a_line_to_paste(start: Start, terminal: Terminal) -> None:
    process = await start("serve", "--port=0", stdout=terminal.side)
    started = await wait_logged(process, "gateway.started")
    line = f"wscat -c {started['url']}/v1/streams/demo/subscribe"
    await terminal.wait_shown(line)
    assert any(shown.strip() == line for shown in terminal.shown.splitlines())


async def test_logs_on_a_terminal_are_for_a_person(start: Start, terminal: Terminal) -> None:
    await start("serve", "--port=0", stderr=terminal.side)
    await terminal.wait_shown("\n")
    assert "gateway.started" in terminal.shown
    assert not terminal.shown.startswith("{")


async def test_a_busy_port_is_one_line_and_status_2(gateway: str, run_process: Run) -> None:
    done = await run_process("serve", f"--port={urlsplit(gateway).port}")
    assert done.status == 2
    assert done.errors.splitlines() == [
        f"deltawire: error: can't listen on 127.0.0.1:{urlsplit(gateway).port}: Address already in use"
    ]


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("no-such-host.invalid", "can't listen on no-such-host.invalid:0"),
        ("a..b", "not a host name"),
        ("192.0.2.1", "Cannot assign requested address"),
    ],
)
async def test_an_address_that_is_not_ours_is_one_line_and_status_2(host: str, reason: str, run_process: Run) -> None:
    done = await run_process("serve", "--port=0", "--insecure-no-auth", f"--host={host}")
    assert done.status == 2
    assert len(done.errors.splitlines()) == 1
    assert done.errors.startswith("deltawire: error: ")
    assert reason in done.errors
    assert done.output == ""


async def test_off_loopback_without_authentication_is_refused_unless_told_in_so_many_words(
    run_process: Run, serve: Serve
) -> None:
    done = await run_process("serve", "--port=0", "--host=0.0.0.0")
    assert (done.status, done.output, len(done.errors.splitlines())) == (2, "", 1)
    assert "--insecure-no-auth" in done.errors
    served = await serve("--port=0", "--host=0.0.0.0", "--insecure-no-auth")
    assert served.started["host"] == "0.0.0.0"


@pytest.mark.parametrize(("argument", "reason"), [("--port=99999", "--port"), ("--config=absent.toml", "No such file")])
async def test_a_wrong_option_is_one_line_and_status_2(argument: str, reason: str, run: Run) -> None:
    done = await run("serve", argument)
    assert done.status == 2
    assert len(done.errors.splitlines()) == 1
    assert done.errors.startswith("deltawire: error: ")
    assert reason in done.errors
    assert done.output == ""


async def test_a_wrong_config_file_is_one_line_and_status_2(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "deltawire.toml"
    path.write_text("prot = 1\n")
    done = await run("serve", env={"DELTAWIRE_CONFIG": str(path)})
    assert done.status == 2
    assert len(done.errors.splitlines()) == 1
    assert str(path) in done.errors


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
async def test_missing_permission_is_one_line_and_status_2(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "deltawire.toml"
    path.touch(mode=0)
    done = await run("serve", f"--config={path}")
    assert (done.status, len(done.errors.splitlines())) == (2, 1)
    assert "Permission denied" in done.errors


async def test_settings_reach_the_gateway(serve: Serve, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "deltawire.toml"
    path.write_text("port = 0\nretention_events = 7\n")
    served = await serve(f"--config={path}")
    lines = b'{"type":"text_delta","data":{"text":"x"}}\n' * 20
    assert (await run("publish", "demo", f"--url={served.url}", stdin=lines)).status == 0
    info = json.loads((await run("streams", "info", "demo", "--json", f"--url={served.url}")).output)
    assert (info["head"], info["floor"]) == (20, 14)


async def test_a_log_nobody_reads_any_more_stops_nothing(start: Start, run: Run) -> None:
    reader, writer = os.pipe()
    process = await start("serve", "--port=0", stderr=writer)
    os.close(writer)
    with os.fdopen(reader) as log:
        url = next(entry["url"] for entry in map(json.loads, log) if entry["event"] == "gateway.started")
    assert (await run("publish", "demo", "--close", "--format=text", f"--url={url}", stdin=b"text")).status == 0
    assert (await run("tail", "demo", f"--url={url}")).output == "text"
    process.terminate()
    assert await process.wait() == 0


async def test_a_log_that_somebody_forgot_to_read_stops_nothing(start: Start, run: Run) -> None:
    reader, writer = os.pipe()
    process = await start("serve", "--port=0", "--log-level=debug", stderr=writer)
    with os.fdopen(reader, buffering=1) as log:
        url = next(entry["url"] for entry in map(json.loads, log) if entry["event"] == "gateway.started")
        os.set_blocking(writer, False)
        with suppress(BlockingIOError):
            while os.write(writer, b"\n" * 4096):
                pass
        os.set_blocking(writer, True)
        os.close(writer)
        assert (await run("publish", "demo", "--close", "--format=text", f"--url={url}", stdin=b"text")).status == 0
        assert (await run("tail", "demo", f"--url={url}")).output == "text"
        process.terminate()
        assert await process.wait() == 0
