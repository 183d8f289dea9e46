"""Four answers to one question: twenty tokens come in a burst, and the buffer of a slow reader takes five.

`block` makes the sender wait, `drop_newest` and `drop_oldest` leave tokens out and say which, `coalesce` folds them
into one; what is no token, such as the end of the message (■), always arrives.
"""

from __future__ import annotations

import asyncio

from deltawire import Data, Gap, Hub, LocalStream, MessageStop, Policy, StreamError, TextDelta, TextDeltaEvent, is_full
from deltawire.gateway.streams.settings import StreamSettings

TOKENS = 20
BUFFER = 5
READING_TIME = 0.005
"""Seconds the reader needs for each thing it is given."""


async def read_slowly(stream: LocalStream) -> str:
    """The stream as this reader sees it; what came as one piece is in one pair of brackets."""
    seen = []
    async for item in stream.subscribe():
        match item:
            case TextDeltaEvent():
                seen.append(f"[{item.data.text.strip()}]")
            case Gap():
                seen.append(f"({item.first}–{item.seq} {item.reason})")
            case _:
                seen.append("■")
        await asyncio.sleep(READING_TIME)
    return " ".join(seen)


async def send_burst(stream: LocalStream) -> int:
    """Send as fast as the stream allows; how often it did not."""
    burst: list[Data] = [TextDelta(text=f"{number} ") for number in range(1, TOKENS + 1)]
    waits = 0
    for data in (*burst, MessageStop(message_id="msg_1", stop_reason="end_turn")):
        try:
            stream.send_nowait(data)
        except StreamError as error:
            if not is_full(error):
                raise
            waits += 1
            await stream.send(data)
    stream.close()
    return waits


async def main() -> None:
    """The same burst under each policy."""
    async with Hub() as hub:
        for policy in (Policy.BLOCK, Policy.DROP_NEWEST, Policy.DROP_OLDEST, Policy.COALESCE):
            stream = hub.create(policy, StreamSettings(policy=policy, buffer=BUFFER))
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(read_slowly(stream))
                sending = tasks.create_task(send_burst(stream))
            print(f"{policy}: the sender waited {sending.result()} times\n  {reading.result()}")


if __name__ == "__main__":
    asyncio.run(main())
