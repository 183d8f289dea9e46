"""What may be listened on without authentication."""

from __future__ import annotations

import socket

import pytest

from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.server import Gateway
from deltawire.gateway.server.accepting import listening
from deltawire.gateway.server.accepting.listening import check_exposure, is_loopback

OFF_LOOPBACK = ["0.0.0.0", "192.0.2.1", "10.0.0.1", "::", "fe80::1%eth0", "2001:db8::1", "::ffff:192.0.2.1"]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_loopback_needs_no_authentication(address: str) -> None:
    assert is_loopback(address)
    check_exposure([address], is_authenticated=False, is_accepted=False)


@pytest.mark.parametrize("address", OFF_LOOPBACK)
def test_off_loopback_is_refused_without_authentication(address: str) -> None:
    with pytest.raises(ConfigError, match=r"is off loopback.*--insecure-no-auth"):
        check_exposure(["127.0.0.1", address], is_authenticated=False, is_accepted=False)


@pytest.mark.parametrize("address", OFF_LOOPBACK)
@pytest.mark.parametrize(("is_authenticated", "is_accepted"), [(True, False), (False, True), (True, True)])
def test_off_loopback_is_allowed_with_authentication_or_where_it_is_meant(
    address: str, *, is_authenticated: bool, is_accepted: bool
) -> None:
    check_exposure([address], is_authenticated=is_authenticated, is_accepted=is_accepted)


async def test_what_a_name_resolves_to_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1", "192.0.2.7"]

    monkeypatch.setattr(listening, "_resolve", resolve)
    with pytest.raises(ConfigError, match=r"192\.0\.2\.7 is off loopback"):
        await Gateway(Settings(host="gateway.example", port=0)).__aenter__()


async def test_a_socket_that_was_given_counts() -> None:
    with socket.create_server(("0.0.0.0", 0)) as given, pytest.raises(ConfigError, match="is off loopback"):
        await Gateway(Settings(), sockets=[given]).__aenter__()


async def test_a_gateway_serves_on_the_sockets_it_was_given() -> None:
    first, second = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    ports = {it.getsockname()[1] for it in (first, second)}
    async with Gateway(Settings(host="gateway.example", port=1), sockets=[first, second]) as gateway:
        assert gateway.url == f"ws://127.0.0.1:{first.getsockname()[1]}"
        assert {server.sockets[0].getsockname()[1] for server in gateway._servers} == ports
