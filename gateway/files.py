"""Files that a person names, read whole but never without end."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from select import POLLIN, poll
from stat import S_ISREG
from time import monotonic
from typing import Final

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
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:  # a NUL in its name
        raise OSError(errno.EINVAL, "not the name of a file") from None
    try:
        return _read_all(fd)
    finally:
        os.close(fd)


def _read_all(fd: int) -> bytes:
    content = bytearray()
    readable = poll()
    readable.register(fd, POLLIN)
    until = monotonic() + PATIENCE
    while len(content) <= MAX_FILE:
        if not readable.poll(max(0.0, until - monotonic()) * 1000):
            raise OSError(errno.ETIMEDOUT, f"nothing came from it for {PATIENCE:g} s: is it a pipe nobody writes to?")
        with suppress(BlockingIOError):  # another one has read it
            if not (data := os.read(fd, MAX_FILE + 1 - len(content))):
                return bytes(content)
            content += data
    raise OSError(errno.EFBIG, f"over {MAX_FILE} bytes, which is not read: is this the right file?")


def read_regular_file(path: Path) -> bytes:
    """As `read_file`, of what can be read again by somebody else: no pipe.

    Raises:
        OSError: likewise; or it is no regular file.
    """
    content = read_file(path)
    if not S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file, and it is read more than once")
    return content
