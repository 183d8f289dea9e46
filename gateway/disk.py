"""Having the disk store what was written.

Linux has `fsync`, and `fdatasync`, which leaves out times. macOS has no `fdatasync`, and its `fsync` is over when the
disk has the data in a cache, which a loss of power empties; `F_FULLFSYNC` waits for the disk itself. SQLite uses it
where `PRAGMA fullfsync` says so.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Final

_UNKNOWN: Final = (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY)
"""What a file system answers that does not know `F_FULLFSYNC`, such as one on another machine."""


def sync(descriptor: int) -> None:
    """Have the disk store a file, or the names in a folder; blocks.

    Raises:
        OSError: it can't.
    """
    if not _sync_fully(descriptor):
        os.fsync(descriptor)


def sync_data(descriptor: int) -> None:
    """Have the disk store the content of a file; blocks.

    Raises:
        OSError: it can't.
    """
    if not _sync_fully(descriptor):
        getattr(os, "fdatasync", os.fsync)(descriptor)


def _sync_fully(descriptor: int) -> bool:
    """Whether the system has a call beyond `fsync`, which then was made."""
    full: int | None = getattr(fcntl, "F_FULLFSYNC", None)
    if full is None:
        return False
    try:
        fcntl.fcntl(descriptor, full)
    except OSError as error:
        if error.errno in _UNKNOWN:
            return False
        raise
    return True
