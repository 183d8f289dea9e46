"""Where a server is, and how to log in: what `engine_url` says. Its text names no user and no password."""

from __future__ import annotations

import ssl
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from deltawire.gateway.engines.engine import EngineError

PORT = 6379


class Address(NamedTuple):
    """A server.

    Attributes:
        host: name or numeric address.
        port: of it.
        user: empty for the default user.
        password: empty to log in without.
        database: its number.
        tls: for an encrypted connection; None without.
        ca_file: certificates of the authorities that are trusted; None for those of the system.
    """

    host: str
    port: int
    user: str
    password: str
    database: int
    tls: ssl.SSLContext | None
    ca_file: str | None = None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(url: str) -> Address:
    """Parse `engine_url`.

    Raises:
        EngineError: it is malformed, or a certificate file that it names can't be used.
    """
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    unknown = set(options) - {"ssl_ca_certs"}
    database = parts.path.strip("/") or "0"
    try:
        port = parts.port or PORT
    except ValueError:
        raise EngineError("engine_url: its port is no number up to 65535") from None
    if not parts.hostname or not database.isdecimal() or unknown or parts.fragment:
        raise EngineError(
            "engine_url: expected redis://[user:password@]host[:port][/database], with rediss:// for TLS and "
            "?ssl_ca_certs=FILE for a certificate authority of its own; other characters of a password as %XX"
        )
    tls, ca_file = None, options.get("ssl_ca_certs", [None])[0]
    if parts.scheme == "rediss":
        try:
            tls = ssl.create_default_context(cafile=ca_file)
        except OSError as error:
            raise EngineError(f"engine_url: ssl_ca_certs can't be used: {error.strerror or error}") from None
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return Address(parts.hostname, port, user, password, int(database), tls, ca_file)
