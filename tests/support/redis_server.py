"""Redis servers of tests: each starts its own, on a free port, and ends it by its id."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from tests.support.ports import free_port
from tests.support.processes import ROOT

PROGRAMS = [name for name in ("redis-server", "valkey-server") if shutil.which(name)]
PROGRAM = next(iter(PROGRAMS), None)
DEADLINE = 30.0

SHIPPED = (ROOT / "scripts" / "deploy" / "redis.conf").read_text(encoding="utf-8").replace(">PASSWORD", ">s3cret")
[RIGHTS] = re.findall(r"^user deltawire (.*)$", SHIPPED, re.MULTILINE)
"""Of the user that is shipped, whose password is `s3cret`."""

needs_redis = pytest.mark.skipif(PROGRAM is None, reason="needs redis-server: apt install redis-server")
EACH: Sequence[Any] = PROGRAMS or [pytest.param("", marks=needs_redis)]
"""Parameters of a fixture: a test runs on each kind of server that is installed."""


class RedisServer:
    """A server that can be stopped and started again on its port and folder.

    Args:
        folder: for its files.
        program: that it runs; None for whichever there is.
        arguments: before the options: a configuration file, `--sentinel`.
        options: of its configuration, over those of a server that writes no files.
    """

    def __init__(
        self,
        folder: Path,
        program: str | None = None,
        arguments: tuple[str, ...] = (),
        options: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._folder = folder
        self._program = program or PROGRAM
        self._arguments = arguments
        self._options = {} if arguments else {"save": "", "appendonly": "no", "loglevel": "warning"}
        self._options |= options
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert self._program is not None
        self._folder.mkdir(exist_ok=True)
        options = [part for name, value in self._options.items() for part in (f"--{name}", value)]
        usual = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        command = [self._program, *self._arguments, *usual, *options]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        give_up = time.monotonic() + DEADLINE
        while b"LOADING" in (answer := self._ping()) or not answer:
            time.sleep(0.002)
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < give_up, "it does not start"
        who = self.command("INFO", "server")  # another one may have got the port first, and answered
        assert b"process_id:" not in who or b"process_id:%d\r\n" % self._process.pid in who, "its port is taken"

    def _ping(self) -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", self.port), DEADLINE) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(100)
        except OSError:
            return b""

    def command(self, *parts: str, user: str = "default", password: str = "") -> bytes:
        """Send a command, after a login if there is a password; returns the first bytes of its reply."""
        with socket.create_connection(("127.0.0.1", self.port), DEADLINE) as connection:
            reply = b""
            for command in filter(None, (("AUTH", user, password) if password else (), parts)):
                encoded = [part.encode() for part in command]
                request = b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(it), it) for it in encoded)
                connection.sendall(request)
                reply = connection.recv(65536)
            return reply

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
def redis_server(
    folder: Path,
    program: str | None = None,
    arguments: tuple[str, ...] = (),
    options: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[RedisServer]:
    """A server that runs until the block ends."""
    server = RedisServer(folder, program, arguments, options)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(params=EACH)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A server for a test."""
    with redis_server(tmp_path / "redis", request.param) as server:
        yield server
