"""Files served as they are: the client for web pages, made from `scripts/client`, and the console (SPEC §9)."""

from __future__ import annotations

import gzip
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple

from websockets.datastructures import Headers
from websockets.http11 import Response

from deltawire.gateway.server.responses import respond

CLIENT_PATH: Final = "/client/deltawire.js"
CONSOLE_PATH: Final = "/"

_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""What the console may load and run: its own files alone, and no text as a script, whatever a stream holds."""

_CONSOLE_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Asset(NamedTuple):
    """A file that is served.

    Attributes:
        body: its content.
        content_type: of the body.
        headers: more of them.
        tag: of the content. Browsers keep the file, and ask each time whether it has changed.
    """

    body: bytes
    content_type: str
    headers: dict[str, str]
    tag: str

    def respond(self, asked: Headers) -> Response:
        """The response to a request with some headers: the file, in gzip for who takes that."""
        codings = [coding.strip().lower() for coding in ",".join(asked.get_all("Accept-Encoding")).split(",")]
        if "gzip" in codings:
            headers = self.headers | {"ETag": f'"{self.tag}-gzip"', "Content-Encoding": "gzip"}
            return respond(HTTPStatus.OK, _pack(self.body), self.content_type, **headers)
        return respond(HTTPStatus.OK, self.body, self.content_type, **self.headers, ETag=f'"{self.tag}"')


@cache
def _pack(body: bytes) -> bytes:
    """A content in gzip, less than half of it; made when it is first asked for: all of them take 3 ms."""
    return gzip.compress(body, mtime=0)


def _load(path: Path, **headers: str) -> Asset:
    body = path.read_bytes()
    kept = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    tag = sha256(body).hexdigest()[:32]
    return Asset(body, f"{_TYPES[path.suffix]}; charset=utf-8", kept | headers, tag)


_HERE: Final = Path(__file__).parent

CONSOLE: Final = {
    CONSOLE_PATH if path.name == "index.html" else f"/console/{path.name}": _load(path, **_CONSOLE_HEADERS)
    for path in sorted((_HERE / "console").iterdir())
    if path.suffix in _TYPES
}
"""The files of the console, by path."""

ASSETS: Final = {CLIENT_PATH: _load(_HERE / "deltawire.js")} | CONSOLE
"""All files, by path."""
