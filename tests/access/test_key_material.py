"""Keys, certificates and JWKs in other clothes: none of them is ever taken for a secret (SPEC §11.1)."""

from __future__ import annotations

import base64
import itertools
import json
import secrets
from collections.abc import Callable
from typing import Any

import jwt
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, PublicFormat

from deltawire.gateway.access.keys import BadKey, check_secret, parse_key_file
from deltawire.gateway.access.signing import parse_signing_key
from tests.support.keys import RSA

PRIVATE: dict[str, Any] = {
    "RSA": RSA,
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}
CERTIFICATE = x509.load_pem_x509_certificate(trustme.CA().cert_pem.bytes())


def spki(key: Any, encoding: Encoding = Encoding.DER) -> bytes:
    written: bytes = key.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
    return written


def ssh(key: Any) -> bytes:
    written: bytes = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return written


def pkcs8(key: Any, encoding: Encoding = Encoding.DER) -> bytes:
    written: bytes = key.private_bytes(encoding, PrivateFormat.PKCS8, serialization.NoEncryption())
    return written


JWK = jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key()).encode()

BARE: dict[str, bytes] = {
    **{f"{name} public": spki(key) for name, key in PRIVATE.items()},
    **{f"{name} private": pkcs8(key) for name, key in PRIVATE.items()},
    "RSA public of PKCS#1": RSA.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1),
    "RSA private of PKCS#1": RSA.private_bytes(
        Encoding.DER, PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ),
    "private, encrypted": RSA.private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"word")
    ),
    "certificate": CERTIFICATE.public_bytes(Encoding.DER),
    "SSH key": base64.b64decode(ssh(PRIVATE["Ed25519"]).split()[1]),
    "half of a key": spki(RSA)[:150],
    "JWK": JWK,
    "JWKs": b"[" + JWK + b"]",
    "short JWK": b'[{"kty":"oct","k":"AAAA"}]',
    "PEM": spki(RSA, Encoding.PEM),
}
"""What is a key or a certificate, or holds some."""

COATINGS: dict[str, Callable[[bytes], bytes]] = {
    "bare": lambda it: it,
    "base64": base64.b64encode,
    "base64 in lines": base64.encodebytes,
    "base64 with escaped newlines": lambda it: base64.encodebytes(it).replace(b"\n", b"\\n"),
    "base64 in quotes": lambda it: b'"' + base64.b64encode(it) + b'"',
    "base64 after a name": lambda it: b"AUTH_KEY=" + base64.b64encode(it),
    "base64 before a comment": lambda it: base64.b64encode(it) + b" the key",
    "base64url without padding": lambda it: base64.urlsafe_b64encode(it).rstrip(b"="),
    "base64 twice": lambda it: base64.b64encode(base64.b64encode(it)),
    "base64 of a line": lambda it: base64.b64encode(it + b"\n"),
    "hexadecimal": lambda it: it.hex().encode(),
    "hexadecimal with colons": lambda it: it.hex(":").upper().encode(),
}


@pytest.mark.parametrize("coating", COATINGS)
@pytest.mark.parametrize("name", BARE)
def test_no_key_in_whatever_coating_is_a_secret(name: str, coating: str) -> None:
    content = COATINGS[coating](BARE[name])
    if (name, coating) == ("PEM", "bare"):
        assert [key.algorithms[0] for key in parse_key_file(content).find(None)] == ["RS256"]
        return
    for form in (content, content + b"\n", b"\xef\xbb\xbf" + content):
        with pytest.raises(BadKey, match=r"seems to be|expected a JWKS"):
            parse_key_file(form)
        with pytest.raises(BadKey, match=r"seems to be|makes none"):
            parse_signing_key(form)


@pytest.mark.parametrize("name", PRIVATE)
@pytest.mark.parametrize("line", ["{}", "{} me@example.org", "restrict {} me", "host {}"])
def test_an_ssh_key_is_no_secret(name: str, line: str) -> None:
    content = line.replace("{}", ssh(PRIVATE[name]).decode()).encode()
    with pytest.raises(BadKey, match=r"seems to be an SSH key.*ssh-keygen -e -m PKCS8"):
        parse_key_file(content)
    with pytest.raises(BadKey, match="seems to be an SSH key"):
        parse_signing_key(content)


def test_a_jwk_that_says_a_public_key_is_a_secret_is_not_believed() -> None:
    k = base64.urlsafe_b64encode(spki(RSA)).rstrip(b"=").decode()
    with pytest.raises(BadKey, match="seems to be"):
        parse_key_file(json.dumps({"keys": [{"kty": "oct", "k": k}]}).encode())


@pytest.mark.parametrize(
    "before", [b"\xef\xbb\xbf", b"\n\n", b"subject=CN = us\nissuer=CN = them\n", b"Certificate:\n"]
)
def test_a_pem_is_found_after_what_tools_put_before_it(before: bytes) -> None:
    for pem in (spki(RSA, Encoding.PEM), pkcs8(RSA, Encoding.PEM)):
        content = before + pem + b"some words\n"
        if b"PRIVATE" in pem:
            assert parse_signing_key(content).algorithm == "RS256"
            with pytest.raises(BadKey, match="private key"):
                parse_key_file(content)
        else:
            assert len(parse_key_file(content)) == 1
            with pytest.raises(BadKey, match="makes none"):
                parse_signing_key(content)
    assert len(parse_key_file(before + CERTIFICATE.public_bytes(Encoding.PEM))) == 1


def test_a_jwks_is_found_after_a_byte_order_mark() -> None:
    assert len(parse_key_file(b'\xef\xbb\xbf{"keys":[' + JWK + b"]}")) == 1


def test_what_the_library_takes_for_a_key_is_refused_before_it_signs_nothing() -> None:
    with pytest.raises(BadKey, match="seems to be a key"):
        parse_signing_key(b"ssh-rsa is a kind of key, and this is none")


@pytest.mark.parametrize(
    "content",
    [
        bytes(range(128, 192)),
        b"\0" * 48,
        b"a line of a secret that is long enough\nand another one\n",
        "a secret of text in UTF-16, long enough".encode("utf-16"),
        b"a secret with an escape \x1b[31m sequence in it",
    ],
)
def test_what_is_no_line_of_text_is_no_secret(content: bytes) -> None:
    for parse in (parse_key_file, parse_signing_key):
        with pytest.raises(BadKey, match="one line of printable text"):
            parse(content)


def test_a_long_file_is_judged_soon() -> None:
    with pytest.raises(BadKey, match="one line of printable text"):
        check_secret(b"ssh-" * 250_000 + b"\n" + b"ssh-rsa " * 1000)


@pytest.mark.parametrize(
    "secret",
    [
        *(secrets.token_urlsafe(size).encode() for size in (32, 48, 64, 256)),
        *(base64.b64encode(secrets.token_bytes(size)) for size in (32, 33, 48, 64)),
        secrets.token_hex(32).encode(),
        b"correct horse battery staple, and a donkey",
        "ein Geheimnis mit Umlauten: äöü, lang genug".encode(),
        b"-" * 32,
        b"0" * 64,
        b"A" * 64,
    ],
    ids=itertools.count(),  # the same in every process, which random secrets are not
)
def test_a_secret_stays_what_it_is(secret: bytes) -> None:
    (key,) = parse_key_file(b"  " + secret + b"\r\n").find(None)
    assert key.material == secret
    assert parse_signing_key(secret + b"\n").material == secret
