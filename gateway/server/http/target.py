"""The target of a request: its path in parts, and whether it asks for a WebSocket. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote

from websockets.datastructures import Headers

from deltawire.protocol.addresses import PREFIX

_ORIGIN = re.compile("https?://[^/?#]+", re.IGNORECASE)  # of a request target in absolute form

EVENTS: Final = "/events"
SSE: Final = "/sse"
SUBSCRIBE: Final = "/subscribe"
SIGNAL: Final = "/signal"
UI_MESSAGES: Final = "/ui-message-stream"
RESPONSES: Final = "/v1/responses"
"""Tails of paths; `/v1/responses/{id}…` is about the stream with that id."""

_WEBSOCKETS = (SUBSCRIBE, "/publish")
_EVENT_STREAMS = (SSE, UI_MESSAGES)
_UPLOADS = (EVENTS, SIGNAL)


class Target(NamedTuple):
    """A request's path, in parts.

    Attributes:
        stream_id: the `{id}` of `/v1/streams/{id}…`, decoded once; empty if there is none.
        tail: the path after the id, or the whole path if there is none; `/v1/responses` and the path after the id, in
            `/v1/responses/{id}…`.
        query: the query string, undecoded.
        method: of the request.
    """

    stream_id: str
    tail: str
    query: str
    method: str = "GET"

    @property
    def is_endpoint(self) -> bool:
        """Whether a connection to it serves a peer of a stream."""
        return self.is_event_stream or self.is_upload or self.is_websocket

    @property
    def is_websocket(self) -> bool:
        """Whether it serves a consumer or a producer on a WebSocket."""
        return bool(self.stream_id) and self.tail in _WEBSOCKETS

    @property
    def is_event_stream(self) -> bool:
        """Whether it serves a consumer over plain HTTP."""
        if not self.stream_id:
            return False
        return self.tail in _EVENT_STREAMS or (self.tail == RESPONSES and "stream=true" in self.query.split("&"))

    @property
    def publishes(self) -> bool:
        """Whether it serves a producer."""
        return (self.is_upload and self.tail == EVENTS) or (bool(self.stream_id) and self.tail == "/publish")

    @property
    def signals(self) -> bool:
        """Whether it sends a signal over plain HTTP."""
        return self.is_upload and self.tail == SIGNAL

    @property
    def is_upload(self) -> bool:
        """Whether what its peer has to say is the body of the request."""
        return bool(self.stream_id) and self.tail in _UPLOADS and self.method == "POST"

    @property
    def may_be_long(self) -> bool:
        """Whether the response over plain HTTP grows with the number or the content of streams."""
        return self.tail in ((EVENTS, RESPONSES) if self.stream_id else (PREFIX,))


def in_origin_form(target: str) -> str:
    """Return a request target without the scheme and host of an absolute form (RFC 9112 §3.2.2)."""
    origin = _ORIGIN.match(target)  # `urlsplit` takes `//` for a host, and raises on odd hosts
    return target[origin.end() if origin else 0 :]


def parse_target(target: str, method: str = "GET") -> Target:
    """Split a request target; the scheme and host of an absolute form are ignored."""
    path, _, query = in_origin_form(target).partition("?")
    parts = path.split("/")
    if path.startswith(PREFIX + "/") and len(parts) in (4, 5):
        return Target(unquote(parts[3]), "/".join(("", *parts[4:])), query, method)
    if path.startswith(RESPONSES + "/") and len(parts) in (4, 5):
        return Target(unquote(parts[3]), "/".join((RESPONSES, *parts[4:])), query, method)
    return Target("", path, query, method)


def is_upgrade(headers: Headers) -> bool:
    """Whether a request asks for a WebSocket."""
    return any("websocket" in value.lower() for value in headers.get_all("Upgrade"))
