"""The client's address, by which limits count, behind reverse proxies too. Pure.

A proxy appends the address a request came from to the header it received. So entries can be trusted from the last one
backwards, as long as a trusted proxy wrote each; everything before may be forged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from deltawire.gateway.config import ConfigError, ForwardedHeader

NETWORK_BITS: Final = 64
"""Bits of an IPv6 address that count: a provider assigns a customer at least a /64 (RFC 6177), every address of which
the customer may use."""

_FOR = re.compile(r'(?:^|;)\s*for\s*=\s*(?:"([^"\\]*)"|([^";,\s]+))\s*(?:;|$)', re.IGNORECASE)
_HOST = re.compile(r"\[([0-9a-f:.]+)\](?::\d+)?|([0-9.]+)(?::\d+)?|([0-9a-f:.]+)", re.IGNORECASE)


def limited_address(host: str) -> str:
    """Return the address that limits count: an IPv4 address, or the network of an IPv6 address.

    Args:
        host: a numeric address; with a scope (`%eth0`) or without.

    Raises:
        ValueError: it is no numeric address.
    """
    address = ip_address(host.partition("%")[0])
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((address, NETWORK_BITS), strict=False))


class Proxies:
    """The trusted reverse proxies.

    Args:
        trusted: the setting `trusted_proxies`.
        header: the setting `forwarded_header`.

    Raises:
        ConfigError: not a list of addresses and networks.
    """

    def __init__(self, trusted: str, header: ForwardedHeader) -> None:
        self._networks = tuple(_network(entry) for entry in filter(None, map(str.strip, trusted.split(","))))
        self.header = header

    def trusts(self, host: str) -> bool:
        """Whether an address belongs to a trusted proxy."""
        if not self._networks:
            return False
        address = ip_address(host.partition("%")[0])
        if address.version == 6 and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)

    def client(self, host: str, values: Sequence[str]) -> str:
        """Return the address a request came from: the last one that belongs to no trusted proxy.

        Args:
            host: address of the connection.
            values: of the header, in order.

        Returns:
            The numeric address; that of the trusted proxy nearest to the client, if it does not name the client.
        """
        if not self.trusts(host):
            return host
        for entry in reversed(list(_entries(self.header, values))):
            address = _address(entry)
            if address is None:
                break
            host = address
            if not self.trusts(host):
                break
        return host


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ConfigError(f"trusted_proxies: expected addresses or networks (`10.0.0.0/8`): {error}") from None


def _entries(header: ForwardedHeader, values: Sequence[str]) -> Iterator[str]:
    """Yield the entry of each proxy, as written; empty if the proxy named nobody (RFC 7239 §4)."""
    for entry in ",".join(values).split(","):
        if header == "forwarded":
            found = _FOR.search(entry.strip())
            yield (found[1] or found[2] or "") if found else ""
        else:
            yield entry.strip()


def _address(entry: str) -> str | None:
    """Return the numeric address of an entry without its port; None for a name, `unknown`, or nonsense."""
    found = _HOST.fullmatch(entry)
    if found is None:
        return None
    host = next(filter(None, found.groups()))
    try:
        return str(ip_address(host))
    except ValueError:
        return None
