"""A stream inside one program: create it, read it while it is written, close it, and read it once more.

Nothing listens on a network here, and a reader that comes late gets what it missed in one piece.
"""

from __future__ import annotations

import asyncio

from deltawire import Hub, LocalStream, MessageStart, MessageStop, TextDelta, TextDeltaEvent


async def read(name: str, stream: LocalStream) -> None:
    """Print every event of the stream, from its first to its end."""
    async for event in stream.subscribe():
        if isinstance(event, TextDeltaEvent):
            print(f"{name} got {event.seq}: {event.data.text!r}")
    print(f"{name} is done: the stream has ended")


async def write(stream: LocalStream) -> None:
    """Send an answer word by word, then close the stream."""
    await stream.send(MessageStart(message_id="msg_1"))
    for word in ("Streams", " are", " logs."):
        seq = await stream.send(TextDelta(text=word))
        print(f"sent {seq}: {word!r}")
        await asyncio.sleep(0.02)  # as a model would think
    await stream.send(MessageStop(message_id="msg_1", stop_reason="end_turn"))
    stream.close()


async def main() -> None:
    """One writer, one reader beside it, one reader after the end."""
    async with Hub() as hub:
        stream = hub.create("greeting")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read("early reader", stream))
            tasks.create_task(write(stream))
        await read("late reader", hub.get("greeting"))


if __name__ == "__main__":
    asyncio.run(main())
