"""A gateway watched from outside while an answer flows through it: is it ready, who is there, what did the policies do.

Everything is plain HTTP on the port of the streams, so curl or any monitoring system can ask the same.
"""

from __future__ import annotations

import asyncio

import httpx
from rich.console import Console
from rich.table import Table

from deltawire import Gateway, Publisher, Settings, Subscriber, TextDelta

STREAM = "watched"
COLUMNS = ("head", "bytes", "producers", "consumers", "closed")
TOKENS = 100


async def publish(url: str) -> None:
    """Send an answer of a hundred tokens in half a second."""
    async with Publisher(url, STREAM) as publisher:
        for number in range(TOKENS):
            await publisher.send(TextDelta(text=f"{number} "))
            await asyncio.sleep(0.005)
        await publisher.close_stream()


async def follow(url: str) -> None:
    """Read the answer to its end."""
    async with Subscriber(url, STREAM) as events:
        async for _ in events:
            pass


async def watch(client: httpx.AsyncClient, table: Table) -> None:
    """A row of the table every tenth of a second, until the stream has ended."""
    info = {"closed": False}
    while not info["closed"]:
        await asyncio.sleep(0.1)
        info = (await client.get(f"/v1/streams/{STREAM}")).raise_for_status().json()
        table.add_row(*(str(info[column]) for column in COLUMNS), str(info["counters"]["folded"]))


async def main() -> None:
    """A gateway, a publisher, an early and a late reader, and somebody who watches."""
    table = Table(*COLUMNS, "events folded", title=f"GET /v1/streams/{STREAM}")
    async with (
        Gateway(Settings(port=0)) as gateway,
        httpx.AsyncClient(base_url=gateway.url.replace("ws:", "http:")) as client,
    ):
        ready = await client.get("/readyz")
        print(f"GET /readyz: {ready.status_code} {ready.text.strip()}")
        created = await client.put(f"/v1/streams/{STREAM}")
        print(f"PUT /v1/streams/{STREAM}: {created.status_code}, epoch {created.json()['epoch']}")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(publish(gateway.url))
            tasks.create_task(follow(gateway.url))
            tasks.create_task(watch(client, table))
            await asyncio.sleep(0.25)
            tasks.create_task(follow(gateway.url))  # what it missed comes folded
        Console().print(table)
        streams = (await client.get("/v1/streams")).json()
        print(f"GET /v1/streams: {len(streams)} stream, {streams[0]['events']} events held")


if __name__ == "__main__":
    asyncio.run(main())
