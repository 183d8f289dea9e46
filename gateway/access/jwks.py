"""Keys fetched from a URL and cached (RFC 7517 §5).

One task fetches the keys: periodically, so that withdrawn keys are removed, and when a token names an unknown key, but
never twice within `REST`. While fetching fails, the last good set stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final, Self
from urllib.parse import urlsplit

from deltawire.gateway.access.keys import BadKey, KeySet, parse_jwks
from deltawire.gateway.config import ConfigError
from deltawire.gateway.http_client import NoAnswer, fetch
from deltawire.gateway.logs import get_logger

FETCH_TIMEOUT: Final = 5.0
"""Seconds for a whole fetch: half of the handshake's timeout, because a peer may be waiting for it."""

MAX_DOCUMENT: Final = 256 * 1024
"""Maximum bytes of a document; real ones have a few KiB."""

REST: Final = 30.0
"""Minimum seconds between two fetches: tokens with invented key ids must not cause load on the key server."""

MAX_AGE: Final = 600.0
"""Seconds after which the keys are fetched again without a request."""

Fetch = Callable[[str], Awaitable[bytes]]

log = get_logger()


class RemoteKeys:
    """The keys at a URL. An async context manager; entering it fetches them once, and does not fail if that fails.

    Args:
        url: the URL of a JWKS document.
        fetch: returns its bytes; raises OSError or ValueError.
        rest: minimum seconds between two fetches.
        max_age: maximum seconds between two fetches.

    Attributes:
        keys: the last good set; None before the first.

    Raises:
        ConfigError: keys from this URL can't be trusted.
    """

    def __init__(self, url: str, fetch: Fetch | None = None, rest: float = REST, max_age: float = MAX_AGE) -> None:
        check_url(url)
        self.keys: KeySet | None = None
        self._url = url
        self._fetch = fetch or fetch_document
        self._rest = rest
        self._max_age = max_age
        self._wanted = asyncio.Event()
        self._fetched: asyncio.Future[None] | None = None  # exists while a fetch may be requested
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._update()
        self._task = asyncio.create_task(self._keep_up(), name="jwks")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._fetched is not None and not self._fetched.done():
            self._fetched.set_result(None)

    def refresh(self) -> asyncio.Future[None] | None:
        """Request a new fetch; return a future for its end, or None if the last fetch was too recent."""
        if self._fetched is not None:
            self._wanted.set()
        return self._fetched

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(self._rest)
            self._fetched = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(max(self._max_age - self._rest, 0) if self.keys else 0):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            await self._update()
            fetched, self._fetched = self._fetched, None
            fetched.set_result(None)

    async def _update(self) -> None:
        try:
            self.keys = parse_jwks(await self._fetch(self._url), may_hold_secrets=False)
        except (OSError, ValueError, BadKey, NoAnswer) as error:
            log.warning("jwks.fetch_failed", url=self._url, why=str(error) or type(error).__name__)


def check_url(url: str) -> None:
    """Refuse a URL that keys can't be trusted from.

    Raises:
        ConfigError: neither https nor http on loopback; or has a password, which logs would show.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        secure = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))
        is_plain = bool(host) and parts.port != 0 and parts.username is None and not parts.fragment
    except ValueError:
        secure = is_plain = False
    if not (secure and is_plain):
        raise ConfigError(
            "auth_jwks_url: expected https://HOST/PATH without a user name, or http:// on a loopback address"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def fetch_document(url: str) -> bytes:
    """The bytes at a URL: from a plain 200, not redirected, not too long, not too slow.

    Raises:
        OSError: no answer in time.
        ValueError: another answer.
        NoAnswer: there was no answer at all.
    """
    async with asyncio.timeout(FETCH_TIMEOUT):
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        is_direct = not url.startswith("https:")  # a proxy is none of a loopback address's business
        async with fetch(url, headers=headers, timeout=FETCH_TIMEOUT, is_direct=is_direct) as answer:
            if answer.status != HTTPStatus.OK or "content-encoding" in answer.headers:
                raise ValueError(f"expected a plain HTTP 200, got {answer.status}")
            document = b""
            async for chunk in answer.pieces:
                document += chunk
                if len(document) > MAX_DOCUMENT:
                    raise ValueError(f"the document has over {MAX_DOCUMENT} bytes")
            return document
