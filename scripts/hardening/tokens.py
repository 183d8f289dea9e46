"""Tokens, good and forged."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
from pathlib import Path
from typing import Any

from deltawire.gateway.access.signing import SigningKey, make_token

ANOTHER_SECRET = b"what some other service signs with, 32 bytes"


class Mint:
    """Makes tokens for one gateway.

    Args:
        path: file to be made, with the secret; the gateway's `auth_key`.
    """

    def __init__(self, path: Path) -> None:
        self._secret = secrets.token_urlsafe(48).encode()
        path.touch(0o600)
        path.write_bytes(self._secret)

    def token(self, *, lifetime: float = 3600, **allowed: list[str]) -> str:
        """A token that allows what is said."""
        return make_token(SigningKey(self._secret, "HS256"), self._claims(lifetime, allowed))

    def everything(self) -> str:
        """A token that allows everything; each is of another holder."""
        return self.token(publish=["*"], subscribe=["*"], signal=["*"], admin=["*"])

    def _claims(self, lifetime: float, allowed: dict[str, list[str]]) -> dict[str, Any]:
        return {"exp": int(time.time() + lifetime), "jti": secrets.token_hex(8), "deltawire": allowed}

    def forgeries(self) -> list[str]:
        """Tokens that would allow to read everything, if one of them were taken."""
        good = self._claims(600, {"subscribe": ["*"]})
        text = json.dumps(good)
        head, payload, signature = self.token(subscribe=["*"]).split(".")
        without_exp = json.dumps({"deltawire": good["deltawire"]})
        return [
            f"{_header('none')}.{payload}.",
            f"{_header('None')}.{payload}.{signature}",
            f"{_header('RS256')}.{payload}.{signature}",
            f"{head}.{_base64(json.dumps(good | {'sub': 'root'}))}.{signature}",
            f"{head}.{payload}.{signature[:-4]}",
            f"{head}.{payload}",
            f"{head}.{payload}.{signature}.{signature}",
            self._sign('{"alg":"HS256"}', text, ANOTHER_SECRET),
            self._sign('{"alg":"HS512"}', text, ANOTHER_SECRET),
            self._sign('{"alg":"HS256"}', without_exp),
            self._sign('{"alg":"HS256"}', json.dumps(good | {"exp": 10**30})),
            self._sign('{"alg":"HS256"}', json.dumps(good | {"exp": 1})),
            self._sign('{"alg":"HS256"}', json.dumps(good | {"exp": True})),
            self._sign('{"alg":"HS256"}', json.dumps(good | {"nbf": good["exp"]})),
            self._sign('{"alg":"HS256"}', json.dumps(good | {"aud": "another service"})),
            self._sign('{"alg":"HS256","crit":["exp"]}', text),
            self._sign('{"alg":"HS256","b64":false}', text),
            self._sign('{"alg":"HS256"}', f'{{"exp":1,{text[1:]}'),
            self._sign('{"alg":"HS256"}', f'{{"x":{"[" * 1500}{"]" * 1500},{text[1:]}'),
            self._sign('{"alg":"HS256"}', f'{{"x":{"9" * 5000},{text[1:]}'),
            "." * 7000,
            "e" * 7000,
        ]

    def _sign(self, header: str, payload: str, secret: bytes | None = None) -> str:
        signed = f"{_base64(header)}.{_base64(payload)}"
        digest = "sha512" if "HS512" in header else "sha256"
        return f"{signed}.{_base64(hmac.digest(secret or self._secret, signed.encode(), digest))}"


def _header(algorithm: str) -> str:
    return _base64(json.dumps({"alg": algorithm}))


def _base64(data: str | bytes) -> str:
    data = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
