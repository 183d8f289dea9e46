"""A terminal that shows an answer as it is written, thinking dimmed, and draws at most sixty times a second.

With `interval=16` the gateway folds what comes within 16 ms into one frame, so that drawing never starves typing.
"""

from __future__ import annotations

import asyncio

from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from deltawire import Gateway, MessageStop, Publisher, Settings, Subscriber, TextDelta, Thinking, Usage, events

STREAM = "screen"
INTERVAL = 16
"""Milliseconds between frames: sixty a second."""
THINKING = "They ask why the terminal does not flicker. I should be brief and a little proud. "
ANSWER = "The gateway writes once per frame, however fast the model is: tokens in between arrive as one. " * 4


class Screen:
    """What the person sees."""

    def __init__(self) -> None:
        self._thinking = Text(style="dim italic")
        self._answer = Text()
        self._footer = Text("…", style="cyan")

    def show(self, event: object) -> None:
        """Take in an event."""
        match event:
            case events.ThinkingEvent():
                self._thinking.append(event.data.thinking)
            case events.TextDeltaEvent():
                self._answer.append(event.data.text)
            case events.UsageEvent():
                self._footer = Text(f"{event.data.completion_tokens} tokens")

    def __rich__(self) -> Panel:
        return Panel(Group(self._thinking, self._answer), subtitle=self._footer, width=76)


async def publish(url: str) -> None:
    """A fast model: a character a token, a thousand a second."""
    async with Publisher(url, STREAM) as publisher:
        for data in (*map(Thinking, THINKING), *map(TextDelta, ANSWER)):
            await publisher.send(data)
            await asyncio.sleep(0.001)
        tokens = len(THINKING) + len(ANSWER)
        await publisher.send(Usage(prompt_tokens=9, completion_tokens=tokens, total_tokens=9 + tokens))
        await publisher.send(MessageStop(message_id="msg_1", stop_reason="end_turn"))
        await publisher.close_stream()


async def main() -> None:
    """A model and a screen."""
    screen, frames = Screen(), 0
    async with Gateway(Settings(port=0)) as gateway, asyncio.TaskGroup() as tasks:
        tasks.create_task(publish(gateway.url))
        with Live(screen, auto_refresh=False) as live:
            async with Subscriber(gateway.url, STREAM, interval=INTERVAL) as subscriber:
                async for event in subscriber:
                    screen.show(event)
                    live.refresh()
                    frames += 1
    print(f"\n{len(THINKING) + len(ANSWER)} tokens drawn in {frames} frames")


if __name__ == "__main__":
    asyncio.run(main())
