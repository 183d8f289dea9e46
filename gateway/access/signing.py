"""Make tokens for trying things out: pure. In production, an identity provider makes them."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import jwt
from cryptography.hazmat.primitives import serialization

from deltawire.gateway.access.keys import BadKey, algorithms_of, bare_text, check_secret, find_pem

_PRIVATE: Final = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")


class SigningKey(NamedTuple):
    """A key that signs tokens.

    Attributes:
        material: a secret, or a private key.
        algorithm: the usual algorithm for this kind of key.
    """

    material: Any
    algorithm: str

    def __repr__(self) -> str:
        return f"SigningKey({self.algorithm})"


def parse_signing_key(content: bytes) -> SigningKey:
    """The key in a file: an unencrypted private key in PEM, or a secret as for `auth_key`.

    Raises:
        BadKey: the file has neither, or the key is too short.
    """
    text = bare_text(content)
    pem = find_pem(text)
    if not pem and not text.startswith(b"{"):
        return SigningKey(check_secret(text), algorithms_of(text)[0])
    if (private := _PRIVATE.search(pem)) is None:
        raise BadKey("a public key verifies tokens and makes none: give the private one, or the secret")
    try:
        key: Any = serialization.load_pem_private_key(pem[private.start() :], password=None)
        return SigningKey(key, algorithms_of(key.public_key())[0])
    except (ValueError, TypeError, AttributeError):
        raise BadKey("the PEM can't be read as an unencrypted private key") from None


def make_token(key: SigningKey, claims: dict[str, Any]) -> str:
    """Sign a token with these claims."""
    return jwt.encode(claims, key.material, key.algorithm)
