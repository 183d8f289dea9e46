"""Tokens judged with the keys a gateway is set up with, wherever those come from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from deltawire.gateway.access.grant import Grant
from deltawire.gateway.access.jwks import RemoteKeys
from deltawire.gateway.access.keys import BadKey, KeySet, parse_key_file
from deltawire.gateway.access.tokens import Expected, UnknownKey, verify
from deltawire.gateway.config import ConfigError, Settings
from deltawire.gateway.files import read_file
from deltawire.protocol.errors import DeltawireError


class NoKeys(DeltawireError):  # noqa: N818 - as the errors of the client
    """The keys have not been fetched yet: nobody can be judged."""


class Authenticator:
    """Judges tokens. An async context manager, as keys may have to be fetched.

    Args:
        settings: where the keys are, what tokens must say.
        clock: seconds since 1970.
        remote: where keys are fetched; None takes the settings' own.

    Raises:
        ConfigError: the keys can't be had, or are too weak.
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
            ConfigError: it can't be read, or holds no key that is good enough; the ones there were stay.
        """
        if self._local is not None:
            self._local = read_key_file(self._path)

    def verify(self, token: str) -> Grant:
        """What a token allows, by the keys there are.

        Raises:
            BadToken: nothing; `UnknownKey` if fetching the keys may change that.
            NoKeys: there are none yet.
        """
        keys = self._local if self._remote is None else self._remote.keys
        if keys is None:
            raise NoKeys("the keys of tokens could not be fetched yet: try again")
        return verify(token, keys, self._expected, self._clock())

    def refresh(self) -> asyncio.Future[None] | None:
        """Have the keys fetched anew: what is done when they were; None if that can't help now."""
        return None if self._remote is None else self._remote.refresh()

    async def admit(self, token: str) -> Grant:
        """What a token allows, if need be by keys fetched for it; errors as those of `verify`."""
        try:
            return self.verify(token)
        except (UnknownKey, NoKeys):
            fetched = self.refresh()
            if fetched is None:
                raise
        await asyncio.shield(fetched)  # others wait for it too
        return self.verify(token)


def open_authenticator(settings: Settings, clock: Callable[[], float]) -> Authenticator | None:
    """What judges tokens with these settings; None where nobody needs one.

    Raises:
        ConfigError: the settings contradict each other, or the keys can't be had or are too weak.
    """
    if settings.auth_key and settings.auth_jwks_url:
        raise ConfigError("auth_key and auth_jwks_url both say where the keys of tokens are: give one")
    if settings.has_authentication:
        return Authenticator(settings, clock)
    if settings.auth_issuer or settings.auth_audience or settings.auth_query_token:
        raise ConfigError("auth_issuer, auth_audience and auth_query_token need auth_key or auth_jwks_url")
    return None


def read_key_file(path: Path) -> KeySet:
    """The keys in a file.

    Raises:
        ConfigError: it can't be read, or holds no key that is good enough.
    """
    try:
        return parse_key_file(read_file(path))
    except OSError as error:
        raise ConfigError(f"auth_key: {path}: {error.strerror}") from None
    except BadKey as error:
        raise ConfigError(f"auth_key: {path}: {error}") from None
