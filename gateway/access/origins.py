"""Which web pages may connect: pure (RFC 6454 §6.2, RFC 6455 §10.2).

A browser lets a page of any site open a WebSocket to any address, even to one that only the browser's machine can
reach, and sends the page's origin. Other programs send no origin.

Nor does a browser for a GET to the site of the page itself. The owner of a name can make it point to the machine of the
browser (DNS rebinding): then the gateway there is that site, and only the header `Host` tells.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from deltawire.gateway.config import ConfigError

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[1-9][0-9]{0,4})?", re.ASCII)
_FIXED_HOST = re.compile(r"(?:localhost|\[[0-9a-f:.]+\]|[0-9]{1,3}(?:\.[0-9]{1,3}){3})(?::[0-9]+)?", re.ASCII)
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]*)(?::[0-9]*)?", re.ASCII)
_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*", re.ASCII)
_ANY_NAME: Final = "*"
_DEFAULT_PORTS = (("http://", ":80"), ("https://", ":443"))


def parse_origins(text: str) -> frozenset[str]:
    """Parse the setting `allowed_origins`.

    Args:
        text: origins as browsers write them, separated by commas; may be empty.

    Raises:
        ConfigError: an entry that no browser sends, and that would therefore allow nothing.
    """
    origins = frozenset(filter(None, map(str.strip, text.split(","))))
    for origin in origins:
        if _ORIGIN.fullmatch(origin) is None:
            raise ConfigError(
                f"allowed_origins: expected SCHEME://HOST or SCHEME://HOST:PORT in lower case, got {origin!r}"
            )
        if any(origin.startswith(scheme) and origin.endswith(port) for scheme, port in _DEFAULT_PORTS):
            raise ConfigError(f"allowed_origins: browsers leave the default port out: {origin.rpartition(':')[0]}")
    return origins


PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Last-Event-ID",
    "Access-Control-Max-Age": "600",
}
"""Headers of the response to a preflight request: what a page may send. Seconds are how long a browser remembers it."""


def cors_headers(named: Sequence[str], allowed: frozenset[str]) -> dict[str, str]:
    """Headers that let the page which sent a request read the response (Fetch standard, CORS protocol).

    Args:
        named: the values of every header `Origin` of the request.
        allowed: origins that may connect.
    """
    if not allowed:
        return {}
    if not named or not is_allowed(named, allowed):
        return {"Vary": "Origin"}
    return {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": named[0],
        "Access-Control-Expose-Headers": "Retry-After, Deltawire-Epoch",
    }


def is_own(named: Sequence[str], hosts: Sequence[str], *, is_secure: bool) -> bool:
    """Whether a request comes from a page of the gateway itself, at an address that no other site can have.

    A name is not enough: its owner can make it point here, and so give another site's page the gateway's address (DNS
    rebinding). Only an IP address or `localhost` is trusted; pages under a name need `allowed_origins`.

    Args:
        named: the values of all `Origin` headers.
        hosts: the values of all `Host` headers.
        is_secure: whether the gateway speaks TLS.
    """
    if len(named) != 1 or len(hosts) != 1 or _FIXED_HOST.fullmatch(hosts[0]) is None:
        return False
    return named[0] == f"{'https' if is_secure else 'http'}://{hosts[0]}"


def parse_hosts(text: str, origins: frozenset[str]) -> frozenset[str]:
    """Parse the setting `allowed_hosts`.

    Args:
        text: names, or `*`, separated by commas; may be empty.
        origins: allowed origins; their names are allowed too.

    Raises:
        ConfigError: an entry that is no name in lower case.
    """
    hosts = frozenset(filter(None, map(str.strip, text.split(","))))
    for host in hosts - {_ANY_NAME}:
        if _NAME.fullmatch(host) is None:
            raise ConfigError(f"allowed_hosts: expected a name in lower case, without a port, or `*`, got {host!r}")
    return hosts | {_name_of(origin.partition("://")[2]) for origin in origins}


def is_known_host(hosts: Sequence[str], allowed: frozenset[str]) -> bool:
    """Whether a request was sent to a name that no stranger can make point here.

    That is an address, `localhost`, a name without a dot or below `.internal` (as `host.docker.internal`), which no one
    can register, or one that is allowed. A request without `Host` is of no browser.

    Args:
        hosts: the values of all `Host` headers.
        allowed: the names that are allowed.
    """
    return _ANY_NAME in allowed or all(_is_safe(_name_of(host.lower()), allowed) for host in hosts)


def _is_safe(name: str, allowed: frozenset[str]) -> bool:
    is_fixed = _FIXED_HOST.fullmatch(name) is not None or name.endswith((".localhost", ".internal"))
    return is_fixed or "." not in name or name in allowed


def _name_of(host: str) -> str:
    """The name or address in a `Host`, without the port."""
    found = _HOST.fullmatch(host)
    return host if found is None else found[1]


def is_allowed(named: Sequence[str], allowed: frozenset[str]) -> bool:
    """Whether the origin of a request is allowed.

    Args:
        named: the values of all `Origin` headers.
        allowed: the allowed origins.
    """
    return not named or (len(named) == 1 and named[0] in allowed)
