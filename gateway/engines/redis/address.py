"""Where a server is, and how to log in: what `engine_url` says. Its text names no user and no password."""

from __future__ import annotations

import ssl
from typing import Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from deltawire.gateway.engines.engine import EngineError

PORT = 6379
SENTINEL_PORT = 26379

_TLS: Final = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}
_SENTINEL: Final = {"sentinel_username", "sentinel_password"}

_ENCODED = "special characters of a password have to be percent-encoded, as %3F for a question mark"

_EXPECTED = (
    "engine_url: expected redis://[user:password@]host[:port][/database], or for a primary that sentinels name "
    "redis+sentinel://[user:password@]host[:port],host[:port]/name[/database] with ?sentinel_username=… and "
    "sentinel_password=… if these ask for them, or for a cluster some of its servers, "
    "redis+cluster://[user:password@]host[:port],host[:port]; with rediss://, rediss+sentinel:// or rediss+cluster:// "
    "for TLS and ?ssl_ca_certs=FILE for a certificate authority of its own, ssl_certfile=FILE and ssl_keyfile=FILE for "
    f"a certificate to show; {_ENCODED}"
)


class Host(NamedTuple):
    """Name or numeric address, and port."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


class Login(NamedTuple):
    """How to log in.

    Attributes:
        user: empty for the default user.
        password: empty to log in without.
    """

    user: str = ""
    password: str = ""


class Files(NamedTuple):
    """Files for TLS.

    Attributes:
        ca: certificates of the authorities that are trusted; None for those of the system.
        cert: certificate to show; None for none.
        key: of the certificate, if it is not in the same file.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None


class Address(NamedTuple):
    """A server.

    Attributes:
        hosts: the server, some of those of a cluster, or the sentinels that know where it is.
        login: to the server.
        database: its number.
        tls: for an encrypted connection; None without.
        files: of `tls`.
        primary: its name, which sentinels know; empty without these.
        sentinel_login: to the sentinels.
        is_cluster: whether there are many servers, each with a part of the streams.
    """

    hosts: tuple[Host, ...]
    login: Login
    database: int
    tls: ssl.SSLContext | None
    files: Files
    primary: str
    sentinel_login: Login
    is_cluster: bool = False

    def __str__(self) -> str:
        hosts = ",".join(map(str, self.hosts))
        return f"{self.primary} (sentinels {hosts})" if self.primary else hosts


def parse_address(url: str) -> Address:
    """Parse `engine_url`.

    Raises:
        EngineError: it is malformed, or a certificate file that it names can't be used.
    """
    try:
        parts = urlsplit(url)
        given = parse_qs(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else {}
    except ValueError:  # which may show a part of a password
        raise EngineError(_EXPECTED) from None
    scheme, _, kind = parts.scheme.partition("+")
    options = {name: values[-1] for name, values in given.items()}
    has_sentinels, is_cluster = kind == "sentinel", kind == "cluster"
    known = (_TLS if scheme == "rediss" else set()) | (_SENTINEL if has_sentinels else set())
    userinfo, _, hosts = parts.netloc.rpartition("@")
    path = parts.path.strip("/")
    primary, _, database = path.rpartition("/") if has_sentinels else ("", "", path)
    if has_sentinels and not primary:  # no database is named
        primary, database = database, ""
    found = tuple(_host(host, SENTINEL_PORT if has_sentinels else PORT) for host in hosts.split(","))
    is_one = len(found) == 1 or kind
    is_named = bool(primary) == has_sentinels
    if (
        scheme not in {"redis", "rediss"}
        or kind not in {"", "sentinel", "cluster"}
        or not (is_one and is_named and (database or "0").isdecimal())
        or (is_cluster and path)  # it has one database alone
        or options.keys() - known
        or "@" in parts.path  # what comes before it is a part of a password
        or parts.fragment
    ):
        raise EngineError(_EXPECTED)
    user, _, password = userinfo.partition(":")
    files = Files(*(options.get(name) for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")))
    return Address(
        found,
        Login(unquote(user), unquote(password)),
        int(database or "0"),
        _context(files) if scheme == "rediss" else None,
        files,
        unquote(primary),
        Login(options.get("sentinel_username", ""), options.get("sentinel_password", "")),
        is_cluster,
    )


def _host(text: str, port: int) -> Host:
    try:
        parts = urlsplit(f"//{text}")
        port = parts.port or port
    except ValueError:
        raise EngineError(f"engine_url: its port is no number up to 65535; {_ENCODED}") from None
    if not parts.hostname:
        raise EngineError(_EXPECTED)
    return Host(parts.hostname, port)


def _context(files: Files) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=files.ca)
    except OSError as error:
        raise EngineError(f"engine_url: ssl_ca_certs can't be used: {error.strerror or error}") from None
    if files.cert is not None:
        try:
            context.load_cert_chain(files.cert, files.key)
        except OSError as error:
            why = f"ssl_certfile or ssl_keyfile can't be used: {error.strerror or error}"
            raise EngineError(f"engine_url: {why}") from None
    return context
