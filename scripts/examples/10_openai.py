"""OpenAI's SDK beside a stream: the program reads the answer as before, and readers of the stream read it too.

The SDK takes the provider's address and key from `OPENAI_BASE_URL` and `OPENAI_API_KEY`.
"""

from __future__ import annotations

import asyncio

from openai import AsyncOpenAI

from deltawire import Event, Gateway, MessageStop, Publisher, Settings, Subscriber, TextDelta, tee


async def main() -> None:
    """Ask a model, and print what the program and a reader got."""
    async with Gateway(Settings(port=0)) as gateway, AsyncOpenAI() as client:
        answer = client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "Why is there a tide?"}], stream=True
        )
        async with tee(answer, Publisher(gateway.url, "tides"), stop_on_cancel=True, close=True) as chunks:
            program = [choice.delta.content or "" async for chunk in chunks for choice in chunk.choices]
        print("program:", "".join(program))
        async with Subscriber(gateway.url, "tides") as reader:
            items = [item.data async for item in reader if isinstance(item, Event)]
        print("reader: ", "".join(data.text for data in items if isinstance(data, TextDelta)))
        print(*(data for data in items if isinstance(data, MessageStop)))


asyncio.run(main())
