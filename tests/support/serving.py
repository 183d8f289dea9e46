"""TCP servers of tests, which leave no connection open and no task running when they end.

`asyncio.start_server` does not see to that: where the event loop ends while a connection is served, nobody closes it,
and the garbage collector complains of it in the middle of a later test.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from websockets.asyncio.server import Server

from tests.support.waiting import turn

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(answer: Answer, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Listen on a free port of 127.0.0.1; in the end, cancel what is under way and abort its connections.

    Args:
        answer: serves one connection, which is closed when it returns. It may raise the `ConnectionError` or the
            `IncompleteReadError` that it gets when its client hangs up, also in an `ExceptionGroup`.
        tls: for a server that speaks TLS.

    Yields:
        The port.

    Raises:
        Exception: the first other error that `answer` raised.
    """
    loop = asyncio.get_running_loop()
    accepted: dict[asyncio.Task[None], socket.socket] = {}

    def accept() -> None:
        with suppress(BlockingIOError, ConnectionError):  # whoever connected has left again
            connection, _ = listener.accept()
            accepted[loop.create_task(_serve(connection, answer, tls))] = connection

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        loop.add_reader(listener, accept)
        try:
            yield listener.getsockname()[1]
        finally:
            loop.remove_reader(listener)
            for task in accepted:
                task.cancel()
            ends = await asyncio.gather(*accepted, return_exceptions=True)
            for connection in accepted.values():
                connection.close()  # of a task that was cancelled before it began; others have closed theirs
            for end in ends:
                if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
                    raise end


async def _serve(connection: socket.socket, answer: Answer, tls: ssl.SSLContext | None) -> None:
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    try:
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=tls)
    except OSError:  # the client left during the TLS handshake, or expects another certificate
        return
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    try:
        try:
            await answer(reader, writer)
        except* (ConnectionError, asyncio.IncompleteReadError):
            pass
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    finally:
        if connection.fileno() != -1:  # asyncio's abort() fails on a transport that has sent its rest and closed
            transport.abort()


async def close(server: Server) -> None:
    """Close a server of websockets and its connections, also one that was accepted just now.

    asyncio drops a connection whose server is closed within the two turns that it takes to hand it over.
    """
    for listener in server.sockets:
        asyncio.get_running_loop().remove_reader(listener.fileno())
    await turn(2)
    server.close()
    await server.wait_closed()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a port of 127.0.0.1, for a server that passes on what it gets; it is gone in the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    finally:
        writer.transport.abort()


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes until one of the two connections ends, then close the other."""
    try:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
    finally:
        writer.close()
