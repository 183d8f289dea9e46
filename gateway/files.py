"""Files that a person names, read whole but never without end."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from select import POLLIN, poll
from stat import S_ISREG
from tempfile import TemporaryFile
from time import monotonic
from typing import BinaryIO, Final

MAX_FILE: Final = 1024 * 1024
"""Bytes of a file of settings, keys, certificates or a token: the authorities of a whole system are a quarter of it."""

PATIENCE: Final = 2.0
"""Seconds to wait for what a pipe is to bring, such as that of a shell's `<(…)`. A FIFO that nobody writes to, in place
of a file of keys, must not hold up a gateway that reads it again."""


def read_file(path: Path) -> bytes:
    """All of a file, or of a pipe.

    Raises:
        OSError: it can't be read, has over `MAX_FILE` bytes, as /dev/zero has, or is a pipe that does not end in time.
    """
    with _opened(path) as fd:
        return _read_all(fd, PATIENCE)


def read_regular_file(path: Path) -> bytes:
    """As `read_file`, of what can be read again by somebody else: no pipe, and none is waited for.

    Raises:
        OSError: likewise; or it is no regular file.
    """
    with _opened(path) as fd:
        content = _read_all(fd, 0.0)
        if not S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file, and it is read more than once")
        return content


@contextmanager
def readable_again(path: Path) -> Iterator[str]:
    """The name of a file, for a library that opens it by itself and would wait for a pipe without end.

    In place of a pipe, such as that of a shell's `<(…)`, it is that of a file in memory with what came out of the pipe.

    Raises:
        OSError: as `read_file`.
    """
    with _opened(path) as fd:
        content = _read_all(fd, PATIENCE)
        is_regular = S_ISREG(os.fstat(fd).st_mode)
    if is_regular:
        yield str(path)
        return
    with _nameless_file() as copy:
        copy.write(content)
        copy.seek(0)
        yield f"/dev/fd/{copy.fileno()}"


def _nameless_file() -> BinaryIO:
    """A file that only this process can find: it may hold a private key."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("copy"), "w+b", buffering=0)
    return TemporaryFile(buffering=0)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:  # a NUL in its name
        raise OSError(errno.EINVAL, "not the name of a file") from None
    try:
        yield fd
    finally:
        os.close(fd)


def _read_all(fd: int, patience: float) -> bytes:
    content = bytearray()
    readable = poll()
    readable.register(fd, POLLIN)
    until = monotonic() + patience
    while len(content) <= MAX_FILE:
        if not readable.poll(max(0.0, until - monotonic()) * 1000):
            if content:
                raise OSError(errno.ETIMEDOUT, f"a pipe that did not end within {patience:g} s")
            waited = f"came from it for {patience:g} s" if patience else "comes from it"
            raise OSError(errno.ETIMEDOUT, f"nothing {waited}: is it a pipe nobody writes to?")
        with suppress(BlockingIOError):  # another one has read it
            if not (data := os.read(fd, MAX_FILE + 1 - len(content))):
                return bytes(content)
            content += data
    raise OSError(errno.EFBIG, f"over {MAX_FILE} bytes, which is not read: is this the right file?")
