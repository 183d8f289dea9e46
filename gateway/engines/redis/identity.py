"""Who a gateway is to the others on a server, and whether one of them is certainly gone.

A session tells that for every gateway, after its TTL. Of processes on the same machine it is known at once, so that a
gateway that was killed and started again need not wait.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Identity(msgspec.Struct, frozen=True):
    """A gateway.

    Attributes:
        url: where its clients reach it; empty if it does not say.
        place: the machine since it started, and the namespace of its processes; empty if they can't be told.
        pid: of its process.
        started: when the process started, in ticks since the machine did.
        key: shown by others that relay to it; who can read it here may read and write every stream anyway.
    """

    url: str = ""
    place: str = ""
    pid: int = 0
    started: int = 0
    key: str = ""


def own_identity(url: str, key: str) -> Identity:
    """This process."""
    pid = os.getpid()
    return Identity(url, _place(), pid, _started(pid) or 0, key)


def is_certainly_gone(other: Identity) -> bool:
    """Whether a gateway's process has ended, as far as it can be seen from here."""
    if not other.place or other.place != _place() or not other.started:
        return False
    started = _started(other.pid)
    return not _is_hidden(other.pid) if started is None else started != other.started


def _place() -> str:
    try:
        return f"{_BOOT.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - no path
    except OSError:
        return ""


def _is_hidden(pid: int) -> bool:
    """Whether there may be a process of another user that /proc does not show (`hidepid`, `ProtectProc=`)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        pass
    return False


def _started(pid: int) -> int | None:
    """Ticks at which a process started; None if none is seen, or it has ended and is only not waited for."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()  # its name, before that, may hold anything
    return None if state in "ZX" else int(rest[18])


encode_identity = msgspec.json.encode
decode_identity = msgspec.json.Decoder(Identity).decode
