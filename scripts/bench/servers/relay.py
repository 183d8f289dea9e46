"""What any program in between costs: bytes pass both ways, and nobody looks at them.

python -m scripts.bench.servers.relay UPSTREAM PORT
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop


class Side(asyncio.Protocol):
    """One of two connections; what comes in here goes out there."""

    def __init__(self) -> None:
        self.other: Side | None = None
        self.transport: asyncio.Transport
        self._waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self.transport = cast("asyncio.Transport", transport)

    def join(self, other: Side) -> None:
        """Begin to pass bytes on."""
        self.other, other.other = other, self
        other.transport.write(self._waiting)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self.other is None:
            self._waiting += data
        else:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the interface
        """The connection is closed."""
        if self.other is not None:
            self.other.transport.close()


async def main(upstream: int, port: int) -> None:
    """Pass on until the process is ended."""
    loop = asyncio.get_running_loop()
    joining: set[asyncio.Task[None]] = set()

    async def join(near: Side) -> None:
        _, far = await loop.create_connection(Side, "127.0.0.1", upstream)
        near.join(far)

    class Near(Side):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            task = asyncio.create_task(join(self))
            joining.add(task)
            task.add_done_callback(joining.discard)

    async with await loop.create_server(Near, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
