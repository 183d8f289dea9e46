"""What a store may suffer from while its gateway runs."""

from __future__ import annotations

import resource
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Final, NamedTuple

from deltawire.gateway.engines.folder import FILE
from scripts.proof.children import Served

DISK: Final = 64 * 1024 * 1024
"""Bytes of a disk that becomes full."""

PIECE: Final = 64 * 1024
"""Bytes by which it is filled."""

PAGE: Final = 4096
"""Bytes of a database's page."""


class NotHereError(Exception):
    """A fault can't be brought about on this machine; the message says why."""


class Ailment(NamedTuple):
    """One of them.

    Attributes:
        name: in a row.
        reason: words of what is told of it.
        cause: brings it about for a gateway and its folder, until the end of the block.
        is_curable: whether it is over then; else when the gateway is started again.
        prepare: makes the folder what it has to be, for the time of the block; raises `NotHereError` where it can't.
    """

    name: str
    reason: str
    cause: Callable[[Served, Path], AbstractContextManager[object]]
    is_curable: bool = True
    prepare: Callable[[Path], AbstractContextManager[object]] = nullcontext


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    """Mount a small file system."""
    options = ["-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    try:
        mounting = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)  # noqa: S607
    except OSError as error:
        raise NotHereError(f"mount: {error.strerror}") from None
    if mounting.returncode:
        raise NotHereError(mounting.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S607


@contextmanager
def _full(_: Served, folder: Path) -> Iterator[None]:
    """Fill the disk to the last byte."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(PIECE))
    yield
    ballast.unlink()


@contextmanager
def _no_writes(served: Served, _: Path) -> Iterator[None]:
    """Allow the gateway files of a page: writing behind it fails with EFBIG, which SQLite takes for a failing disk."""
    soft, hard = resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (PAGE, hard))
    yield
    resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def _locked(_: Served, folder: Path) -> Iterator[None]:
    """Hold the database's lock, as somebody does who looks into it."""
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")


@contextmanager
def _no_syncs(served: Served, _: Path) -> Iterator[None]:
    """Have fsync fail from now on."""
    served.process.send_signal(signal.SIGUSR1)
    yield


AILMENTS: Final = (
    Ailment("a disk that is full for a while", "disk is full", _full, prepare=_small_disk),
    Ailment("a disk that takes no writes for a while", "disk I/O error", _no_writes),
    Ailment("a store that another program locks for a while", "locked", _locked),
    Ailment("a disk that syncs nothing", "disk I/O error", _no_syncs, is_curable=False),
)
