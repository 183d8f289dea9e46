"""What a server of ASGI calls, and answers that are made here (ASGI 3.0, HTTP)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Final, Protocol, TypeAlias

import msgspec

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

CALLER: Final = "deltawire.caller"
"""Key of a scope's `state`: a `Caller`, where the server has one."""

JSON_TYPE: Final = "application/json"
PROBLEM_TYPE: Final = "application/problem+json"


class Caller(Protocol):
    """The connection of whoever asked, of which ASGI says too little."""

    def abort(self) -> None:
        """Close it at once."""

    def unsent(self) -> int:
        """Number of bytes that the caller has yet to take; less of them means that it is reading."""

    def abort_untaken(self, seconds: float, tell: Callable[[], None]) -> None:
        """Close it once the caller takes nothing for so long of what is left of an ended answer, and say so."""


async def respond(send: Send, status: int, body: bytes, content_type: str, **fields: str) -> None:
    """Send a whole response.

    Args:
        send: of the request.
        status: of HTTP.
        body: of the response.
        content_type: of it.
        fields: more of the head; `_` in a name stands for `-`.
    """
    named = {"content-type": content_type, "content-length": str(len(body))} | fields
    headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def respond_problem(send: Send, status: int, title: str, detail: str, **fields: str) -> None:
    """Send a problem (RFC 9457)."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    await respond(send, status, msgspec.json.encode(body) + b"\n", PROBLEM_TYPE, **fields)


async def refuse(send: Send, status: HTTPStatus, detail: str, **fields: str) -> None:
    """Send a problem with the words of its status."""
    await respond_problem(send, status.value, status.phrase, detail, **fields)
