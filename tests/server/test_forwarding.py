"""Whose connection it is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deltawire.gateway.config import ConfigError
from deltawire.gateway.server.accepting.forwarding import Proxies, limited_address
from deltawire.gateway.server.accepting.routing import remote_of

PROXY = "10.0.0.1"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
    ],
)
def test_limits_count_ipv4_addresses_and_networks_of_ipv6(host: str, address: str) -> None:
    assert limited_address(host) == address


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["192.0.2.1"], "192.0.2.1"),
        (["6.6.6.6, 192.0.2.1"], "192.0.2.1"),  # what the client itself sent is before what the proxy wrote
        (["6.6.6.6", "192.0.2.1"], "192.0.2.1"),
        (["192.0.2.1, 10.0.0.2"], "192.0.2.1"),  # two proxies
        (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (["192.0.2.1:5678"], "192.0.2.1"),
        (["[2001:db8::1]:5678"], "2001:db8::1"),
        (["2001:db8::1"], "2001:db8::1"),
        (["192.0.2.1, unknown"], PROXY),
        (["192.0.2.1, nonsense, 10.0.0.2"], "10.0.0.2"),
        (["192.0.2.999"], PROXY),
        ([""], PROXY),
        ([], PROXY),
    ],
)
def test_the_client_is_the_last_one_no_trusted_proxy_has(values: list[str], client: str) -> None:
    assert Proxies("10.0.0.0/8", "x-forwarded-for").client(PROXY, values) == client


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["for=192.0.2.1"], "192.0.2.1"),
        (['For="192.0.2.1:80";proto=https;by=10.0.0.1'], "192.0.2.1"),
        (['proto=https; for="[2001:db8::1]:5678"'], "2001:db8::1"),
        (["for=6.6.6.6, for=192.0.2.1"], "192.0.2.1"),
        (["for=192.0.2.1, for=10.0.0.2"], "192.0.2.1"),
        (["for=192.0.2.1, for=_hidden"], PROXY),
        (["proto=https"], PROXY),
    ],
)
def test_the_client_is_found_in_the_standard_header_too(values: list[str], client: str) -> None:
    assert Proxies("10.0.0.0/8", "forwarded").client(PROXY, values) == client


def test_a_peer_that_is_no_trusted_proxy_is_not_believed() -> None:
    proxies = Proxies("10.0.0.0/8, 2001:db8::/32", "x-forwarded-for")
    assert proxies.client("192.0.2.66", ["1.1.1.1"]) == "192.0.2.66"
    assert proxies.client("2001:db9::1", ["1.1.1.1"]) == "2001:db9::1"
    assert proxies.client("2001:db8::1", ["1.1.1.1"]) == "1.1.1.1"
    assert proxies.client("::ffff:10.0.0.1", ["1.1.1.1"]) == "1.1.1.1"
    assert Proxies("", "x-forwarded-for").client(PROXY, ["1.1.1.1"]) == PROXY


@pytest.mark.parametrize("trusted", ["localhost", "10.0.0.1/8", "10.0.0", "*"])
def test_what_is_no_network_is_refused_by_name(trusted: str) -> None:
    with pytest.raises(ConfigError, match="trusted_proxies: expected addresses or networks"):
        Proxies(trusted, "x-forwarded-for")


def test_a_socket_that_was_lost_in_this_turn_has_no_address() -> None:
    class Lost(asyncio.Transport):
        """As uvloop has it between the loss of a socket and `connection_lost`."""

        def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ARG002 - asyncio's signature
            raise ValueError("negative file descriptor")

    assert remote_of(Lost()).host == ""
