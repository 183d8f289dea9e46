"""A reader leaves in the middle of an answer, comes back with the position it had, and gets exactly the rest.

Lost connections need none of this: publishers and subscribers survive them by themselves.
"""

from __future__ import annotations

import asyncio

from deltawire import (
    Gateway,
    MessageStart,
    MessageStop,
    Position,
    Publisher,
    Settings,
    Subscriber,
    TextDelta,
    TextDeltaEvent,
)

STREAM = "poem"
ANSWER = "So much depends upon a position kept in a safe place. "


async def publish(url: str) -> None:
    """Send the answer word by word, then end the stream."""
    async with Publisher(url, STREAM) as publisher:
        await publisher.send(MessageStart(message_id="msg_1"))
        for word in ANSWER.split():
            await publisher.send(TextDelta(text=f"{word} "))
            await asyncio.sleep(0.01)  # as a model would think
        await publisher.send(MessageStop(message_id="msg_1", stop_reason="end_turn"))
        await publisher.close_stream()
        print(f"publisher: everything up to seq {publisher.seq} is acknowledged")


async def read(url: str, words: int) -> Position | None:
    """Read the beginning of the answer; where it stopped."""
    text = ""
    async with Subscriber(url, STREAM) as events:
        async for event in events:
            if isinstance(event, TextDeltaEvent):
                text += event.data.text
            if text.count(" ") >= words:
                break
        print(f"first visit: {text!r}")
        return events.position


async def resume(url: str, position: Position | None) -> None:
    """Read what comes after a position, to the end of the stream."""
    async with Subscriber(url, STREAM, position=position) as events:
        text = "".join([event.data.text async for event in events if isinstance(event, TextDeltaEvent)])
        print(f"second visit: {text!r}")
        if events.subscribed:
            print(f"second visit: nothing was missed: {events.subscribed.recovered}")


async def main() -> None:
    """A publisher, and a reader who comes twice."""
    async with Gateway(Settings(port=0)) as gateway, asyncio.TaskGroup() as tasks:
        tasks.create_task(publish(gateway.url))
        position = await read(gateway.url, words=4)
        await resume(gateway.url, position)


if __name__ == "__main__":
    asyncio.run(main())
