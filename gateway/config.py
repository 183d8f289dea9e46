"""The gateway's settings: one frozen value, made once by `configuring` (SPEC §10).

Every setting is a flag of `deltawire serve` (`--retention-events`), an environment variable
(`DELTAWIRE_RETENTION_EVENTS`) and a key of the TOML file (`retention_events`), in this order of precedence.
"""

# No annotation here is text (PEP 563): msgspec would compile each one at every start.
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from deltawire.protocol.errors import DeltawireError
from deltawire.protocol.messages import Policy

KIB = 1024
MIB = 1024 * KIB

GROUPS: Final = {
    "host": "Listening",
    "workers": "Processes",
    "tls_cert": "TLS",
    "auth_key": "Access",
    "max_message": "Limits",
    "policy": "Consumers",
    "block_timeout": "Timeouts, in seconds",
    "closed_retention": "Lifetime of streams, in seconds",
    "middleware": "Middleware",
    "data_dir": "Storage",
    "engine_url": "Storage on Redis",
    "log_level": "Logs",
}
"""The heading of each group of settings, by the first setting of the group."""

ForwardedHeader: TypeAlias = Literal["x-forwarded-for", "forwarded"]


class ConfigError(DeltawireError):
    """A setting is wrong; the message names it and says what is expected."""


class UnreachableError(ConfigError):
    """What a setting names can't be reached now; the setting may be right, and all may be well later."""


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings with their defaults. Defaults that need a reason have it in a comment."""

    # Listening

    host: Annotated[str, Meta(min_length=1, description="Address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0 picks a free one")] = 8765
    insecure_no_auth: Annotated[
        bool,
        Meta(description="Listen off loopback without authentication: anyone who reaches the port can do everything"),
    ] = False

    # Processes

    workers: Annotated[
        int,
        Meta(
            ge=0,
            le=64,
            description="Processes of `deltawire serve` that share the streams; 0 means one for each core",
        ),
    ] = 1  # more cost a few percent each, as most connections change the process once

    # TLS

    tls_cert: Annotated[
        str, Meta(description="PEM file with the certificate and its chain; makes the gateway speak wss")
    ] = ""
    tls_key: Annotated[str, Meta(description="PEM file with the certificate's private key, unencrypted")] = ""
    tls_client_ca: Annotated[
        str, Meta(description="PEM file with CA certificates; clients must present a certificate issued by one of them")
    ] = ""

    # Access

    auth_key: Annotated[
        str,
        Meta(
            description="File with the key that verifies tokens: a PEM public key, a secret, or a JWKS; "
            "empty requires no tokens"
        ),
    ] = ""
    auth_jwks_url: Annotated[
        str,
        Meta(description="URL of the keys that verify tokens (JWKS), instead of auth_key; https, or http on loopback"),
    ] = ""
    auth_issuer: Annotated[str, Meta(description="Required `iss` of tokens; empty accepts any")] = ""
    auth_audience: Annotated[
        str, Meta(description="Audience that the `aud` of tokens must include; empty accepts only tokens without `aud`")
    ] = ""
    auth_max_lifetime: Annotated[
        float, Meta(gt=0, le=31_536_000, description="Maximum seconds until a token's `exp`")
    ] = 86_400.0
    auth_query_token: Annotated[
        bool, Meta(description="Accept a token as `access_token` in the query string, which is often logged")
    ] = False
    allowed_origins: Annotated[
        str, Meta(description="Origins of web pages that may connect (`https://app.example.org`), separated by commas")
    ] = ""
    allowed_hosts: Annotated[
        str,
        Meta(
            description="Names by which plain HTTP may be read on loopback without authentication (`gw.example.org`), "
            "separated by commas; `*` allows all"
        ),
    ] = ""
    console: Annotated[
        bool, Meta(description="Serve the console, a web page at `/` that shows streams; it holds no data itself")
    ] = True

    # Limits

    max_message: Annotated[int, Meta(ge=1024, le=MIB, description="Largest message a peer may send, in bytes")] = (
        64 * KIB
    )
    retention_events: Annotated[int, Meta(ge=1, description="Events kept per stream; the oldest are evicted first")] = (
        50_000
    )
    retention_bytes: Annotated[
        int, Meta(ge=KIB, description="Bytes kept per stream, overhead included; the oldest events are evicted first")
    ] = 8 * MIB
    retention_age: Annotated[float, Meta(ge=0, description="Seconds an event is kept; 0 means no age limit")] = 0.0
    memory_limit: Annotated[
        int,
        Meta(
            ge=MIB,
            description="Bytes for all streams and connections together; closed streams are evicted "
            "first, then idle ones",
        ),
    ] = 512 * MIB
    max_streams: Annotated[
        int,
        Meta(
            ge=1,
            description="Maximum number of streams; unused ones without events are freed first, then "
            "closed, then idle ones that are not stored",
        ),
    ] = 50_000  # 145 MiB when empty; above max_connections, so that readers of unknown ids evict no written stream
    max_connections: Annotated[
        int, Meta(ge=1, description="Maximum number of connections, half-open ones and plain HTTP included")
    ] = 20_000  # idle, they take 300 MiB, with TLS 800 MiB: memory_limit refuses some earlier
    max_connections_per_address: Annotated[
        int, Meta(ge=1, description="Maximum connections from one IPv4 address or IPv6 /64 network")
    ] = 10_000  # generous, as an office or a proxy is one address; half of all, so that no address takes all
    max_connections_per_token: Annotated[
        int, Meta(ge=1, description="Maximum connections of the holder of one token")
    ] = 10_000  # as for an address
    connection_rate: Annotated[
        float,
        Meta(ge=0, description="Average rate, per second, at which one address may open connections; 0 means no limit"),
    ] = 100.0  # a tenth of what one core can admit
    connection_burst: Annotated[
        int, Meta(ge=1, description="Connections that one address may open at once before connection_rate applies")
    ] = 10_000  # an address may reconnect all its connections together
    max_handshakes: Annotated[
        int,
        Meta(
            ge=1,
            description="Maximum number of sockets that have not sent a request yet; the oldest is "
            "dropped when another arrives",
        ),
    ] = 1_000
    trusted_proxies: Annotated[
        str,
        Meta(description="Addresses and networks of reverse proxies that are trusted to report the client's address"),
    ] = ""
    forwarded_header: Annotated[
        ForwardedHeader, Meta(description="Header in which trusted proxies report the client's address")
    ] = "x-forwarded-for"
    max_consumers: Annotated[int, Meta(ge=1, description="Maximum consumers of one stream")] = 10_000
    max_producers: Annotated[int, Meta(ge=1, description="Maximum producers of one stream")] = 1_000
    buffer_bytes: Annotated[
        int,
        Meta(
            ge=KIB, description="Bytes a consumer may lag behind before its policy acts, whatever the number of events"
        ),
    ] = MIB

    # Consumers

    policy: Annotated[Policy, Meta(description="Policy for consumers that fall behind, unless they choose another")] = (
        Policy.COALESCE
    )
    buffer: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="Events a consumer may lag behind before its policy acts, unless it chooses another limit",
        ),
    ] = 100

    stream_classes: Annotated[
        str,
        Meta(
            description="Classes of streams, which say who is served first under overload: `chat-*=high,batch-*=low`; "
            "normal for all others"
        ),
    ] = ""
    allow_block: Annotated[
        bool, Meta(description="Allow consumers to choose `block`, which can make producers wait")
    ] = True

    signal_rate: Annotated[
        float,
        Meta(
            gt=0,
            description="Messages per second that a consumer may send, mostly signals; bursts up to two seconds' worth",
        ),
    ] = 10.0

    message_rate: Annotated[
        float,
        Meta(
            ge=0,
            description="Messages and batch items per second that a producer may send; bursts up to one "
            "second's worth; 0 means no limit",
        ),
    ] = 200_000.0  # twice what the fastest producer needs: only a flood of invalid messages reaches it
    control_rate: Annotated[
        float,
        Meta(
            gt=0,
            description="Pings, pongs and small fragments per second that a peer may send; bursts up to "
            "two seconds' worth",
        ),
    ] = 100.0  # one ping a second is already a lot; each costs as much as an event

    # Timeouts, in seconds

    block_timeout: Annotated[
        float, Meta(gt=0, description="Seconds a `block` consumer may make producers wait while it takes nothing")
    ] = 10.0
    send_timeout: Annotated[
        float, Meta(gt=0, description="Seconds a socket may accept no data before it is aborted")
    ] = 10.0
    lease: Annotated[
        float,
        Meta(gt=0, description="Seconds a producer that was lost during a message has to reconnect and finish it"),
    ] = 10.0
    handshake_timeout: Annotated[
        float, Meta(gt=0, description="Seconds a peer has for the TLS handshake and the HTTP request")
    ] = 10.0
    ping_interval: Annotated[float, Meta(gt=0, description="Seconds between pings to a peer")] = 20.0
    ping_timeout: Annotated[float, Meta(gt=0, description="Seconds a peer has to answer a ping")] = 20.0
    idle_timeout: Annotated[
        float,
        Meta(
            ge=0,
            description="Seconds after which a connection ends if both it and its stream are unused; 0 means never",
        ),
    ] = 0.0
    drain_timeout: Annotated[
        float,
        Meta(
            ge=0,
            description="Maximum seconds from the stop signal to the exit; consumers receive pending events meanwhile",
        ),
    ] = 30.0
    drain_delay: Annotated[
        float,
        Meta(
            ge=0,
            description="First seconds of drain_timeout, in which only /readyz reports the shutdown, to load balancers",
        ),
    ] = 0.0

    # Lifetime of streams, in seconds

    closed_retention: Annotated[float, Meta(ge=0, description="Seconds a closed stream can still be replayed")] = 600.0
    inactive_after: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds without an event or a peer joining or leaving, after which an open stream is closed",
        ),
    ] = 86_400.0
    cleanup_interval: Annotated[float, Meta(gt=0, description="Seconds between checks for inactive streams")] = 3600.0

    # Middleware

    middleware: Annotated[
        str,
        Meta(
            description="TOML file that says what becomes of events before they are appended, by stream: redacted, "
            "dropped, changed; empty leaves them as they are"
        ),
    ] = ""

    # Storage

    data_dir: Annotated[
        str,
        Meta(description="Folder to store streams in, so that they survive a restart; empty keeps them in memory"),
    ] = ""
    sync: Annotated[
        Literal["always", "interval", "off"],
        Meta(
            description="When stored events are on the disk: before they are acked (always), every sync_interval, "
            "or when the operating system writes them (off)"
        ),
    ] = "always"
    sync_interval: Annotated[
        float, Meta(gt=0, description="Seconds of acked events that sync=interval may lose with the machine")
    ] = 1.0

    data_limit: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes that all stored events may cost (0: no limit); above it closed and unused streams go "
            "first, then the oldest events",
        ),
    ] = 0
    data_age: Annotated[
        float,
        Meta(ge=0, description="Seconds that events are stored at most, whatever their stream retains (0: no limit)"),
    ] = 0.0

    # Storage on Redis

    engine_url: Annotated[
        str,
        Meta(
            description="Redis or Valkey server to store streams on, instead of data_dir: "
            "redis://[user:password@]host[:port][/database], rediss:// for TLS, redis+sentinel:// or "
            "redis+cluster://"
        ),
    ] = ""
    engine_timeout: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds without an answer of the server after which publishers are refused, and that another "
            "gateway has to answer",
        ),
    ] = 5.0
    engine_replicas: Annotated[
        int, Meta(ge=0, description="Replicas of the server that must have an event before it is acked")
    ] = 0
    engine_prefix: Annotated[
        str, Meta(pattern="^[A-Za-z0-9._-]{1,64}$", description="What the names of all keys on the server begin with")
    ] = "deltawire"
    advertise_url: Annotated[
        str,
        Meta(
            description="Where other gateways on the same server reach this one, to relay requests about its "
            "streams (`wss://node1.internal`)"
        ),
    ] = ""

    # Logs

    log_level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="Lowest severity logged")] = (
        "info"
    )
    log_format: Annotated[
        Literal["auto", "json", "console"],
        Meta(description="Format of log lines; auto means console on a terminal, JSON elsewhere"),
    ] = "auto"

    # Traces

    otel: Annotated[
        bool,
        Meta(description="Make each message an OpenTelemetry span; `OTEL_…` variables say where spans are sent"),
    ] = False

    @property
    def has_authentication(self) -> bool:
        """Whether peers must send a token."""
        return bool(self.auth_key or self.auth_jwks_url)


def grouped_settings() -> dict[str, list[str]]:
    """The names of all settings, in order, by group heading."""
    groups: dict[str, list[str]] = {}
    names: list[str] = []
    for name in Settings.__struct_fields__:
        if name in GROUPS:
            names = groups[GROUPS[name]] = []
        names.append(name)
    return groups
