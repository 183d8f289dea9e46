"""Who can reach a gateway: without authentication, only peers on loopback (SPEC §11). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address

from deltawire.gateway.config import ConfigError


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach a numeric address; a scope (`%eth0`) does not matter."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip.is_loopback


def check_exposure(addresses: Iterable[str], *, is_authenticated: bool, is_accepted: bool) -> None:
    """Refuse to be open to a network by accident.

    Args:
        addresses: where to listen, numeric: names are resolved before, as a name may stand for any address.
        is_authenticated: whether peers must prove who they are.
        is_accepted: whether the operator said explicitly that they need not.

    Raises:
        ConfigError: an address is off loopback, and neither holds.
    """
    if is_authenticated or is_accepted:
        return
    for address in addresses:
        if not is_loopback(address):
            raise ConfigError(
                f"{address} is off loopback and there is no authentication: whoever reaches it could read, write and "
                "close every stream; set up authentication, or say --insecure-no-auth if that is meant"
            )
