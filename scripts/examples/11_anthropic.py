"""Anthropic's SDK beside a stream: two answers of one chat go to one stream, through one publisher.

The SDK takes the provider's address and key from `ANTHROPIC_BASE_URL` and `ANTHROPIC_API_KEY`.
"""

from __future__ import annotations

import asyncio

from anthropic import AsyncAnthropic

from deltawire import Event, Gateway, MessageStop, Publisher, Settings, Subscriber, TextDelta, tee


async def ask(client: AsyncAnthropic, question: str, publisher: Publisher) -> str:
    """The answer, which is published as it comes."""
    answer = client.messages.create(
        model="claude", max_tokens=100, messages=[{"role": "user", "content": question}], stream=True
    )
    async with tee(answer, publisher, stop_on_cancel=True) as events:
        return "".join([getattr(getattr(event, "delta", None), "text", "") async for event in events])


async def main() -> None:
    """Ask twice, and print what the program and a reader got."""
    async with Gateway(Settings(port=0)) as gateway, AsyncAnthropic() as client:
        async with Publisher(gateway.url, "chat-7") as publisher:
            for question in ("Why is there a tide?", "And why two?"):
                print("program:", await ask(client, question, publisher))
            await publisher.close_stream()
        text = ""
        async with Subscriber(gateway.url, "chat-7") as reader:
            async for item in reader:
                if isinstance(item, Event) and isinstance(item.data, TextDelta):
                    text += item.data.text
                elif isinstance(item, Event) and isinstance(item.data, MessageStop):
                    print("reader: ", text)
                    text = ""


asyncio.run(main())
