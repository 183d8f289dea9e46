"""The keys that tokens are verified with, from the bytes of a file or of a JWKS document: pure.

A key's kind fixes the algorithms it verifies, whatever a token says of itself: a public key is never taken for a
secret, however it is written, and there is no key for `none`.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import jwt
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from msgspec import Raw, Struct

from deltawire.gateway.access.key_material import find_key_material
from deltawire.protocol.errors import DeltawireError

MIN_SECRET: Final = 32
"""Bytes of an HMAC key: as many as the digest has (RFC 7518 §3.2)."""

MIN_RSA: Final = 2048
"""Bits of an RSA key (RFC 7518 §3.3)."""

MAX_KEYS: Final = 64
"""Keys taken from one document: a token without a key id may have to be tried with each."""

_PEM: Final = b"-----BEGIN "
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

_REMEDY: Final = (
    "write keys and certificates in PEM (ssh-keygen -e -m PKCS8 -f FILE; openssl pkey -pubin -inform DER -in FILE), "
    "or public ones as a JWKS"
)

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | bytes


class BadKey(DeltawireError):  # noqa: N818 - as the errors of the client
    """A key can't be used; the message says why, and nothing of the key."""


class Key:
    """One key. Not a struct, whose `repr` would show a secret.

    Args:
        material: the public key, or the secret.
        id: what tokens call it; None fits every token.
        only: the one algorithm its owner wants it used with; None leaves that to its kind.

    Raises:
        BadKey: too short, of another kind, or not for that algorithm.
    """

    __slots__ = ("algorithms", "id", "material")

    def __init__(self, material: Any, id: str | None = None, only: str | None = None) -> None:
        algorithms = algorithms_of(material)
        if only is not None and only not in algorithms:
            raise BadKey("the key is not for the algorithm it names")
        self.id = id
        self.material: PublicKey = material
        self.algorithms = algorithms if only is None else (only,)


def algorithms_of(material: Any) -> tuple[str, ...]:
    """The algorithms a key of this kind verifies, the usual one first.

    Raises:
        BadKey: none: it is too short or of another kind, or seems to be a key that is no secret.
    """
    match material:
        case bytes() if (found := find_key_material(material)) is not None:
            raise BadKey(f"this seems to be {found}, and no secret: {_REMEDY}")
        case bytes() if len(material) < MIN_SECRET:
            raise BadKey(f"a secret of {len(material)} bytes is too short: {MIN_SECRET} at least")
        case bytes():
            return tuple(name for name, size in (("HS256", 32), ("HS384", 48), ("HS512", 64)) if len(material) >= size)
        case RSAPublicKey() if material.key_size < MIN_RSA:
            raise BadKey(f"an RSA key of {material.key_size} bits is too short: {MIN_RSA} at least")
        case RSAPublicKey():
            return ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
        case EllipticCurvePublicKey(curve=SECP256R1()):
            return ("ES256",)
        case EllipticCurvePublicKey(curve=SECP384R1()):
            return ("ES384",)
        case Ed25519PublicKey():
            return ("EdDSA",)
        case _:
            raise BadKey("expected a secret, or a public key of RSA, EC (P-256, P-384) or Ed25519")


class KeySet:
    """The keys that are good now.

    Args:
        keys: at least one.
    """

    def __init__(self, keys: list[Key]) -> None:
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, id: str | None) -> tuple[Key, ...]:
        """The keys a token can have been signed with.

        Args:
            id: what the token calls its key; None says nothing.
        """
        if id is None:
            return self._keys
        return tuple(key for key in self._keys if key.id in (None, id))


def parse_key_file(content: bytes) -> KeySet:
    """The keys of a file: a public key or certificate in PEM, a JWKS, or else a secret.

    Raises:
        BadKey: none of these, or too short.
    """
    text = bare_text(content)
    if text.startswith(b"{"):
        return parse_jwks(text, may_hold_secrets=True)
    if pem := find_pem(text):
        return KeySet([Key(_read_pem(pem))])
    return KeySet([Key(check_secret(text))])


def bare_text(content: bytes) -> bytes:
    """A file without what editors and `echo` put round its text: space, a newline, a byte order mark."""
    return content.removeprefix(_BYTE_ORDER_MARK).strip()


def find_pem(text: bytes) -> bytes:
    """The text from its first PEM on; tools put words before one (RFC 7468 §5.2). Empty if there is none."""
    return text[text.find(_PEM) :] if _PEM in text else b""


def check_secret(text: bytes) -> bytes:
    """A secret that a person or a program could have written as text.

    Raises:
        BadKey: it is none, or seems to be something else.
    """
    algorithms_of(text)
    try:
        is_line = text.decode().isprintable()
    except UnicodeDecodeError:
        is_line = False
    if not is_line:
        raise BadKey("a secret is one line of printable text: `deltawire token --new-key FILE` makes one")
    return text


def _read_pem(text: bytes) -> Any:
    try:
        if b"PRIVATE KEY-----" in text:
            raise BadKey("this is a private key: give the gateway the public one (openssl pkey -in KEY -pubout)")
        if text.startswith(_PEM + b"CERTIFICATE"):
            return x509.load_pem_x509_certificate(text).public_key()
        return serialization.load_pem_public_key(text)
    except ValueError:
        raise BadKey("the PEM can't be read as a public key") from None


class _Document(Struct):
    """A JWK set (RFC 7517 §5)."""

    keys: list[Raw]


class _Jwk(Struct):
    """What is read of a JWK beside its key (RFC 7517 §4)."""

    kty: str
    kid: str | None = None
    use: str | None = None
    alg: str | None = None
    key_ops: list[str] | None = None
    d: str | None = None


def parse_jwks(content: bytes, *, may_hold_secrets: bool) -> KeySet:
    """The keys of a JWKS document that can verify tokens; others are passed over.

    Args:
        content: the document.
        may_hold_secrets: whether a symmetric key is taken; one that anybody can fetch proves nothing.

    Raises:
        BadKey: not a JWKS document, or no key of it can be used.
    """
    try:
        entries = msgspec.json.decode(content, type=_Document).keys
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadKey("expected a JWKS document: an object with `keys`") from None
    if len(entries) > MAX_KEYS:
        raise BadKey(f"{len(entries)} keys are too many: {MAX_KEYS} at most")
    keys: list[Key] = []
    reasons: list[str] = []
    for entry in entries:
        try:
            keys.append(_parse_jwk(bytes(entry), may_hold_secrets=may_hold_secrets))
        except BadKey as error:
            reasons.append(str(error))
    if not keys:
        raise BadKey(f"no key of the set can be used: {'; '.join(dict.fromkeys(reasons)) or 'it is empty'}")
    return KeySet(keys)


def _parse_jwk(entry: bytes, *, may_hold_secrets: bool) -> Key:
    try:
        jwk = msgspec.json.decode(entry, type=_Jwk)
        material = jwt.PyJWK(msgspec.json.decode(entry)).key
    except (msgspec.MsgspecError, jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise BadKey("a key is malformed or of an unknown kind") from None  # the reason given would quote the key
    if jwk.use not in (None, "sig") or (jwk.key_ops is not None and "verify" not in jwk.key_ops):
        raise BadKey("a key is not for signatures")
    if jwk.kty == "oct" and not may_hold_secrets:
        raise BadKey("a symmetric key is published, and so no secret")
    if jwk.d is not None:
        raise BadKey("a key is private: give the gateway the public one")
    return Key(material, jwk.kid, jwk.alg)
