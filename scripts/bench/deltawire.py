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


class Deltawire(Peer):
    """`deltawire serve`.

    Args:
        root: of its source tree.
        name: in tables.
        is_authenticating: whether every connection has to bring a token.
        workers: processes that serve; more than one on the server's core show what they cost, not what they win.

    Attributes:
        root: of its source tree.
        token: what every connection brings; empty without authentication.
    """

    history = True

    def __init__(
        self, root: Path = ROOT, name: str = "deltawire", *, is_authenticating: bool = False, workers: int = 1
    ) -> None:
        self.root = root
        self._workers = workers
        self.name = name
        self._secret = secrets.token_urlsafe(48) if is_authenticating else ""
        claims = {"exp": int(time.time()) + TOKEN_LIFETIME, "deltawire": {action: ["*"] for action in ACTIONS}}
        self.token = jwt.encode(claims, self._secret, "HS256") if is_authenticating else ""

    def command(self, port: int, folder: Path) -> list[str]:
        """`deltawire serve` with default settings."""
        module = "deltawire" if self._package.is_dir() else "gateway.cli"  # revisions before there was one package
        command = [sys.executable, "-m", module, "serve", "--port", str(port)]
        if self._workers > 1:
            command += ["--workers", str(self._workers)]
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
