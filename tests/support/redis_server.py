"""Redis servers of tests: each starts its own, on a free port, and ends it by its id."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")
DEADLINE = 30.0

needs_redis = pytest.mark.skipif(PROGRAM is None, reason="needs redis-server: apt install redis-server")


class RedisServer:
    """A server that can be stopped and started again on its port and folder.

    Args:
        folder: for its files.
        options: of its configuration.
    """

    def __init__(self, folder: Path, **options: str) -> None:
        self._folder = folder
        self._options = {"save": "", "appendonly": "no", "loglevel": "warning"} | options
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert PROGRAM is not None
        self._folder.mkdir(exist_ok=True)
        options = [part for name, value in self._options.items() for part in (f"--{name}", value)]
        command = [PROGRAM, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), *options]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        give_up = time.monotonic() + DEADLINE
        while b"LOADING" in (answer := self._ping()) or not answer:
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < give_up, "it does not start"

    def _ping(self) -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", self.port), DEADLINE) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(100)
        except OSError:
            return b""

    def command(self, *parts: str) -> bytes:
        """Send a command; returns the first bytes of its reply."""
        with socket.create_connection(("127.0.0.1", self.port), DEADLINE) as connection:
            encoded = [part.encode() for part in parts]
            request = b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(it), it) for it in encoded)
            connection.sendall(request)
            return connection.recv(65536)

    def signal(self, signum: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(signum)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kill it and start it again: what its files have is there."""
        self.kill()
        self.start()


@contextmanager
def redis_server(folder: Path, **options: str) -> Iterator[RedisServer]:
    """A server that runs until the block ends."""
    server = RedisServer(folder, **options)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of a test."""
    with redis_server(tmp_path / "redis") as server:
        yield server
