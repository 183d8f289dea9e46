"""The obvious server: `websockets` and its `broadcast`, on uvloop, no history, no limits."""

from __future__ import annotations

import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

STREAMS: dict[str, set[ServerConnection]] = {}


async def handle(connection: ServerConnection) -> None:
    """Serve a producer or a consumer by its path, `/{stream}/publish` or `/{stream}/subscribe`."""
    assert connection.request is not None
    _, stream, role = connection.request.path.split("/")
    consumers = STREAMS.setdefault(stream, set())
    if role == "publish":
        async for message in connection:
            broadcast(consumers, message)
        return
    consumers.add(connection)
    try:
        await connection.wait_closed()
    finally:
        consumers.discard(connection)


async def main(port: int) -> None:
    """Serve for ever."""
    async with serve(handle, "127.0.0.1", port, compression=None, backlog=4096) as server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
