"""The authenticator that the settings ask for, if they do.

Its libraries take 90 ms to load and 10 MB: a gateway without tokens does without them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from deltawire.gateway.config import ConfigError, Settings

if TYPE_CHECKING:
    from deltawire.gateway.access.authenticator import Authenticator


def open_authenticator(settings: Settings, clock: Callable[[], float]) -> Authenticator | None:
    """The authenticator for these settings; None if they require no tokens.

    Raises:
        ConfigError: the settings contradict each other, or the keys can't be read or are too weak.
    """
    if settings.auth_key and settings.auth_jwks_url:
        raise ConfigError("auth_key and auth_jwks_url both say where the keys of tokens are: give one")
    if settings.has_authentication:
        from deltawire.gateway.access.authenticator import Authenticator  # noqa: PLC0415 - takes a while

        return Authenticator(settings, clock)
    if settings.auth_issuer or settings.auth_audience or settings.auth_query_token:
        raise ConfigError("auth_issuer, auth_audience and auth_query_token need auth_key or auth_jwks_url")
    return None
