"""The tokens a client sends: where they come from, and when a fresh one is due.

A client given a function asks it for each connection, and again before a token ends, so that a connection outlives it.
A client given text sends that until the gateway refuses it. When a token ends is read from itself, unverified, by this
machine's clock: it is a hint, and where it is wrong the gateway closes with 4001 and a fresh one is asked for then.
"""

from __future__ import annotations

import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from deltawire.gateway.client.errors import TokenUnavailable

TokenProvider: TypeAlias = str | Callable[[], str | Awaitable[str]]

LEAD: Final = 60.0
"""Seconds before its end at which a token is replaced; of one that lives less than five times that, a fifth."""

PAUSE: Final = 1.0
"""Seconds between two renewals at least: a function may have no fresh token to give yet."""

_VISIBLE = re.compile(r"[!-~]+", re.ASCII)  # what a header can carry; a JWT has less


class _Claims(Struct):
    exp: float


class Tokens:
    """The tokens of one client.

    Args:
        provider: a token, or what gives one; None sends none.

    Attributes:
        renew_at: seconds on the event loop's clock when a fresh token is due on the present connection; None for never.

    Raises:
        ValueError: what is given as a token can't be one.
    """

    def __init__(self, provider: TokenProvider | None) -> None:
        if isinstance(provider, str) and _VISIBLE.fullmatch(provider) is None:
            raise ValueError("the token must not be empty, and of visible ASCII characters")
        self._provider = provider
        self._last: str | None = None
        self._refused: str | None = None
        self.renew_at: float | None = None

    async def take(self, now: float) -> str | None:
        """The token for a new connection.

        Args:
            now: seconds on the event loop's clock.

        Raises:
            TokenUnavailable: the function that gives it failed.
        """
        if not callable(self._provider):
            return self._provider
        self._last = await self._ask(self._provider)
        self._plan(self._last, now)
        return self._last

    async def renew(self, now: float) -> str | None:
        """A fresh token for the present connection; None where there is none yet, which is asked again later."""
        assert callable(self._provider), "nothing else is ever due"
        try:
            token: str | None = await self._ask(self._provider)
        except TokenUnavailable:
            token = self._last  # the connection is still good; the next one will tell
        is_fresh = token != self._last
        self._last = token
        self._plan(token, now)
        return token if is_fresh else None

    def note_refusal(self) -> bool:
        """The gateway refused the last token; whether it may take another, of a function that gave this one once."""
        is_news = callable(self._provider) and self._last != self._refused
        self._refused = self._last
        return is_news

    def _plan(self, token: str | None, now: float) -> None:
        left = _seconds_left(token, time.time())
        self.renew_at = None if left is None else now + max(left - min(LEAD, left / 5), PAUSE)

    async def _ask(self, provider: Callable[[], Any]) -> str:
        try:
            token = provider()
            if isawaitable(token):
                token = await token
        except Exception as error:
            raise TokenUnavailable(f"the token could not be had: {type(error).__name__}") from error
        if not isinstance(token, str) or _VISIBLE.fullmatch(token) is None:
            raise TokenUnavailable("the token could not be had: what was given is not one")
        return token


def _seconds_left(token: str | None, now: float) -> float | None:
    """Seconds until a token ends, by what it says; None where it says nothing that can be read."""
    try:
        payload = (token or "").split(".")[1]
        return msgspec.json.decode(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_Claims).exp - now
    except (IndexError, ValueError):
        return None
