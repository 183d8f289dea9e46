"""A publishing connection of the load generator."""

from __future__ import annotations

import socket
from collections.abc import Callable

from scripts.bench.wire import Template


class Producer:
    """A publishing connection."""

    def __init__(self, sock: socket.socket, template: Template) -> None:
        self.sock = sock
        self.template = template
        self.sent = 0
        self.unsent = b""
        self.heard = b""  # the end of what came last
        self.on_heard: Callable[[], None] | None = None

    @property
    def acked(self) -> int:
        """The seq in the last ack of this gateway's protocol; 0 if there was none."""
        _, found, rest = self.heard.rpartition(b'"ack","seq":')
        return int(rest.partition(b"}")[0].partition(b",")[0]) if found else 0
