"""A gateway, as `deltawire serve` starts it, whose store fails when a signal tells it to.

- SIGUSR1: the kernel answers every fsync with EIO from then on, as a disk that is going to pieces does.
- SIGUSR2: it is killed (SIGKILL) between the next commit and what would have been told of it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from deltawire.gateway.cli import main
from deltawire.gateway.engines.sqlite import SqliteEngine
from deltawire.gateway.streams.staging import Commit

SYSCALLS: Final = {"x86_64": (74, 75), "aarch64": (82, 83)}
"""The numbers of fsync and fdatasync, by processor."""

_PR_SET_NO_NEW_PRIVS, _SECCOMP = 38, {"x86_64": 317, "aarch64": 277}
_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC = 1, 1
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF: of a word at an offset, to a constant, of a constant
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000  # what a filter returns


def fail_syncs() -> None:
    """Have fsync and fdatasync fail in all threads, by a filter of system calls (seccomp), which can't be taken back.

    Raises:
        OSError: the kernel does not allow it.
    """
    machine = platform.machine()
    fsync, fdatasync = SYSCALLS[machine]
    rules = (
        (_LOAD, 0, 0, 0),  # the number of the call
        (_JUMP_IF_EQUAL, 1, 0, fsync),
        (_JUMP_IF_EQUAL, 0, 1, fdatasync),
        (_RETURN, 0, 0, _ERRNO | errno.EIO),
        (_RETURN, 0, 0, _ALLOW),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
    program = ctypes.create_string_buffer(struct.pack("HP", len(rules), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(
        _SECCOMP[machine], _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, program
    ):
        raise OSError(ctypes.get_errno(), "seccomp")


def die_when_committed() -> None:
    """Be killed when the next commit is in the store, and nobody was told of it."""
    commit = SqliteEngine.commit

    def commit_and_die(self: SqliteEngine, commits: Sequence[Commit], done: Callable[[], None]) -> None:
        commit(self, commits, partial(os.kill, os.getpid(), signal.SIGKILL) if commits else done)

    SqliteEngine.commit = commit_and_die  # type: ignore[method-assign]


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lambda *_: fail_syncs())
    signal.signal(signal.SIGUSR2, lambda *_: die_when_committed())
    sys.exit(main())
