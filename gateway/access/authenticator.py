"""Verify tokens with the configured keys, from a file or a URL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from deltawire.gateway.access.grant import Grant
from deltawire.gateway.access.jwks import RemoteKeys
from deltawire.gateway.access.keys import BadKey, KeySet, parse_key_file
from deltawire.gateway.access.refusals import NoKeys, UnknownKey
from deltawire.gateway.access.tokens import Expected, verify
from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.files import read_file


class Authenticator:
    """Verifies tokens. An async context manager, because keys may have to be fetched.

    Args:
        settings: the source of the keys, and the required claims.
        clock: seconds since 1970.
        remote: the fetched keys; None makes them from the settings.

    Raises:
        ConfigError: the keys can't be read, or are too weak.
    """

    def __init__(
        self, settings: Settings, clock: Callable[[], float] = time.time, remote: RemoteKeys | None = None
    ) -> None:
        self._clock = clock
        self._expected = Expected(
            issuer=settings.auth_issuer,
            audience=settings.auth_audience,
            max_lifetime=settings.auth_max_lifetime,
        )
        self._path = Path(settings.auth_key)
        self._local = read_key_file(self._path) if settings.auth_key else None
        self._remote = remote if settings.auth_key or remote else RemoteKeys(settings.auth_jwks_url)

    async def __aenter__(self) -> Self:
        if self._remote is not None:
            await self._remote.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._remote is not None:
            await self._remote.__aexit__()

    def reload(self) -> None:
        """Read the file of keys again.

        Raises:
            ConfigError: the file can't be read, or has no usable key; the previous keys stay.
        """
        if self._local is not None:
            self._local = read_key_file(self._path)

    def verify(self, token: str) -> Grant:
        """What a token allows, verified with the current keys.

        Raises:
            BadToken: the token is refused; `UnknownKey` if fetching the keys may change that.
            NoKeys: no keys have been fetched yet.
        """
        keys = self._local if self._remote is None else self._remote.keys
        if keys is None:
            raise NoKeys("the keys of tokens could not be fetched yet: try again")
        return verify(token, keys, self._expected, self._clock())

    def refresh(self) -> asyncio.Future[None] | None:
        """Request a new fetch of the keys; return a future for its end, or None if a fetch can't help now."""
        return None if self._remote is None else self._remote.refresh()

    async def admit(self, token: str) -> Grant:
        """What a token allows; fetches keys for it if necessary. Errors are those of `verify`."""
        try:
            return self.verify(token)
        except (UnknownKey, NoKeys):
            fetched = self.refresh()
            if fetched is None:
                raise
        await asyncio.shield(fetched)  # other requests wait for it too
        return self.verify(token)


def read_key_file(path: Path) -> KeySet:
    """Read the keys in a file.

    Raises:
        ConfigError: the file can't be read, or has no usable key.
    """
    try:
        return parse_key_file(read_file(path))
    except OSError as error:
        raise ConfigError(f"auth_key: {path}: {error.strerror}") from None
    except BadKey as error:
        raise ConfigError(f"auth_key: {path}: {error}") from None
