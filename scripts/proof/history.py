"""Everything a stream ever held, read over HTTP while it runs: its retention may be short."""

from __future__ import annotations

import asyncio

import httpx

from deltawire.protocol.codec import JSON
from deltawire.protocol.events import Event

PAGE = 10_000
"""Events asked for at a time, the most a gateway gives."""

INTERVAL = 0.1
"""Seconds between requests: a small part of what any retention here lasts."""


class HistoryLostError(Exception):
    """Events were trimmed before they were read: the run says nothing, its retention is too short for this machine."""


class History:
    """One stream's events, from its first one on.

    Args:
        client: with the gateway's address as its base URL.
        stream: the stream's id.

    Attributes:
        events: seq n is the n-th.
    """

    def __init__(self, client: httpx.AsyncClient, stream: str) -> None:
        self._client = client
        self._path = f"/v1/streams/{stream}"
        self._lines: list[bytes] = []
        self.events: list[Event] = []

    async def follow(self) -> None:
        """Read on until cancelled."""
        while True:
            await self.catch_up()
            await asyncio.sleep(INTERVAL)

    async def catch_up(self) -> None:
        """Read what came since."""
        while lines := await self._read(len(self._lines)):
            self._lines += lines
            for line in lines:
                event = JSON.decode_to_consumer(line)
                assert isinstance(event, Event), "events are all there is"
                if event.seq != len(self.events) + 1:
                    raise HistoryLostError(f"event {len(self.events) + 1} was trimmed before it was read")
                self.events.append(event)

    async def count_changed(self) -> int:
        """How many events that are still held are not the bytes that were read before."""
        floor = int((await self.info())["floor"])
        after = floor - 1
        changed = 0
        while lines := await self._read(after):
            changed += sum(now != then for now, then in zip(lines, self._lines[after:], strict=False))
            after += len(lines)
        return changed + abs(after - len(self._lines))

    async def info(self) -> dict[str, int]:
        """What the gateway says of the stream."""
        answer = await self._client.get(self._path)
        info: dict[str, int] = answer.raise_for_status().json()
        return info

    async def _read(self, after: int) -> list[bytes]:
        answer = await self._client.get(f"{self._path}/events", params={"after": after, "limit": PAGE})
        return answer.raise_for_status().content.split(b"\n")[:-1]
