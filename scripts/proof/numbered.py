"""A producer that numbers its events, each with its number for a text, and whether what is stored is what it sent."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from deltawire.protocol.addresses import PREFIX
from scripts.proof.children import Served

WINDOW: Final = 64
"""Events sent and not acked, at most."""

STREAM: Final = "s"
"""Where it publishes, and nobody else."""

KEEPING: Final = {"retention_events": 10_000_000, "retention_bytes": 2**30}
"""Settings of a gateway that keeps all of them."""


def text_of(first: int, last: int) -> str:
    """The text of some events."""
    return "".join(f"{number} " for number in range(first, last + 1))


def event_of(number: int) -> bytes:
    """The message that publishes an event."""
    return msgspec.json.encode(
        {"type": "text_delta", "producer_seq": number, "data": {"text": text_of(number, number)}}
    )


async def read_message(connection: ClientConnection) -> dict[str, Any]:
    """The next message."""
    message: dict[str, Any] = msgspec.json.decode(await connection.recv())
    return message


def publishing(url: str) -> connect:
    """A connection of the producer, which notices its end also while it does not read."""
    path = f"{PREFIX}/{STREAM}/publish?producer=p"
    return connect(f"{url}{path}", proxy=None, ping_interval=None, max_queue=None)


class Writer:
    """The producer, through all its connections.

    Args:
        pause: seconds between two windows.

    Attributes:
        acked: the last event that was acked.
        faults: what must not be, in words.
    """

    def __init__(self, pause: float = 0.0) -> None:
        self._pause = pause
        self.acked = 0
        self.faults: list[str] = []

    async def publish(self, url: str) -> None:
        """Publish until the connection is gone or refused for now; events are sent as fast as acks come."""
        with suppress(ConnectionClosed, InvalidHandshake, OSError):
            async with publishing(url) as connection:
                ready = await read_message(connection)
                if ready["type"] == "problem" and ready["retryable"]:
                    return
                if ready["producer_seq"] < self.acked:
                    self.faults.append(f"{self.acked} was acked, and ready says {ready['producer_seq']}")
                number = ready["producer_seq"]
                self.acked = max(self.acked, number)
                while True:
                    while number - self.acked < WINDOW:
                        number += 1
                        await connection.send(event_of(number), text=True)
                    message = await read_message(connection)
                    if message["type"] == "ack":
                        self.acked = max(self.acked, message.get("producer_seq", 0))
                        if self._pause:
                            await asyncio.sleep(self._pause)

    async def judge(self, served: Served) -> int:
        """Add to `faults` what is wrong with what a gateway has of the stream.

        Returns:
            How many events it has.
        """
        url = f"{served.url}{PREFIX}/{STREAM}/subscribe?policy=block"
        events: list[dict[str, Any]] = []
        async with connect(url, proxy=None, max_size=None) as connection:
            while (message := await read_message(connection))["type"] != "caught_up":
                if message["type"] != "subscribed":
                    events.append(message)
        for seq, event in enumerate(events, 1):
            if event != event | {"type": "text_delta", "seq": seq, "data": {"text": text_of(seq, seq)}}:
                self.faults.append(f"in place of event {seq} there is {event}")
                break
        if len(events) < self.acked:
            self.faults.append(f"{self.acked} events were acked, and {len(events)} are there")
        return len(events)
