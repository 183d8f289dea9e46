"""A page in a real browser follows a stream with the client that the gateway serves."""

from __future__ import annotations

import asyncio
import json
import re
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from deltawire import Gateway, MessageStart, MessageStop, Publisher, Settings, TextDelta
from scripts.browser.chromium import MISSING, START, browser, chromium, find_browser
from tests.support.processes import ROOT
from tests.support.serving import close

pytestmark = pytest.mark.skipif(find_browser() is None, reason=MISSING)

PAGE = """<!doctype html>
<meta charset="utf-8">
<script type="module">
import { subscribe } from "GATEWAY/client/deltawire.js";
const tell = (news) => fetch(`/?${encodeURIComponent(JSON.stringify(news))}`);
const kept = JSON.parse(sessionStorage.demo ?? '{"text":"","visits":0}');
kept.visits += 1;
const events = subscribe("GATEWAY", "demo", { position: kept.position, transport: "TRANSPORT" });
for await (const event of events) {
  if (event.type === "text_delta") kept.text += event.data.text;
  kept.position = events.position;
  sessionStorage.demo = JSON.stringify(kept);
  if (kept.text.endsWith("half ")) {
    await tell({ text: kept.text });
    location.reload();
    await new Promise(() => undefined);
  }
  const cancel = () => events.cancel().catch(({ code }) => code);
  if (event.type === "text_delta") await tell({ seq: event.seq, cancelled: await cancel() });
}
let whole = "";
const again = subscribe("GATEWAY", "demo", { create: false });
for await (const event of again) whole += event.type === "text_delta" ? event.data.text : "";
await tell({ text: kept.text, whole, visits: kept.visits, verified: again.verified, ended: events.ended.reason });
</script>
"""
"""Keeps text and position together, is reloaded in the middle of the answer, and tells its site what it has."""


class Site:
    """The site of the page: serves it, and hears what it tells.

    Attributes:
        page: what it serves.
        heard: what the page told, in order.
    """

    def __init__(self) -> None:
        self.page = ""
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._server: Server | None = None

    @property
    def origin(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        async def refuse(_peer: ServerConnection) -> None:
            """Serve no WebSocket."""

        self._server = await serve(refuse, "127.0.0.1", 0, process_request=self._answer)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        await close(self._server)

    def _answer(self, _connection: ServerConnection, request: Request) -> Response:
        _, _, told = request.path.partition("?")
        if told:
            self.heard.put_nowait(json.loads(unquote(told)))
        body = self.page.encode()
        headers = Headers({"Content-Type": "text/html", "Content-Length": str(len(body)), "Connection": "close"})
        return Response(HTTPStatus.OK, "OK", headers, body)


async def test_the_page_of_the_readme_shows_the_whole_text_though_it_is_reloaded_in_mid_answer(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [page] = re.findall(r"^```html\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    assert page.count("\n") <= 2 + 5, "five lines of JavaScript between the tags, at most"
    async with (
        Site() as site,
        Gateway(Settings(port=0, allowed_origins=site.origin)) as gateway,
        Publisher(gateway.url, "demo") as publisher,
        chromium(tmp_path) as driven,
        asyncio.timeout(START),
    ):
        address = gateway.url.replace("ws:", "http:")
        site.page = page.replace('"/client/', f'"{address}/client/').replace('subscribe("/"', f'subscribe("{address}"')
        tabs = [await driven.open(site.origin) for _ in range(2)]
        await publisher.send(TextDelta(text="the first "))
        await publisher.send(TextDelta(text="half, "))
        for tab in tabs:
            await tab.wait("document.body.innerText === 'the first half,'")
        reloaded, other = tabs
        await reloaded.reload()
        await publisher.send(TextDelta(text="and ünd 🚀"))
        await publisher.close_stream()
        for tab in tabs:
            await tab.wait("document.body.innerText.includes('🚀')")
        text = "the first half, and ünd 🚀"
        assert [await tab.value("document.body.innerText") for tab in (reloaded, other)] == [text, text]
        assert [complaint for tab in tabs for complaint in tab.complaints if "favicon" not in complaint] == []


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_a_page_that_is_reloaded_in_mid_answer_has_the_same_text_and_can_cancel(
    tmp_path: Path, transport: str
) -> None:
    async with Site() as site, Gateway(Settings(port=0, allowed_origins=site.origin)) as gateway:
        site.page = PAGE.replace("GATEWAY", gateway.url.replace("ws:", "http:")).replace("TRANSPORT", transport)
        async with (
            Publisher(gateway.url, "demo") as publisher,
            browser(site.origin, tmp_path),
            asyncio.timeout(START),
        ):
            await publisher.send(MessageStart(message_id="m1"))
            for word in ("the ", "first ", "half "):
                await publisher.send(TextDelta(text=word))
            assert await site.heard.get() == {"text": "the first half "}
            await publisher.send(TextDelta(text="and ünd 🚀"))
            await publisher.send(MessageStop(message_id="m1", stop_reason="end_turn"))
            assert await site.heard.get() == {"seq": 5, "cancelled": 1}
            await publisher.close_stream()
            text = "the first half and ünd 🚀"
            wanted = {"text": text, "whole": text, "visits": 2, "verified": 1, "ended": "closed"}
            assert await site.heard.get() == wanted
