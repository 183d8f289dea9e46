"""What a request asks for, as the upstream is asked for it. Pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from deltawire.gateway.proxy.asgi import Scope

_AUTHORITY: Final = re.compile(rb"^[a-z][a-z0-9+.-]*://[^/]*", re.IGNORECASE)
"""Beginning of a target in absolute form (RFC 9112 §3.2.2). Whom it names does not matter: there is one upstream."""

_UPWARDS: Final = re.compile(rb"(?:^|[/\\])\.\.(?:$|[/\\;])")
"""A segment that leads out of the path of the upstream's URL, in whichever way servers read it."""


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
