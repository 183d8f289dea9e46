"""How long a command waits for its gateway: one rule for all of them, and the option that changes it.

A gateway that says "not now", as one that shuts down or whose store is away does, is waited for like one to which a
connection was lost. An address at which nobody has answered yet is probably wrong: the user wants to know at once, not
after retries, unless they asked for patience.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from deltawire.gateway.cli.ending import Failure, say
from deltawire.gateway.cli.options import FiniteRange
from deltawire.gateway.client import GatewayUnreachable
from deltawire.gateway.client.backoff import DEFAULT_BACKOFF, Retries

RETRY_FOR: Final = 30.0
"""Seconds without progress after which a gateway that is away is given up, as by a client in a program."""

Command = TypeVar("Command", bound=Callable[..., Any])
Answer = TypeVar("Answer")


class Unanswered(Failure):
    """There was no whole answer to a request, or only "not now": the same request may succeed later.

    Args:
        url: the gateway's address.
        reason: why, in plain words.
        told: seconds to wait that the gateway asked for.

    Attributes:
        has_answered: whether it said "not now".
    """

    def __init__(self, url: str, reason: str, told: float = 0.0) -> None:
        unreachable = GatewayUnreachable(url, reason)
        super().__init__(str(unreachable))
        self.reason = reason
        self.told = told
        self.has_answered = unreachable.has_answered


class Patience:
    """The patience of one run of a command: decides whether to wait, and says so.

    It is the `on_reconnect` of clients. Before the first connection it says once what it waits for, and from then on
    it prints a line for each wait.

    Args:
        url: the gateway's address.
        retry_for: seconds without progress after which the user wants to give up; None if they did not say.

    Attributes:
        retry_for: seconds without progress after which to give up.
        is_connected: whether there has been a connection, or an answer.
        has_waited: whether it has waited for the first one.
        tell: prints a line for the user.
    """

    def __init__(self, url: str, retry_for: float | None = None) -> None:
        self.retry_for = RETRY_FOR if retry_for is None else retry_for
        self.is_connected = False
        self.has_waited = False
        self.tell: Callable[[str], None] = say
        self._url = url
        self._is_gateway = retry_for is not None  # or is taken for one
        self._retries = Retries(DEFAULT_BACKOFF, self.retry_for)

    def waits(self, *, has_answered: bool) -> bool:
        """Whether to try again after a failure.

        Args:
            has_answered: whether the gateway said "not now"; it may stop listening next, before it starts again.
        """
        self._is_gateway = self._is_gateway or has_answered or self.is_connected
        return self._is_gateway

    def __call__(self, reason: str, delay: float) -> None:
        """Report that the client waits.

        Args:
            reason: why there is no connection.
            delay: seconds until the next attempt.

        Raises:
            GatewayUnreachable: nobody has ever answered there.
        """
        unreachable = GatewayUnreachable(self._url, reason)
        if not self.waits(has_answered=unreachable.has_answered):
            raise unreachable
        if self.is_connected:
            self.tell(f"{reason}; reconnecting in {delay:.1f} s")
        elif not self.has_waited:
            self.has_waited = True
            self.tell(f"{unreachable}; waiting up to {self.retry_for:g} s")

    def insist(self, ask: Callable[[], Answer]) -> Answer:
        """What the gateway answers in the end.

        Args:
            ask: makes a request.

        Raises:
            Failure: it refused, or did not answer in time.
        """
        while True:
            try:
                answer = ask()
            except Unanswered as failure:
                self.wait_after(failure)
            else:
                self.is_connected = True
                self.progressed()
                return answer

    def progressed(self) -> None:
        """Note that something came: the next failure begins a new run of retries."""
        self._retries.reset()

    def wait_after(self, failure: Unanswered) -> None:
        """Wait until the gateway may answer again.

        Raises:
            Unanswered: it never answered, or has been away for too long.
        """
        chance = random.random()  # noqa: S311 - spreads clients, hides nothing
        delay = self._retries.wait_after_failure(time.monotonic(), chance, failure.told)
        if delay is None or not self.waits(has_answered=failure.has_answered):
            raise failure
        self(failure.reason, delay)
        time.sleep(delay)


def patience_option(command: Command) -> Command:
    """Add `--retry-for` to a command, which receives its `Patience` as the argument `patience`."""

    @functools.wraps(command)
    def run(*args: Any, url: str, retry_for: float | None, **rest: Any) -> Any:
        return command(*args, url=url, patience=Patience(url, retry_for), **rest)

    description = (
        f"Give up a gateway that is away, or says 'not now', after so long without progress; default: {RETRY_FOR:g}. "
        "If given, an address at which nobody has answered yet is tried for so long, too."
    )
    return click.option("--retry-for", type=FiniteRange(0), metavar="SECONDS", help=description)(run)  # type: ignore[return-value]  # it has the parameters of the command and the added option
