"""Verify a token: from its text to a grant. Pure; the time is an argument.

PyJWT verifies the signature. For header and claims, stricter rules apply than a library's defaults (RFC 8725): the key
determines the algorithm, critical extensions are refused, names are unique, and every token expires soon.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import Any, Final

import jwt
import msgspec
from msgspec import UNSET, Struct, UnsetType

from deltawire.gateway.access.grant import Grant, parse_streams
from deltawire.gateway.access.keys import Key, KeySet
from deltawire.gateway.access.refusals import BadToken, UnknownKey
from deltawire.protocol.messages import Policy
from deltawire.protocol.priority import StreamClass

MAX_TOKEN: Final = 8000
"""Maximum characters of a token: with its scheme, it fits the longest accepted header line (8 KiB)."""

CLOCK_SKEW: Final = 30
"""Seconds by which the issuer's clock may be ahead of this one. The expiry of a token has no such tolerance."""

_COMPACT = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+){2}", re.ASCII)  # RFC 7515 §7.1, with a signature

_jws = jwt.PyJWS(options={"enforce_minimum_key_length": True})


class Expected(Struct, frozen=True, kw_only=True):
    """What the gateway requires of a token.

    Attributes:
        issuer: the required `iss`; empty accepts any.
        audience: the value that `aud` must include; empty accepts only tokens without `aud`.
        max_lifetime: maximum seconds from now until `exp`.
    """

    issuer: str = ""
    audience: str = ""
    max_lifetime: float = 86_400.0


class Header(Struct):
    """The fields used of a JOSE header (RFC 7515 §4)."""

    alg: str
    kid: str | None = None
    crit: Any = UNSET
    b64: Any = UNSET


class Permissions(Struct, kw_only=True, forbid_unknown_fields=True):
    """The claim `deltawire` (SPEC §11.2). An absent list allows nothing, but absent `policies` allow all."""

    publish: list[str] = []
    subscribe: list[str] = []
    signal: list[str] = []
    admin: list[str] = []
    policies: list[Policy] | UnsetType = UNSET
    stream_class: StreamClass | UnsetType = msgspec.field(default=UNSET, name="class")


class Claims(Struct, kw_only=True):
    """The claims used of a token (RFC 7519 §4.1)."""

    exp: int
    nbf: int | float | UnsetType = UNSET
    iat: int | float | UnsetType = UNSET
    iss: str | UnsetType = UNSET
    aud: str | list[str] | UnsetType = UNSET
    sub: str = ""
    jti: str = ""
    deltawire: Permissions | UnsetType = UNSET


def verify(token: str, keys: KeySet, expected: Expected, now: float) -> Grant:
    """What a token allows.

    Args:
        token: the token as received.
        keys: the keys that may have signed it.
        expected: the requirements for its claims.
        now: seconds since 1970.

    Raises:
        BadToken: the token is not valid, or no longer valid.
    """
    if len(token) > MAX_TOKEN:
        raise BadToken(f"the token has {len(token)} characters: {MAX_TOKEN} at most")
    if _COMPACT.fullmatch(token) is None:
        raise BadToken("this is not a JWT: expected three parts in base64url, joined by dots")
    claims = _read_claims(_verify_signature(token, keys))
    _check_times(claims, expected, now)
    _check_parties(claims, expected)
    return _make_grant(claims, token)


def _verify_signature(token: str, keys: KeySet) -> bytes:
    """The payload of a token, after verifying that one of the keys signed it."""
    header = _read_header(token)
    found = keys.find(header.kid)
    if not found:
        raise UnknownKey("the token names a key that the gateway does not have")
    fitting = [key for key in found if header.alg in key.algorithms]
    if not fitting:
        raise BadToken("the token's algorithm is not that of the gateway's key")
    for key in fitting:
        if (payload := _try_key(token, key)) is not None:
            return payload
    raise BadToken("the token's signature is wrong")


def _try_key(token: str, key: Key) -> bytes | None:
    try:
        payload = _jws.decode_complete(token, key.material, algorithms=list(key.algorithms))["payload"]
    except (jwt.PyJWTError, ValueError):
        return None
    assert isinstance(payload, bytes), "a payload is bytes"
    return payload


def _read_header(token: str) -> Header:
    try:
        header = msgspec.convert(_read_object(jwt.utils.base64url_decode(token.partition(".")[0])), Header)
    except ValueError as error:
        raise BadToken(f"the token's header can't be read: {error}") from None
    if header.crit is not UNSET or header.b64 is not UNSET:
        raise BadToken("the token's header requires an extension (crit) that the gateway does not support")
    return header


def _read_claims(payload: bytes) -> Claims:
    try:
        return msgspec.convert(_read_object(payload), Claims)
    except ValueError as error:
        raise BadToken(f"the token's claims can't be read: {error}") from None


def _read_object(data: bytes) -> dict[str, Any]:
    """Parse a JSON object with unique names: of two equal names, different readers might use different ones.

    Raises:
        ValueError: the data is anything else.
    """
    try:
        value = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except json.JSONDecodeError:
        raise ValueError("not JSON") from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("expected an object")  # noqa: TRY004 - the token is wrong, not the program
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _refuse_constant(_: str) -> None:
    raise ValueError("a number that is not finite")


def _check_times(claims: Claims, expected: Expected, now: float) -> None:
    if claims.exp <= now:
        raise BadToken("the token has expired")
    if claims.exp > now + expected.max_lifetime:
        raise BadToken(f"the token is valid for longer than auth_max_lifetime ({expected.max_lifetime:g} s)")
    if claims.nbf is not UNSET and claims.nbf > now + CLOCK_SKEW:
        raise BadToken("the token is not valid yet (nbf)")
    if claims.iat is not UNSET and claims.iat > now + CLOCK_SKEW:
        raise BadToken("the token was made in the future (iat): compare the clocks")


def _check_parties(claims: Claims, expected: Expected) -> None:
    if expected.issuer and claims.iss != expected.issuer:
        raise BadToken("the token's issuer is not the one that the gateway trusts (iss)")
    audience = [] if claims.aud is UNSET else [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if expected.audience and expected.audience not in audience:
        raise BadToken("the token is not for this gateway (aud)")
    if audience and not expected.audience:  # RFC 7519 §4.1.3: a recipient that is not named must refuse it
        raise BadToken("the token has an audience (aud), but the gateway has no auth_audience")


def _make_grant(claims: Claims, token: str) -> Grant:
    allowed = Permissions() if claims.deltawire is UNSET else claims.deltawire
    try:
        return Grant(
            subject=claims.sub,
            key=_key_of(claims, token),
            expires_at=float(claims.exp),
            publish=parse_streams(allowed.publish),
            subscribe=parse_streams(allowed.subscribe),
            signal=parse_streams(allowed.signal),
            admin=parse_streams(allowed.admin),
            policies=None if allowed.policies is UNSET else frozenset(allowed.policies),
            stream_class=None if allowed.stream_class is UNSET else allowed.stream_class,
        )
    except ValueError as error:
        raise BadToken(f"the token's claim `deltawire` can't be read: {error}") from None


def _key_of(claims: Claims, token: str) -> str:
    """An identifier of the holder: from its names if the token has any, otherwise from the signed part of the token.

    The signature is left out, because it can be encoded in several ways, which would count as different holders.
    """
    named = [str(claims.iss), claims.sub, claims.jti] if claims.sub or claims.jti else [token.rpartition(".")[0]]
    return sha256(json.dumps(named).encode()).hexdigest()[:32]
