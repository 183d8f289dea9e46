"""Pages of other sites can't connect (SPEC §11.3)."""

from __future__ import annotations

import pytest

from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.server import Gateway
from tests.server.conftest import StartGateway
from tests.server.rawpeer import RawPeer

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
