"""Starting programs of this project without loading them each time: `fork_server` has them loaded."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from asyncio.base_subprocess import BaseSubprocessTransport
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process, SubprocessStreamProtocol
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, Final

from scripts.proof.children import Children
from tests.support.fork_server import Program

ROOT: Final = Path(__file__).parent.parent.parent

LOST: Final = 255
"""Exit status of a program that was killed because the process that forked it has ended: nobody else learns its own."""

CAN_FORK: Final = sys.platform == "linux"
"""Elsewhere, libraries of the system may have threads that a fork leaves behind."""


class _Server:
    """The process that forks. It ends with this one, which holds the other side of its socket."""

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = (sys.executable, "-m", "tests.support.fork_server", str(theirs.fileno()))
            self._process = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()])
        atexit.register(self._end)

    def _end(self) -> None:
        self._requests.close()
        self._process.wait()

    def fork(self, program: Program, descriptors: Sequence[int]) -> None:
        """Ask for a program.

        Args:
            program: to be run.
            descriptors: of its standard streams, and of a pipe in which its pid and its exit status are told.

        Raises:
            OSError: the server has ended.
        """
        socket.send_fds(self._requests, [json.dumps(program._asdict()).encode()], list(descriptors))


@cache
def _server() -> _Server:
    return _Server()


class _Forked:
    """A program that was forked, with what asyncio uses of a `subprocess.Popen`.

    Args:
        program: to be run.
        streams: what its standard streams are to be, as `subprocess.Popen` takes them.
    """

    def __init__(self, program: Program, streams: Sequence[Any]) -> None:
        self.returncode: int | None = None
        pipes: list[IO[bytes] | None] = [None, None, None]
        descriptors: list[int] = []
        with ExitStack() as theirs:
            for number, stream in enumerate(streams):
                if stream is None:
                    descriptors.append(number)
                elif stream == PIPE:
                    reads, writes = os.pipe()
                    ours, its = (reads, writes) if number else (writes, reads)
                    pipes[number] = os.fdopen(ours, "rb" if number else "wb", 0)
                    theirs.callback(os.close, its)
                    descriptors.append(its)
                elif stream == DEVNULL:
                    descriptors.append(theirs.enter_context(Path(os.devnull).open("r+b")).fileno())
                elif stream == STDOUT:
                    descriptors.append(descriptors[1])
                else:
                    descriptors.append(stream if isinstance(stream, int) else stream.fileno())
            reads, writes = os.pipe()
            theirs.callback(os.close, writes)
            self.told = os.fdopen(reads, "rb", 0)
            _server().fork(program, (*descriptors, writes))
        self.stdin, self.stdout, self.stderr = pipes
        line = self.told.readline()
        assert line, "the process that forks programs for tests has ended"
        self.pid = int(line)

    def end(self) -> int:
        """Return the exit status, which has come; `LOST` if none can come any more."""
        with self.told:
            line = self.told.readline()
        if not line:
            self.kill()
            _server.cache_clear()
        self.returncode = int(line) if line else LOST
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit status; None while it runs, as far as is known."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class _Transport(BaseSubprocessTransport):
    """Of a program that was forked."""

    def _start(self, *_: Any, stdin: Any, stdout: Any, stderr: Any, program: Program, **__: Any) -> None:  # type: ignore[override]
        loop, forked = self._loop, _Forked(program, (stdin, stdout, stderr))
        self._proc = forked  # type: ignore[assignment]  # it has what is used of a Popen

        def ended() -> None:
            loop.remove_reader(forked.told)
            self._process_exited(forked.end())

        loop.add_reader(forked.told, ended)


async def start_module(
    module: str,
    *arguments: str,
    cwd: Path = ROOT,
    env: Mapping[str, str],
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    start_new_session: bool = False,
    limit: int = 2**16,
) -> Process:
    """Start `python -m MODULE`; takes what `asyncio.create_subprocess_exec` takes."""
    if not CAN_FORK:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            cwd=cwd,
            env=env,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=start_new_session,
            limit=limit,
        )
    loop = asyncio.get_running_loop()
    program = Program(module, arguments, dict(env), str(cwd), start_new_session)
    protocol = SubprocessStreamProtocol(limit, loop)
    connected: asyncio.Future[None] = loop.create_future()
    transport = _Transport(loop, protocol, (module,), False, stdin, stdout, stderr, 0, connected, program=program)
    await connected
    return Process(transport, protocol, loop)


class ForkedChildren(Children):
    """Children that are forked."""

    async def spawn(self, option: str, module: str, *arguments: str, **options: Any) -> Process:  # type: ignore[override]
        """Start `python -m MODULE`."""
        assert option == "-m"
        return await start_module(module, *arguments, **options)
