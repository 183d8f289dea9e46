"""A reader of server-sent events that knows nothing of the project's own code (WHATWG HTML §9.2, RFC 9112 §7.1)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from deltawire.gateway.server import Gateway
from tests.support.heard import note_message
from tests.support.rawpeer import RawPeer


class ServerEvent(NamedTuple):
    """One event, as an EventSource dispatches it.

    Attributes:
        name: of the event; `message` where it has none.
        id: the last event id at that time.
        data: its data.
    """

    name: str
    id: str
    data: str

    @property
    def message(self) -> dict[str, Any]:
        """The data, in JSON."""
        message = json.loads(self.data)
        assert isinstance(message, dict)
        return message


class EventSource:
    """One response, read as it comes.

    Args:
        peer: its connection.
        head: of the response.

    Attributes:
        status: of the response.
        headers: of the response, by names in lower case.
        last_id: the last event id.
        retry: milliseconds, as last told.
        comments: how many came.
        is_whole: whether the body has ended as its framing says.
    """

    def __init__(self, peer: RawPeer, head: bytes) -> None:
        self.peer = peer
        status, *fields = head.decode().split("\r\n")
        self.status = int(status.split()[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        self.last_id = ""
        self.retry = 0
        self.comments = 0
        self.is_whole = False
        self._is_chunked = self.headers.get("transfer-encoding") == "chunked"
        self._raw = b""
        self._text = b""
        self._has_ended = False

    async def read(self) -> ServerEvent | None:
        """The next event; None at the end."""
        while True:
            while b"\n\n" not in self._text:
                if not await self._fill():
                    assert not self._text, f"an event is cut off: {self._text!r}"
                    return None
            block, self._text = self._text.split(b"\n\n", 1)
            event = self._dispatch(block.decode())
            if event is not None:
                return event

    async def read_until(self, name: str) -> list[ServerEvent]:
        """Events up to the first one of a name, it included."""
        events = []
        while (event := await self.read()) is not None:
            events.append(event)
            if event.name == name:
                return events
        raise AssertionError(f"no {name}, but {events}")

    async def read_all(self) -> list[ServerEvent]:
        """Events up to the end."""
        events = []
        while (event := await self.read()) is not None:
            events.append(event)
        return events

    def _dispatch(self, block: str) -> ServerEvent | None:
        name, data = "message", []
        for line in block.split("\n"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match field:
                case "":
                    self.comments += 1
                case "event":
                    name = value
                case "id":
                    self.last_id = value
                case "retry":
                    self.retry = int(value)
                case "data":
                    data.append(value)
                case _:
                    raise AssertionError(f"no field of the standard: {line!r}")
        if not data:
            return None
        event = ServerEvent(name, self.last_id, "\n".join(data))
        if event.data != "[DONE]":
            note_message(event.message)
        return event

    async def _fill(self) -> bool:
        """Read until there is more text; False at the end."""
        had = len(self._text)
        while len(self._text) == had:
            if self._has_ended:
                return False
            data = await self.peer.read_some()
            if not data:
                self._has_ended = True
                self.is_whole |= not self._is_chunked
            self._raw += data
            if self._is_chunked:
                self._unchunk()
            else:
                self._text, self._raw = self._text + self._raw, b""
        return True

    def _unchunk(self) -> None:
        while b"\r\n" in self._raw and not self.is_whole:
            size, rest = self._raw.split(b"\r\n", 1)
            length = int(size, 16)
            if len(rest) < length + 2:
                return
            assert rest[length : length + 2] == b"\r\n", rest[:length]
            self._text += rest[:length]
            self._raw = rest[length + 2 :]
            self.is_whole = length == 0


@asynccontextmanager
async def event_source(
    gateway: Gateway,
    query: str = "",
    *,
    stream: str = "demo",
    last_id: str = "",
    headers: str = "",
    version: str = "HTTP/1.1",
    receive_buffer: int | None = None,
    endpoint: str = "sse",
) -> AsyncIterator[EventSource]:
    """A request for a stream's events; its connection is closed on leaving."""
    peer = await RawPeer.connect(gateway.port, receive_buffer)
    target = f"/v1/streams/{stream}/{endpoint}?{query}".rstrip("?")
    resume = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
    try:
        await peer.send(f"GET {target} {version}\r\nHost: gateway\r\n{resume}{headers}\r\n".encode())
        yield EventSource(peer, await peer.read_head())
    finally:
        peer.close()


def text_of(events: list[ServerEvent]) -> str:
    """The answer's text in what a reader got."""
    messages = [event.message for event in events if event.name == "message"]
    return "".join(message["data"]["text"] for message in messages if message["type"] == "text_delta")
