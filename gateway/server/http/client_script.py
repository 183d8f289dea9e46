"""The client for web pages, `/client/deltawire.js`: made from `scripts/client`, and served as it is (SPEC §9)."""

from __future__ import annotations

from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Final

from websockets.http11 import Response

from deltawire.gateway.server.responses import respond

SCRIPT: Final = Path(__file__).with_name("deltawire.js").read_bytes()

_TAG: Final = f'"{sha256(SCRIPT).hexdigest()[:32]}"'


def respond_script() -> Response:
    """Respond with the client; browsers keep it, and ask whether it has changed."""
    headers = {"ETag": _TAG, "Cache-Control": "no-cache"}
    return respond(HTTPStatus.OK, SCRIPT, "text/javascript; charset=utf-8", **headers)
