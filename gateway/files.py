"""Files that a person names, read whole but never without end."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

MAX_FILE: Final = 1024 * 1024
"""Bytes of a file of settings, keys, certificates or a token: the authorities of a whole system are a quarter of it."""


def read_file(path: Path) -> bytes:
    """All of a file.

    Raises:
        OSError: it can't be read, or has over `MAX_FILE` bytes, as /dev/zero has.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except ValueError:  # a NUL in its name
        raise OSError(errno.EINVAL, "not the name of a file") from None
    if len(content) > MAX_FILE:
        raise OSError(errno.EFBIG, f"over {MAX_FILE} bytes, which is not read: is this the right file?")
    return content
