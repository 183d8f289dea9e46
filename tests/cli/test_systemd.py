"""Sockets that a service manager passes in, and what it is told: with real processes."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deltawire.gateway.cli.systemd import Notifier, take_sockets
from deltawire.gateway.config import ConfigError
from tests.support.manager import Manager, manager
from tests.support.processes import AS_SYSTEMD, COMMAND, Run, Serve, Start, passing, wait_logged

__all__ = ["manager"]  # a fixture


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as it:
        yield it


async def test_a_socket_that_was_passed_is_served_in_place_of_host_and_port(
    serve: Serve, run: Run, listening: socket.socket
) -> None:
    served = await serve("--port=1", **passing(listening.fileno()))
    assert served.started["port"] == listening.getsockname()[1]
    assert (await run("streams", "list", f"--url={served.url}")).status == 0
    served.process.terminate()
    assert await served.process.wait() == 0


async def test_who_connects_while_the_service_restarts_waits_for_the_next_one(
    serve: Serve, run: Run, listening: socket.socket
) -> None:
    first = await serve(**passing(listening.fileno()))
    first.process.terminate()
    assert await first.process.wait() == 0
    waiting = asyncio.ensure_future(run("streams", "list", f"--url={first.url}"))
    await serve(**passing(listening.fileno()))
    assert (await waiting).status == 0


async def test_a_passed_descriptor_that_is_no_socket_is_one_line_and_status_2(run_process: Run) -> None:
    with open(os.devnull, "rb") as file:  # noqa: ASYNC230, PTH123
        done = await run_process("serve", **passing(file.fileno()))
    assert (done.status, len(done.errors.splitlines())) == (2, 1)
    assert "descriptor 3" in done.errors


async def test_a_passed_socket_that_is_a_connection_is_one_line_and_status_2(
    run_process: Run, listening: socket.socket
) -> None:
    with socket.create_connection(listening.getsockname()) as connected:
        done = await run_process("serve", **passing(connected.fileno()))
    assert (done.status, len(done.errors.splitlines())) == (2, 1)
    assert "descriptor 3 is a connection" in done.errors


def a_connection_that_was_reset(listening: socket.socket) -> socket.socket:
    with socket.create_connection(listening.getsockname()) as peer:
        accepted, _ = listening.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with pytest.raises(ConnectionResetError):
        accepted.recv(1)
    return accepted


def a_socket_that_is_only_bound(_listening: socket.socket) -> socket.socket:
    it = socket.socket()
    it.bind(("127.0.0.1", 0))
    return it


def a_socket_of_datagrams(_listening: socket.socket) -> socket.socket:
    it = socket.socket(type=socket.SOCK_DGRAM)
    it.bind(("127.0.0.1", 0))
    return it


def a_socket_of_a_path(_listening: socket.socket) -> socket.socket:
    return socket.socket(socket.AF_UNIX)


MakeSocket = Callable[[socket.socket], socket.socket]


@pytest.mark.parametrize(
    "make", [a_connection_that_was_reset, a_socket_that_is_only_bound, a_socket_of_datagrams, a_socket_of_a_path]
)
async def test_a_passed_socket_that_does_not_listen_is_one_line_and_status_2(
    run_process: Run, listening: socket.socket, make: MakeSocket
) -> None:
    with make(listening) as passed:
        done = await run_process("serve", **passing(passed.fileno()))
    assert (done.status, len(done.errors.splitlines())) == (2, 1)
    assert "descriptor 3 is not a listening socket" in done.errors


async def test_a_passed_socket_of_a_path_is_one_line_and_status_2(run_process: Run, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as it:
        it.bind(str(tmp_path / "socket"))
        it.listen()
        done = await run_process("serve", **passing(it.fileno()))
    assert (done.status, len(done.errors.splitlines())) == (2, 1)
    assert "not one of TCP" in done.errors


async def test_a_passed_descriptor_that_is_closed_is_one_line_and_status_2(
    run_process: Run, listening: socket.socket
) -> None:
    arguments = passing(listening.fileno())
    arguments["wrapper"] = (
        *arguments["wrapper"][:2],
        AS_SYSTEMD.replace('S": "1"', 'S": "2"'),
        str(listening.fileno()),
    )
    done = await run_process("serve", **arguments)
    assert (done.status, len(done.errors.splitlines())) == (2, 1)
    assert "LISTEN_FDS: descriptor 4" in done.errors


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="systemd is not here")
async def test_systemd_s_own_tool_starts_it_with_the_first_connection(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    activate = await asyncio.create_subprocess_exec(
        *("systemd-socket-activate", "--listen", f"127.0.0.1:{port}", *COMMAND, "serve"),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert activate.stderr is not None
        assert b"Listening" in await activate.stderr.readline()
        assert (await run("streams", "list", f"--url=ws://127.0.0.1:{port}")).status == 0
    finally:
        activate.terminate()
        await activate.communicate()
    assert activate.returncode == 0


async def test_a_service_manager_hears_of_readiness_reload_and_the_end(
    serve: Serve, manager: Manager, tmp_path: Path
) -> None:
    served = await serve(env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    assert "READY=1" in await manager.heard()
    served.process.send_signal(signal.SIGHUP)
    reloading = await manager.heard()
    assert reloading[0] == "RELOADING=1"
    assert re.fullmatch(r"MONOTONIC_USEC=\d+", reloading[1])
    assert await manager.heard() == ["READY=1"]
    served.process.terminate()
    assert "STOPPING=1" in await manager.heard()
    assert await served.process.wait() == 0


async def test_the_watchdog_hears_as_long_as_the_loop_turns(serve: Serve, manager: Manager, tmp_path: Path) -> None:
    served = await serve(env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"})
    for _ in range(4):
        while await manager.hear() != ["WATCHDOG=1"]:
            pass
    served.process.kill()


async def test_a_manager_that_is_gone_stops_nothing(serve: Serve, tmp_path: Path) -> None:
    served = await serve(env={"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    served.process.terminate()
    assert await served.process.wait() == 0


async def test_sighup_without_files_to_read_again_ends_nothing(serve: Serve, run: Run) -> None:
    served = await serve()
    served.process.send_signal(signal.SIGHUP)
    await wait_logged(served.process, "gateway.reloaded")
    assert (await run("streams", "list", f"--url={served.url}")).status == 0


async def test_a_terminal_that_hangs_up_ends_the_gateway(start: Start) -> None:
    keyboard, side = os.openpty()
    process = await start("serve", "--port=0", stdin=side)
    await wait_logged(process, "gateway.started")
    os.close(side)
    os.close(keyboard)
    process.send_signal(signal.SIGHUP)
    assert await process.wait() == 0


def test_what_was_passed_to_another_process_is_not_ours() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", "HOME": "/"}
    assert take_sockets(environment) == []
    assert environment == {"HOME": "/"}


@pytest.mark.parametrize("count", ["", "x", "-1"])
def test_a_number_of_descriptors_that_is_none_is_refused(count: str) -> None:
    with pytest.raises(ConfigError, match="LISTEN_FDS: expected a number of descriptors"):
        take_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count})


def test_without_a_manager_nobody_is_told() -> None:
    notifier = Notifier({"WATCHDOG_USEC": "1000"})
    notifier.tell("READY=1")
    notifier.keep_watchdog()  # which would need a loop


async def test_an_abstract_address_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as it:
        it.bind(f"\0deltawire-test-{os.getpid()}")
        Notifier({"NOTIFY_SOCKET": f"@deltawire-test-{os.getpid()}"}).tell("READY=1", "STATUS=x")
        assert it.recv(100) == b"READY=1\nSTATUS=x"
