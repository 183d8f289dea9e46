"""How soon the console is there, and how much is loaded for it: what Chromium measures, on loopback.

    python -m scripts.browser.first_paint [--runs 20]

Each run is a tab of its own, with nothing in its cache. Exits with 1 if the median of the first paint, or the size of
what is loaded, is over its limit, and with 2 if there is no browser.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from deltawire import Gateway, Settings
from scripts.browser.chromium import MISSING, Chromium, chromium, find_browser

PAINT: Final = 300.0
"""Milliseconds from the beginning of the navigation to the first paint, at most."""

SIZE: Final = 60 * 1024
"""Bytes of all files together, at most, as they are sent and as they are in the end."""

RUNS: Final = 20
STREAMS: Final = 1000
"""Streams that the console lists meanwhile."""

_LISTED: Final = f"document.getElementById('count').textContent === '{STREAMS} streams'"

_ENTRIES: Final = """
(() => {
  const [page] = performance.getEntriesByType("navigation");
  const others = performance.getEntriesByType("resource");
  const lists = others.filter(({ name }) => name.includes("/v1/streams"));
  const files = [page, ...others.filter(({ name }) => /\\.(js|css)$/.test(name))];
  return {
    paint: performance.getEntriesByName("first-paint")[0].startTime,
    content: performance.getEntriesByName("first-contentful-paint")[0].startTime,
    listed: Math.max(...lists.map(({ responseEnd }) => responseEnd)),
    sizes: Object.fromEntries(files.map(({ name, decodedBodySize }) => [name, decodedBodySize])),
  };
})()
"""


class Look(NamedTuple):
    """The console, loaded once.

    Attributes:
        paint: milliseconds from the beginning of the navigation to the first paint.
        content: the same, to the first paint of any text.
        listed: the same, to the end of the list of streams.
        files: how many are loaded.
        transferred: bytes of them as they are sent, heads included.
        uncompressed: bytes of them as they are in the end.
    """

    paint: float
    content: float
    listed: float
    files: int
    transferred: int
    uncompressed: int


async def look(browser: Chromium, address: str) -> Look:
    """Load the console in a new tab."""
    tab = await browser.open("about:blank")
    await tab.command("Network.enable")
    await tab.command("Network.setCacheDisabled", cacheDisabled=True)
    await tab.command("Page.navigate", url=address)
    await tab.wait(f"{_LISTED} && performance.getEntriesByType('paint').length === 2")
    entries = await tab.value(_ENTRIES)
    await tab.command("Page.close")
    sizes = entries["sizes"]
    transferred = sum(tab.received[name] for name in sizes)
    return Look(entries["paint"], entries["content"], entries["listed"], len(sizes), transferred, sum(sizes.values()))


async def measure(runs: int) -> list[Look]:
    """Load the console of a gateway some times, after once that does not count."""
    with TemporaryDirectory(prefix="deltawire-paint-", ignore_cleanup_errors=True) as profile:
        async with Gateway(Settings(port=0)) as gateway, chromium(Path(profile)) as browser:
            for number in range(STREAMS):
                gateway.hub.create(f"chat-{number:04}")
            address = f"http://127.0.0.1:{gateway.port}/"
            return [await look(browser, address) for _ in range(1 + runs)][1:]


def main() -> int:
    """Measure, and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m scripts.browser.first_paint", description="The console's start.")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"how often it is loaded; {RUNS} by default")
    runs = parser.parse_args().runs
    if find_browser() is None:
        print(f"not measured: {MISSING}", file=sys.stderr)
        return 2
    looks = asyncio.run(measure(runs))
    for title, times in {
        "first paint": [of.paint for of in looks],
        "first text": [of.content for of in looks],
        f"{STREAMS} streams listed": [of.listed for of in looks],
    }.items():
        print(f"{title}: {median(times):.0f} ms ({min(times):.0f} to {max(times):.0f} in {runs} runs)")
    last = looks[-1]
    sizes = last.transferred, last.uncompressed
    print(f"{last.files} files: {sizes[0] / 1024:.1f} KiB transferred, {sizes[1] / 1024:.1f} KiB uncompressed")
    return int(median(of.paint for of in looks) > PAINT or max(sizes) > SIZE)


if __name__ == "__main__":
    sys.exit(main())
