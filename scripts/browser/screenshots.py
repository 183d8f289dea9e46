"""The screenshots of the README, of a gateway that runs.

    python -m scripts.browser.screenshots [FOLDER]

Writes the console in light and dark as PNG, by default into the README's folder. Without a browser it says so, and
leaves what is there.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from deltawire import Data, Gateway, Publisher, Settings, events
from scripts.browser.chromium import MISSING, chromium, find_browser

FOLDER: Final = Path(__file__).parent.parent.parent / ".github" / "screenshots"

LARGEST: Final = 150 * 1024
"""Bytes of a picture, at most."""

WIDTH: Final = 1120
HEIGHT: Final = 660

STREAM: Final = "chat-1042"
OTHERS: Final = ("batch-7", *(f"chat-{number}" for number in (*range(1036, 1042), *range(1043, 1049))), "summary-eu")

PACE: Final = 0.03
"""Seconds between two events, which show as a rate."""

THINKING: Final = "The reader wants to know what happens after a lost connection."
ANSWER: Final = """\
## After a lost connection

The client says **which event came last**, and gets the rest:

1. It connects with `after=41` and the stream's `epoch`.
2. The gateway sends events 42 … 97, *folded* into one frame.
3. Live deltas follow. Nothing is missing, nothing comes twice.

```py
async for item in Subscriber("ws://gateway", "chat-1042"):
    print(item)
```

> A reader costs a cursor, not a queue.
"""


def _answer() -> list[Data]:
    """An answer that has not ended yet, a word at a time."""
    said: list[Data] = [events.MessageStart(message_id="msg_42", model="m-large", provider="example")]
    said += [events.Thinking(thinking=f"{word} ") for word in THINKING.split(" ")]
    said += [events.ContentStart(index=1, kind="tool_use", id="t1", name="search")]
    said += [events.ToolDelta(index=1, partial_json=part) for part in ('{"query":', ' "resume', " after", ' seq"}')]
    said += [events.TextDelta(text=f"{word} ") for word in ANSWER.split(" ")]
    return [*said, events.Usage(prompt_tokens=212, completion_tokens=97, total_tokens=309)]


async def take(folder: Path, pace: float = PACE) -> list[Path]:
    """Write the pictures into a folder.

    Args:
        folder: there already.
        pace: seconds between two events.

    Returns:
        Their files.

    Raises:
        ValueError: a picture is over `LARGEST`.
    """
    written = []
    with TemporaryDirectory(prefix="deltawire-shots-", ignore_cleanup_errors=True) as profile:
        async with (
            Gateway(Settings(port=0)) as gateway,
            Publisher(gateway.url, STREAM) as publisher,
            chromium(Path(profile)) as browser,
        ):
            for number, name in enumerate(OTHERS):
                other = gateway.hub.get_or_create(name)
                for _ in range(17 * number):
                    await other.send(events.TextDelta(text="word "))
                if number % 3:
                    other.close()
            tab = await browser.open("about:blank")
            size = {"width": WIDTH, "height": HEIGHT}
            await tab.command("Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=1, mobile=False)
            await tab.command("Page.navigate", url=f"http://127.0.0.1:{gateway.port}/#{STREAM}")
            await tab.wait("document.getElementById('state').textContent === 'live'")
            for data in _answer():
                await publisher.send(data)
                await asyncio.sleep(pace)
            await tab.wait("document.getElementById('answer').textContent.includes('309 tokens')")
            await tab.value("document.dispatchEvent(new Event('visibilitychange'))")  # have it look at the list now
            await tab.wait(
                f"document.getElementById('facts').textContent.includes('events{len(_answer())}this reader\\'s lag0')"
            )
            await tab.wait(
                f"document.querySelector('[title={STREAM}]').textContent.includes('{len(_answer())} events')"
            )
            for scheme in ("light", "dark"):
                media = [{"name": "prefers-color-scheme", "value": scheme}]
                await tab.command("Emulation.setEmulatedMedia", features=media)
                picture = await tab.picture()
                if len(picture) > LARGEST:
                    raise ValueError(f"the console in {scheme} takes {len(picture)} bytes, over {LARGEST}")
                written.append(folder / f"console-{scheme}.png")
                written[-1].write_bytes(picture)
    return written


def main() -> None:
    """Take the pictures, or say why there are none."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    if find_browser() is None:
        print(f"no screenshots: {MISSING}")
        return
    folder.mkdir(parents=True, exist_ok=True)
    for path in asyncio.run(take(folder)):
        print(f"{path} {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
