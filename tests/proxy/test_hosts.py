"""A page whose name was made to point to this machine gets nothing of the provider through `deltawire proxy`.

The browser takes the proxy for the page's own site, and so names no origin when the page reads.
"""

from __future__ import annotations

from collections.abc import Sequence

import httpx
import pytest

from tests.proxy.upstream import Upstream
from tests.support.processes import Run, Start, wait_logged
from tests.support.rawpeer import RawPeer

EVIL = "evil.example.com:8766"
PASSED = [
    ("GET", "/api/tags", ""),
    ("POST", "/api/chat", "Content-Length: 0\r\n"),
    ("POST", "/api/chat", f"Origin: http://{EVIL}\r\nContent-Length: 0\r\n"),
]
OWN = ("GET", "/deltawire/metrics", "")


async def ask(start: Start, host: str, *arguments: str) -> tuple[set[int], int]:
    """Ask a proxy for all of these under a host; return the statuses, and how often the upstream was asked."""
    statuses = set()
    async with Upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as upstream:
        process = await start("proxy", "--upstream", upstream.url, "--port=0", *arguments)
        port = (await wait_logged(process, "proxy.started"))["port"]
        for method, path, fields in [*PASSED, OWN]:
            peer = await RawPeer.connect(port)
            await peer.send(f"{method} {path} HTTP/1.1\r\n{host}{fields}\r\n".encode())
            statuses.add(int((await peer.read_head()).split(b" ")[1]))
            peer.close()
    return statuses, len(upstream.asked)


@pytest.mark.parametrize("host", [EVIL, f"localhost\r\nHost: {EVIL}"])
async def test_nothing_is_passed_on_under_a_name_that_anybody_may_own(start: Start, host: str) -> None:
    assert await ask(start, f"Host: {host}\r\n") == ({403}, 0)


@pytest.mark.parametrize("host", ["", "Host: 127.0.0.1:8766\r\n", "Host: localhost:8766\r\n"])
async def test_applications_on_this_machine_need_no_setting(start: Start, host: str) -> None:
    assert await ask(start, host) == ({200}, len(PASSED))


@pytest.mark.parametrize(
    "arguments", [["--allowed-hosts=host.example, evil.example.com"], ["--insecure-no-auth"]], ids=str
)
async def test_a_name_is_known_where_the_operator_says_so(start: Start, arguments: Sequence[str]) -> None:
    assert await ask(start, f"Host: {EVIL}\r\n", *arguments) == ({200}, len(PASSED))


async def test_the_refusal_says_what_to_set(start: Start, client: httpx.AsyncClient) -> None:
    process = await start("proxy", "--upstream=http://127.0.0.1:9", "--port=0")
    url = (await wait_logged(process, "proxy.started"))["url"]
    response = await client.get(url, headers={"Host": EVIL})
    assert response.headers["content-type"] == "application/problem+json"
    assert "--allowed-hosts" in response.json()["detail"]


async def test_what_is_no_name_is_refused_at_the_start(run: Run) -> None:
    done = await run("proxy", "--upstream=http://x", "--allowed-hosts=https://a.example")
    assert done.status == 2
    assert "allowed_hosts: expected a name" in done.errors
