"""A thousand chat sessions in one hub: create them, count them, end those nobody uses, then end them all.

A stream that has ended can be read until its retention is over, so whoever reconnects late still gets the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from deltawire import Hub, StreamError, TextDelta, TextDeltaEvent

SESSIONS = 1000
IDLE = 0.2
"""Seconds of silence after which a session counts as abandoned; by itself a hub waits for a day (`inactive_after`)."""


def show(when: str, hub: Hub) -> None:
    """Print how many sessions there are and what they hold."""
    sessions = hub.list_info()
    still_open = sum(not session.closed for session in sessions)
    kilobytes = sum(session.bytes for session in sessions) / 1000
    print(f"{when}: {hub.count()} sessions, {still_open} open, {kilobytes:.0f} kB of events")


def expect_refusal(operation: Callable[[], object]) -> None:
    """Print what a hub says to an operation that makes no sense."""
    try:
        operation()
    except StreamError as error:
        print(f"refused: {error}")


async def main() -> None:
    """The life of many sessions."""
    async with Hub() as hub:
        for number in range(SESSIONS):
            session = hub.create(f"session-{number}")
            await session.send(TextDelta(text=f"Hello, visitor {number}!"))
        show("created", hub)
        expect_refusal(lambda: hub.create("session-42"))
        expect_refusal(lambda: hub.get("session-1000"))

        await asyncio.sleep(IDLE)
        for session in hub.list()[:10]:
            await session.send(TextDelta(text=" Still there?"))
        print(f"ended for inactivity: {hub.cleanup_inactive(IDLE)}")
        show("after the clean-up", hub)

        print(f"ended: the other {hub.close_all()}")
        show("at the end", hub)
        async for event in hub.get("session-7").subscribe():
            if isinstance(event, TextDeltaEvent):
                print(f"session-7 can still be read: {event.data.text!r}")


if __name__ == "__main__":
    asyncio.run(main())
