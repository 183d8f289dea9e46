"""What is measured: a system that is started, addressed and spoken to in its own way.

All get the same payload and publish by their natural way over a WebSocket; each hands an event to a consumer as a
message of its own, joined into as few writes as it sees fit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from scripts.bench.process import Server, free_port, serving
from scripts.bench.wire import EVENT, Template, masked, request

ROOT = Path(__file__).parent.parent.parent


class Peer(ABC):
    """A system to measure.

    Attributes:
        name: in tables.
        history: whether it keeps events for consumers that join late.
        is_durable: whether events outlive its process.
    """

    name: str
    history = False
    is_durable = False

    def absence(self) -> str:
        """The command that installs what is missing; empty when nothing is."""
        return ""

    @abstractmethod
    def command(self, port: int, folder: Path) -> list[str]:
        """What starts it.

        Args:
            port: where it is to listen.
            folder: for its files.
        """

    def environment(self) -> dict[str, str]:
        """Variables it needs."""
        return {"PYTHONPATH": str(ROOT)}

    def publish_request(self, stream: str, port: int) -> bytes:
        """The handshake of a producer."""
        return request(f"/{stream}/publish", port)

    def subscribe_request(self, stream: str, port: int, query: str = "") -> bytes:
        """The handshake of a consumer."""
        return request(f"/{stream}/subscribe{query}", port)

    def greeting(self, stream: str, *, is_consumer: bool) -> bytes:
        """What is to be sent first on a new connection."""
        del stream, is_consumer
        return b""

    def template(self, stream: str) -> Template:
        """A message that publishes an event."""
        del stream
        return Template(masked(EVENT))

    @contextmanager
    def running(self, settings: tuple[str, ...] = ()) -> Iterator[Server]:
        """Its server, for the time of the block.

        Args:
            settings: further flags.
        """
        with TemporaryDirectory(prefix="deltawire-bench-") as name:
            folder = Path(name)
            port = free_port()
            with serving(
                [*self.command(port, folder), *settings], self.environment(), port, folder / "log", folder
            ) as server:
                yield server
