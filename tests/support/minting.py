"""Tokens for tests, good and bad, made with PyJWT and by hand; the project's own signing is not used."""

from __future__ import annotations

import base64
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt

SECRET = b"a secret of tests, thirty-two bytes at least"


def claims(*, lifetime: float = 600, **allowed: Any) -> dict[str, Any]:
    """Claims of a token that is good for a while and allows what is said."""
    return {"sub": "tester", "exp": int(time.time() + lifetime), "deltawire": allowed}


def sign(
    payload: dict[str, Any], key: Any = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None
) -> str:
    """A token."""
    return jwt.encode(payload, key, algorithm, headers)


def token(*, lifetime: float = 600, **allowed: Any) -> str:
    """A good token that allows what is said."""
    return sign(claims(lifetime=lifetime, **allowed))


def everything(lifetime: float = 600) -> str:
    """A good token that allows everything."""
    return token(lifetime=lifetime, publish=["*"], subscribe=["*"], signal=["*"], admin=["*"])


def bearer(text: str) -> dict[str, str]:
    """The headers that carry a token."""
    return {"Authorization": f"Bearer {text}"}


def base64url(data: bytes) -> str:
    """Unpadded, as in a JWT."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hand(header: str, payload: str, secret: bytes = SECRET, digest: str = "sha256") -> str:
    """A token of any bytes, signed with HMAC: what no library would make."""
    signing_input = f"{base64url(header.encode())}.{base64url(payload.encode())}".encode()
    return f"{signing_input.decode()}.{base64url(hmac.digest(secret, signing_input, digest))}"


def unsigned(payload: dict[str, Any], alg: str = "none") -> str:
    """A token whose signature is empty."""
    return f"{base64url(json.dumps({'alg': alg}).encode())}.{base64url(json.dumps(payload).encode())}."


def write_secret(folder: Path) -> str:
    """The path of a file with `SECRET`."""
    path = folder / "secret"
    path.write_bytes(SECRET + b"\n")
    path.chmod(0o600)
    return str(path)
