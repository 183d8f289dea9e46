"""`deltawire proxy`: a proxy in front of a provider, whose streamed answers can be followed."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from ipaddress import ip_address
from ssl import SSLContext

import click

from deltawire.gateway.access.origins import parse_hosts
from deltawire.gateway.cli.collector import calm
from deltawire.gateway.cli.credentials import GivenToken, token_options
from deltawire.gateway.cli.ending import StartFailure, Status, cannot_listen, wrong_arguments_told
from deltawire.gateway.cli.loop import new_event_loop
from deltawire.gateway.cli.options import URL, FiniteRange, WholeRange, examples
from deltawire.gateway.cli.trust import tls_options
from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.logs import configure_logs
from deltawire.gateway.proxy import DRAIN_TIMEOUT, IDLE_TIMEOUT, MAX_REQUESTS, Proxy


@click.command(
    "proxy",
    epilog=examples(
        "deltawire proxy --upstream https://api.openai.com",
        "deltawire proxy --upstream https://api.anthropic.com --gateway wss://gateway.example.org --token-file token",
    ),
)
@click.option("--upstream", required=True, metavar="URL", help="The provider: what requests are passed on to.")
@click.option(
    "--gateway",
    type=URL,
    default="ws://127.0.0.1:8765",
    show_default=True,
    envvar="DELTAWIRE_URL",
    show_envvar=True,
    metavar="URL",
    help="Address of the gateway.",
)
@click.option("--readers", type=URL, metavar="URL", help="Where readers reach the gateway; default: the same.")
@click.option(
    "--stream-prefix",
    default="",
    metavar="PREFIX",
    help="Beginning of the ids of streams that no request names; a token for `PREFIX*` suffices for them.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=WholeRange(0, 65535), default=8766, show_default=True, help="0 picks a free one.")
@click.option(
    "--allowed-hosts",
    default="",
    metavar="NAMES",
    help="Names by which requests may reach the proxy on loopback, separated by commas; `*` allows all.",
)
@click.option(
    "--insecure-no-auth",
    is_flag=True,
    help="Listen off loopback: whoever reaches the port uses the proxy, and publishes with its token.",
)
@click.option(
    "--idle-timeout",
    type=FiniteRange(0),
    default=IDLE_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="Give a request up when for so long nothing has come, from the provider or of the body, or the caller has "
    "taken nothing of the answer; 0 never does.",
)
@click.option(
    "--max-requests", type=WholeRange(1), default=MAX_REQUESTS, show_default=True, help="Requests at a time; then 503."
)
@click.option(
    "--drain-timeout",
    type=FiniteRange(0),
    default=DRAIN_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="That answers have to end after SIGTERM.",
)
@tls_options
@token_options
def command(  # noqa: PLR0913 - one argument an option
    upstream: str,
    gateway: str,
    readers: str | None,
    host: str,
    port: int,
    *,
    stream_prefix: str,
    allowed_hosts: str,
    insecure_no_auth: bool,
    idle_timeout: float,
    max_requests: int,
    drain_timeout: float,
    tls: SSLContext | None,
    token: GivenToken,
) -> int:
    """Pass requests on to a provider, and its streamed answers to a gateway as well.

    An application changes its base URL to the address of the proxy, and nothing else. Bytes, status codes and headers
    of answers pass unchanged; an answer that is streamed goes to a stream too, which the header X-Deltawire-Stream of
    the request names (else it gets one of its own). The answer's headers X-Deltawire-Stream and X-Deltawire-Subscribe
    say where it can be followed.

    When whoever asked leaves, or a reader cancels, the provider's answer is aborted. With X-Deltawire-Detach: 1 only a
    reader's cancel does that. Without a gateway, requests are passed on all the same.

    /deltawire/livez, /deltawire/readyz and /deltawire/metrics are the proxy's own paths.
    """
    try:
        from deltawire.gateway.proxy.serving import ListenError, ProxyServer  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise StartFailure("`deltawire proxy` needs the extra: pip install 'deltawire[proxy]'") from None
    if not (insecure_no_auth or _is_loopback(host)):
        raise StartFailure(
            f"{host} is not the loopback interface, and the proxy asks nobody for a token: "
            "put it behind something that does, or pass --insecure-no-auth"
        )
    try:
        hosts = parse_hosts("*" if insecure_no_auth else allowed_hosts, frozenset())
    except ConfigError as error:
        raise StartFailure(str(error)) from None
    configure_logs(Settings())
    with wrong_arguments_told():
        proxy = Proxy(
            upstream,
            gateway,
            readers=readers,
            token=token,
            tls=tls,
            stream_prefix=stream_prefix,
            idle_timeout=idle_timeout,
            max_requests=max_requests,
        )
    server = ProxyServer(proxy, host, port, drain_timeout, gateway, hosts)
    with asyncio.Runner(loop_factory=new_event_loop) as runner, ExitStack() as stack:
        calm(stack)
        try:
            runner.run(server.run_until_signal())
        except ListenError as error:
            raise StartFailure(cannot_listen(host, port, error.reason)) from None
    return Status.DONE


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
