"""Forks the programs of a test run: `python -m tests.support.fork_server SOCKET`.

    request: program, environment, descriptors ──► fork ──► "began PID" ──► … ──► "ended STATUS"

Loading what a `deltawire` command uses takes ten times as long as what most tests have it do, so it is loaded here,
once. A program is a process of its own all the same, with all that `python -m PROGRAM` gives it: standard streams,
signals, environment, folder, arguments, and an interpreter that runs its `__main__` and ends with it. Only the seed of
`hash` is the same in all of them: that two programs must not depend on it is not tested with programs from here.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pkgutil import walk_packages
from typing import Final, NamedTuple

MAX_REQUEST: Final = 256 * 1024
"""Bytes of a request."""

STREAMS: Final = ("stdin", "stdout", "stderr")
"""Their descriptors come with a request; then that of a pipe in which the pid and the exit status are told.

The program itself tells the pid, once signals do there what they do in a new interpreter, and its session is its own.
"""

BEGAN: Final = "began"
ENDED: Final = "ended"


class Program(NamedTuple):
    """What is to be run.

    Attributes:
        module: as after `python -m`.
        arguments: of it.
        environment: all of it.
        folder: where it runs.
        is_leader: whether it has a session of its own.
    """

    module: str
    arguments: Sequence[str]
    environment: dict[str, str]
    folder: str
    is_leader: bool


def load() -> None:
    """Import what commands use."""
    gateway = import_module("deltawire.gateway")
    for found in walk_packages(gateway.__path__, "deltawire.gateway."):
        if ".integrations" not in found.name:  # these are of packages that may be absent
            import_module(found.name)
    gc.collect()
    gc.freeze()  # programs share this memory as long as none of them writes to it


def end_soon() -> None:
    """Have the interpreter end without taking apart what is loaded: that takes longer than most programs run.

    Modules that the program loads itself are taken apart as ever.
    """
    loaded = {name: it for name, it in sys.modules.items() if name not in {"__main__", "builtins", "sys"}}
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(loaded))  # so that nothing in it ever goes

    def forget() -> None:
        for name in loaded:
            sys.modules.pop(name, None)

    atexit.register(forget)  # before the program's own functions, and so called after them


class Forking:
    """Forks until the other side of a socket is closed.

    Args:
        requests: where programs are asked for.
    """

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._woken, self._wakes = socket.socketpair()
        self._running: dict[int, int] = {}  # by pid, the pipe of whoever asked for it
        self._began: tuple[bytes, list[int]] | None = None  # in a process that was forked: what for

    def run(self) -> Program | None:
        """Return None at the end; in a process that was forked, what to run."""
        assert threading.active_count() == 1, "a process that is forked has one thread alone"
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the tests
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for it in (self._woken, self._wakes):
            it.setblocking(False)
        signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._requests, selectors.EVENT_READ, self._fork)
            selector.register(self._woken, selectors.EVENT_READ, self._reap)
            while all(key.data() for key, _ in selector.select()):
                pass
        return None if self._began is None else self._become(*self._began)

    def _fork(self) -> bool:
        """Fork for the next request; whether to go on."""
        request, descriptors, _, _ = socket.recv_fds(self._requests, MAX_REQUEST, len(STREAMS) + 1)
        if not request:
            return False
        pid = os.fork()
        if not pid:
            self._began = request, descriptors
            return False
        *streams, pipe = descriptors
        for descriptor in streams:
            os.close(descriptor)
        self._running[pid] = pipe
        return True

    def _reap(self) -> bool:
        """Tell how programs have ended; whether to go on."""
        self._woken.recv(4096)
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            pipe = self._running.pop(pid)
            _tell(pipe, ENDED, os.waitstatus_to_exitcode(status))
            os.close(pipe)
        return True

    def _become(self, request: bytes, descriptors: list[int]) -> Program:
        """Make this process what a new interpreter would be that is to run a program."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for it in (self._requests, self._woken, self._wakes):
            it.close()
        *streams, pipe = descriptors
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        for descriptor in (*streams, *self._running.values()):
            os.close(descriptor)
        program = Program(**json.loads(request))
        if program.is_leader:
            os.setsid()
        os.chdir(program.folder)
        sys.path[0] = program.folder
        os.environ.clear()
        os.environ.update(program.environment)
        time.tzset()
        for number, name in enumerate(STREAMS):
            before = getattr(sys, f"__{name}__")
            stream = open(  # noqa: SIM115 - for as long as the process lasts
                number, "w" if number else "r", encoding=before.encoding, errors=before.errors, closefd=False
            )
            stream.reconfigure(line_buffering=name == "stderr" or os.isatty(number))
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        _tell(pipe, BEGAN, os.getpid())
        os.close(pipe)
        return program


def _tell(pipe: int, what: str, number: int) -> None:
    with suppress(BrokenPipeError):  # who asked has gone
        os.write(pipe, f"{what} {number}\n".encode())


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as requests_:
        load()
        program_ = Forking(requests_).run()
    if program_ is not None:
        end_soon()
        sys.argv[1:] = program_.arguments
        runpy.run_module(program_.module, run_name="__main__", alter_sys=True)
