"""A socket's way through the handshake of TLS (RFC 8446 §4).

The event loop would do it by itself, and show a socket only when it is over. Until then nobody could count it or drop
it, and thousands of sockets that never send a byte would be held by nothing but descriptors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from deltawire.gateway.config import Settings
from deltawire.gateway.server.accepting.tls import ServerTls

TLS_CLOSE_TIMEOUT: Final = 5.0
"""Seconds a peer has for the farewell of TLS; nothing of the stream is left to take then."""


class Unwrapping(asyncio.Protocol):
    """One socket's handshake.

    It begins at once: under uvloop a socket is read as soon as it was shown, and what came in between would be lost to
    TLS. So the coroutine that does it is stepped here, where a task would begin a turn later.

    Args:
        transport: the socket's.
        tls: the certificates of the moment.
        settings: how long it may take.
        done: called once it is over, with the transport of TLS and what came together with the end.
        failed: called if it never is; twice changes nothing.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        tls: ServerTls,
        settings: Settings,
        done: Callable[[asyncio.Transport, bytes], None],
        failed: Callable[[], None],
    ) -> None:
        self._socket = transport
        self._done = done
        self._failed = failed
        self._early = b""
        self._steps = asyncio.get_running_loop().start_tls(
            transport,
            self,
            tls.context,
            server_side=True,
            ssl_handshake_timeout=settings.handshake_timeout,
            ssl_shutdown_timeout=TLS_CLOSE_TIMEOUT,
        )
        self._go_on()

    def _go_on(self, _awaited: asyncio.Future[None] | None = None) -> None:
        try:
            awaited = self._steps.send(None)
        except StopIteration as over:
            self._finish(over.value)
        except OSError as error:  # the peer's doing, or that of who dropped it
            error.__traceback__ = None  # it has this frame, that what was waited for, and that the error: a knot
            self._failed()
        else:
            awaited.add_done_callback(self._go_on)

    def _finish(self, transport: asyncio.Transport | None) -> None:
        if transport is None or transport.is_closing() or self._socket.is_closing():  # dropped meanwhile
            self._failed()
        else:
            self._done(transport, self._early)

    def data_received(self, data: bytes) -> None:
        """What the peer sent together with the end of its handshake."""
        self._early += data

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        """The socket is gone."""
        self._failed()
