"""A request as a server makes it of the application."""

from __future__ import annotations

import asyncio
from typing import Any

from deltawire.gateway.proxy import Proxy
from deltawire.gateway.proxy.asgi import CALLER, Caller

SCOPE = {"type": "http", "method": "POST", "path": "/v1/x"}


class Call:
    """A request as a server makes it of the application.

    Args:
        proxy: the application.
        fields: of the head.
        limit: messages after which nothing is read any more, until `goes_on` is set.
        caller: the connection, as far as the server has one to show.
    """

    def __init__(
        self, proxy: Proxy, *fields: tuple[bytes, bytes], limit: int | None = None, caller: Caller | None = None
    ) -> None:
        self.sent: list[Any] = []
        self.goes_on = asyncio.Event()
        self._limit = limit
        scope = SCOPE | {"headers": fields, "state": {CALLER: caller}}
        self.task = asyncio.create_task(proxy(scope, self._receive, self._send))

    async def _receive(self) -> Any:
        return await asyncio.Event().wait()

    async def _send(self, message: Any) -> None:
        self.sent.append(message)
        if len(self.sent) == self._limit:
            await self.goes_on.wait()

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])
