"""What a request asks for, as the upstream is asked for it. Pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from deltawire.gateway.proxy.asgi import Scope

MAX_LOGGED: Final = 200
"""Bytes of a path that are logged."""

_AUTHORITY: Final = re.compile(rb"^[a-z][a-z0-9+.-]*://[^/]*", re.IGNORECASE)
"""Beginning of a target in absolute form (RFC 9112 §3.2.2). Whom it names does not matter: there is one upstream."""

_UPWARDS: Final = re.compile(rb"(?:^|[/\\])\.\.(?:$|[/\\;])")
"""A segment that leads out of the path of the upstream's URL, in whichever way servers read it."""

_OF_MODELS: Final = re.compile(rb"/(?:completions|responses|messages|chat|generate)/?$|:(?:stream)?[gG]enerateContent$")
"""Ends of the paths at which models are asked: Chat Completions, Responses, Messages, Gemini, Ollama."""


def read_target(scope: Scope) -> bytes:
    """Path and query as they came, below where the application is mounted; or `*`, for OPTIONS.

    Raises:
        ValueError: it is no path, or one that leads upwards.
    """
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    mounted = scope.get("root_path", "").encode()
    if mounted and path.startswith(mounted):
        path = path[len(mounted) :]
    if not path.startswith(b"/"):
        path = _AUTHORITY.sub(b"", path) or b"/"
        if path == b"*" and scope["method"] == "OPTIONS":
            return path
        if not path.startswith(b"/"):
            raise ValueError("the target of the request is no path: expected one that begins with /")
    if (b".." in path or b"%" in path) and _UPWARDS.search(unquote_to_bytes(path)):
        raise ValueError("the path has a segment '..': ask for the path that it leads to")
    query: bytes = scope.get("query_string", b"")
    return path + (b"?" + query if query else b"")


def asks_model(method: str, target: bytes) -> bool:
    """Whether a request asks for an answer of a model, so that even a failure is one for its readers.

    Args:
        method: of HTTP; a GET asks for the stream of an answer that there is (`stream=true`, of Responses).
        target: path and query.
    """
    path, _, query = target.partition(b"?")
    if method == "GET":
        return b"stream=true" in query.split(b"&")
    return method == "POST" and _OF_MODELS.search(path) is not None


def path_of(target: bytes) -> str:
    """The beginning of the path, for the log: queries may have keys."""
    return target.partition(b"?")[0][:MAX_LOGGED].decode("latin-1")
