"""What a person is told while a client looks for its gateway."""

from __future__ import annotations

from collections.abc import Callable

from deltawire.gateway.client import GatewayUnreachable


class Patience:
    """A client's `on_reconnect`: none for a gateway that was never there, a line for each wait afterwards.

    An absent gateway is most often a wrong address: a person wants to know that now, not after the client's retries.

    Args:
        url: the gateway's address.
        say: puts a line before the person.
    """

    def __init__(self, url: str, say: Callable[[str], None]) -> None:
        self._url = url
        self._say = say
        self.is_connected = False

    def __call__(self, reason: str, delay: float) -> None:
        """Say that the client waits.

        Args:
            reason: why there is no connection.
            delay: seconds until the next attempt.

        Raises:
            GatewayUnreachable: there was no connection yet.
        """
        if not self.is_connected:
            raise GatewayUnreachable(self._url, reason)
        self._say(f"{reason}; reconnecting in {delay:.1f} s")
