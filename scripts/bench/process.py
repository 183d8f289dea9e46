"""A server's process: on a core of its own, watched from outside, gone in the end."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

SERVER_CORE = 0
"""The core of the system measured; the load generator has `LOAD_CORE`."""

LOAD_CORE = 1

START_TIMEOUT = 15.0
STOP_TIMEOUT = 3.0

_PR_SET_PDEATHSIG = 1  # prctl(2)

_PAGE = os.sysconf("SC_PAGE_SIZE")


class ServerError(Exception):
    """A server did not start."""


class Server:
    """A server that runs.

    Attributes:
        pid: of its first process.
        port: where it listens.
    """

    def __init__(self, pid: int, port: int) -> None:
        self.pid = pid
        self.port = port

    def pids(self) -> list[int]:
        """Its processes; children are those of nginx."""
        known = [self.pid]
        for pid in known:
            with suppress(OSError):
                known.extend(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
        return known

    def cpu(self) -> int:
        """User and system time so far of all its threads, in nanoseconds."""
        return self._sum_schedstat(0)

    def kept_waiting(self) -> int:
        """Nanoseconds so far that threads of it were ready to run and something else had the core."""
        return self._sum_schedstat(1)

    def _sum_schedstat(self, field: int) -> int:
        total = 0
        for pid in self.pids():
            for task in Path(f"/proc/{pid}/task").iterdir():
                with suppress(OSError):  # a thread may end meanwhile
                    total += int((task / "schedstat").read_text().split()[field])
        return total

    def memory(self) -> int:
        """Resident bytes."""
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE for pid in self.pids())


class Spent(NamedTuple):
    """Nanoseconds of processor time.

    Attributes:
        server: of the system measured.
        load: of the load generator.
        waiting: that either of them was ready to run and something else had its core. A server of several threads
            waits for itself, too.
    """

    server: int
    load: int
    waiting: int

    @classmethod
    def until_now(cls, server: Server) -> Spent:
        """Since the processes began."""
        mine = Path("/proc/self/schedstat").read_text().split()
        return cls(server.cpu(), int(mine[0]), int(mine[1]) + server.kept_waiting())

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.server - other.server, self.load - other.load, self.waiting - other.waiting)


def free_port() -> int:
    """A port of 127.0.0.1 nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def starting(  # noqa: PLR0913 - what a process is started with
    command: Sequence[str],
    environment: Mapping[str, str],
    port: int,
    log: Path,
    cwd: Path | None = None,
    *,
    core: int = SERVER_CORE,
) -> Iterator[Callable[[], Server]]:
    """Run a server on a core until the block ends; what is returned waits until it listens.

    Args:
        command: what to start.
        environment: in addition to this process's.
        port: where it will listen.
        log: file for what it says.
        cwd: its working directory.
        core: which one.
    """
    with log.open("wb") as output, ended(_start(command, environment, output.fileno(), cwd, core)) as process:
        yield lambda: _wait_until_it_listens(process, port, log)


@contextmanager
def serving(*arguments: Any, **options: Any) -> Iterator[Server]:
    """Run a server, as `starting` does, that listens.

    Raises:
        ServerError: it ended, or does not listen.
    """
    with starting(*arguments, **options) as wait:
        yield wait()


def _start(
    command: Sequence[str], environment: Mapping[str, str], output: int, cwd: Path | None, core: int
) -> subprocess.Popen[bytes]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DELTAWIRE_")}
    return subprocess.Popen(
        command,
        env=inherited | dict(environment),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,  # Ctrl-C is for the load generator, which then ends the server
        preexec_fn=partial(_settle, core),  # noqa: PLW1509 - there are no threads
    )


def _settle(core: int) -> None:
    """In the server's process: take its core, and end with the load generator, however that ends."""
    os.sched_setaffinity(0, {core})
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """End a process and its children when the block ends."""
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> Server:
    """The server.

    Raises:
        ServerError: it ended, or does not listen.
    """
    until = time.monotonic() + START_TIMEOUT
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return Server(process.pid, port)
        time.sleep(0.02)
    raise ServerError(f"{process.args!r} does not listen: {log.read_text(errors='replace')[-500:]}")
