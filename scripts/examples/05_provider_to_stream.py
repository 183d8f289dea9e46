"""An answer as Anthropic's API sends it becomes a stream that every client can read, whoever the provider was.

A translator takes the bytes of the response as the network happened to split them and gives back events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from msgspec import json

from deltawire import Event, Gateway, Publisher, Settings, Subscriber
from deltawire.protocol.events import DELTA_TYPES
from deltawire.protocol.providers import AnthropicMessages

RESPONSE = """\
event: message_start
data: {"type":"message_start","message":{"id":"msg_tides","role":"assistant","model":"claude",\
"usage":{"input_tokens":14,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"The Moon pulls, "}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"the sea follows – twice a day."}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":16}}

event: message_stop
data: {"type":"message_stop"}

""".encode()


def network(body: bytes) -> Iterator[bytes]:
    """The body in pieces of 61 bytes, which end within words, lines and characters."""
    for start in range(0, len(body), 61):
        yield body[start : start + 61]


async def publish(url: str) -> None:
    """Relay the response, each event as soon as it is complete."""
    translator = AnthropicMessages()
    async with Publisher(url, "tides") as publisher:
        for chunk in network(RESPONSE):
            for data in translator.feed(chunk):
                await publisher.send(data)
        for data in translator.finish():
            await publisher.send(data)
        await publisher.close_stream()


async def main() -> None:
    """A producer and a consumer on one gateway."""
    async with Gateway(Settings(port=0)) as gateway, asyncio.TaskGroup() as tasks:
        tasks.create_task(publish(gateway.url))
        async with Subscriber(gateway.url, "tides") as events:
            async for item in events:
                if isinstance(item, Event):
                    mark = "+" if item.data.type in DELTA_TYPES else "•"
                    print(f"{mark} {item.data.type:13} {json.encode(item.data).decode()}")


if __name__ == "__main__":
    asyncio.run(main())
