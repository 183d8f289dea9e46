"""Clients on the `websockets` library that know nothing of the project's own code: messages are plain dictionaries."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from deltawire.gateway.server import Gateway
from tests.support.heard import note_close, note_message
from tests.support.waiting import DEADLINE

Message: TypeAlias = dict[str, Any]


def text_delta(text: str, **envelope: Any) -> Message:
    """A producer's text event."""
    return {"type": "text_delta", "data": {"text": text}} | envelope


class Peer:
    """One connection to a gateway."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def say(self, *messages: Any) -> None:
        """Send values as JSON, text and bytes as they are."""
        for message in messages:
            await self.connection.send(message if isinstance(message, (str, bytes)) else json.dumps(message))

    async def read(self) -> Message:
        """The next message.

        Raises:
            ConnectionClosed: there is none any more.
            TimeoutError: none came.
        """
        async with asyncio.timeout(DEADLINE):
            payload = await self.connection.recv()
        decoded = json.loads(payload) if isinstance(payload, str) else msgspec.msgpack.decode(payload)
        assert isinstance(decoded, dict)
        note_message(decoded)
        return decoded

    async def read_until(self, type: str, **fields: Any) -> list[Message]:
        """Messages up to the first one of a type with these fields, it included."""
        messages = [await self.read()]
        while messages[-1]["type"] != type or messages[-1] | fields != messages[-1]:
            messages.append(await self.read())
        return messages

    async def read_all(self) -> list[Message]:
        """Messages up to the close."""
        messages = []
        try:
            while True:
                messages.append(await self.read())
        except ConnectionClosed:
            return messages

    @property
    def code(self) -> int | None:
        """The close code; None while it is open."""
        return self.connection.close_code


@asynccontextmanager
async def peer(
    gateway: Gateway, path: str, subprotocol: str | None = None, token: str | None = None
) -> AsyncIterator[Peer]:
    """Connect to a path under `/v1/streams/`; the connection is closed on leaving."""
    offered = [Subprotocol(subprotocol)] if subprotocol else None
    async with connect(
        f"{gateway.url}/v1/streams/{path}",
        subprotocols=offered,
        additional_headers=None if token is None else {"Authorization": f"Bearer {token}"},
        proxy=None,
        max_size=None,
        max_queue=None,  # the client always reads; one that doesn't is a `RawPeer`
        ping_interval=None,
        open_timeout=DEADLINE,
        close_timeout=DEADLINE,
    ) as connection:
        try:
            yield Peer(connection)
        finally:
            closed = connection.protocol
            if closed.close_rcvd is not None and closed.close_rcvd_then_sent is not False:
                note_close(closed.close_rcvd.code)


@asynccontextmanager
async def consumer(
    gateway: Gateway, query: str = "", stream: str = "demo", token: str | None = None
) -> AsyncIterator[Peer]:
    """A consumer that has read nothing yet."""
    async with peer(gateway, f"{stream}/subscribe?{query}".rstrip("?"), token=token) as it:
        yield it


@asynccontextmanager
async def producer(
    gateway: Gateway, query: str = "", stream: str = "demo", token: str | None = None
) -> AsyncIterator[Peer]:
    """A producer that has read its `ready`."""
    async with peer(gateway, f"{stream}/publish?{query}".rstrip("?"), token=token) as it:
        assert (await it.read())["type"] == "ready"
        yield it


async def publish(it: Peer, *messages: Any, upto: int) -> None:
    """Send events and wait until everything up to a seq is acknowledged."""
    await it.say(*messages)
    while True:
        message = await it.read()
        assert message["type"] in ("ack", "audience"), message
        if message.get("seq", 0) >= upto:
            return


def text_of(messages: Iterable[Message]) -> str:
    """The answer's text in what a consumer read."""
    return "".join(message["data"]["text"] for message in messages if message["type"] == "text_delta")


def types_of(messages: Iterable[Message]) -> list[str]:
    """The types of messages, in order."""
    return [message["type"] for message in messages]


def ranges_of(messages: Iterable[Message]) -> list[tuple[str, int, int]]:
    """Events and gaps as (type, first, seq), in order."""
    return [
        (message["type"], int(message.get("first") or message["seq"]), int(message["seq"]))
        for message in messages
        if message["type"] == "gap" or "data" in message
    ]
