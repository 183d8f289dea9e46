"""How many sent bytes a peer has received, as its own kernel acknowledged them.

The transport alone can't tell. Below it are the kernel's buffer, which reports room only when a third of it is free,
and with TLS a second transport. Until then a reader that takes a little at a time looks dead to the transport.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final, NamedTuple

_TCP_INFO: Final = getattr(socket, "TCP_INFO", None) if hasattr(socket, "SO_PEERCRED") else None  # Linux's
_SIZE: Final = 148
_UNACKED, _BYTES_ACKED, _NOT_SENT = 24, 120, 144  # offsets in struct tcp_info (linux/tcp.h), Linux 4.6 and later


class Progress(NamedTuple):
    """How far a peer has got.

    Attributes:
        taken: grows with every byte the peer takes; only the difference to an earlier value of the same connection
            means something.
        is_behind: whether there are bytes it has yet to take.
    """

    taken: int
    is_behind: bool


def look(transport: asyncio.Transport) -> Progress:
    """Return how far the peer of a transport has got; if the system doesn't tell, as far as the transport sees."""
    unsent = transport.get_write_buffer_size()
    info = _tcp_info(transport)
    if info is None:
        return Progress(-unsent, unsent > 0)
    (unacked,) = struct.unpack_from("I", info, _UNACKED)
    (taken,) = struct.unpack_from("Q", info, _BYTES_ACKED)
    (not_sent,) = struct.unpack_from("I", info, _NOT_SENT)
    return Progress(taken, bool(unsent or unacked or not_sent))


def _tcp_info(transport: asyncio.Transport) -> bytes | None:
    sock = transport.get_extra_info("socket")
    if _TCP_INFO is None or sock is None:
        return None
    try:
        info: bytes = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _SIZE)
    except (OSError, ValueError):  # closed meanwhile, or no TCP socket
        return None
    return info if len(info) == _SIZE else None
