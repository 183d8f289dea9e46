"""The tokens a client sends: where they come from, and when a fresh one is due.

A client with a token function calls it for each connection, and again before a token expires, so that the connection
can outlive the token. A client with a fixed token sends it until the gateway refuses it. The client reads the expiry
from the token without verifying it, by this machine's clock. If this is wrong, the gateway closes with 4001, and the
client gets a fresh token then.
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
"""Seconds before its expiry at which a token is replaced; a fifth of its remaining lifetime if that is shorter."""

PAUSE: Final = 1.0
"""Minimum seconds between two renewals: the function may not have a fresh token yet."""

_VISIBLE = re.compile(r"[!-~]+", re.ASCII)  # what a header can carry; a JWT uses fewer characters


class _Claims(Struct):
    exp: float


class Tokens:
    """The tokens of one client.

    Args:
        provider: a token, or a function that returns one; None sends no token.

    Attributes:
        renew_at: time on the event loop's clock at which the current connection needs a fresh token; None means never.

    Raises:
        ValueError: the given text can't be a token.
    """

    def __init__(self, provider: TokenProvider | None) -> None:
        if isinstance(provider, str) and _VISIBLE.fullmatch(provider) is None:
            raise ValueError("the token must be one or more visible ASCII characters")
        self._provider = provider
        self._last: str | None = None
        self._refused: str | None = None
        self.renew_at: float | None = None

    async def take(self, now: float) -> str | None:
        """The token for a new connection.

        Args:
            now: seconds on the event loop's clock.

        Raises:
            TokenUnavailable: the function that provides it failed.
        """
        if not callable(self._provider):
            return self._provider
        self._last = await self._ask(self._provider)
        self._plan(self._last, now)
        return self._last

    async def renew(self, now: float) -> str | None:
        """A fresh token for the current connection; None if there is none yet; the function is called again later."""
        assert callable(self._provider), "nothing else is ever due"
        try:
            token: str | None = await self._ask(self._provider)
        except TokenUnavailable:
            token = self._last  # the connection still works; opening the next one will raise
        is_fresh = token != self._last
        self._last = token
        self._plan(token, now)
        return token if is_fresh else None

    def note_refusal(self) -> bool:
        """Note that the gateway refused the last token; return whether a function may provide another."""
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
            raise TokenUnavailable(f"the token function failed: {type(error).__name__}") from error
        if not isinstance(token, str) or _VISIBLE.fullmatch(token) is None:
            raise TokenUnavailable("the token function failed: it did not return a token")
        return token


def _seconds_left(token: str | None, now: float) -> float | None:
    """Seconds until a token expires, read from the token; None if that can't be read."""
    try:
        payload = (token or "").split(".")[1]
        return msgspec.json.decode(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_Claims).exp - now
    except (IndexError, ValueError):
        return None
