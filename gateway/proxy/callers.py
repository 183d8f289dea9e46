"""Connections of callers: uvicorn's faster implementation of HTTP/1.1, and what that lacks."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any, Final

if sys.platform == "linux":
    import fcntl
    import termios

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from deltawire.gateway.proxy.asgi import CALLER

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request's head, as for uvicorn's other implementation; two pieces of it may come at once."""


class CallerConnection:
    """What an exchange may know of a connection, and do to it.

    Args:
        transport: of the connection.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def abort(self) -> None:
        """Close it at once."""
        self._transport.abort()

    def unsent(self) -> int:
        """Number of bytes that the caller has yet to take, on Linux those that the system has as well.

        A transport learns of room in the system's buffer only when a third of it is free, which is a megabyte.
        """
        size = self._transport.get_write_buffer_size()
        if sys.platform == "linux" and (size or not self._transport.is_closing()):
            asked = fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
            size += int.from_bytes(asked, sys.byteorder)
        return size

    def abort_untaken(self, seconds: float, tell: Callable[[], None]) -> None:
        """Close it once the caller takes nothing for so long of what is left of an ended answer, and say so.

        A transport that is closed waits for ever until the caller takes what it holds.
        """
        asyncio.get_running_loop().call_soon(self._look, seconds, tell, None)  # by then most have taken all

    def _look(self, seconds: float, tell: Callable[[], None], before: int | None) -> None:
        if not self._transport.get_write_buffer_size():
            return  # the system has the rest, and gives up by itself
        unsent = self.unsent()
        if unsent != before:
            asyncio.get_running_loop().call_later(seconds, self._look, seconds, tell, unsent)
        else:
            tell()
            self._transport.abort()


class CallerProtocol(HttpToolsProtocol):
    """A connection of a caller.

    It goes to uvicorn's other implementation if the first request is of HTTP/1.0, where nobody knows the chunks that
    this one sends, or asks for an upgrade, as Java's HttpClient does: this one would skip the body. A later one that
    asks for an upgrade is refused.

    Args:
        expect: called with the target of a request before the application has it.
    """

    _begun: bytes | None = b""  # of the first request, until its head is whole
    _is_for_other = False  # by the first request
    _headed: object = None  # scope of the request whose head came last
    _head_size = 0  # of the next one so far, but for the piece that it begins in
    _cycles: tuple[RequestResponseCycle, ...] = ()  # the request that is answered, and those that wait

    def __init__(self, *arguments: Any, expect: Callable[[bytes], None], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._expect = expect

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """The caller is there."""
        # uvicorn's own also looks up both addresses, which takes long, and which nobody here asks for
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.scheme = "http"
        self.app_state = self.app_state | {CALLER: CallerConnection(transport)}  # each request has it as its state
        self._wait_for_more()

    def _wait_for_more(self) -> None:
        """Close the connection if nothing comes for as long as an unused one is kept, a first head included."""
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        """Something came."""
        if self._begun is not None:
            self._begun += data
        scope = self.scope
        super().data_received(data)
        if self.scope is scope is not self._headed:
            self._head_size += len(data)
            if self._head_size > MAX_HEAD and not self.transport.is_closing():
                self.send_400_response(f"The head of the request has over {MAX_HEAD} bytes.")
        if not self._is_for_other and (self.cycle is None or self.cycle.response_complete):
            self._wait_for_more()

    def on_headers_complete(self) -> None:
        """The head is there; the parser gives the request up if this raises."""
        is_first = self._begun is not None
        if self.parser.should_upgrade() or (is_first and self.parser.get_http_version() == "1.0"):
            self._is_for_other = is_first
            raise NotImplementedError
        self._begun = None
        self._headed = self.scope
        self._head_size = 0
        if self.cycle is None or self.cycle.response_complete:  # else another request comes first
            self._expect(self.url)
        super().on_headers_complete()
        self.headers = []  # trailers would come to those of the request
        self._cycles = (*self._cycles, self.cycle) if self.pipeline else (self.cycle,)

    def send_400_response(self, msg: str) -> None:
        """The parser has given up."""
        if self._begun is None or not self._is_for_other:
            super().send_400_response(msg)
            return
        self.connections.discard(self)
        other = H11Protocol(self.config, self.server_state, self.app_state)
        other.connection_made(self.transport)
        self.transport.set_protocol(other)
        other.data_received(self._begun.lstrip(b"\r\n"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller has left, which uvicorn tells the last of several requests alone."""
        super().connection_lost(exc)
        for cycle in self._cycles:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
