"""What a token must be like, judged at a literal time (SPEC §11.1)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltawire.gateway.access import Action, BadToken, Grant
from deltawire.gateway.access.credentials import find_token, split_query
from deltawire.gateway.access.keys import parse_key_file
from deltawire.gateway.access.tokens import CLOCK_SKEW, MAX_TOKEN, Expected, verify
from tests.support.minting import SECRET, by_hand, sign, unsigned

NOW = 1_795_600_000.0
KEYS = parse_key_file(SECRET)
SPEC = (Path(__file__).parent.parent.parent / "protocol" / "SPEC.md").read_text()


def judge(token: str, **expected: Any) -> Grant:
    return verify(token, KEYS, Expected(**expected), NOW)


def changed(**claims: Any) -> str:
    return sign({"exp": int(NOW) + 60} | claims)


def test_the_claims_of_the_specification_are_good() -> None:
    (claims,) = re.findall(r"```json claims\n(.*)\n```", SPEC)
    grant = judge(by_hand('{"alg":"HS256"}', claims))
    assert grant.subject == "app-7"
    assert grant.expires_at == 1_795_604_400
    assert grant.may(Action.SUBSCRIBE, "news-1")
    assert grant.may(Action.SIGNAL, "chat-7")
    assert not grant.may(Action.ADMIN, "chat-7")


@pytest.mark.parametrize(
    ("claims", "is_good"),
    [
        ({"exp": int(NOW) + 1}, True),
        ({"exp": int(NOW)}, False),
        ({"exp": int(NOW) + 86_400}, True),
        ({"exp": int(NOW) + 86_401}, False),
        ({"nbf": NOW + CLOCK_SKEW}, True),
        ({"nbf": NOW + CLOCK_SKEW + 1}, False),
        ({"iat": NOW + CLOCK_SKEW}, True),
        ({"iat": NOW + CLOCK_SKEW + 1}, False),
        ({"iat": -1}, True),
    ],
)
def test_times_are_judged_to_the_second(claims: dict[str, Any], *, is_good: bool) -> None:
    if is_good:
        judge(changed(**claims))
    else:
        with pytest.raises(BadToken):
            judge(changed(**claims))


def test_a_holder_has_the_same_key_each_time_and_nobody_else_s() -> None:
    def key(**claims: Any) -> str:
        return judge(changed(**claims)).key

    assert key(sub="a") == key(sub="a", exp=int(NOW) + 99), "a fresh token of the same holder"
    named = [key(sub="a"), key(sub="b"), key(sub="a", jti="1"), key(jti="1"), key(sub="a", iss="x"), key(), key(x=1)]
    assert len(set(named)) == len(named)
    assert key() == key()
    assert all(re.fullmatch(r"[0-9a-f]{32}", it) for it in named), "nothing of the token is in it"


def test_a_signature_written_otherwise_is_no_other_holder() -> None:
    held = changed()
    twin = held[:-1] + chr(ord(held[-1]) + 1)  # the last character's lowest bits say nothing
    with suppress(BadToken):  # as it may be
        assert judge(twin).key == judge(held).key


@given(st.text(max_size=300))
def test_any_text_is_judged_without_another_error(text: str) -> None:
    with pytest.raises(BadToken) as caught:
        judge(text)
    assert len(text) < 8 or text not in str(caught.value)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = ["exp", "nbf", "iat", "iss", "aud", "sub", "jti", "deltawire"]


@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "typ", "jwk"]), JSON_VALUES),
    st.dictionaries(st.sampled_from(NAMES), JSON_VALUES),
    st.sampled_from([by_hand, lambda _, c: by_hand('{"alg":"HS256"}', c)]),
)
def test_any_header_and_claims_are_judged_without_another_error(
    header: dict[str, Any], claims: dict[str, Any], make: Callable[[str, str], str]
) -> None:
    try:
        grant = judge(make(json.dumps(header), json.dumps(claims)))
    except BadToken:
        return
    assert NOW < grant.expires_at <= NOW + 86_400
    assert type(claims["exp"]) is int


@given(st.binary(max_size=200))
def test_a_payload_of_any_bytes_is_judged_without_another_error(payload: bytes) -> None:
    with pytest.raises(BadToken):
        judge(by_hand('{"alg":"HS256"}', payload.decode("latin-1")))


def test_what_is_over_long_is_not_even_parsed() -> None:
    with pytest.raises(BadToken, match="8000 at most"):
        judge("a" * (MAX_TOKEN + 1))


@pytest.mark.parametrize("extension", ['"crit":["exp"]', '"crit":[]', '"crit":null', '"b64":true', '"b64":false'])
def test_an_extension_of_the_header_is_refused_before_the_signature_is_looked_at(extension: str) -> None:
    with pytest.raises(BadToken, match="crit"):
        judge(by_hand(f'{{"alg":"HS256",{extension}}}', json.dumps({"exp": int(NOW) + 60})))


def test_an_unsigned_token_is_none() -> None:
    with pytest.raises(BadToken, match="not a JWT"):
        judge(unsigned({"exp": int(NOW) + 60}))


QUERY_PARTS = ["a=b", "access_token=x", "access%5Ftoken=%78", "access_token", "", "a", "ACCESS_TOKEN=y"]


@given(st.lists(st.sampled_from(QUERY_PARTS)))
def test_tokens_are_taken_out_of_a_query_and_nothing_else_is(parts: list[str]) -> None:
    tokens, rest = split_query("&".join(parts))
    own = {"access_token=x": "x", "access%5Ftoken=%78": "x", "access_token": ""}
    assert tokens == [own[part] for part in parts if part in own]
    assert rest == "&".join(part for part in parts if part not in own)


def test_a_token_is_found_where_there_is_one() -> None:
    basic = "Basic YW55Ym9keTp0b2s6ZW4="  # anybody:tok:en
    assert find_token([], [], [], may_query=False) is None
    assert find_token(["Bearer x"], [], [], may_query=False) == "x"
    assert find_token([basic], [], [], may_query=False) == "tok:en"
    assert find_token([], ["deltawire.v1.json", "deltawire.bearer.x"], [], may_query=False) == "x"
    assert find_token([], [], ["x"], may_query=True) == "x"
    with pytest.raises(BadToken, match="auth_query_token"):
        find_token([], [], ["x"], may_query=False)
    with pytest.raises(BadToken, match="more than one"):
        find_token(["Bearer x"], [], ["x"], may_query=True)


def test_a_grant_never_shows_a_token() -> None:
    held = changed(sub="me", deltawire={"subscribe": ["a"]})
    text = repr(judge(held)) + str(msgspec.to_builtins(judge(held)))
    assert not any(part in text for part in held.split("."))
