"""Messages to the user while a client reconnects to its gateway."""

from __future__ import annotations

from collections.abc import Callable

from deltawire.gateway.client import GatewayUnreachable


class Patience:
    """A client's `on_reconnect`: give up if the first connection fails, otherwise print a line for each wait.

    If the first connection fails, the address is probably wrong: the user wants to know at once, not after retries.

    Args:
        url: the gateway's address.
        say: prints a line for the user.
    """

    def __init__(self, url: str, say: Callable[[str], None]) -> None:
        self._url = url
        self._say = say
        self.is_connected = False

    def __call__(self, reason: str, delay: float) -> None:
        """Report that the client waits.

        Args:
            reason: why there is no connection.
            delay: seconds until the next attempt.

        Raises:
            GatewayUnreachable: there has been no connection yet.
        """
        if not self.is_connected:
            raise GatewayUnreachable(self._url, reason)
        self._say(f"{reason}; reconnecting in {delay:.1f} s")
