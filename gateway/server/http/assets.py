"""Files served as they are: the client for web pages, made from `scripts/client`, and the console (SPEC §9)."""

from __future__ import annotations

from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple

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
        headers: more of them. Browsers keep the file, and ask each time whether it has changed.
    """

    body: bytes
    content_type: str
    headers: dict[str, str]

    def respond(self) -> Response:
        """The response that has the file."""
        return respond(HTTPStatus.OK, self.body, self.content_type, **self.headers)


def _load(path: Path, **headers: str) -> Asset:
    body = path.read_bytes()
    kept = {"ETag": f'"{sha256(body).hexdigest()[:32]}"', "Cache-Control": "no-cache"}
    return Asset(body, f"{_TYPES[path.suffix]}; charset=utf-8", kept | headers)


_HERE: Final = Path(__file__).parent

CONSOLE: Final = {
    CONSOLE_PATH if path.name == "index.html" else f"/console/{path.name}": _load(path, **_CONSOLE_HEADERS)
    for path in sorted((_HERE / "console").iterdir())
    if path.suffix in _TYPES
}
"""The files of the console, by path."""

ASSETS: Final = {CLIENT_PATH: _load(_HERE / "deltawire.js")} | CONSOLE
"""All files, by path."""
