"""A page whose name was made to point to this machine reads nothing of a gateway without authentication (SPEC §11.3).

The browser takes the gateway for the page's own site, and so names no origin when the page reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import MessageStart, MessageStop, TextDelta
from tests.server.conftest import StartGateway
from tests.support.certificates import make_certificates
from tests.support.minting import token, write_secret
from tests.support.rawpeer import RawPeer

EVIL = "evil.example.com:8765"
READABLE = [
    "/v1/streams",
    "/v1/streams/demo",
    "/v1/streams/demo/events",
    "/v1/streams/demo/events?wait=1",
    "/v1/streams/demo/sse",
    "/v1/streams/demo/ui-message-stream",
    "/v1/responses/demo",
    "/v1/responses/demo?stream=true",
    "/metrics",
    "/nowhere",
]
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
OPEN = ["/", "/livez", "/readyz", "/healthz", "/v1/schema.json", "/client/deltawire.js"]


async def status_of(gateway: Gateway, path: str, *hosts: str, method: str = "GET", headers: str = "") -> int:
    """The status of a request that names these hosts."""
    peer = await RawPeer.connect(gateway.port)
    named = "".join(f"Host: {host}\r\n" for host in hosts)
    try:
        await peer.send(f"{method} {path} HTTP/1.1\r\n{named}{headers}\r\n".encode())
        return int((await peer.read_head()).split(b" ")[1])
    finally:
        peer.close()


@pytest.mark.parametrize("path", READABLE)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_nothing_can_be_read_under_a_name_that_anybody_may_own(gateway: Gateway, path: str, method: str) -> None:
    stream = gateway.hub.create("demo")
    for data in (MessageStart("m"), TextDelta("secret"), MessageStop("m", "end_turn")):
        stream.send_nowait(data)
    stream.close()
    assert await status_of(gateway, path, EVIL, method=method) == 403
    assert await status_of(gateway, path, "localhost", method=method) != 403


@pytest.mark.parametrize("path", OPEN)
async def test_what_shows_nothing_of_a_stream_is_for_everybody(gateway: Gateway, path: str) -> None:
    assert await status_of(gateway, path, EVIL) == 200


@pytest.mark.parametrize(
    "hosts",
    [
        (),
        ("",),
        ("127.0.0.1",),
        ("127.0.0.1:8765",),
        ("192.0.2.7:80",),
        ("[::1]:8765",),
        ("[::1]",),
        ("localhost:8765",),
        ("LocalHost",),
        ("gw.localhost:8765",),
        ("host.docker.internal:8765",),
        ("gateway",),
        ("gateway:8765",),
    ],
)
async def test_addresses_and_names_that_no_one_can_register_are_known(gateway: Gateway, hosts: tuple[str, ...]) -> None:
    assert await status_of(gateway, "/v1/streams", *hosts) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.com",
        "EVIL.example.com",
        "evil.",
        "127.0.0.1.evil.com",
        "localhost.evil.com",
        "evil.com:localhost",
        "[::1].evil.com",
        "[evil.com]",
        "user@evil.com",
        "localhost:8765.evil.com",
        "evillocalhost.com",
        "host.internal.evil.com",
    ],
)
async def test_what_only_looks_like_them_is_not(gateway: Gateway, host: str) -> None:
    assert await status_of(gateway, "/v1/streams", host) == 403


async def test_the_refusal_says_what_to_set(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.url.replace("ws:", "http:")) as client:
        response = await client.get("/v1/streams", headers={"Host": EVIL})
    assert response.headers["content-type"] == "application/problem+json"
    assert "allowed_hosts" in response.json()["detail"]
    assert "trusted_proxies" in response.json()["detail"]


@pytest.mark.parametrize(
    "settings",
    [
        {"allowed_hosts": "other.example, evil.example.com"},
        {"allowed_hosts": "*"},
        {"allowed_origins": "https://evil.example.com"},
        {"allowed_origins": "http://evil.example.com:8765"},
        {"trusted_proxies": "127.0.0.1"},
        {"insecure_no_auth": True},
    ],
    ids=str,
)
async def test_a_name_is_known_where_the_operator_says_so(
    start_gateway: StartGateway, settings: dict[str, Any]
) -> None:
    assert await status_of(await start_gateway(**settings), "/v1/streams", EVIL) == 200


@pytest.mark.parametrize(
    "settings",
    [
        {"allowed_hosts": "example.com,other.example"},
        {"allowed_origins": "https://example.com"},
        {"trusted_proxies": "10.0.0.0/8"},
    ],
    ids=str,
)
async def test_other_names_and_proxies_change_nothing(start_gateway: StartGateway, settings: dict[str, Any]) -> None:
    assert await status_of(await start_gateway(**settings), "/v1/streams", EVIL) == 403


async def test_what_needs_a_token_may_be_read_under_any_name(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = await start_gateway(auth_key=write_secret(tmp_path))
    assert await status_of(gateway, "/v1/streams/demo", EVIL) == 401
    headers = f"Authorization: Bearer {token(subscribe=['*'])}\r\n"
    assert await status_of(gateway, "/v1/streams", EVIL, headers=headers) == 200


async def test_with_tls_the_browser_checks_the_name(start_gateway: StartGateway, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    gateway = await start_gateway(**certificates.settings)
    async with httpx.AsyncClient(base_url=gateway.url.replace("wss:", "https:"), verify=certificates.context()) as http:
        assert (await http.get("/v1/streams", headers={"Host": EVIL})).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("PUT", "/v1/streams/new", "", 201),
        ("POST", "/v1/streams/new/events", "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n[]", 200),
        ("GET", "/v1/streams/demo/subscribe", UPGRADE, 101),
    ],
    ids=["PUT", "POST", "WebSocket"],
)
async def test_requests_for_which_every_browser_names_an_origin_need_no_name(
    gateway: Gateway, method: str, path: str, headers: str, status: int
) -> None:
    """So a reverse proxy that passes its own `Host` on may have producers and readers on WebSockets anyway."""
    assert await status_of(gateway, path, EVIL, method=method, headers=headers) == status


@pytest.mark.parametrize("hosts", ["https://a.example", "a.example:80", "A.example", "*.example", "a b", ".example"])
def test_what_is_no_name_is_refused_at_the_start(hosts: str) -> None:
    with pytest.raises(ConfigError, match=r"allowed_hosts: expected a name"):
        Gateway(Settings(allowed_hosts=hosts))
