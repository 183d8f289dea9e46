"""Requests in forms other than `GET /path`: HEAD, OPTIONS, and targets with a scheme and a host (SPEC §9)."""

from __future__ import annotations

from pathlib import Path

import pytest

from deltawire.gateway.server import Gateway
from deltawire.protocol.events import TextDelta
from tests.server.conftest import StartGateway
from tests.support.minting import everything, token, write_secret
from tests.support.peers import consumer
from tests.support.rawpeer import HANDSHAKE, RawPeer


async def ask(gateway: Gateway, line: str, headers: str = "") -> tuple[bytes, list[bytes], bytes]:
    """Status line, headers and body of the answer to a request without a body."""
    it = await RawPeer.connect(gateway.port)
    try:
        await it.send(f"{line} HTTP/1.1\r\nHost: gateway\r\n{headers}\r\n".encode())
        status, *fields = (await it.read_head()).split(b"\r\n")
        return status, fields, await it.read_rest()
    finally:
        it.close()


@pytest.mark.parametrize(
    "path",
    [
        "/livez",
        "/readyz",
        "/healthz",
        "/v1/schema.json",
        "/v1/streams",
        "/v1/streams/demo",
        "/v1/streams/demo/events",
        "/v1/streams/unknown",
        "/v1/streams/demo/subscribe",
        "/v1/streams/demo/publish",
        "/v1/streams/demo/events?limit=no",
        "/nothing",
    ],
)
async def test_head_is_answered_as_get_is_without_a_body(gateway: Gateway, path: str) -> None:
    gateway.hub.create("demo").send_nowait(TextDelta("Hi"))
    status, headers, body = await ask(gateway, f"GET {path}")
    assert body
    assert f"Content-Length: {len(body)}".encode() in headers
    assert await ask(gateway, f"HEAD {path}") == (status, headers, b"")


async def test_metrics_may_be_asked_for_by_head(gateway: Gateway) -> None:
    status, headers, body = await ask(gateway, "HEAD /metrics")
    assert status.startswith(b"HTTP/1.1 200 ")
    assert any(it.startswith(b"Content-Length: ") and not it.endswith(b" 0") for it in headers)
    assert body == b""


async def test_head_upgrades_nothing_and_gets_no_body(gateway: Gateway) -> None:
    it = await RawPeer.connect(gateway.port)
    await it.send(HANDSHAKE.format(path="/v1/streams/demo/subscribe", headers="").replace("GET", "HEAD").encode())
    assert (await it.read_head()).startswith(b"HTTP/1.1 426 ")
    assert await it.read_rest() == b""
    it.close()
    assert not gateway.hub.list_info()


async def test_a_405_says_that_there_is_head(gateway: Gateway) -> None:
    _, headers, _ = await ask(gateway, "POST /v1/streams/demo")
    assert b"Allow: GET, HEAD, PUT, DELETE, OPTIONS" in headers
    _, headers, _ = await ask(gateway, "POST /livez")
    assert b"Allow: GET, HEAD, OPTIONS" in headers


READ_ONLY = "GET, HEAD, OPTIONS"
ALLOWED = {
    "/livez": READ_ONLY,
    "/readyz": READ_ONLY,
    "/healthz": READ_ONLY,
    "/metrics": READ_ONLY,
    "/v1/schema.json": READ_ONLY,
    "/v1/asyncapi.json": READ_ONLY,
    "/v1/streams": READ_ONLY,
    "/v1/streams/demo": "GET, HEAD, PUT, DELETE, OPTIONS",
    "/v1/streams/unknown": "GET, HEAD, PUT, DELETE, OPTIONS",
    "/v1/streams/demo/events": "GET, HEAD, POST, OPTIONS",
    "/v1/streams/demo/signal": "POST, OPTIONS",
    "/v1/streams/demo/subscribe": READ_ONLY,
    "/v1/streams/demo/publish": READ_ONLY,
    "/v1/streams?limit=no": READ_ONLY,
    "http://gateway/livez": READ_ONLY,
    "*": "GET, HEAD, POST, PUT, DELETE, OPTIONS",
}


@pytest.mark.parametrize(("path", "allowed"), ALLOWED.items())
async def test_options_names_the_methods_of_a_path_and_does_nothing(gateway: Gateway, path: str, allowed: str) -> None:
    gateway.hub.create("demo")
    status, headers, body = await ask(gateway, f"OPTIONS {path}")
    assert (status, body) == (b"HTTP/1.1 204 No Content", b"")
    assert f"Allow: {allowed}".encode() in headers
    assert not [it for it in headers if it.startswith((b"Content-Length", b"Access-Control"))]
    assert [info.id for info in gateway.hub.list_info()] == ["demo"]


@pytest.mark.parametrize(
    "path", ["/console", "/nothing", "/v1/streams/", "/v1/streams/demo/other", "/*", "http://gateway"]
)
async def test_options_on_an_unknown_path_is_404(gateway: Gateway, path: str) -> None:
    status, headers, _ = await ask(gateway, f"OPTIONS {path}")
    assert status.startswith(b"HTTP/1.1 404 ")
    assert not [it for it in headers if it.startswith(b"Allow")]


async def test_an_upgrade_by_options_is_none(gateway: Gateway) -> None:
    it = await RawPeer.connect(gateway.port)
    handshake = HANDSHAKE.format(path="/v1/streams/demo/subscribe", headers="")
    await it.send(handshake.replace("GET", "OPTIONS").encode())
    assert (await it.read_head()).startswith(b"HTTP/1.1 204 ")
    it.close()
    assert not gateway.hub.list_info()


async def test_options_needs_a_token_where_get_needs_one_but_no_permission(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    """What it says is the same for every stream, so there is nothing to permit."""
    gateway = await start_gateway(auth_key=write_secret(tmp_path))
    holder = f"Authorization: Bearer {token(subscribe=['mine'])}\r\n"
    for path, allowed in ALLOWED.items():
        is_open = path.endswith(("z", ".json"))
        status, headers, _ = await ask(gateway, f"OPTIONS {path}")
        assert status.startswith(b"HTTP/1.1 204 " if is_open else b"HTTP/1.1 401 "), path
        assert (f"Allow: {allowed}".encode() in headers) is is_open
        status, headers, _ = await ask(gateway, f"OPTIONS {path}", holder)
        assert status.startswith(b"HTTP/1.1 204 "), path
        assert f"Allow: {allowed}".encode() in headers
    assert (await ask(gateway, "OPTIONS /nothing"))[0].startswith(b"HTTP/1.1 401 ")
    assert (await ask(gateway, "OPTIONS /nothing", holder))[0].startswith(b"HTTP/1.1 404 ")


async def test_who_is_refused_gets_no_body_for_head_either(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = await start_gateway(auth_key=write_secret(tmp_path))
    status, headers, body = await ask(gateway, "HEAD /v1/streams")
    assert status.startswith(b"HTTP/1.1 401 ")
    assert b"Content-Length: 0" not in headers
    assert body == b""
    status, _, body = await ask(gateway, "HEAD /v1/streams", f"Authorization: Bearer {everything()}\r\n")
    assert (status, body) == (b"HTTP/1.1 200 OK", b"")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("origin", ["", "http://127.0.0.1:8765"])
async def test_a_gateway_that_is_full_answers_probes_in_every_form(
    start_gateway: StartGateway, method: str, origin: str
) -> None:
    gateway = await start_gateway(max_connections=1)
    async with consumer(gateway):
        for path in ("/livez", "/readyz", "/healthz", "/metrics", "/readyz?from=here"):
            status, _, body = await ask(gateway, f"{method} {origin}{path}")
            assert status.startswith(b"HTTP/1.1 200 "), path
            assert bool(body) is (method == "GET")
        for path in ("/v1/streams", "/livez/x", "/LIVEZ", "/"):
            status, _, body = await ask(gateway, f"{method} {origin}{path}")
            assert status.startswith(b"HTTP/1.1 503 "), path
            assert bool(body) is (method == "GET")


@pytest.mark.parametrize("origin", ["http://gateway", "http://127.0.0.1:8765", "https://[::1]:9", "HTTP://GATEWAY"])
async def test_a_target_may_have_a_scheme_and_a_host(gateway: Gateway, origin: str) -> None:
    """As RFC 9112 §3.2.2 wants of every server; which host it is makes no difference, as with `Host`."""
    for path in ("/livez", "/v1/streams", "/v1/streams/demo?x=http://y"):
        assert await ask(gateway, f"GET {origin}{path}") == await ask(gateway, f"GET {path}")
    status, _, _ = await ask(gateway, f"GET {origin}")
    assert status.startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    "target", ["ftp://gateway/livez", "http:///livez", "http:livez", "//gateway/livez", "/http://gateway/livez"]
)
async def test_what_is_no_address_of_http_is_no_path(gateway: Gateway, target: str) -> None:
    status, _, _ = await ask(gateway, f"GET {target}")
    assert status.startswith(b"HTTP/1.1 404 ")


async def test_a_handshake_may_have_a_target_with_a_host(gateway: Gateway) -> None:
    it = await RawPeer.connect(gateway.port)
    assert b" 101 " in await it.upgrade("http://gateway/v1/streams/demo/subscribe?policy=block")
    assert (await it.read_message())["policy"] == "block"
    it.close()


async def test_a_host_in_the_target_gets_round_no_permission(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = await start_gateway(auth_key=write_secret(tmp_path))
    for path in ("/livez", "/v1/schema.json"):
        assert (await ask(gateway, f"GET http://gateway{path}"))[0].startswith(b"HTTP/1.1 200 ")
    for path in ("/v1/streams", "/v1/streams/demo/subscribe", "/metrics", "/nothing"):
        assert (await ask(gateway, f"GET http://gateway{path}"))[0].startswith(b"HTTP/1.1 401 ")
