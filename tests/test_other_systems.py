"""What Linux has and macOS lacks, taken away: each is done without, and loses nothing that is promised."""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import os
import resource
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from deltawire.gateway import logs
from deltawire.gateway.cli import loop
from deltawire.gateway.config import Settings
from deltawire.gateway.engines.redis import identity
from deltawire.gateway.engines.redis.identity import is_certainly_gone, own_identity
from deltawire.gateway.files import readable_again
from deltawire.gateway.server import allocator
from deltawire.gateway.server.accepting import descriptors
from deltawire.gateway.server.accepting.routing import MAX_HEAD, Handed, Remote
from deltawire.gateway.server.connection import progress
from deltawire.gateway.workers import links
from deltawire.gateway.workers.division import count_workers
from tests.support.commands import serve, start
from tests.support.processes import Serve

__all__ = ["serve", "start"]  # fixtures


def test_a_gateway_is_not_taken_for_gone_where_processes_are_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_BOOT", tmp_path / "absent")
    own = own_identity("ws://gateway", "key")
    assert own.place == ""
    assert not is_certainly_gone(own)


def test_free_memory_is_kept_where_the_c_library_can_not_return_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert allocator._find_trim() is None
    monkeypatch.setattr(allocator, "_TRIM", None)
    monkeypatch.setattr(allocator, "_STATM", tmp_path / "absent")
    allocator.return_free_memory()
    assert allocator.resident_bytes() == 0


async def test_a_reader_is_judged_by_what_the_transport_sees_where_the_kernel_does_not_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "_TCP_INFO", None)
    ours, theirs = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    with theirs:
        assert progress.look(transport) == (0, False)
        transport.write(b"x" * 10_000_000)
        before = progress.look(transport)
        assert before.is_behind
        theirs.setblocking(False)
        while progress.look(transport).taken == before.taken:
            await asyncio.get_running_loop().sock_recv(theirs, 1_000_000)
        transport.abort()


def test_a_worker_for_each_core_is_one_for_each_that_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert count_workers(Settings(workers=0)) == os.cpu_count()


def test_the_largest_message_between_workers_fits_in_a_datagram(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "KIND", socket.SOCK_DGRAM)
    inbox = links.Inbox.make()
    handed = Handed(Remote("192.0.2.1", 1), 1.5, b"x" * MAX_HEAD)
    with inbox.reader, inbox.writer, socket.socket() as sock:
        for end in inbox:
            for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                assert end.getsockopt(socket.SOL_SOCKET, buffer) >= 8 * links.MAX_MESSAGE
        link = links.Links(0, [inbox])
        link.send(0, sock.fileno(), handed)
        taken: list[Handed] = []

        def take(sock: socket.socket, handed: Handed) -> None:
            sock.close()
            taken.append(handed)

        link._receive(take)
        assert taken == [handed]


def test_a_pipe_with_a_key_is_copied_without_a_file_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(os, "memfd_create")
    os.mkfifo(pipe := tmp_path / "pipe")
    writer = Thread(target=pipe.write_bytes, args=(b"secret",))
    writer.start()
    with readable_again(pipe) as name:
        assert Path(name).read_bytes() == b"secret"
    writer.join()


def test_descriptors_are_raised_to_what_macos_grants_where_it_says_there_is_no_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    granted: list[tuple[int, int]] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: granted.append(limits))
    assert descriptors.raise_limit() == 10_240
    assert granted == [(10_240, resource.RLIM_INFINITY)]


def test_a_log_goes_to_a_pipe_as_it_is_where_proc_does_not_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    really_open = os.open

    def open_(name: str, *arguments: int) -> int:
        if name.startswith("/proc"):
            raise FileNotFoundError(name)
        return really_open(name, *arguments)

    monkeypatch.setattr(os, "open", open_)
    reader, writer = os.pipe()
    assert logs._never_blocking(writer) == writer
    for end in (reader, writer):
        os.close(end)


@contextmanager
def without_uvloop(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A block in which uvloop can't be imported."""
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "uvloop", None)
        importlib.reload(loop)
        yield
    importlib.reload(loop)


def test_commands_that_serve_do_so_on_asyncio_s_loop_where_uvloop_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with without_uvloop(monkeypatch):
        assert loop.new_event_loop is asyncio.new_event_loop
    assert loop.new_event_loop is not asyncio.new_event_loop


PROXIES_OF_MACOS = """
import os, signal, urllib.request

def ask_system(*_):
    if os.getpid() != started:
        os.kill(os.getpid(), signal.SIGKILL)
    return {}

started = os.getpid()
urllib.request.getproxies = lambda: urllib.request.getproxies_environment() or ask_system()
urllib.request.proxy_bypass = lambda host: urllib.request.getproxies_environment() or ask_system(host)
"""
"""Where the environment names no proxy, Python asks macOS, whose libraries crash in a process that was forked."""


async def test_workers_get_keys_where_the_system_can_not_be_asked_for_proxies(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(PROXIES_OF_MACOS)
    path = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
    none = {f"{name}_proxy": "" for name in ("http", "https", "all", "no")}
    url = "--auth-jwks-url=https://127.0.0.1:9/keys"
    served = await serve("--port=0", "--workers=2", url, env={"PYTHONPATH": path, **none})
    assert served.started["workers"] == 2
