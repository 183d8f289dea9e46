"""This gateway, as it is measured: with default settings, in this or another revision."""

from __future__ import annotations

import secrets
import sys
import time
from pathlib import Path

import jwt

from scripts.bench.peer import ROOT, Peer
from scripts.bench.wire import request

TOKEN_LIFETIME = 3600
"""Seconds."""

ACTIONS = ("publish", "subscribe", "admin")
"""What the benchmark does to streams."""


MEMORY = "memory"
"""The engine that stores nothing."""

ENGINES = (MEMORY, "off", "interval", "always")
"""Where streams are kept: in memory, or in a store by its `sync`."""


class Deltawire(Peer):
    """`deltawire serve`.

    Args:
        root: of its source tree.
        name: in tables; the engine follows it where streams are stored.
        engine: where streams are kept.
        is_authenticating: whether every connection has to bring a token.
        workers: processes that serve; more than one on the server's core show what they cost, not what they win.

    Attributes:
        root: of its source tree.
        is_durable: whether streams are stored.
        token: what every connection brings; empty without authentication.
    """

    history = True

    def __init__(
        self,
        root: Path = ROOT,
        name: str = "deltawire",
        *,
        engine: str = MEMORY,
        is_authenticating: bool = False,
        workers: int = 1,
    ) -> None:
        self.root = root
        self._workers = workers
        self._engine = engine
        self.is_durable = engine != MEMORY
        self.name = f"{name} {engine}" if self.is_durable else name
        self._secret = secrets.token_urlsafe(48) if is_authenticating else ""
        claims = {"exp": int(time.time()) + TOKEN_LIFETIME, "deltawire": {action: ["*"] for action in ACTIONS}}
        self.token = jwt.encode(claims, self._secret, "HS256") if is_authenticating else ""

    def command(self, port: int, folder: Path) -> list[str]:
        """`deltawire serve` with default settings."""
        module = "deltawire" if self._package.is_dir() else "gateway.cli"  # revisions before there was one package
        command = [sys.executable, "-m", module, "serve", "--port", str(port)]
        if self._workers > 1:
            command += ["--workers", str(self._workers)]
        if self.is_durable:
            command += ["--data-dir", str(folder / "data"), "--sync", self._engine]
        if self._secret:
            key = folder / "key"
            key.touch(mode=0o600)
            key.write_text(self._secret)
            command += ["--auth-key", str(key)]
        return command

    def environment(self) -> dict[str, str]:
        """Its source tree goes before the installed one."""
        return {"PYTHONPATH": f"{self._package}:{self.root}"}

    @property
    def _package(self) -> Path:
        return self.root / "scripts" / "package"

    def publish_request(self, stream: str, port: int) -> bytes:
        """The handshake of a producer."""
        return request(f"/v1/streams/{stream}/publish", port, token=self.token)

    def subscribe_request(self, stream: str, port: int, query: str = "") -> bytes:
        """The handshake of a consumer."""
        return request(f"/v1/streams/{stream}/subscribe{query}", port, token=self.token)


class EventStream(Peer):
    """The same gateway with consumers over plain HTTP, which read server-sent events."""

    name = "SSE (deltawire)"
    history = True

    def __init__(self) -> None:
        self._gateway = Deltawire()

    def command(self, port: int, folder: Path) -> list[str]:
        """`deltawire serve` with default settings."""
        return self._gateway.command(port, folder)

    def environment(self) -> dict[str, str]:
        """As for the gateway."""
        return self._gateway.environment()

    def publish_request(self, stream: str, port: int) -> bytes:
        """The handshake of a producer."""
        return self._gateway.publish_request(stream, port)

    def subscribe_request(self, stream: str, port: int, query: str = "") -> bytes:
        """The request of a consumer."""
        return f"GET /v1/streams/{stream}/sse{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
