"""Ports of 127.0.0.1 for programs that have to be told theirs."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

_FIRST = 20_000
_EACH = 1_000
"""Ports for each process of the tests, below those that kernels hand out: between the choice of a port and its use by a
program, no other test and no connection gets it."""


def _mine() -> Iterator[int]:
    first = _FIRST + _EACH * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 12)
    while True:
        yield from range(first, first + _EACH)


_ports = _mine()


def free_port() -> int:
    """Return a port that nothing listens on; another one each time."""
    for port in _ports:
        with socket.socket() as it:
            try:
                it.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("there is always a next one")
