"""The console in a real browser: what it shows of streams, and what no stream can do to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from deltawire import Gateway, MessageStart, MessageStop, Publisher, Settings, TextDelta
from deltawire.protocol.events import ContentStart, Error, Extension, Thinking, ToolDelta, Usage
from scripts.browser.chromium import MISSING, START, Chromium, Tab, drivable, driving, find_browser
from tests.support.minting import everything, write_secret
from tests.support.serving import connected, listening, pass_on

pytestmark = pytest.mark.skipif(find_browser() is None, reason=MISSING)

ANSWER = "document.getElementById('answer')"
STATE = "document.getElementById('state').textContent"
NAME = "gateway.example"
"""Points to this machine, for the browser."""

LONG = 100_000
"""Deltas of a very long answer."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def profile(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """That of a browser which runs as long as there are tests: it takes a second to start."""
    folder = tmp_path_factory.mktemp("profile")
    async with drivable(folder, f"--host-resolver-rules=MAP {NAME} 127.0.0.1"):
        yield folder


@pytest.fixture
async def driven(profile: Path) -> AsyncIterator[Chromium]:
    async with driving(profile) as browser:
        yield browser


@asynccontextmanager
async def serving(**settings: object) -> AsyncIterator[Gateway]:
    """A gateway on a free port; the test has a minute."""
    async with Gateway(Settings(port=0, **settings)) as gateway, asyncio.timeout(START):  # type: ignore[arg-type]
        yield gateway


def page(port: int, stream: str = "") -> str:
    """The console's address, with a stream open."""
    return f"http://127.0.0.1:{port}/#{stream}"


def shows(text: str) -> str:
    """The condition that the answer has a text, folded parts included."""
    return f"{ANSWER}.textContent.includes({json.dumps(text)})"


async def submit(tab: Tab, form: str) -> None:
    await tab.value(f"document.getElementById('{form}').requestSubmit()")


async def put(tab: Tab, field: str, text: str) -> None:
    """Write into a field as a person does."""
    await tab.value(f"document.getElementById('{field}').focus(), document.getElementById('{field}').select?.()")
    await tab.write(text)


async def test_an_answer_comes_live_with_all_its_parts_and_a_reload_in_its_middle_loses_nothing(
    driven: Chromium,
) -> None:
    async with serving() as gateway, Publisher(gateway.url, "chat-1") as publisher:
        await publisher.send(MessageStart(message_id="m1", model="m-large"))
        await publisher.send(Thinking(thinking="let "))
        await publisher.send(Thinking(thinking="me see"))
        await publisher.send(TextDelta(text="# Title\n\n----\nThe **first** half, "))
        tab = await driven.open(page(gateway.port, "chat-1"))
        await tab.wait(f"{shows('half, ')} && {STATE} === 'live'")
        assert await tab.value(f"{ANSWER}.querySelector('details').open") is False, "thinking is folded"
        await tab.reload()
        await publisher.send(TextDelta(text="the second.\n\n- one\n- two\n\n```py\nx = 1\n```\n"))
        await publisher.send(ContentStart(index=1, kind="tool_use", id="t1", name="weather"))
        await publisher.send(ToolDelta(index=1, partial_json='{"city":'))
        await publisher.send(ToolDelta(index=1, partial_json='"Bern"}'))
        await publisher.send(Usage(prompt_tokens=9, completion_tokens=3, total_tokens=12))
        await publisher.send(Error(error="overloaded", code="busy"))
        await publisher.send(Extension(provider="p", name="citation", data={}))
        await publisher.send(MessageStop(message_id="m1", stop_reason="end_turn"))
        await tab.wait(shows("end_turn"))
        await publisher.close_stream()
        await tab.wait(f"{STATE} === 'ended: closed'")
        for selector, text in {
            "h3": "Title",
            "p strong": "first",
            ".text > p": "The first half, the second.",
            "li": "one",
            "pre code": "x = 1\n",
            "details pre": "let me see",
            "details[open] pre": '{"city":"Bern"}',
            "details[open] summary": "Tool: weather t1",
            ".note.bad": "error: busy: overloaded",
        }.items():
            assert await tab.value(f"{ANSWER}.querySelector('{selector}').textContent") == text, selector
        end = await tab.value(f"{ANSWER}.querySelector('.end').textContent")
        assert "end_turn" in end
        assert "9 + 3 = 12 tokens" in end
        assert "first token within 0.0" in end
        assert "6 deltas · " in end
        assert " deltas/s" in end, "its rate, since the deltas that came folded"
        assert tab.complaints == []


async def test_a_cancel_reaches_the_producer_and_two_tabs_follow_the_same_stream(driven: Chromium) -> None:
    async with serving() as gateway, Publisher(gateway.url, "chat-1") as publisher:
        await publisher.send(MessageStart(message_id="m1"))
        tabs = [await driven.open(page(gateway.port, "chat-1")) for _ in range(2)]
        await publisher.send(TextDelta(text="to both"))
        for tab in tabs:
            await tab.wait(shows("to both"))
            await tab.wait("document.getElementById('facts').textContent.includes('audience2')")
        await tabs[0].value("document.getElementById('cancel').click()")
        signal = await anext(aiter(publisher.signals()))
        assert signal.name == "cancel"
        await tabs[0].wait(f"{STATE} === 'asked 1 producer to stop'")
        assert [tab.complaints for tab in tabs] == [[], []]


class Line:
    """A connection to a gateway that can be cut, and mended.

    Attributes:
        port: the gateway's.
        is_cut: whether nothing passes.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._open: set[asyncio.WriteTransport] = set()
        self.is_cut = False

    async def accept(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        if self.is_cut:
            to_near.transport.abort()
            return
        async with connected(self.port) as (far, to_far):
            ends = {to_near.transport, to_far.transport}
            self._open |= ends
            await asyncio.gather(pass_on(near, to_far), pass_on(far, to_near))
            self._open -= ends

    def cut(self) -> None:
        self.is_cut = True
        for transport in self._open:
            transport.abort()


async def test_after_the_network_was_cut_the_answer_goes_on_where_it_was(driven: Chromium) -> None:
    async with serving() as gateway, Publisher(gateway.url, "chat-1") as publisher:
        line = Line(gateway.port)
        async with listening(line.accept) as port:
            tab = await driven.open(page(port, "chat-1"))
            await publisher.send(MessageStart(message_id="m1"))
            await publisher.send(TextDelta(text="before "))
            await tab.wait(shows("before"))
            line.cut()
            await tab.wait(f"{STATE}.startsWith('the connection is lost')")
            await publisher.send(TextDelta(text="meanwhile "))
            line.is_cut = False
            await publisher.send(TextDelta(text="after"))
            await publisher.send(MessageStop(message_id="m1", stop_reason="end_turn"))
            await tab.wait(shows("end_turn"))
            assert await tab.value(f"{ANSWER}.querySelector('.text').textContent") == "before meanwhile after"
            await publisher.close_stream()
            await tab.wait(f"{STATE} === 'ended: closed'")


HOSTILE = (
    "<script>window.isHit = true</script><img src=x onerror='window.isHit = true'>\n\n"
    "[click](javascript:window.isHit=true) [data](data:text/html,x) [good](https://example.org/ä)\n\n"
    "access \u202eresu\u202c level\n\n"
    "```html\n<svg onload='window.isHit = true'>\n```\n"
)


async def test_hostile_text_is_shown_as_text_and_does_nothing(driven: Chromium) -> None:
    async with serving() as gateway, Publisher(gateway.url, "chat-1") as publisher:
        tab = await driven.open(page(gateway.port, "chat-1"))
        await publisher.send(MessageStart(message_id="<b>m1</b>", model="\u202egip"))
        await publisher.send(Thinking(thinking=HOSTILE))
        await publisher.send(ContentStart(index=1, kind="<i>", name="<u>tool</u>"))
        await publisher.send(ToolDelta(index=1, partial_json="<script>"))
        for piece in (HOSTILE[at : at + 3] for at in range(0, len(HOSTILE), 3)):
            await publisher.send(TextDelta(text=piece))
        for piece in ("\n", *["*_`[" * 10_000] * 5, "\n\n", *["x" * 40_000] * 5):
            await publisher.send(TextDelta(text=piece))
        for index in range(1000):
            await publisher.send(ToolDelta(index=index, partial_json="{}"))
        await publisher.send(Error(error="<script>window.isHit = true</script>"))
        await publisher.send(MessageStop(message_id="<b>m1</b>", stop_reason="<b>end</b>"))
        await tab.wait(shows("<b>end</b>"))
        made = f"new Set([...{ANSWER}.querySelectorAll('*')].map((made) => made.localName))"
        tags = set(await tab.value(f"[...{made}]"))
        known = {"article", "p", "bdi", "div", "details", "summary", "pre", "code", "a", "span", "em", "strong"}
        assert tags <= known
        assert await tab.value("window.isHit") is None
        links = await tab.value(f"[...{ANSWER}.querySelectorAll('a')].map((link) => link.href)")
        assert links in ([], ["https://example.org/%C3%A4"]), "parts beyond the 200th push the oldest out"
        assert await tab.value(f"{ANSWER}.querySelectorAll('*').length") < 10_000
        assert "\u202e" not in await tab.value(f"{ANSWER}.textContent")
        assert tab.complaints == []


WATCH = """
window.longest = 0;
let last = performance.now();
const see = (now) => {
  window.longest = Math.max(window.longest, now - last);
  last = now;
  requestAnimationFrame(see);
};
requestAnimationFrame(see);
"""
"""Measures the longest time between two frames."""


@pytest.mark.alone
async def test_of_10_000_streams_the_rows_in_sight_are_made_and_the_keyboard_finds_any(driven: Chromium) -> None:
    async with serving() as gateway:
        for number in range(10_000):
            gateway.hub.create(f"chat-{number:05}")
        gateway.hub.manager.get("chat-07777")
        tab = await driven.open(page(gateway.port))
        await tab.wait("document.getElementById('count').textContent === '10000 streams'")
        await tab.value(WATCH)
        rows = "document.querySelectorAll('#streams .row')"
        assert 0 < await tab.value(f"{rows}.length") < 60
        await tab.value("document.getElementById('streams').focus()")
        await tab.press("End")
        await tab.wait(f"[...{rows}].some((row) => row.title === 'chat-09999')")
        await tab.press("/")
        await tab.write("7777")
        await tab.wait("document.getElementById('count').textContent === '1 of 10000 streams'")
        await tab.press("ArrowDown")
        await tab.press("Enter")
        await tab.wait("document.getElementById('title').textContent === 'chat-07777'")
        assert await tab.value("location.hash") == "#chat-07777"
        lists = "performance.getEntriesByType('resource').filter(({ name }) => name.includes('/v1/streams?')).length"
        await tab.value("void document.dispatchEvent(new Event('visibilitychange'))")  # as if one came back to the page
        await tab.wait(f"{lists} > 11")  # it was loaded once more, which is done seldom, as it takes long
        assert await tab.value("window.longest") < 500
        assert tab.complaints == []


@pytest.mark.alone
async def test_100_000_deltas_do_not_freeze_the_page(driven: Chromium) -> None:
    async with serving() as gateway, Publisher(gateway.url, "chat-1") as publisher:
        tab = await driven.open(page(gateway.port, "chat-1"))
        await publisher.send(MessageStart(message_id="m1"))
        await publisher.send(TextDelta(text="begin "))
        await tab.wait(shows("begin"))
        await tab.value(WATCH)
        for number in range(LONG):
            await publisher.send(TextDelta(text=f"word{number} " if number % 50 else "**end**\n\n- "))
        await publisher.send(MessageStop(message_id="m1", stop_reason="end_turn"))
        await tab.wait(f"{shows('end_turn')} && {shows(f'word{LONG - 1}')}")
        assert await tab.value("window.longest") < 500
        assert await tab.value(shows("The beginning is not shown any more."))
        assert await tab.value(f"{ANSWER}.querySelectorAll('*').length") < 10_000
        end = await tab.value(f"{ANSWER}.querySelector('.end').textContent")
        assert "first token after 0.0" in end
        assert f"{LONG + 1} deltas" in end
        assert tab.complaints == []


async def test_with_authentication_it_shows_what_the_token_allows_and_publishes_by_hand(
    driven: Chromium, tmp_path: Path
) -> None:
    async with serving(auth_key=write_secret(tmp_path)) as gateway:
        tab = await driven.open(page(gateway.port, "chat-1"))
        await tab.wait("document.getElementById('count').textContent.includes('enter a token')")
        await put(tab, "token", everything())
        await submit(tab, "access")
        await tab.wait("document.getElementById('count').textContent === '0 streams'")
        await tab.value("document.getElementById('publishing').open = true")
        await put(tab, "content", "by *hand* 🚀")
        await submit(tab, "publish")
        await tab.wait(f"{shows('by hand 🚀')} && {shows('end_turn')}")
        await tab.reload()
        await tab.wait(shows("by hand 🚀"))  # the token is still there
        await tab.value("document.getElementById('publishing').open = true")
        await tab.value("document.getElementById('kind').value = 'events'")
        await put(tab, "content", '{"type":"text_delta","data":{}}')
        await submit(tab, "publish")
        await tab.wait("document.getElementById('published').textContent.startsWith('not published: ')")
        assert "text" in await tab.value("document.getElementById('published').textContent")
        await put(tab, "content", '{"type":"text_delta","data":{"text":"a part"}}\n\nno JSON')
        await submit(tab, "publish")
        await tab.wait("document.getElementById('published').textContent.includes('but not all: line 3: JSON is')")
        await put(tab, "content", '{"type":"text_delta","data":{"text":"more"}}')
        await tab.value("document.getElementById('ending').checked = true")
        await submit(tab, "publish")
        await tab.wait(f"{shows('more')} && {STATE} === 'ended: closed'")
        await tab.wait("document.getElementById('metrics').textContent.startsWith('streams 1')")


PIECES = """
(async () => {
  const { MarkdownView } = await import("/console/markdown.js");
  const shown = (pieces, budget) => {
    const root = document.createElement("div");
    const view = new MarkdownView(root);
    for (const piece of pieces) {
      view.append(piece);
      view.render(budget);
    }
    view.finish();
    root.normalize();
    return root.innerHTML;
  };
  const words = ["#", " ", "a", "b*", "**", "`", "```", "~~~", "\\n", "\\n\\n", "- ", "1. ", "> ", "| x |",
    "---", "[", "](", ")", "https://example.org", "<b>", "_", "  "];
  let state = 1;
  const draw = (below) => (state = (state * 48271) % 2147483647) % below;
  const wrong = [];
  for (let round = 0; round < 400; round += 1) {
    const text = Array.from({ length: 2 + draw(30) }, () => words[draw(words.length)]).join("");
    const whole = shown([text], Infinity);
    for (const pieces of [[...text], text.match(/[^]{1,3}/g)]) {
      if (shown(pieces, 1 + draw(5)) !== whole) {
        wrong.push([text, whole, shown(pieces, 1)]);
      }
    }
  }
  return wrong.slice(0, 3);
})()
"""
"""Texts that are shown otherwise if they come in pieces."""


async def test_text_looks_the_same_however_it_comes_in_pieces(driven: Chromium) -> None:
    async with serving() as gateway:
        tab = await driven.open(page(gateway.port))
        await tab.wait("document.readyState === 'complete'")
        assert await tab.value(PIECES) == []


async def test_under_a_name_it_works_if_its_origin_is_allowed_and_says_so_if_not(driven: Chromium) -> None:
    line = Line()
    async with listening(line.accept) as port:
        origin = f"http://{NAME}:{port}"
        for allowed, wanted in ((origin, shows("read")), ("", f"{STATE}.includes('has to list its address')")):
            async with serving(allowed_origins=allowed) as gateway, Publisher(gateway.url, "chat-1") as publisher:
                await publisher.send(TextDelta(text="read"))
                line.port = gateway.port
                tab = await driven.open(f"{origin}/#chat-1")
                await tab.wait(f"document.readyState === 'complete' && {wanted}")


async def test_a_page_whose_name_was_made_to_point_here_reads_nothing(driven: Chromium) -> None:
    async with serving() as gateway, Publisher(gateway.url, "chat-1") as publisher:
        await publisher.send(TextDelta(text="secret"))
        asked = "fetch('/v1/streams/chat-1/events', {headers: {'X-Forwarded-For': '127.0.0.1'}})"
        for host, status in ((NAME, 403), ("127.0.0.1", 200)):
            tab = await driven.open(f"http://{host}:{gateway.port}/livez")
            await tab.wait(f"location.hostname === '{host}' && document.readyState === 'complete'")
            assert await tab.value(f"{asked}.then((response) => response.status)") == status


async def test_it_is_light_or_dark_as_the_reader_wants(driven: Chromium) -> None:
    async with serving() as gateway:
        tab = await driven.open(page(gateway.port))
        await tab.wait("document.readyState === 'complete'")
        colours = []
        for wanted in ("light", "dark"):
            scheme = {"name": "prefers-color-scheme", "value": wanted}
            await tab.command("Emulation.setEmulatedMedia", features=[scheme])
            colours.append(await tab.value("getComputedStyle(document.body).backgroundColor"))
        assert colours == ["rgb(255, 255, 255)", "rgb(20, 24, 29)"]
