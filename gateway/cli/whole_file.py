"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from deltawire.gateway import disk
from deltawire.gateway.cli.ending import Failure


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file beside the named one, which takes its name when the block has ended and it is on the disk.

    Only its owner can read it, as it has what people said. If the block fails it is removed, and what had the name
    before stays.

    Args:
        path: the name.

    Raises:
        Failure: the file can't be written, or what has the name is no file.
    """
    target = path.resolve()  # a link stays, and leads to the new file
    if target.exists() and not target.is_file():
        raise Failure(f"{path}: exists and is not a regular file")
    try:
        file = NamedTemporaryFile(prefix=".deltawire-", dir=target.parent, delete=False)  # noqa: SIM115 - below
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None
    with file:
        try:
            yield file
            file.flush()
            disk.sync(file.fileno())
            os.replace(file.name, target)  # noqa: PTH105 - two names
        except BaseException as error:
            with suppress(OSError):  # of what could not be written before either
                file.close()
            Path(file.name).unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename in (None, file.name):
                raise Failure(f"{path}: {error.strerror}") from None
            raise
    _sync(target.parent)


def _sync(folder: Path) -> None:
    """Have the disk store the names in a folder."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        disk.sync(fd)
    finally:
        os.close(fd)
