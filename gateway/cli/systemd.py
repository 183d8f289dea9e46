"""The interface to a service manager: sd_listen_fds(3) and sd_notify(3).

Both protocols need only a few environment variables and one datagram; the Python packages for them need a C library or
come with a log handler that is not needed here. Without the variables, this module does nothing.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Final

from deltawire.gateway.config import ConfigError

FIRST_FD: Final = 3
"""SD_LISTEN_FDS_START: the number of the first passed descriptor."""


def take_sockets(environment: MutableMapping[str, str]) -> list[socket.socket]:
    """The listening sockets passed to this process; removes the variables, so that children don't use the sockets too.

    Args:
        environment: `LISTEN_PID`, `LISTEN_FDS`.

    Raises:
        ConfigError: `LISTEN_FDS` is not a number, or a passed descriptor is not a listening socket.
    """
    pid, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()):
        return []
    if not count.isdecimal():
        raise ConfigError(f"LISTEN_FDS: expected a number of descriptors, got {count!r}")
    return [_take_socket(fd) for fd in range(FIRST_FD, FIRST_FD + int(count))]


def _take_socket(fd: int) -> socket.socket:
    try:
        it = socket.socket(fileno=fd)
    except OSError as error:
        raise ConfigError(f"LISTEN_FDS: descriptor {fd} can't be listened on: {error.strerror}") from None
    it.set_inheritable(False)
    if _listens(it):
        return it
    what = "a connection, not a listening socket: see Accept=no" if _is_connected(it) else "not a listening socket"
    it.close()
    raise ConfigError(f"LISTEN_FDS: descriptor {fd} is {what}")


def _listens(it: socket.socket) -> bool:
    """Whether `listen` was called on a socket; if not, it may be a connection, perhaps a broken one."""
    try:
        return bool(it.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:  # the address family does not support the option
        return False


def _is_connected(it: socket.socket) -> bool:
    try:
        it.getpeername()
    except OSError:
        return False
    return True


class Notifier:
    """Reports the state of the service to its manager; a missing or busy manager is not an error.

    Args:
        environment: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.

    Attributes:
        watchdog: seconds within which it wants to hear from the service; 0 if it does not.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog = self._watchdog_seconds(environment) if self._address else 0.0
        self._timer: asyncio.TimerHandle | None = None

    @staticmethod
    def _watchdog_seconds(environment: MutableMapping[str, str]) -> float:
        microseconds = environment.get("WATCHDOG_USEC", "")
        is_ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        return int(microseconds) / 1e6 if is_ours and microseconds.isdecimal() else 0.0

    def tell(self, *assignments: str) -> None:
        """Send one message, such as `READY=1`."""
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as it:
            it.setblocking(False)
            it.sendto("\n".join(assignments).encode(), self._address)

    def keep_watchdog(self) -> None:
        """Report twice per watchdog interval that the event loop runs; call this on the loop."""
        if self.watchdog:
            self.tell("WATCHDOG=1")
            self._timer = asyncio.get_running_loop().call_later(self.watchdog / 2, self.keep_watchdog)

    def close(self) -> None:
        """Stop the watchdog reports."""
        if self._timer is not None:
            self._timer.cancel()
