"""The head of a relayed request: that of the client, and a field in which one node tells another who it comes from.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from hmac import compare_digest
from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.utils import generate_key

from deltawire import __version__
from deltawire.gateway.server.accepting.routing import Remote
from deltawire.gateway.server.http.target import in_origin_form
from deltawire.protocol.codec import JSON_SUBPROTOCOL

RELAYED: Final = "Deltawire-Relayed"
"""The field: the key of the node that it is meant for, the address and port of the client (`-` if it is not known), and
whether the client has shown a certificate, which was verified."""

AGENT: Final = f"deltawire/{__version__} node"
"""What a node calls itself where it follows a stream."""

_CREDENTIALS: Final = ("authorization", "sec-websocket-protocol")
FOLLOWS: Final = "Deltawire-Follows"
"""The field of a node that follows a stream itself: the key of the node that it is meant for."""


class Node(NamedTuple):
    """Where a node is reached.

    Attributes:
        host: name or numeric address.
        port: of it.
        has_tls: whether the connection is to be encrypted.
        authority: host and port as they are written in a request.
        path: what the paths of requests begin with; empty, or with a slash in front.
    """

    host: str
    port: int
    has_tls: bool
    authority: str
    path: str


def parse_node(url: str) -> Node:
    """Parse an `advertise_url`.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(url)
    if not parts.hostname or parts.scheme not in ("ws", "wss"):
        raise ValueError(f"advertise_url: expected ws://HOST… or wss://HOST…, got {url!r}")
    has_tls = parts.scheme == "wss"
    authority = parts.netloc.rpartition("@")[2]
    return Node(parts.hostname, parts.port or (443 if has_tls else 80), has_tls, authority, parts.path.rstrip("/"))


def relayed_head(request: Request, kept: Sequence[tuple[str, str]], node: Node, key: str, client: Remote) -> bytes:
    """Return the head of a request as it is sent to another node: as it came, but for `Host` and the field.

    Args:
        request: of the client; it may hold a token.
        kept: fields that say how long its body is.
        node: it is sent to.
        key: of that node.
        client: who has sent it.
    """
    headers = Headers()
    for name, value in (*request.headers.raw_items(), *kept):
        if name.lower() not in ("host", RELAYED.lower(), FOLLOWS.lower()):
            headers[name] = value
    headers["Host"] = node.authority
    headers[RELAYED] = f"{key} {client.host or '-'} {client.port} {int(client.has_certificate)}"
    path = node.path + in_origin_form(request.path)
    return Request(path, headers, request.method, request.protocol).serialize()


def question(request: Request) -> Request:
    """Return what another node is asked to answer in part: with the credentials of a client, and nothing else of it.

    Its conditions, ranges, encodings and upgrades are about its own connection and the whole answer.
    """
    headers = Headers(it for it in request.headers.raw_items() if it[0].lower() in _CREDENTIALS)
    return Request(request.path, headers, "GET", "HTTP/1.1")


def follow_head(path: str, node: Node, key: str) -> bytes:
    """Return the head of the request with which a node follows a stream.

    Args:
        path: of the stream's consumers, with the position where to begin.
        node: it is sent to.
        key: of that node.
    """
    headers = Headers(
        {
            "Host": node.authority,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": generate_key(),
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": JSON_SUBPROTOCOL,
            "User-Agent": AGENT,
            FOLLOWS: key,
        }
    )
    return Request(node.path + path, headers).serialize()


def is_own_key(values: Sequence[str], key: str) -> bool:
    """Whether a node has shown the key of this one.

    Args:
        values: of the field, of which there is at least one.
        key: of this node; empty if no other may follow its streams.
    """
    return len(values) == 1 and bool(key) and compare_digest(values[0].encode(), key.encode())


def read_relayed(values: Sequence[str], key: str, own: Remote) -> Remote | None:
    """Return the client that a node tells of; None if it is not a node that tells.

    Args:
        values: of the field, of which there is at least one.
        key: of this node; empty if no other may relay to it.
        own: who is at the other end of the connection.
    """
    told = values[0].split(" ") if len(values) == 1 else []
    if len(told) != 4 or not is_own_key(told[:1], key):
        return None
    _, host, port, has_certificate = told
    try:
        host = "" if host == "-" else str(ip_address(host))
        return Remote(host, int(port), own.has_tls, has_certificate == "1")
    except ValueError:
        return None
