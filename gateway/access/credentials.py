"""Find the token of a request: pure.

The token is in the header `Authorization`, as `Bearer` or as the password of `Basic`; in a subprotocol next to a real
one, for browsers, which can't set headers; or in the query string, if that is enabled (RFC 6750 §2, RFC 7617).
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote_plus

from deltawire.gateway.access.refusals import BadToken

BEARER_SUBPROTOCOL: Final = "deltawire.bearer."
QUERY_PARAMETER: Final = "access_token"


def find_token(
    authorizations: Sequence[str], subprotocols: Sequence[str], queried: Sequence[str], *, may_query: bool
) -> str | None:
    """The only token of a request; None if there is none.

    Args:
        authorizations: values of every header `Authorization`.
        subprotocols: the offered subprotocols.
        queried: values of every parameter `access_token`.
        may_query: whether tokens in the query string are accepted.

    Raises:
        BadToken: there is more than one token, or it is in a place that is not accepted.
    """
    if queried and not may_query:
        raise BadToken("a token in the query string ends up in logs and is refused (auth_query_token): send a header")
    tokens = [_read_authorization(value) for value in authorizations]
    tokens += [name.removeprefix(BEARER_SUBPROTOCOL) for name in subprotocols if is_bearer(name)]
    tokens += queried
    if len(tokens) > 1:
        raise BadToken("more than one token was sent: send one")
    return tokens[0] if tokens else None


def is_bearer(subprotocol: str) -> bool:
    """Whether an offered subprotocol is really a token."""
    return subprotocol.startswith(BEARER_SUBPROTOCOL)


def split_query(query: str) -> tuple[list[str], str]:
    """The tokens of a query string, and the rest of it, which is safe to quote."""
    tokens: list[str] = []
    rest: list[str] = []
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if unquote_plus(name) == QUERY_PARAMETER:
            tokens.append(unquote_plus(value))
        else:
            rest.append(part)
    return tokens, "&".join(rest)


def _read_authorization(value: str) -> str:
    scheme, _, credentials = value.strip().partition(" ")
    match scheme.lower():
        case "bearer":
            return credentials.strip()
        case "basic":
            return _read_password(credentials.strip())
        case _:
            raise BadToken("expected `Authorization: Bearer TOKEN`, or `Basic` with the token as password")


def _read_password(credentials: str) -> str:
    try:
        _, colon, password = b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        colon = ""
    if not colon:
        raise BadToken("`Authorization: Basic` is not NAME:TOKEN in base64")
    return password
