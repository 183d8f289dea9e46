"""Streams that no caller names begin with `stream_prefix`, so that a token can be for them alone."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from deltawire.gateway.client import Subscriber
from deltawire.gateway.config import Settings
from deltawire.gateway.proxy import Proxy
from deltawire.gateway.server import Gateway
from tests.proxy.readers import read_message, said
from tests.proxy.upstream import ANSWER, WORDS, Upstream, serving
from tests.support.minting import token, write_secret

NOWHERE = "ws://127.0.0.1:1"
NAMED = {"X-Deltawire-Stream": "chat-7"}


@pytest.mark.parametrize("headers", [{}, NAMED | {"Origin": "https://page.example"}], ids=["unnamed", "of a page"])
async def test_a_token_for_the_prefix_suffices(
    client: httpx.AsyncClient, tmp_path: Path, headers: dict[str, str]
) -> None:
    allowed = token(publish=["answers-*"], subscribe=["answers-*"])
    async with (
        Gateway(Settings(port=0, drain_timeout=0, auth_key=write_secret(tmp_path))) as gateway,
        Upstream(*ANSWER) as upstream,
        serving(upstream.url, gateway.url, token=allowed, stream_prefix="answers-") as served,
    ):
        response = await client.post(f"{served.url}/v1/messages", headers=headers)
        stream = response.headers["x-deltawire-stream"]
        assert stream.startswith("answers-")
        assert response.headers["x-deltawire-subscribe"] == f"{gateway.url}/v1/streams/{stream}/subscribe"
        async with Subscriber(gateway.url, stream, token=allowed) as reader:
            assert said(await read_message(reader)) == "".join(WORDS)


async def test_a_stream_that_is_named_has_none(client: httpx.AsyncClient) -> None:
    async with Upstream(*ANSWER) as upstream, serving(upstream.url, NOWHERE, stream_prefix="answers-") as served:
        response = await client.post(f"{served.url}/v1/messages", headers=NAMED)
        assert response.headers["x-deltawire-stream"] == "chat-7"


def test_the_longest_prefix_leaves_room_for_the_rest() -> None:
    Proxy("http://x", stream_prefix="x" * 96)
    with pytest.raises(ValueError, match=r"stream_prefix: .* 96 characters"):
        Proxy("http://x", stream_prefix="x" * 97)


@pytest.mark.parametrize("prefix", ["a*", "a/b", "a b", "ä"])
def test_a_prefix_that_no_stream_can_have_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="stream_prefix: "):
        Proxy("http://x", stream_prefix=prefix)
