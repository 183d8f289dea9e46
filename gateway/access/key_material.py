"""Detect other key material in bytes that should be a secret: pure.

If the gateway used a public key as a secret, anyone who has the public key could sign tokens. This module therefore
recognises keys in the encodings in which they are passed around: base64 without PEM armour, hexadecimal, an OpenSSH
line, JSON.
"""

from __future__ import annotations

import base64
import re
from binascii import unhexlify
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import jwt
import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

MAX_COATINGS: Final = 3
"""Maximum layers of encoding to remove: for example base64 of a PEM, in a Kubernetes secret that was encoded twice."""

_PEM = re.compile(rb"-----BEGIN [A-Z0-9 ]+-----")
_SSH = re.compile(  # a length-prefixed name (RFC 4253 §6.6), or a line with the name and the whole key in base64
    rb"\A\0\0\0.(?:ssh-|ecdsa-|sk-)|(?:ssh-|ecdsa-|sk-)\S{1,64}\s+AAAA", re.DOTALL
)
_OF_NO_CODE = re.compile(rb"""\\[nr]|["'\s]""")
_CODE = re.compile(rb"[A-Za-z0-9+/_-]{32,}")
_HEXADECIMAL = re.compile(rb"[0-9A-Fa-f:]{32,}")

_IN_DER: Final = re.compile(
    rb"\x2a\x86\x48\x86\xf7\x0d\x01"  # identifiers of RSA, PKCS#7 and PKCS#12 (RFC 8017 appendix C)
    rb"|\x2a\x86\x48\xce\x3d"  # of elliptic curves (RFC 5480 §2.1.1)
    rb"|\x06\x05\x2b\x81\x04\x00"  # of P-384 and P-521
    rb"|\x06\x03\x2b\x65"  # of Ed25519 and its like (RFC 8410 §3)
    rb"|\A\x30(?:\x81.|\x82..)(?:\x02\x01\x00)?\x02[\x81\x82]",  # how an RSA key of PKCS#1 begins
    re.DOTALL,
)
"""Byte patterns of DER keys and certificates, also of those that can't be loaded: encrypted, cut off, other kinds."""


def find_key_material(content: bytes) -> str | None:
    """A description of the key material that `content` seems to be; None if it may be a secret."""
    return _look(content, MAX_COATINGS) if content else None


def _look(content: bytes, coatings: int) -> str | None:
    if found := _recognise(content):
        return found
    if coatings:
        for inner, coating in _uncoat(content):
            if found := _look(inner, coatings - 1):
                return f"{found} in {coating}"
    return None


def _recognise(content: bytes) -> str | None:
    if _PEM.search(content):
        return "a PEM"
    if _SSH.search(content):
        return "an SSH key"
    if _is_json(content):
        return "JSON"
    return _recognise_der(content) or _recognise_by_library(content)


def _recognise_by_library(content: bytes) -> str | None:
    """Content that PyJWT itself refuses as a secret, whatever the checks above say."""
    try:
        jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).prepare_key(content)
    except jwt.InvalidKeyError:
        return "a key"
    return None


def _is_json(content: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(content), dict | list)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def _recognise_der(content: bytes) -> str | None:
    for kind, load in (
        ("a public key", serialization.load_der_public_key),
        ("a certificate", x509.load_der_x509_certificate),
    ):
        with suppress(ValueError, UnsupportedAlgorithm):
            load(content)
            return f"{kind} in DER"
    try:
        # To validate the numbers of an RSA key takes 45 ms, and nothing is done with this one.
        serialization.load_der_private_key(content, password=None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, UnsupportedAlgorithm):
        return "a key or certificate in DER" if _IN_DER.search(content) else None
    except TypeError:  # it is encrypted
        pass
    return "a private key in DER"


def _uncoat(content: bytes) -> Iterator[tuple[bytes, str]]:
    """Decode possible encodings: of the whole content with its lines joined, and of each word."""
    joined = _OF_NO_CODE.sub(b"", content)
    if _HEXADECIMAL.fullmatch(joined):
        with suppress(ValueError):
            yield unhexlify(joined.replace(b":", b"")), "hexadecimal"
    for word in dict.fromkeys([joined.rstrip(b"="), *_CODE.findall(joined), *_CODE.findall(content)]):
        if _CODE.fullmatch(word):
            standard = word.translate(bytes.maketrans(b"-_", b"+/"))
            with suppress(ValueError):
                yield base64.b64decode(standard + b"=" * (-len(word) % 4)), "base64"
