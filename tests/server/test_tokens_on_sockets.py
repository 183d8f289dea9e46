"""Attacks on tokens, each over a real socket: 401 before the upgrade (SPEC §11.1)."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.server import Gateway
from tests.server.conftest import StartGateway
from tests.support.asking import http_client
from tests.support.keys import RSA
from tests.support.minting import SECRET, base64url, bearer, by_hand, claims, everything, sign, unsigned, write_secret
from tests.support.rawpeer import RawPeer

P256 = ec.generate_private_key(ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
ALL: dict[str, Any] = {"publish": ["*"], "subscribe": ["*"], "admin": ["*"]}


def public_pem(private: Any) -> bytes:
    pem: bytes = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


async def status_of(gateway: Gateway, *header_lines: str, path: str = "/v1/streams/demo/subscribe") -> int:
    """The status a handshake with these header lines is answered with."""
    peer = await RawPeer.connect(gateway.port)
    try:
        head = await peer.upgrade(path, "".join(f"{line}\r\n" for line in header_lines))
        lines = head.decode().split("\r\n")
        status = int(lines[0].split(" ")[1])
        if status == 401:
            assert any(line.startswith('WWW-Authenticate: Bearer realm="deltawire"') for line in lines), lines
            assert json.loads(await peer.read_rest())["status"] == 401
        return status
    finally:
        peer.close()


def changed(**extra: Any) -> str:
    """A token with all rights, with claims added or replaced; None takes a claim away."""
    payload = claims(**ALL) | extra
    return sign({name: value for name, value in payload.items() if value is not None})


def with_exp(text: str) -> str:
    """A token whose `exp` is this JSON text."""
    return by_hand('{"alg":"HS256"}', f'{{"exp":{text},"deltawire":{{"subscribe":["*"]}}}}')


SOON = str(int(time.time()) + 3600)

ATTACKS: dict[str, Callable[[], str]] = {
    "alg none": lambda: unsigned(claims(**ALL)),
    "alg None": lambda: unsigned(claims(**ALL), "None"),
    "alg none with a signature": lambda: unsigned(claims(**ALL)) + "c2ln",
    "alg of another kind of key": lambda: sign(claims(**ALL), RSA, "RS256"),
    "alg longer than the secret": lambda: by_hand('{"alg":"HS512"}', json.dumps(claims(**ALL)), digest="sha512"),
    "alg absent": lambda: by_hand('{"typ":"JWT"}', json.dumps(claims(**ALL))),
    "alg a list": lambda: by_hand('{"alg":["HS256"]}', json.dumps(claims(**ALL))),
    "alg twice": lambda: by_hand('{"alg":"none","alg":"HS256"}', json.dumps(claims(**ALL))),
    "another secret": lambda: sign(claims(**ALL), b"x" * 32),
    "exp missing": lambda: changed(exp=None),
    "exp past": lambda: changed(exp=int(time.time()) - 1),
    "exp huge": lambda: changed(exp=10**30),
    "exp over 64 bits": lambda: with_exp("18446744073709551616"),
    "exp beyond auth_max_lifetime": lambda: changed(exp=int(time.time()) + 86_400 + 60),
    "exp a fraction": lambda: with_exp(f"{SOON}.5"),
    "exp in exponent form": lambda: with_exp("2e9"),
    "exp infinite": lambda: with_exp("1e999"),
    "exp NaN": lambda: with_exp("NaN"),
    "exp text": lambda: with_exp(f'"{SOON}"'),
    "exp true": lambda: with_exp("true"),
    "exp null": lambda: with_exp("null"),
    "exp with 5000 digits": lambda: with_exp("9" * 5000),
    "exp twice": lambda: by_hand('{"alg":"HS256"}', f'{{"exp":1,"exp":{SOON},"deltawire":{{"subscribe":["*"]}}}}'),
    "nbf in the future": lambda: changed(nbf=int(time.time()) + 300),
    "nbf text": lambda: changed(nbf="0"),
    "iat in the future": lambda: changed(iat=int(time.time()) + 300),
    "crit unknown": lambda: sign(claims(**ALL), headers={"crit": ["exp"], "exp": 1}),
    "crit empty": lambda: sign(claims(**ALL), headers={"crit": []}),
    "b64": lambda: by_hand('{"alg":"HS256","b64":false}', json.dumps(claims(**ALL))),
    "kid a number": lambda: by_hand('{"alg":"HS256","kid":7}', json.dumps(claims(**ALL))),
    "signature truncated": lambda: everything()[:-4],
    "signature empty": lambda: everything().rpartition(".")[0] + ".",
    "payload changed": lambda: "".join(_forged()),
    "a part too many": lambda: everything() + ".e30",
    "a part too few": lambda: everything().partition(".")[2],
    "padding": lambda: everything() + "=",
    "not base64": lambda: everything().replace(".", ".%", 1),
    "not a token": lambda: "hello",
    "empty": lambda: "",
    "huge": lambda: sign(claims(**ALL) | {"x": "y" * 6000})[:8050],
    "payload a list": lambda: by_hand('{"alg":"HS256"}', "[]"),
    "payload a number": lambda: by_hand('{"alg":"HS256"}', "1"),
    "payload not JSON": lambda: by_hand('{"alg":"HS256"}', "{"),
    "payload nested deep": lambda: by_hand('{"alg":"HS256"}', f'{{"exp":{SOON},"x":{"[" * 2000}'),
    "header a list": lambda: by_hand("[]", json.dumps(claims(**ALL))),
    "header nested deep": lambda: by_hand(f'{{"alg":"HS256","x":{"[" * 1500}', json.dumps(claims(**ALL))),
    "deltawire a list": lambda: changed(deltawire=[]),
    "deltawire null": lambda: by_hand('{"alg":"HS256"}', f'{{"exp":{SOON},"deltawire":null}}'),
    "deltawire.subscribe text": lambda: changed(deltawire={"subscribe": "*"}),
    "deltawire.subscribe of numbers": lambda: changed(deltawire={"subscribe": [1]}),
    "deltawire with a pattern inside": lambda: changed(deltawire={"subscribe": ["a*b"]}),
    "deltawire with an empty entry": lambda: changed(deltawire={"subscribe": [""]}),
    "deltawire with a typing error": lambda: changed(deltawire={"subscribe": ["*"], "policy": ["coalesce"]}),
    "deltawire with an unknown policy": lambda: changed(deltawire={"subscribe": ["*"], "policies": ["all"]}),
    "aud of somebody": lambda: changed(aud="somebody"),
}


def _forged() -> list[str]:
    head, _, signature = everything().split(".")
    return [head, ".", base64url(json.dumps(claims(**ALL) | {"sub": "root"}).encode()), ".", signature]


@pytest.fixture
async def guarded(start_gateway: StartGateway, tmp_path: Path) -> Gateway:
    return await start_gateway(auth_key=write_secret(tmp_path))


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_bad_token_is_401(guarded: Gateway, attack: str) -> None:
    assert await status_of(guarded, f"Authorization: Bearer {ATTACKS[attack]()}") == 401


async def test_a_good_token_passes(guarded: Gateway) -> None:
    assert await status_of(guarded, f"Authorization: Bearer {everything()}") == 101
    assert await status_of(guarded, f"Authorization: bearer  {everything()}") == 101
    assert await status_of(guarded, f"Authorization: Bearer {changed(nbf=int(time.time()), iat=time.time())}") == 101


@pytest.mark.parametrize(
    ("lines", "path"),
    [
        ([], ""),
        (["Authorization: Bearer {}", "Authorization: Bearer {}"], ""),
        (["Authorization: Bearer {}", "Sec-WebSocket-Protocol: deltawire.v1.json, deltawire.bearer.{}"], ""),
        (["Sec-WebSocket-Protocol: deltawire.bearer.{}, deltawire.bearer.{}"], ""),
        (["Authorization: Digest username={}"], ""),
        (["Authorization: {}"], ""),
        (["Authorization: Basic {}"], ""),
        (["Authorization: Basic !!"], ""),
        (["Authorization: Basic bm9jb2xvbg=="], ""),
        ([], "?access_token={}"),
        ([], "?access%5Ftoken={}"),
        (["Authorization: Bearer {}"], "?access_token={}"),
    ],
)
async def test_no_token_two_and_misplaced_ones_are_401(guarded: Gateway, lines: list[str], path: str) -> None:
    good = everything()
    sent = [line.replace("{}", good) for line in lines]
    assert await status_of(guarded, *sent, path=f"/v1/streams/demo/subscribe{path.replace('{}', good)}") == 401


@pytest.mark.parametrize("key", [RSA, P256, ED25519], ids=["RSA", "P-256", "Ed25519"])
async def test_a_public_key_is_never_a_secret(start_gateway: StartGateway, tmp_path: Path, key: Any) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(public_pem(key))
    guarded = await start_gateway(auth_key=str(path))
    algorithm = {"RSAPrivateKey": "RS256", "ECPrivateKey": "ES256", "Ed25519PrivateKey": "EdDSA"}[type(key).__name__]
    good = sign(claims(**ALL), key, algorithm)
    assert await status_of(guarded, f"Authorization: Bearer {good}") == 101
    for secret in (public_pem(key), public_pem(key).strip(), public_pem(key).strip() + b"\n"):
        forged = by_hand('{"alg":"HS256"}', json.dumps(claims(**ALL)), secret)
        assert await status_of(guarded, f"Authorization: Bearer {forged}") == 401
    assert await status_of(guarded, f"Authorization: Bearer {unsigned(claims(**ALL))}") == 401
    other = {"RS256": (P256, "ES256"), "ES256": (ED25519, "EdDSA"), "EdDSA": (RSA, "RS256")}[algorithm]
    assert await status_of(guarded, f"Authorization: Bearer {sign(claims(**ALL), *other)}") == 401


@pytest.mark.parametrize("key", [RSA, P256, ED25519], ids=["RSA", "P-256", "Ed25519"])
def test_a_public_key_without_its_armour_is_no_secret_either(tmp_path: Path, key: Any) -> None:
    der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    path = tmp_path / "key"
    for content in (der, base64.b64encode(der), base64.encodebytes(der)):
        path.write_bytes(content)
        with pytest.raises(
            ConfigError,
            match=r"a (public key|key or certificate) in DER.*write keys and certificates in PEM",
        ):
            Gateway(Settings(auth_key=str(path)))


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        ({"iss": "us", "aud": "deltawire"}, 101),
        ({"iss": "us", "aud": ["other", "deltawire"]}, 101),
        ({"iss": "us"}, 401),
        ({"aud": "deltawire"}, 401),
        ({"iss": "them", "aud": "deltawire"}, 401),
        ({"iss": "us", "aud": "deltawire2"}, 401),
        ({"iss": "us", "aud": []}, 401),
        ({"iss": ["us"], "aud": "deltawire"}, 401),
    ],
)
async def test_issuer_and_audience_are_held_to(
    start_gateway: StartGateway, tmp_path: Path, payload: dict[str, Any], status: int
) -> None:
    guarded = await start_gateway(auth_key=write_secret(tmp_path), auth_issuer="us", auth_audience="deltawire")
    made = by_hand('{"alg":"HS256"}', json.dumps(claims(**ALL) | payload))
    assert await status_of(guarded, f"Authorization: Bearer {made}") == status


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "0 bytes is too short"),
        (b"x" * 31 + b"\n", "31 bytes is too short"),
        (public_pem(rsa.generate_private_key(65537, 1024)), "1024 bits is too short"),
        (public_pem(ec.generate_private_key(ec.SECP521R1())), "expected a secret, or a public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "can't be read"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "private key"),
        (b"{}", "expected a JWKS document"),
        (b'{"keys":[]}', "it is empty"),
        (b'{"keys":[{"kty":"oct","k":"c2hvcnQ"}]}', "5 bytes is too short"),
    ],
)
def test_a_weak_or_wrong_key_is_refused_at_the_start(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=why):
        Gateway(Settings(auth_key=str(path)))


def test_a_key_that_is_not_there_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match="auth_key: /nowhere/key: No such file"):
        Gateway(Settings(auth_key="/nowhere/key"))


def test_settings_that_need_a_key_are_refused_without_one() -> None:
    with pytest.raises(ConfigError, match="need auth_key"):
        Gateway(Settings(auth_issuer="us"))
    with pytest.raises(ConfigError, match="give one"):
        Gateway(Settings(auth_key="key", auth_jwks_url="https://keys.example.org/jwks"))


async def test_a_jwks_file_gives_each_key_its_algorithm(start_gateway: StartGateway, tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    keys = [
        json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key())) | {"kid": "r", "alg": "RS256"},
        json.loads(jwt.algorithms.ECAlgorithm.to_jwk(P256.public_key())) | {"kid": "e"},
        {"kty": "oct", "k": base64url(SECRET), "kid": "s", "use": "enc"},
        {"kty": "quantum", "kid": "q"},
    ]
    path.write_text(json.dumps({"keys": keys}))
    guarded = await start_gateway(auth_key=str(path))

    async def status(key: Any, algorithm: str, kid: str | None) -> int:
        made = sign(claims(**ALL), key, algorithm, {} if kid is None else {"kid": kid})
        return await status_of(guarded, f"Authorization: Bearer {made}")

    assert await status(RSA, "RS256", "r") == 101
    assert await status(RSA, "RS256", None) == 101
    assert await status(P256, "ES256", "e") == 101
    assert await status(RSA, "RS512", "r") == 401  # its owner wants RS256
    assert await status(RSA, "RS256", "e") == 401
    assert await status(RSA, "RS256", "unknown") == 401
    assert await status(SECRET, "HS256", "s") == 401  # it is for encryption


async def test_health_schema_client_and_console_are_open_and_nothing_else(guarded: Gateway) -> None:
    async with http_client(base_url=f"http://127.0.0.1:{guarded.port}") as client:
        for path in (
            "/livez",
            "/readyz",
            "/healthz",
            "/v1/schema.json",
            "/v1/asyncapi.json",
            "/client/deltawire.js",
            "/",
            "/console/console.js",
        ):
            assert (await client.get(path)).status_code == 200
            assert (await client.get(path, headers=bearer("bad"))).status_code == 200
        for path in ("/metrics", "/v1/streams", "/v1/streams/demo", "/v1/streams/demo/events", "/unknown"):
            assert (await client.get(path)).status_code == 401
            assert (await client.get(path, headers=bearer(everything()))).status_code in (200, 404)
