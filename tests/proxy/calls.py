"""A request as a server makes it of the application."""

from __future__ import annotations

import asyncio
from typing import Any

from deltawire.gateway.proxy import Proxy

SCOPE = {"type": "http", "method": "POST", "path": "/v1/x"}


class Call:
    """A request as a server makes it of the application.

    Args:
        proxy: the application.
        fields: of the head.
        limit: messages after which nothing is read any more.
    """

    def __init__(self, proxy: Proxy, *fields: tuple[bytes, bytes], limit: int | None = None) -> None:
        self.sent: list[Any] = []
        self._limit = limit
        self.task = asyncio.create_task(proxy(SCOPE | {"headers": fields}, self._receive, self._send))

    async def _receive(self) -> Any:
        return await asyncio.Event().wait()

    async def _send(self, message: Any) -> None:
        self.sent.append(message)
        if len(self.sent) == self._limit:
            await asyncio.Event().wait()

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])
