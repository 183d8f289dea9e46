"""Nobody waits for ever: a sender gives up on a slow reader with `full`, a reader on a silent sender at a deadline.

Neither is worse off afterwards, since the same stream and the same subscription simply go on.
"""

from __future__ import annotations

import asyncio

from deltawire import Hub, LocalStream, LocalSubscription, Policy, StreamError, SubscribeRequest, TextDelta, is_full


async def send(stream: LocalStream, text: str) -> bool:
    """Send with a timeout; whether there was room."""
    try:
        seq = await stream.send(TextDelta(text=text), timeout=0.05)
    except StreamError as error:
        if not is_full(error):
            raise
        print(f"  {text!r} not sent: {error}")
        return False
    print(f"  {text!r} sent as {seq}")
    return True


async def receive(events: LocalSubscription) -> bool:
    """Read one event with a deadline; whether there was one."""
    try:
        async with asyncio.timeout(0.05):
            event = await anext(events)
    except TimeoutError:
        print("  nothing came within 50 ms")
        return False
    print(f"  received {event.seq}")
    return True


async def main() -> None:
    """A sender and a reader who take turns at being slow."""
    async with Hub() as hub:
        stream = hub.create("patience")
        async with stream.subscribe(SubscribeRequest(policy=Policy.BLOCK, buffer=2)) as events:
            await send(stream, "first")
            await receive(events)

            print("the reader pauses; its buffer takes two events:")
            while await send(stream, "more"):
                pass
            print("the reader goes on:")
            while await receive(events):
                pass
            print("there is room again:")
            await send(stream, "last")
            await receive(events)


if __name__ == "__main__":
    asyncio.run(main())
