"""TLS of the server: its certificates, which can be replaced while connections stay open, and its handshakes.

A handshake uses the context that is current when it begins. Connections keep theirs, and a bad file leaves the current
context in place. Loading new files into a context in use would not work: a key that doesn't match is noticed only
after the certificate was replaced, and authorities can only be added.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.files import read_regular_file

MINIMUM: Final = ssl.TLSVersion.TLSv1_2
"""Older versions are broken and forbidden (RFC 8996)."""

TLS_CLOSE_TIMEOUT: Final = 5.0
"""Seconds a peer has for the closing alert of TLS; by then nothing of the stream is left to send."""


class ServerTls:
    """The certificates that a gateway shows, and the authorities of those it requires.

    Args:
        settings: name the files.

    Raises:
        ConfigError: a file can't be used.

    Attributes:
        context: used by handshakes that begin now.
    """

    @classmethod
    def wanted(cls, settings: Settings) -> Self | None:
        """Return the certificates, or None if the settings name no files; raises like the class."""
        return cls(settings) if settings.tls_cert or settings.tls_key or settings.tls_client_ca else None

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.context = make_context(settings)

    def reload(self) -> None:
        """Read the files again: handshakes from now on use what is in them.

        Raises:
            ConfigError: a file can't be used; the certificates stay as they are.
        """
        self.context = make_context(self._settings)


def make_context(settings: Settings) -> ssl.SSLContext:
    """Make a context from the files that the settings name.

    Raises:
        ConfigError: a file is not named, missing, unreadable, not what it should be; the key is not the certificate's.
    """
    if not settings.tls_cert or not settings.tls_key:
        raise ConfigError("TLS needs both tls_cert and tls_key: name both, or neither of them nor tls_client_ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = MINIMUM
    context.set_alpn_protocols(["http/1.1"])
    context.num_tickets = 0  # streams live long; a resumed session would bypass a reload
    context.options |= ssl.OP_NO_TICKET
    _check_pem("tls_cert", settings.tls_cert, "CERTIFICATE")
    _check_pem("tls_key", settings.tls_key, "PRIVATE KEY")
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password=_refuse_password)
    except ssl.SSLError as error:
        raise ConfigError(_explain(settings, error)) from None
    if settings.tls_client_ca:
        _check_pem("tls_client_ca", settings.tls_client_ca, "CERTIFICATE")
        try:
            context.load_verify_locations(settings.tls_client_ca)
        except ssl.SSLError as error:
            raise ConfigError(f"tls_client_ca {settings.tls_client_ca}: {_reason(error)}") from None
        context.verify_mode = (
            ssl.CERT_OPTIONAL
        )  # `AccessControl` refuses a peer without one, in words; a bad one fails the handshake
    return context


def _check_pem(setting: str, path: str, label: str) -> None:
    """Check a PEM file, as errors of OpenSSL don't say which of the files they are about."""
    try:
        content = read_regular_file(Path(path))
    except OSError as error:
        raise ConfigError(f"{setting} {path}: {error.strerror}") from None
    if f"{label}-----".encode() not in content:
        raise ConfigError(f"{setting} {path}: there is no PEM {label.lower()} in it")


def _refuse_password() -> str:
    raise ConfigError("tls_key is encrypted, and there is nobody to ask for its password: decrypt the file")


def _explain(settings: Settings, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"tls_key {settings.tls_key} is not the key of the certificate in tls_cert {settings.tls_cert}"
    return f"tls_cert {settings.tls_cert} with tls_key {settings.tls_key}: {_reason(error)}"


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "unreadable").replace("_", " ").lower()


class TlsHandshake(asyncio.Protocol):
    """The handshake of one accepted socket (RFC 8446 §4).

    The event loop can do the handshake itself, but hands over a socket only after it. Until then nobody could count or
    drop the socket, and only descriptors would limit thousands of sockets that never send a byte.

    It begins at once: uvloop reads a socket as soon as it is handed over, and TLS would miss bytes that come before it
    begins. So the coroutine of the handshake is stepped here; a task would begin a turn later.

    Args:
        transport: of the socket.
        tls: the current certificates.
        settings: how long it may take.
        done: called after the handshake, with the transport of TLS and bytes that came together with its end.
        failed: called if the handshake fails; may be called twice.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        tls: ServerTls,
        settings: Settings,
        done: Callable[[asyncio.Transport, bytes], None],
        failed: Callable[[], None],
    ) -> None:
        self._socket = transport
        self._done = done
        self._failed = failed
        self._early = b""
        self._steps = asyncio.get_running_loop().start_tls(
            transport,
            self,
            tls.context,
            server_side=True,
            ssl_handshake_timeout=settings.handshake_timeout,
            ssl_shutdown_timeout=TLS_CLOSE_TIMEOUT,
        )
        self._go_on()

    def _go_on(self, _awaited: asyncio.Future[None] | None = None) -> None:
        try:
            awaited = self._steps.send(None)
        except StopIteration as over:
            self._finish(over.value)
        except OSError as error:  # by the peer, or because the socket was dropped
            error.__traceback__ = None  # breaks a cycle: traceback, this frame, the awaited future, the error
            self._failed()
        else:
            awaited.add_done_callback(self._go_on)

    def _finish(self, transport: asyncio.Transport | None) -> None:
        if transport is None or transport.is_closing() or self._socket.is_closing():  # dropped meanwhile
            self._failed()
        else:
            self._done(transport, self._early)

    def data_received(self, data: bytes) -> None:
        """Keep bytes that the peer sent together with the end of its handshake."""
        self._early += data

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        """The socket is gone."""
        self._failed()
