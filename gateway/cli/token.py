"""`deltawire token`: make keys and tokens for trying things out."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from deltawire.gateway.access.grant import Action, parse_streams
from deltawire.gateway.access.keys import BadKey
from deltawire.gateway.access.signing import SigningKey, make_token, parse_signing_key
from deltawire.gateway.cli.ending import Failure, say
from deltawire.gateway.cli.options import POLICY, EnumChoice, WholeRange, examples
from deltawire.gateway.config import Settings
from deltawire.gateway.files import read_file
from deltawire.protocol.messages import Policy
from deltawire.protocol.priority import StreamClass

Command = TypeVar("Command", bound=Callable[..., Any])

SECRET_BYTES = 32
"""The size of the HS256 digest; a longer secret would add nothing (RFC 2104 §3)."""


def _check_entry(ctx: click.Context, param: click.Parameter, entries: tuple[str, ...]) -> tuple[str, ...]:
    try:
        parse_streams(entries)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None
    return entries


def _streams_option(action: Action, meaning: str) -> Callable[[Command], Command]:
    return click.option(
        f"--{action}",
        multiple=True,
        callback=_check_entry,
        metavar="STREAM|PREFIX*",
        help=f"{meaning}; may be repeated.",
    )


@click.command(
    "token",
    epilog=examples(
        "deltawire token --new-key key",
        "deltawire serve --auth-key key",
        "export DELTAWIRE_TOKEN=$(deltawire token --key key --all)",
        "deltawire token --key key --subscribe 'chat-*' --signal 'chat-*' --lifetime 600",
    ),
)
@click.option(
    "--new-key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a new secret to this file instead; it must not exist.",
)
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    envvar="DELTAWIRE_AUTH_KEY",
    show_envvar=True,
    metavar="FILE",
    help="Key that signs the token: the gateway's secret, or the private key (PEM) for its public key.",
)
@_streams_option(Action.PUBLISH, "Streams to publish to")
@_streams_option(Action.SUBSCRIBE, "Streams to read")
@_streams_option(Action.SIGNAL, "Streams to send signals to")
@_streams_option(Action.ADMIN, "Streams to create and close")
@click.option("--all", "everything", is_flag=True, help="Allow everything on every stream.")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    type=POLICY,
    help="Policy that the holder may choose; may be repeated; default: all.",
)
@click.option(
    "--class",
    "stream_class",
    type=EnumChoice(StreamClass),
    help="Class of the streams to which the holder publishes; default: that of the gateway's stream_classes.",
)
@click.option("--subject", help="Subject of the token (sub).")
@click.option("--issuer", help="Issuer of the token (iss), if the gateway has auth_issuer.")
@click.option("--audience", help="Audience of the token (aud), if the gateway has auth_audience.")
@click.option(
    "--lifetime", type=WholeRange(1), default=3600, show_default=True, metavar="SECONDS", help="Time until it expires."
)
def command(*, new_key: Path | None, key: Path | None, lifetime: int, **said: Any) -> None:
    """Print a token, or make a key that signs tokens.

    A token allows only what it names. Pass it to the commands that connect with --token-file or DELTAWIRE_TOKEN, and to
    wscat with -H 'Authorization: Bearer …'.
    """
    if new_key is not None:
        _write_secret(new_key)
        say(f"secret is in {new_key}: start the gateway with --auth-key {new_key}, make tokens with --key {new_key}")
        return
    if key is None:
        raise click.UsageError("--key is needed to sign with; --new-key FILE makes one")
    claims = _claims(int(time.time()), lifetime, **said)
    token = make_token(_read_key(key), claims)
    _warn(claims["deltawire"], lifetime)
    click.echo(token)


def _warn(allowed: dict[str, Any], lifetime: int) -> None:
    """Warn about a token that gateways will refuse or that allows nothing."""
    if not any(action in allowed for action in Action):
        say(f"warning: this token allows nothing: say what, with {', '.join(f'--{it}' for it in Action)} or --all")
    longest = Settings().auth_max_lifetime
    if lifetime > longest:
        say(
            f"warning: a gateway refuses a token that is valid for longer than its auth_max_lifetime, by default "
            f"{longest:g} seconds"
        )


def _claims(  # noqa: PLR0913 - one argument an option
    now: int,
    lifetime: int,
    *,
    everything: bool,
    policies: tuple[Policy, ...],
    stream_class: StreamClass | None,
    subject: str | None,
    issuer: str | None,
    audience: str | None,
    **entries: tuple[str, ...],
) -> dict[str, Any]:
    allowed: dict[str, Any] = {
        action.value: ["*"] if everything else list(entries[action.value])
        for action in Action
        if everything or entries[action.value]
    }
    if policies:
        allowed["policies"] = list(policies)
    if stream_class is not None:
        allowed["class"] = stream_class
    named = {"sub": subject, "iss": issuer, "aud": audience}
    return {
        **{name: value for name, value in named.items() if value is not None},
        "iat": now,
        "exp": now + lifetime,
        "jti": secrets.token_hex(8),
        "deltawire": allowed,
    }


def _read_key(path: Path) -> SigningKey:
    try:
        return parse_signing_key(read_file(path))
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None
    except BadKey as error:
        raise Failure(f"{path}: {error}") from None


def _write_secret(path: Path) -> None:
    """Write a secret to a new file that only its owner can read; never overwrite a file, which may hold a key."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(f"{secrets.token_urlsafe(SECRET_BYTES)}\n")
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None
