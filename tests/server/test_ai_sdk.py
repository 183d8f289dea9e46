"""The AI SDK's own transport and chat, under Node.js, resume a message from the gateway (SPEC §9.4)."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from deltawire.gateway.server import Gateway
from deltawire.protocol.events import (
    ContentEnd,
    ContentStart,
    MessageStart,
    MessageStop,
    TextDelta,
    Thinking,
    ToolDelta,
    Usage,
)
from tests.server.conftest import StartGateway
from tests.support.minting import token, write_secret
from tests.support.npm import installed
from tests.support.waiting import DEADLINE

CHAT = """
import { AbstractChat, DefaultChatTransport } from "ai";

const [url, token, messages] = process.argv.slice(2);
const say = (what) => console.log(JSON.stringify(what));
const transport = new DefaultChatTransport({
  prepareReconnectToStreamRequest: ({ id }) => ({
    api: `${url}/v1/streams/${id}/ui-message-stream`,
    headers: token ? { Authorization: `Bearer ${token}` } : {},
  }),
});

class State {
  status = "ready";
  error = undefined;
  messages = JSON.parse(messages);
  pushMessage = (message) => { this.messages = [...this.messages, message]; this.tell(); };
  popMessage = () => { this.messages = this.messages.slice(0, -1); };
  replaceMessage = (index, message) => {
    this.messages = this.messages.with(index, structuredClone(message));
    this.tell();
  };
  snapshot = (thing) => structuredClone(thing);
  tell() {
    const text = this.messages.at(-1).parts.filter((part) => part.type === "text").map((part) => part.text).join("");
    if (text && text !== this.text) say({ text });
    this.text = text;
  }
}

class Chat extends AbstractChat {}
const state = new State();
const chat = new Chat({ id: "demo", state, transport, onError: (error) => say({ error: error.message }) });
await chat.resumeStream();
say({ status: chat.status, messages: chat.messages });
"""


@pytest.fixture(scope="session")
def script() -> Path:
    """A program that resumes a chat and prints what it has."""
    path = installed("ai", "7") / "chat.mjs"
    path.write_text(CHAT)
    return path


class Chat:
    """The program, running."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def read(self) -> dict[str, Any]:
        """The next thing it says."""
        assert self._process.stdout is not None
        async with asyncio.timeout(2 * DEADLINE):  # node may take long to start
            line = await self._process.stdout.readline()
        if not line:
            assert self._process.stderr is not None
            raise AssertionError((await self._process.stderr.read()).decode())
        said = json.loads(line)
        assert isinstance(said, dict)
        return said

    async def read_end(self) -> dict[str, Any]:
        """The last thing it says."""
        while "messages" not in (said := await self.read()):
            pass
        return said


@asynccontextmanager
async def chatting(script: Path, gateway: Gateway, *messages: dict[str, Any], token: str = "") -> AsyncIterator[Chat]:
    """A chat that resumes, with these messages from before."""
    url = gateway.url.replace("ws:", "http:")
    process = await asyncio.create_subprocess_exec(
        "node", script, url, token, json.dumps(messages), stdout=PIPE, stderr=PIPE
    )
    try:
        yield Chat(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def question(text: str) -> dict[str, Any]:
    return {"id": "u1", "role": "user", "parts": [{"type": "text", "text": text}]}


async def test_a_page_opened_again_resumes_with_the_whole_answer_and_follows_it(gateway: Gateway, script: Path) -> None:
    stream = gateway.hub.create("demo")
    stream.send_nowait(MessageStart("m1"))
    for letter in "Hello":
        stream.send_nowait(TextDelta(letter))
    partial = {"id": "m1", "role": "assistant", "parts": [{"type": "text", "text": "Hel"}]}
    async with chatting(script, gateway, question("Hi"), partial) as chat:
        while (await chat.read())["text"] != "Hello":
            pass
        stream.send_nowait(TextDelta(", world"))
        assert (await chat.read())["text"] == "Hello, world"
        stream.send_nowait(MessageStop("m1", "end_turn"))
        end = await chat.read_end()
    assert end["status"] == "ready"
    assert [message["id"] for message in end["messages"]] == ["u1", "m1"], "none is there twice"


async def test_every_kind_of_part_arrives(gateway: Gateway, script: Path) -> None:
    stream = gateway.hub.create("demo")
    for data in (
        MessageStart("m1"),
        ContentStart(0, kind="thinking"),
        Thinking("Hm", 0),
        ContentEnd(0),
        ContentStart(1, kind="text"),
        TextDelta("Let me look.", 1),
        ContentEnd(1),
        ContentStart(2, kind="tool_use", id="c1", name="weather"),
        ToolDelta(2, '{"city":'),
        ToolDelta(2, '"Rome"}'),
        ContentEnd(2),
        Usage(1, 2, 3),
        MessageStop("m1", "tool_use"),
    ):
        stream.send_nowait(data)
    async with chatting(script, gateway, question("Rome?")) as chat:
        message = (await chat.read_end())["messages"][-1]
    start, thinking, text, tool = message["parts"]
    assert start == {"type": "step-start"}
    assert (thinking["type"], thinking["text"], thinking["state"]) == ("reasoning", "Hm", "done")
    assert (text["type"], text["text"], text["state"]) == ("text", "Let me look.", "done")
    assert (tool["type"], tool["toolCallId"], tool["state"]) == ("tool-weather", "c1", "input-available")
    assert tool["input"] == {"city": "Rome"}
    assert message["metadata"] == {"usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}}


async def test_where_nothing_is_there_is_nothing_to_resume(gateway: Gateway, script: Path) -> None:
    async with chatting(script, gateway, question("Hi")) as chat:
        assert await chat.read_end() == {"status": "ready", "messages": [question("Hi")]}


async def test_a_token_goes_in_the_header(start_gateway: StartGateway, script: Path, tmp_path: Path) -> None:
    gateway = await start_gateway(auth_key=write_secret(tmp_path))
    stream = gateway.hub.create("demo")
    for data in (MessageStart("m1"), TextDelta("Hello"), MessageStop("m1", "end_turn")):
        stream.send_nowait(data)
    async with chatting(script, gateway, question("Hi"), token=token(subscribe=["demo"])) as chat:
        assert await chat.read() == {"text": "Hello"}
    async with chatting(script, gateway, question("Hi")) as chat:
        said = await chat.read()
        assert "token is needed" in said["error"]


async def test_a_gateway_that_goes_away_is_an_error_to_the_chat_and_no_end(
    start_gateway: StartGateway, script: Path
) -> None:
    gateway = await start_gateway(drain_timeout=5.0)
    stream = gateway.hub.create("demo")
    stream.send_nowait(MessageStart("m1"))
    stream.send_nowait(TextDelta("Hello"))
    async with chatting(script, gateway, question("Hi")) as chat:
        assert await chat.read() == {"text": "Hello"}
        await gateway.drain()
        assert "error" in await chat.read()
        assert (await chat.read_end())["status"] == "error"
