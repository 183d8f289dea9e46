"""A chat model of LangChain with a callback handler: whatever calls the model, readers of a stream get its answer.

The model's provider takes its address and key from `OPENAI_BASE_URL` and `OPENAI_API_KEY`.
"""

from __future__ import annotations

import asyncio

from langchain_openai import ChatOpenAI

from deltawire import Event, Gateway, MessageStop, Publisher, Settings, Subscriber, TextDelta, Usage
from deltawire.gateway.integrations.langchain import StreamHandler


async def main() -> None:
    """Ask a model, and print what the program and a reader got."""
    async with Gateway(Settings(port=0)) as gateway:
        async with Publisher(gateway.url, "tides") as publisher:
            model = ChatOpenAI(model="gpt-4o", streaming=True, stream_usage=True, callbacks=[StreamHandler(publisher)])
            answer = await model.ainvoke("Why is there a tide?")
            print("program:", answer.text)
            await publisher.close_stream()
        async with Subscriber(gateway.url, "tides") as reader:
            items = [item.data async for item in reader if isinstance(item, Event)]
        print("reader: ", "".join(data.text for data in items if isinstance(data, TextDelta)))
        print(*(data for data in items if isinstance(data, MessageStop | Usage)))


asyncio.run(main())
