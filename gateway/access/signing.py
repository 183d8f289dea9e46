"""Making tokens, to try things out: pure. Who runs an identity provider lets that make them."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import jwt
from cryptography.hazmat.primitives import serialization

from deltawire.gateway.access.keys import BadKey, algorithms_of, bare_text, check_secret, find_pem

_PRIVATE: Final = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")


class SigningKey(NamedTuple):
    """What signs tokens.

    Attributes:
        material: a secret, or a private key.
        algorithm: the usual one of its kind.
    """

    material: Any
    algorithm: str

    def __repr__(self) -> str:
        return f"SigningKey({self.algorithm})"


def parse_signing_key(content: bytes) -> SigningKey:
    """The key of a file: a private key in PEM, unencrypted, or else a secret as `auth_key` has it.

    Raises:
        BadKey: neither, or too short.
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
    """A token with these claims."""
    return jwt.encode(claims, key.material, key.algorithm)
