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
from tests.support.fork_server import BEGAN, ENDED, Program
from tests.support.processes import ROOT, clean_environment

LOST: Final = "the process that forks has ended"

KILLED: Final = 255
"""Exit status of a program that was killed because the process that forked it has ended: nobody else learns its own."""

CAN_FORK: Final = sys.platform == "linux"
"""Elsewhere, libraries of the system may have threads that a fork leaves behind."""

READ_EARLY: Final = ("PYTHON", "LANG", "LC_", "LD_")
"""How the names of variables begin that an interpreter reads as it begins: a program that is forked is past that."""


class _Server:
    """The process that forks. It ends with this one, which holds the other side of its socket."""

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = (sys.executable, "-m", "tests.support.fork_server", str(theirs.fileno()))
            self._process = subprocess.Popen(command, cwd=ROOT, env=clean_environment(), pass_fds=[theirs.fileno()])
        atexit.register(self._end)

    def _end(self) -> None:
        self._requests.close()
        self._process.wait()

    def fork(self, program: Program, descriptors: Sequence[int]) -> None:
        """Ask for a program.

        Args:
            program: to be run.
            descriptors: of its standard streams, and of a pipe in which its beginning and its end are told.

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
        told, self.pid = self._read()
        if told != BEGAN:
            for it in (self.told, *filter(None, pipes)):
                it.close()
            raise AssertionError(f"the program could not begin: its standard error says why ({told})")

    def _read(self) -> tuple[str, int]:
        """What is told, and its number."""
        told, _, number = self.told.readline().decode().partition(" ")
        return (told, int(number)) if told else (LOST, KILLED)

    def end(self) -> int:
        """Return the exit status, which has come; `KILLED` if none can come any more."""
        with self.told:
            told, status = self._read()
        if told != ENDED:
            self.kill()
            _server.cache_clear()
        self.returncode = status
        return status

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


def can_fork(environment: Mapping[str, str]) -> bool:
    """Whether a program that is forked is what a new interpreter with an environment would be."""
    return CAN_FORK and _read_early(environment) == _read_early(clean_environment())


def _read_early(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(READ_EARLY)}


async def start_module(module: str, *arguments: str, env: Mapping[str, str], **options: Any) -> Process:
    """Start `python -m MODULE` in the project's folder, forked if it can be.

    Options are as for `asyncio.create_subprocess_exec`.
    """
    options = {"cwd": ROOT, **options}
    if can_fork(env):
        return await fork_module(module, *arguments, env=env, **options)
    return await asyncio.create_subprocess_exec(sys.executable, "-m", module, *arguments, env=env, **options)


async def fork_module(
    module: str,
    *arguments: str,
    cwd: Path,
    env: Mapping[str, str],
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    start_new_session: bool = False,
    limit: int = 2**16,
) -> Process:
    """Fork `python -m MODULE`."""
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
