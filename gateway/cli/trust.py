"""TLS options that all connecting commands share: trusted CAs and the client certificate."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import click

from deltawire.gateway.files import readable_again

Command = TypeVar("Command", bound=Callable[..., Any])


def tls_options(command: Command) -> Command:
    """Add the TLS options to a command, which receives the resulting context as its argument `tls`."""

    @functools.wraps(command)
    def run(
        *args: Any, tls_ca: str | None, tls_client_cert: str | None, tls_client_key: str | None, **rest: Any
    ) -> Any:
        return command(*args, tls=make_context(tls_ca, tls_client_cert, tls_client_key), **rest)

    for name, description in (
        ("--tls-client-key", "PEM file with the private key of --tls-client-cert."),
        ("--tls-client-cert", "PEM file with the client certificate, for a wss gateway that requires one."),
        ("--tls-ca", "PEM file with the CA certificates to trust for wss, instead of the system's."),
    ):
        variable = f"DELTAWIRE_{name[2:].replace('-', '_').upper()}"
        click.option(name, metavar="FILE", envvar=variable, show_envvar=True, help=description)(run)
    return run  # type: ignore[return-value]  # it has the parameters of the command and the added options


def make_context(ca: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    """A TLS context from the options; None if none was given.

    Args:
        ca: file with the CA certificates to trust; None trusts those of the system, or of `SSL_CERT_FILE`.
        certificate: file with the client certificate.
        key: file with its private key.

    Raises:
        UsageError: a file can't be used.
    """
    if (certificate is None) is not (key is None):
        raise click.UsageError("--tls-client-cert and --tls-client-key belong together: name both, or none")
    if ca is None and certificate is None:
        return None
    with ExitStack() as copies:
        trusted, shown, secret = (_readable_again(path, copies) for path in (ca, certificate, key))
        try:
            context = ssl.create_default_context(cafile=trusted)
            if shown is not None:
                context.load_cert_chain(shown, secret, password=_refuse_password)
        except ssl.SSLError as error:
            files = ", ".join(path for path in (ca, certificate, key) if path is not None)
            reason = (error.reason or "unreadable").replace("_", " ").lower()
            raise click.UsageError(f"TLS: {reason}: {files}") from None
    return context


def _readable_again(path: str | None, copies: ExitStack) -> str | None:
    """A path that OpenSSL can open safely: it would wait for a pipe forever."""
    if path is None:
        return None
    try:
        return copies.enter_context(readable_again(Path(path)))
    except OSError as error:
        raise click.UsageError(f"TLS: can't read {path}: {error.strerror}") from None


def _refuse_password() -> str:
    raise click.UsageError("the key of --tls-client-key is encrypted: decrypt the file")
