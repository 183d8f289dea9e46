"""Middleware in a program: what a model should not have said never reaches a reader, however its tokens cut it.

Some stages are built in, others are functions of the program; each event goes through them once, before its number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from deltawire import Data, Event, Hub, MessageStart, MessageStop, TextDelta, middleware

ANSWER = (
    *("<think>", "They ask", " for it.", "</think>"),
    *("The key is s", "k-ab", "cdefghij", "klmnopqr", "stuv, mail ", "a@", "b.org."),
)


def count_words(data: Data, context: middleware.Context) -> Iterable[Data]:
    """Add the number of words to the reason for which a message stops."""
    if isinstance(data, TextDelta):
        context.state["words"] = context.state.get("words", 0) + data.text.count(" ") + 1
    elif isinstance(data, MessageStop):
        return [MessageStop(data.message_id, f"{data.stop_reason}, {context.state['words']} words or so")]
    return [data]


async def main() -> None:
    """Publish an answer, and read what has become of it."""
    secret = middleware.redact(middleware.SECRETS + middleware.PERSONAL)
    chosen = middleware.make_middleware({"chat-*": [middleware.split_thinking(), secret, count_words]})
    async with Hub(middleware=chosen) as hub:
        stream = hub.create("chat-1")
        await stream.send(MessageStart("m1"))
        for text in ANSWER:
            await stream.send(TextDelta(text))
        await stream.send(MessageStop("m1", "end_turn"))
        stream.close()
        async for item in stream.subscribe():
            assert isinstance(item, Event)
            print(item.seq, item.data)


asyncio.run(main())
