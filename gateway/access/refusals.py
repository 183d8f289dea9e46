"""Why a token lets nobody in. The libraries that verify tokens are not needed to say so."""

from __future__ import annotations

from deltawire.protocol.errors import DeltawireError


class BadToken(DeltawireError):  # noqa: N818 - as the errors of the client
    """A token is refused; the message says why and does not quote the token."""


class UnknownKey(BadToken):
    """A token names an unknown key, which may have been published meanwhile."""


class NoKeys(DeltawireError):  # noqa: N818 - as the errors of the client
    """The keys have not been fetched yet, so no token can be verified."""
