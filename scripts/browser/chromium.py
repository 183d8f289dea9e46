"""Chromium without a window; and a tab of it, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
MISSING: Final = f"this needs one of the browsers {', '.join(BROWSERS)}"
START: Final = 60.0
"""Seconds a browser may need on a busy machine."""

DEADLINE: Final = 30.0
"""Seconds after which a condition is taken to never come true."""

_KEYS: Final = {"Enter": "\r"}


def find_browser() -> str | None:
    """The program that is used, if there is one."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@asynccontextmanager
async def browser(address: str, profile: Path, *options: str) -> AsyncIterator[None]:
    """A browser that shows a page, without a window.

    Raises:
        OSError: there is none.
    """
    found = find_browser()
    if found is None:
        raise FileNotFoundError(MISSING)
    usual = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}")
    devnull = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        found, *usual, *options, address, stdout=devnull, stderr=devnull, start_new_session=True
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


class BrowserError(Exception):
    """A command that the browser refused, in its words."""


class Chromium:
    """A browser whose tabs are driven: commands out, answers and events in.

    Args:
        connection: to the browser's DevTools.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._context = ""  # with storage and a cache of its own
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._tabs: dict[str, Tab] = {}

    async def read(self) -> None:
        """Hand out what the browser says, until it ends."""
        async for payload in self._connection:
            said = json.loads(payload)
            if "id" in said:
                self._waiting.pop(said["id"]).set_result(said)
            elif (tab := self._tabs.get(said.get("sessionId", ""))) is not None:
                tab.hear(said["method"], said["params"])

    async def command(self, method: str, session: str | None = None, **params: Any) -> Any:
        """The result of a command; a `BrowserError` if it fails."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        command = {"id": number, "method": method, "params": params}
        await self._connection.send(json.dumps(command if session is None else command | {"sessionId": session}))
        said = await self._waiting[number]
        if "error" in said:
            raise BrowserError(said["error"]["message"])
        return said["result"]

    async def open(self, address: str) -> Tab:
        """Open a page in a window of its own: a tab behind another draws nothing."""
        if not self._context:
            created = await self.command("Target.createBrowserContext", disposeOnDetach=True)
            self._context = created["browserContextId"]
        target = await self.command(
            "Target.createTarget", url="about:blank", newWindow=True, browserContextId=self._context
        )
        attached = await self.command("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        tab = Tab(self, attached["sessionId"])
        self._tabs[attached["sessionId"]] = tab
        for domain in ("Page", "Runtime", "Log"):
            await tab.command(f"{domain}.enable")
        await tab.command("Page.navigate", url=address)
        return tab


class Tab:
    """A page in a browser.

    Attributes:
        complaints: what the browser said against the page: errors of scripts, violations of its policy, requests that
            failed.
        received: bytes of each response, its head included, by address; from `Network.enable` on.
    """

    def __init__(self, chromium: Chromium, session: str) -> None:
        self.complaints: list[str] = []
        self.received: dict[str, int] = {}
        self._addresses: dict[str, str] = {}
        self._chromium = chromium
        self._session = session

    def hear(self, method: str, params: dict[str, Any]) -> None:
        """Take an event of the browser."""
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(params["entry"]["text"])
        elif method == "Network.responseReceived":
            self._addresses[params["requestId"]] = params["response"]["url"]
        elif method == "Network.loadingFinished" and params["requestId"] in self._addresses:
            self.received[self._addresses[params["requestId"]]] = params["encodedDataLength"]

    async def command(self, method: str, **params: Any) -> Any:
        """The result of a command to this tab."""
        return await self._chromium.command(method, self._session, **params)

    async def value(self, expression: str) -> Any:
        """What an expression, or the promise that it gives, is in the page."""
        done = await self.command("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in done:
            raise BrowserError(json.dumps(done["exceptionDetails"]))
        return done["result"].get("value")

    async def wait(self, condition: str) -> None:
        """Return as soon as an expression holds in the page.

        Raises:
            TimeoutError: it did not within `DEADLINE`; says what the page shows.
        """
        look = f"(() => {{ try {{ return Boolean({condition}); }} catch {{ return false; }} }})()"
        poll = f"new Promise((done) => {{ const see = () => {look} ? done() : setTimeout(see, 10); see(); }})"
        try:
            async with asyncio.timeout(DEADLINE):
                while True:
                    try:
                        await self.value(poll)
                    except BrowserError as error:
                        if not any(word in str(error) for word in ("navigated", "context")):  # the page is another now
                            raise
                    else:
                        return
        except TimeoutError:
            page = await self.value("document.body.innerText.slice(0, 3000)")
            raise TimeoutError(f"{condition} never held; the page shows:\n{page}\n{self.complaints}") from None

    async def press(self, key: str) -> None:
        """Press a key and let it go."""
        text = _KEYS.get(key, key if len(key) == 1 else "")
        await self.command("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
        await self.command("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def write(self, text: str) -> None:
        """Put text where the keyboard is."""
        await self.command("Input.insertText", text=text)

    async def picture(self) -> bytes:
        """What is seen of the page, as PNG."""
        return b64decode((await self.command("Page.captureScreenshot", format="png"))["data"])

    async def reload(self) -> None:
        """Load the page again, and return once the old one is gone."""
        await self.value("window.isOld = true")
        await self.command("Page.reload")
        await self.wait("!window.isOld && document.readyState === 'complete'")


@asynccontextmanager
async def drivable(profile: Path, *options: str) -> AsyncIterator[None]:
    """A browser that can be driven by its profile."""
    async with browser("about:blank", profile, "--remote-debugging-port=0", *options):
        yield


@asynccontextmanager
async def driving(profile: Path) -> AsyncIterator[Chromium]:
    """A browser that runs, as nobody has used it yet; its tabs are closed in the end."""
    told = profile / "DevToolsActivePort"  # its port, and the path of the connection
    async with asyncio.timeout(START):
        while not (told.exists() and "/" in told.read_text(encoding="ascii")):  # noqa: ASYNC110 - nobody says when
            await asyncio.sleep(0.002)
    port, path = told.read_text(encoding="ascii").split()
    async with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, ping_interval=None) as connection:
        driven = Chromium(connection)
        reading = asyncio.create_task(driven.read())
        try:
            yield driven
        finally:
            reading.cancel()


@asynccontextmanager
async def chromium(profile: Path, *options: str) -> AsyncIterator[Chromium]:
    """A browser whose tabs are driven."""
    async with drivable(profile, *options), driving(profile) as driven:
        yield driven
