"""The token a command sends to the gateway: `--token`, `--token-file`, `DELTAWIRE_TOKEN`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import click
from click.core import ParameterSource

from deltawire.gateway.files import read_file

GivenToken: TypeAlias = str | Callable[[], str] | None
"""A token, or a function that reads it from its file, as clients accept it."""

Command = TypeVar("Command", bound=Callable[..., Any])


def token_options(command: Command) -> Command:
    """Add the token options to a command, which receives them as one argument `token`, a `GivenToken`."""
    given = click.option(
        "--token",
        "token_text",
        expose_value=False,
        is_eager=True,  # parsed before --token-file
        envvar="DELTAWIRE_TOKEN",
        show_envvar=True,
        callback=_keep,
        help="Token to send to the gateway. The list of processes shows it: prefer the variable or a file.",
    )
    kept = click.option(
        "--token-file",
        "token",
        type=click.Path(path_type=Path),
        callback=_choose,
        metavar="FILE",
        help="File with the token; read again for each connection and before the token expires.",
    )
    return given(kept(command))


def _keep(ctx: click.Context, _param: click.Parameter, text: str | None) -> None:
    ctx.meta[__name__] = text or None


def _choose(ctx: click.Context, param: click.Parameter, path: Path | None) -> GivenToken:
    text: str | None = ctx.meta.get(__name__)
    if path is None:
        return text
    if text is not None and ctx.get_parameter_source("token_text") is not ParameterSource.ENVIRONMENT:
        raise click.UsageError("--token and --token-file both say what the token is: give one")
    try:
        read_token(path)
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", ctx, param) from None
    except ValueError:
        raise click.BadParameter(f"{path}: not text", ctx, param) from None
    return partial(read_token, path)


def read_token(path: Path) -> str:
    """The token in a file, without surrounding white space."""
    return read_file(path).decode("utf-8-sig").strip()
