"""An agent of Pydantic AI: its run becomes chunks for the AI SDK, which readers of a stream get as events.

The model's provider takes its address and key from `OPENAI_BASE_URL` and `OPENAI_API_KEY`.
"""

from __future__ import annotations

import asyncio

from pydantic_ai import Agent
from pydantic_ai.ui.vercel_ai import VercelAIEventStream
from pydantic_ai.ui.vercel_ai.request_types import SubmitMessage

from deltawire import Event, Gateway, MessageStop, Publisher, Settings, Subscriber, TextDelta, tee


async def main() -> None:
    """Run an agent, and print what a reader got."""
    agent = Agent("openai-chat:gpt-4o")
    chunks = VercelAIEventStream[None, str](SubmitMessage(id="tides", messages=[]))
    async with Gateway(Settings(port=0)) as gateway:
        async with agent.run_stream_events("Why is there a tide?") as run:
            body = chunks.encode_stream(chunks.transform_stream(run))  # what an endpoint would send to useChat
            async with tee(body, Publisher(gateway.url, "tides"), format="ai-sdk-sse", close=True) as lines:
                print("program:", sum([1 async for _ in lines]), "lines")
        async with Subscriber(gateway.url, "tides") as reader:
            items = [item.data async for item in reader if isinstance(item, Event)]
        print("reader: ", "".join(data.text for data in items if isinstance(data, TextDelta)))
        print(*(data for data in items if isinstance(data, MessageStop)))


asyncio.run(main())
