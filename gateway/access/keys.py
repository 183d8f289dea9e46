"""The keys that verify tokens, from the bytes of a file or of a JWKS document: pure.

The kind of a key determines its algorithms, whatever the token says: a public key is never used as a secret, however it
is encoded, and no key verifies `none`.
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
"""Minimum bytes of an HMAC key: the size of the digest (RFC 7518 §3.2)."""

MIN_RSA: Final = 2048
"""Minimum bits of an RSA key (RFC 7518 §3.3)."""

MAX_KEYS: Final = 64
"""Maximum keys in a document: a token without a key id may have to be tried with each."""

_PEM: Final = b"-----BEGIN "
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

_REMEDY: Final = (
    "write keys and certificates in PEM (ssh-keygen -e -m PKCS8 -f FILE; openssl pkey -pubin -inform DER -in FILE), "
    "or public ones as a JWKS"
)

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | bytes


class BadKey(DeltawireError):  # noqa: N818 - as the errors of the client
    """A key can't be used; the message says why and does not quote the key."""


class Key:
    """One key. Not a struct, because its `repr` would show a secret.

    Args:
        material: the public key, or the secret.
        id: the key id in tokens; None matches every token.
        only: the only algorithm that the key is for; None allows all algorithms of its kind.

    Raises:
        BadKey: the key is too short, of an unsupported kind, or not for that algorithm.
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
    """The algorithms that a key verifies, the usual one first.

    Raises:
        BadKey: the key is too short, of an unsupported kind, or a would-be secret seems to be another key.
    """
    match material:
        case bytes() if (found := find_key_material(material)) is not None:
            raise BadKey(f"this seems to be {found}, not a secret: {_REMEDY}")
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
    """The keys that are valid now.

    Args:
        keys: one key or more.
    """

    def __init__(self, keys: list[Key]) -> None:
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, id: str | None) -> tuple[Key, ...]:
        """The keys that may have signed a token.

        Args:
            id: the key id of the token; None if it has none.
        """
        if id is None:
            return self._keys
        return tuple(key for key in self._keys if key.id in (None, id))


def parse_key_file(content: bytes) -> KeySet:
    """The keys of a file: a public key or certificate in PEM, a JWKS, or else a secret.

    Raises:
        BadKey: the file has none of these, or a key that is too short.
    """
    text = bare_text(content)
    if text.startswith(b"{"):
        return parse_jwks(text, may_hold_secrets=True)
    if pem := find_pem(text):
        return KeySet([Key(_read_pem(pem))])
    return KeySet([Key(check_secret(text))])


def bare_text(content: bytes) -> bytes:
    """A file's content without what editors and `echo` add: white space, a newline, a byte order mark."""
    return content.removeprefix(_BYTE_ORDER_MARK).strip()


def find_pem(text: bytes) -> bytes:
    """The text from its first PEM block on (tools write text before it, RFC 7468 §5.2); empty if there is none."""
    return text[text.find(_PEM) :] if _PEM in text else b""


def check_secret(text: bytes) -> bytes:
    """A secret that a person or a program could have written as text.

    Raises:
        BadKey: it is not such a secret, or seems to be another key.
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
    """The fields of a JWK besides its key material (RFC 7517 §4)."""

    kty: str
    kid: str | None = None
    use: str | None = None
    alg: str | None = None
    key_ops: list[str] | None = None
    d: str | None = None


def parse_jwks(content: bytes, *, may_hold_secrets: bool) -> KeySet:
    """The keys of a JWKS document that can verify tokens; other keys are ignored.

    Args:
        content: the document.
        may_hold_secrets: whether to accept symmetric keys; a symmetric key that anyone can fetch proves nothing.

    Raises:
        BadKey: this is not a JWKS document, or none of its keys can be used.
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
        raise BadKey("a key is malformed or of an unknown kind") from None  # the original reason would quote the key
    if jwk.use not in (None, "sig") or (jwk.key_ops is not None and "verify" not in jwk.key_ops):
        raise BadKey("a key is not for signatures")
    if jwk.kty == "oct" and not may_hold_secrets:
        raise BadKey("a symmetric key is published and therefore not secret")
    if jwk.d is not None:
        raise BadKey("a key is private: give the gateway the public one")
    return Key(material, jwk.kid, jwk.alg)
