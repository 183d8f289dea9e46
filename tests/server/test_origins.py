"""Pages of other sites can't connect (SPEC §11.3)."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.server import Gateway
from deltawire.protocol.events import TextDelta
from tests.server.conftest import StartGateway
from tests.support.minting import write_secret
from tests.support.peers import consumer
from tests.support.rawpeer import HANDSHAKE, RawPeer

ALLOWED = "https://app.example.org, http://localhost:3000,https://[::1]:8443"


async def status_of(gateway: Gateway, *origins: str) -> int:
    """The status of a handshake from these origins."""
    peer = await RawPeer.connect(gateway.port)
    try:
        head = await peer.upgrade("/v1/streams/demo/subscribe", "".join(f"Origin: {origin}\r\n" for origin in origins))
    finally:
        peer.close()
    return int(head.split(b" ")[1])


@pytest.mark.parametrize(
    "origins", [(), ("https://app.example.org",), ("http://localhost:3000",), ("https://[::1]:8443",)]
)
async def test_what_is_allowed_passes_and_so_does_no_origin(
    start_gateway: StartGateway, origins: tuple[str, ...]
) -> None:
    assert await status_of(await start_gateway(allowed_origins=ALLOWED), *origins) == 101


@pytest.mark.parametrize(
    "origins",
    [
        ("null",),
        ("",),
        ("http://app.example.org",),
        ("https://app.example.org.evil.com",),
        ("https://evil-app.example.org",),
        ("https://app.example.org:443",),
        ("https://app.example.org:8443",),
        ("https://app.example.org/",),
        ("https://APP.example.org",),
        ("https://app.example.org,https://evil.com",),
        ("https://user@app.example.org",),
        ("http://localhost",),
        ("http://localhost:30000",),
        ("*",),
        ("https://app.example.org", "https://app.example.org"),
        ("https://app.example.org", "https://evil.com"),
    ],
)
async def test_what_is_not_to_the_letter_allowed_is_403(start_gateway: StartGateway, origins: tuple[str, ...]) -> None:
    assert await status_of(await start_gateway(allowed_origins=ALLOWED), *origins) == 403


@pytest.mark.parametrize("origin", ["null", "http://127.0.0.1", "https://app.example.org"])
async def test_no_origin_is_allowed_by_default(gateway: Gateway, origin: str) -> None:
    assert await status_of(gateway, origin) == 403


async def upgrade(gateway: Gateway, host: str, origin: str) -> int:
    """The status of a handshake that names a host, from a page of an origin."""
    peer = await RawPeer.connect(gateway.port)
    try:
        handshake = HANDSHAKE.format(path="/v1/streams/demo/subscribe", headers=f"Origin: {origin}\r\n")
        await peer.send(re.sub("Host: .*\r\n", f"Host: {host}\r\n", handshake).encode())
        return int((await peer.read_head()).split(b" ")[1])
    finally:
        peer.close()


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:8765", "http://127.0.0.1:8765", 101),
        ("localhost:8765", "http://localhost:8765", 101),
        ("[::1]:8765", "http://[::1]:8765", 101),
        ("127.0.0.1", "http://127.0.0.1", 101),
        ("127.0.0.1:8765", "http://127.0.0.1:3000", 403),
        ("127.0.0.1:8765", "http://localhost:8765", 403),
        ("127.0.0.1:8765", "https://127.0.0.1:8765", 403),
        ("127.0.0.1:8765", "http://evil.com", 403),
        ("evil.com:8765", "http://evil.com:8765", 403),
        ("localhost.evil.com", "http://localhost.evil.com", 403),
        ("127.0.0.1.evil.com", "http://127.0.0.1.evil.com", 403),
        ("evil.com@127.0.0.1", "http://evil.com@127.0.0.1", 403),
    ],
)
async def test_the_console_may_connect_where_no_other_site_can_have_its_address(
    gateway: Gateway, host: str, origin: str, status: int
) -> None:
    assert await upgrade(gateway, host, origin) == status


async def test_without_the_console_no_address_of_the_gateway_is_an_origin(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(console=False)
    assert await upgrade(gateway, "127.0.0.1:8765", "http://127.0.0.1:8765") == 403


@pytest.mark.parametrize(
    "origins", ["null", "*", "app.example.org", "https://a/", "https://A", "https://a:0", "https://*.a", "https://a b"]
)
def test_an_origin_that_no_browser_sends_is_refused_at_the_start(origins: str) -> None:
    with pytest.raises(ConfigError, match=r"allowed_origins: expected"):
        Gateway(Settings(allowed_origins=origins))


@pytest.mark.parametrize("origin", ["https://a:443", "http://a:80"])
def test_a_default_port_is_refused_at_the_start(origin: str) -> None:
    with pytest.raises(ConfigError, match="leave the default port out"):
        Gateway(Settings(allowed_origins=origin))


ORIGIN = {"Origin": "https://app.example.org"}


async def request(gateway: Gateway, method: str, path: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=gateway.url.replace("ws:", "http:")) as client:
        return await client.request(method, path, headers={name.replace("_", "-"): it for name, it in headers.items()})


PREFLIGHT = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "authorization"}


@pytest.mark.parametrize("path", ["/v1/streams/demo/events", "/v1/streams/demo", "/v1/streams", "/v1/schema.json"])
async def test_the_preflight_of_an_allowed_page_needs_no_token(
    start_gateway: StartGateway, tmp_path: Path, path: str
) -> None:
    gateway = await start_gateway(allowed_origins=ALLOWED, auth_key=write_secret(tmp_path))
    response = await request(gateway, "OPTIONS", path, **ORIGIN, **PREFLIGHT)
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
    assert "GET" in response.headers["Access-Control-Allow-Methods"]
    assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
    assert not {"Allow", "Content-Length"} & set(response.headers)


@pytest.mark.parametrize(
    "path", ["/v1/streams/demo/events", "/v1/streams/none", "/nowhere", "/v1/streams?limit=x", "/readyz"]
)
async def test_an_allowed_page_may_read_every_response(start_gateway: StartGateway, path: str) -> None:
    gateway = await start_gateway(allowed_origins=ALLOWED)
    gateway.hub.create("demo").send_nowait(TextDelta("x" * 50_000))
    response = await request(gateway, "GET", path, **ORIGIN)
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
    assert response.headers["Vary"] == "Origin"


async def test_an_allowed_page_may_read_that_it_has_no_token(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = await start_gateway(allowed_origins=ALLOWED, auth_key=write_secret(tmp_path))
    response = await request(gateway, "GET", "/v1/streams/demo/events", **ORIGIN)
    assert response.status_code == 401
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]


async def test_an_allowed_page_may_read_that_there_are_too_many(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(allowed_origins=ALLOWED, max_connections=1)
    async with consumer(gateway):
        response = await request(gateway, "GET", "/v1/streams", **ORIGIN)
    assert response.status_code == 503
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
    assert response.headers["Access-Control-Expose-Headers"] == "Retry-After, Deltawire-Epoch"


async def test_other_pages_may_read_nothing_and_have_no_preflight(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(allowed_origins=ALLOWED)
    for method, headers in (("GET", {}), ("OPTIONS", PREFLIGHT)):
        response = await request(gateway, method, "/v1/streams", Origin="https://evil.com", **headers)
        assert response.status_code == 403
        assert not [name for name in response.headers if name.lower().startswith("access-control")]


async def test_without_allowed_origins_nothing_is_said_of_them(gateway: Gateway) -> None:
    response = await request(gateway, "GET", "/v1/streams")
    assert "Vary" not in response.headers
    response = await request(gateway, "OPTIONS", "/v1/streams")
    assert response.status_code == 204
    assert "Vary" not in response.headers
