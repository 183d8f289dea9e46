"""Real SDKs that know nothing of the proxy but its address.

Each test is skipped where its SDK is not installed; `tests/test_sdks.py` makes an environment that has them all.
"""

from __future__ import annotations

import json

import pytest

from deltawire.gateway.client import Subscriber
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import Event, TextDelta
from tests.proxy.upstream import ANSWER, HEAD, WORDS, Upstream, serving
from tests.support.provider_bodies import FORMS
from tests.support.waiting import eventually

START = (
    '{"type":"message_start","message":{"id":"m-1","type":"message","role":"assistant","model":"m","content":[],'
    '"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}}'
)
STOP = '{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":4}}'
BLOCK = '{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}'
DELTA = '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%s"}}'
ENDS = ('{"type":"content_block_stop","index":0}', STOP, '{"type":"message_stop"}')
ANTHROPIC = [
    HEAD,
    *(
        f"event: {json.loads(payload)['type']}\ndata: {payload}\n\n".encode()
        for payload in (START, BLOCK, *(DELTA % word for word in WORDS), *ENDS)
    ),
]


async def followed(gateway: Gateway, stream: str) -> str:
    """The text of a stream to its end."""
    async with Subscriber(gateway.url, stream) as reader:
        return "".join(
            [item.data.text async for item in reader if isinstance(item, Event) and isinstance(item.data, TextDelta)]
        )


async def test_openai(gateway: Gateway) -> None:
    openai = pytest.importorskip("openai")
    async with Upstream(*ANSWER) as upstream, serving(upstream.url, gateway.url) as served:
        async with openai.AsyncOpenAI(api_key="sk-1", base_url=f"{served.url}/v1") as client:
            messages = [{"role": "user", "content": "Hi"}]
            raw = await client.chat.completions.with_raw_response.create(model="m", messages=messages, stream=True)
            chunks = [chunk async for chunk in raw.parse()]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "".join(WORDS)
        assert await followed(gateway, raw.headers["x-deltawire-stream"]) == "".join(WORDS)
        assert upstream.asked[0].fields[b"authorization"] == b"Bearer sk-1"


async def test_openai_s_responses_that_are_retrieved(gateway: Gateway) -> None:
    openai = pytest.importorskip("openai")
    form = FORMS["openai-responses-sse"]
    async with Upstream(HEAD, form.encode(*form.clean)) as upstream, serving(upstream.url, gateway.url) as served:
        named = {"X-Deltawire-Stream": "chat-7"}
        async with openai.AsyncOpenAI(api_key="sk-1", base_url=f"{served.url}/v1", default_headers=named) as client:
            stream = await client.responses.retrieve("r-1", stream=True)
            text = "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])
        await eventually(lambda: served.is_idle, "that all is published")
        gateway.hub.close("chat-7")
        assert await followed(gateway, "chat-7") == text != ""
        assert b"stream=true" in upstream.asked[0].line


async def test_anthropic(gateway: Gateway) -> None:
    anthropic = pytest.importorskip("anthropic")
    async with Upstream(*ANTHROPIC) as upstream, serving(upstream.url, gateway.url) as served:
        async with anthropic.AsyncAnthropic(api_key="sk-1", base_url=served.url) as client:
            messages = [{"role": "user", "content": "Hi"}]
            named = {"X-Deltawire-Stream": "chat-7"}
            async with client.messages.stream(
                model="m", max_tokens=9, messages=messages, extra_headers=named
            ) as stream:
                assert "".join([text async for text in stream.text_stream]) == "".join(WORDS)
        await eventually(lambda: served.is_idle, "that all is published")
        gateway.hub.close("chat-7")
        assert await followed(gateway, "chat-7") == "".join(WORDS)
        assert b"sk-1" in upstream.asked[0].head
