"""LiteLLM's own proxy with the callback: an environment of its own, as LiteLLM needs an older websockets."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from deltawire.gateway.client import Subscriber
from deltawire.gateway.config import Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import Event, MessageStop, TextDelta
from deltawire.protocol.messages import Policy
from tests.support.pip import installed
from tests.support.processes import ROOT, clean_environment
from tests.support.sdk_provider import ANTHROPIC, CHAT, RESPONSES, Provider
from tests.support.soaking import left_to_soak
from tests.support.waiting import eventually

TEXT = "The Moon pulls the sea, and the sea follows – twice a day."
SAID = "grüße 🌍"
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}
ASKED: dict[str, Any] = {
    "stream": True,
    "max_tokens": 50,
    "input": "Hi",
    "messages": [{"role": "user", "content": "Hi"}],
}


def config(**upstreams: Provider) -> str:
    """The configuration of LiteLLM; JSON is YAML."""
    key = {"api_key": "sk-none"}
    models = {
        "mock": {"model": "openai/m", "mock_response": TEXT},
        "chat": {"model": "openai/m", "api_base": f"{upstreams['chat'].url}/v1"},
        "responses": {"model": "openai/m", "api_base": f"{upstreams['responses'].url}/v1"},
        "messages": {"model": "anthropic/m", "api_base": upstreams["messages"].url},
    }
    return json.dumps(
        {
            "model_list": [{"model_name": name, "litellm_params": key | of} for name, of in models.items()],
            "litellm_settings": {"callbacks": ["deltawire.gateway.integrations.litellm.handler"], "num_retries": 0},
        }
    )


@asynccontextmanager
async def running_litellm(folder: Path, configuration: str, gateway: str) -> AsyncIterator[httpx.AsyncClient]:
    """LiteLLM's proxy, and a client of it."""
    (folder / "config.yaml").write_text(configuration, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "import litellm; litellm.run_server()"),
        *("--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)),
        cwd=folder,
        env=clean_environment(
            PYTHONPATH=os.pathsep.join([str(ROOT / "scripts" / "package"), str(installed("litellm"))]),
            DELTAWIRE_URL=gateway,
            LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY="true",
            LITELLM_LOCAL_MODEL_COST_MAP="True",
            LITELLM_TELEMETRY="False",
        ),
        stdout=DEVNULL,
        stderr=PIPE,
    )
    assert process.stderr is not None
    reading = asyncio.create_task(read_away(process.stderr))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            async with asyncio.timeout(180):
                assert await reading, "LiteLLM has ended"
            reading = asyncio.create_task(read_away(process.stderr))
            yield client
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


async def read_away(log: asyncio.StreamReader) -> bool:
    """Read a log until its program listens, or to its end; whether it listens."""
    async for line in log:
        if b"Uvicorn running on" in line:
            return True
    return False


async def read(url: str, stream: str) -> tuple[str, str]:
    """The text of the first answer in a stream, and why it stopped."""
    text = ""
    async with Subscriber(url, stream, policy=Policy.BLOCK, buffer=10_000) as subscriber:
        async for item in subscriber:
            assert isinstance(item, Event)
            if isinstance(item.data, TextDelta):
                text += item.data.text
            elif isinstance(item.data, MessageStop):
                return text, item.data.stop_reason
    raise AssertionError("no message stopped")


def text_of(body: str) -> str:
    """The text in the body of a chat completion."""
    chunks = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


@pytest.mark.soak
@left_to_soak("installs hundreds of megabytes")
@pytest.mark.installs
@pytest.mark.slow
async def test_answers_of_litellm_are_published_and_end_when_a_reader_cancels(tmp_path: Path) -> None:
    installed("litellm")
    gateway = AsyncExitStack()
    url = (await gateway.enter_async_context(Gateway(Settings(port=0, drain_timeout=0)))).url
    async with (
        gateway,
        Provider(CHAT[:3], stays=True) as chat,
        Provider(RESPONSES) as responses,
        Provider(ANTHROPIC) as messages,
        running_litellm(tmp_path, config(chat=chat, responses=responses, messages=messages), url) as litellm,
    ):
        # A request names its stream in its metadata, or in a header, or it is named by LiteLLM's id of the call
        asked = ASKED | {"model": "mock"}
        named = await litellm.post(PATHS["chat"], json=asked | {"metadata": {"deltawire_stream": "by-metadata"}})
        assert text_of(named.text) == TEXT
        assert await read(url, "by-metadata") == (TEXT, "stop")
        unnamed = await litellm.post(PATHS["chat"], json=asked)
        async with Subscriber(url, unnamed.headers["x-litellm-call-id"]) as subscriber:
            items = [item async for item in subscriber]  # up to the end of the stream
        assert "".join(it.data.text for it in items if isinstance(it, Event) and isinstance(it.data, TextDelta)) == TEXT
        for name in ("responses", "messages"):
            header = {"X-Deltawire-Stream": f"by-header-{name}"}
            assert (await litellm.post(PATHS[name], json=ASKED | {"model": name}, headers=header)).is_success
            assert (await read(url, f"by-header-{name}"))[0] == SAID

        # A reader's cancel ends the caller's answer, and LiteLLM leaves the provider
        header = {"X-Deltawire-Stream": "to-cancel"}
        async with litellm.stream("POST", PATHS["chat"], json=ASKED | {"model": "chat"}, headers=header) as answer:
            lines = answer.aiter_lines()
            while "grüße" not in await anext(lines):
                pass
            async with Subscriber(url, "to-cancel") as reader:
                assert await reader.signal("cancel") == 1
            assert "data: [DONE]" in [line async for line in lines]
        await eventually(lambda: chat.was_left)
        assert await read(url, "to-cancel") == ("grüße ", "cancelled")

        # Without a gateway, the caller gets the same; so does who asks for a stream that can't be
        await gateway.aclose()
        assert text_of((await litellm.post(PATHS["chat"], json=asked)).text) == TEXT
        strange = {"X-Deltawire-Stream": "not an id"}
        assert text_of((await litellm.post(PATHS["chat"], json=asked, headers=strange)).text) == TEXT
