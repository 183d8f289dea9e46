"""The gateway's settings: one frozen value, validated once (SPEC §10).

Every setting is a flag of `deltawire serve` (`--retention-events`), an environment variable
(`DELTAWIRE_RETENTION_EVENTS`) and a key of the TOML file (`retention_events`), in this order of precedence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from deltawire.gateway.files import read_file
from deltawire.protocol.errors import DeltawireError
from deltawire.protocol.messages import Policy

KIB = 1024
MIB = 1024 * KIB

GROUPS: Final = {
    "host": "Listening",
    "tls_cert": "TLS",
    "auth_key": "Access",
    "max_message": "Limits",
    "policy": "Consumers",
    "block_timeout": "Timeouts, in seconds",
    "closed_retention": "Lifetime of streams, in seconds",
    "log_level": "Logs",
}
"""The headings of groups of settings, by the setting each begins with."""

ForwardedHeader: TypeAlias = Literal["x-forwarded-for", "forwarded"]


class ConfigError(DeltawireError):
    """A setting is wrong; the message names it and says what is expected."""


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings with their defaults. Numbers that were measured or weighed have their reasons beside them."""

    # Listening

    host: Annotated[str, Meta(min_length=1, description="Address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0 takes a free one")] = 8765
    insecure_no_auth: Annotated[
        bool,
        Meta(
            description="Whether to listen off loopback without authentication: who reaches the port may do everything"
        ),
    ] = False

    # TLS

    tls_cert: Annotated[
        str, Meta(description="PEM file of the certificate and its chain; makes the gateway speak wss")
    ] = ""
    tls_key: Annotated[str, Meta(description="PEM file of the certificate's private key, unencrypted")] = ""
    tls_client_ca: Annotated[
        str, Meta(description="PEM file of authorities; clients must have a certificate of one of them")
    ] = ""

    # Access

    auth_key: Annotated[
        str, Meta(description="File with the key of tokens: a PEM public key, a secret, or a JWKS; empty asks for none")
    ] = ""
    auth_jwks_url: Annotated[
        str, Meta(description="Where to fetch the keys of tokens, in place of auth_key; https, or http on loopback")
    ] = ""
    auth_issuer: Annotated[str, Meta(description="The `iss` tokens must have; empty takes any")] = ""
    auth_audience: Annotated[
        str, Meta(description="What must be among the `aud` of tokens; empty wants tokens without one")
    ] = ""
    auth_max_lifetime: Annotated[
        float, Meta(gt=0, le=31_536_000, description="Seconds until a token's `exp`, at most")
    ] = 86_400.0
    auth_query_token: Annotated[
        bool, Meta(description="Whether a token may come as `access_token` in the query string, which is logged widely")
    ] = False
    allowed_origins: Annotated[
        str, Meta(description="Origins of pages that may connect (`https://app.example.org`), separated by commas")
    ] = ""

    # Limits

    max_message: Annotated[int, Meta(ge=1024, le=MIB, description="Largest message a peer may send, in bytes")] = (
        64 * KIB
    )
    retention_events: Annotated[int, Meta(ge=1, description="Events a stream keeps; the oldest go first")] = 50_000
    retention_bytes: Annotated[
        int, Meta(ge=KIB, description="Bytes a stream keeps, bookkeeping included; the oldest events go first")
    ] = 8 * MIB
    retention_age: Annotated[
        float, Meta(ge=0, description="Seconds an event is kept; 0 keeps it until another limit is reached")
    ] = 0.0
    memory_limit: Annotated[
        int,
        Meta(
            ge=MIB,
            description="Bytes of all streams and connections together; closed, then idle streams are evicted first",
        ),
    ] = 512 * MIB
    max_streams: Annotated[
        int,
        Meta(ge=1, description="Streams there may be; unused ones without an event, closed, then idle ones go first"),
    ] = 50_000  # empty they take 145 MiB; more than connections, so that readers of made-up ids evict nothing written
    max_connections: Annotated[
        int, Meta(ge=1, description="Connections there may be, half-open ones and plain HTTP included")
    ] = 20_000  # idle they take 300 MiB, with TLS 800 MiB: memory_limit refuses some before
    max_connections_per_address: Annotated[
        int, Meta(ge=1, description="Connections one IPv4 address or IPv6 /64 network may have")
    ] = 10_000  # generous, as offices and proxies are one address; half of all, so that nobody takes every place
    max_connections_per_token: Annotated[
        int, Meta(ge=1, description="Connections the holder of one token may have")
    ] = 10_000  # as for an address
    connection_rate: Annotated[
        float, Meta(ge=0, description="Connections a second that one address may open in the long run; 0 is no limit")
    ] = 100.0  # a tenth of what one core can admit
    connection_burst: Annotated[
        int, Meta(ge=1, description="Connections that one address may open at once, before connection_rate holds")
    ] = 10_000  # all that one address may have, when they reconnect together
    max_handshakes: Annotated[
        int, Meta(ge=1, description="Sockets that may have asked for nothing yet; for one more, the oldest is dropped")
    ] = 1_000
    trusted_proxies: Annotated[
        str,
        Meta(description="Addresses and networks of reverse proxies whose word for the peer's address is taken"),
    ] = ""
    forwarded_header: Annotated[ForwardedHeader, Meta(description="The header in which they give it")] = (
        "x-forwarded-for"
    )
    max_consumers: Annotated[int, Meta(ge=1, description="Consumers a stream may have")] = 10_000
    max_producers: Annotated[int, Meta(ge=1, description="Producers a stream may have")] = 1_000
    buffer_bytes: Annotated[
        int, Meta(ge=KIB, description="Bytes a consumer may lag behind before its policy acts, whatever its events")
    ] = MIB

    # Consumers

    policy: Annotated[Policy, Meta(description="What happens to a consumer that falls behind, unless it says")] = (
        Policy.COALESCE
    )
    buffer: Annotated[
        int,
        Meta(ge=1, le=10_000, description="Events a consumer may lag behind before its policy acts, unless it says"),
    ] = 100

    allow_block: Annotated[bool, Meta(description="Whether consumers may choose `block`, which holds producers up")] = (
        True
    )

    signal_rate: Annotated[
        float, Meta(gt=0, description="Messages a second a consumer may send, signals above all; twice as many at once")
    ] = 10.0

    message_rate: Annotated[
        float,
        Meta(
            ge=0,
            description="Messages and batch items a second a producer may send, as many more at once; 0 is no limit",
        ),
    ] = 200_000.0  # twice what the fastest producer needs: only a flood of what is no event gets there
    control_rate: Annotated[
        float,
        Meta(gt=0, description="Pings, pongs and scraps of messages a second a peer may send; twice as many at once"),
    ] = 100.0  # a ping a second is a lively peer; each costs as much as an event and says nothing

    # Timeouts, in seconds

    block_timeout: Annotated[
        float, Meta(gt=0, description="Seconds a `block` consumer may hold producers up without taking anything")
    ] = 10.0
    send_timeout: Annotated[
        float, Meta(gt=0, description="Seconds a socket may accept no byte before it is aborted")
    ] = 10.0
    lease: Annotated[
        float, Meta(gt=0, description="Seconds a producer lost inside a message has to come back and finish it")
    ] = 10.0
    handshake_timeout: Annotated[float, Meta(gt=0, description="Seconds a peer has for TLS and its HTTP request")] = (
        10.0
    )
    ping_interval: Annotated[float, Meta(gt=0, description="Seconds between pings to a peer")] = 20.0
    ping_timeout: Annotated[float, Meta(gt=0, description="Seconds a peer has to answer a ping")] = 20.0
    idle_timeout: Annotated[
        float,
        Meta(ge=0, description="Seconds a connection may go unused, its stream too, before it ends; 0 is for ever"),
    ] = 0.0
    drain_timeout: Annotated[
        float, Meta(ge=0, description="Seconds from the signal to stop to the end; consumers take what is left in them")
    ] = 30.0
    drain_delay: Annotated[
        float,
        Meta(
            ge=0,
            description="Seconds of these in which /readyz says no but everything goes on, for load balancers to see",
        ),
    ] = 0.0

    # Lifetime of streams, in seconds

    closed_retention: Annotated[float, Meta(ge=0, description="Seconds a closed stream can still be replayed")] = 600.0
    inactive_after: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds without an event, and without a peer coming or going, after which an open stream "
            "is closed",
        ),
    ] = 86_400.0
    cleanup_interval: Annotated[float, Meta(gt=0, description="Seconds between clean-ups of inactive streams")] = 3600.0

    # Logs

    log_level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="Least severity logged")] = (
        "info"
    )
    log_format: Annotated[
        Literal["auto", "json", "console"], Meta(description="Log lines; auto is console on a terminal, JSON elsewhere")
    ] = "auto"

    # Traces

    otel: Annotated[
        bool,
        Meta(description="Whether each message is a span of OpenTelemetry; `OTEL_…` variables say where spans go"),
    ] = False

    @property
    def has_authentication(self) -> bool:
        """Whether peers must send a token."""
        return bool(self.auth_key or self.auth_jwks_url)


def make_settings(values: dict[str, Any]) -> Settings:
    """Settings of names and values; text is read as a number where a number is wanted.

    Raises:
        ConfigError: an unknown name, or a value out of its bounds.
    """
    settings = _convert(values)
    if settings.drain_delay and settings.drain_delay >= settings.drain_timeout:
        raise ConfigError("drain_delay is a part of drain_timeout: it must be the smaller one")
    if settings.policy is Policy.BLOCK and not settings.allow_block:
        raise ConfigError("policy `block` is the default of a deployment that forbids it: see allow_block")
    return settings


def _convert(values: dict[str, Any]) -> Settings:
    """Settings each good by itself."""
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error).replace("Object contains unknown field", "unknown setting")) from None


def grouped_settings() -> dict[str, list[str]]:
    """The names of all settings by the heading of their group, in order."""
    groups: dict[str, list[str]] = {}
    names: list[str] = []
    for name in Settings.__struct_fields__:
        if name in GROUPS:
            names = groups[GROUPS[name]] = []
        names.append(name)
    return groups


def read_config_file(path: Path) -> dict[str, Any]:
    """The names and values of a TOML file, checked to be settings.

    Raises:
        ConfigError: the file can't be read, is not TOML, or holds what is not a setting.
    """
    try:
        values = msgspec.toml.decode(read_file(path))
    except OSError as error:
        raise ConfigError(f"config file {path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path}: not valid TOML: {error}") from None
    try:
        settings = _convert(values)  # what they need beside them may be said by a flag
    except ConfigError as error:
        raise ConfigError(f"config file {path}: {error}") from None
    return {name: getattr(settings, name) for name in values}
