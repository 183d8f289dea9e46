"""The TLS handshake of an accepted socket (RFC 8446 §4).

The event loop can do the handshake itself, but hands over a socket only after it. Until then nobody could count or drop
the socket, and only descriptors would limit thousands of sockets that never send a byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from deltawire.gateway.config import Settings
from deltawire.gateway.server.accepting.tls import ServerTls

TLS_CLOSE_TIMEOUT: Final = 5.0
"""Seconds a peer has for the closing alert of TLS; by then nothing of the stream is left to send."""


class Unwrapping(asyncio.Protocol):
    """The TLS handshake of one socket.

    It begins at once: uvloop reads a socket as soon as it is handed over, and TLS would miss bytes that come before it
    begins. So the coroutine of the handshake is stepped here; a task would begin a turn later.

    Args:
        transport: of the socket.
        tls: the current certificates.
        settings: how long it may take.
        done: called after the handshake, with the transport of TLS and bytes that came together with its end.
        failed: called if the handshake fails; may be called twice.
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
        except OSError as error:  # by the peer, or because the socket was dropped
            error.__traceback__ = None  # breaks a cycle: traceback, this frame, the awaited future, the error
            self._failed()
        else:
            awaited.add_done_callback(self._go_on)

    def _finish(self, transport: asyncio.Transport | None) -> None:
        if transport is None or transport.is_closing() or self._socket.is_closing():  # dropped meanwhile
            self._failed()
        else:
            self._done(transport, self._early)

    def data_received(self, data: bytes) -> None:
        """Keep bytes that the peer sent together with the end of its handshake."""
        self._early += data

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        """The socket is gone."""
        self._failed()
