"""How `deltawire top` asks the gateway: again and again, at a bounded rate, in a thread that nothing waits for.

A gateway may take as long as it likes to answer, while keys and a quit are heeded at once; this is why it is a daemon
thread, and what asks in it is the code of the other commands.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

from deltawire.gateway.cli.asking import NO_GATEWAY, Asker, Info, Refusal
from deltawire.gateway.cli.ending import Failure
from deltawire.gateway.cli.reconnecting import Patience, Unanswered
from deltawire.gateway.cli.top.rows import FIRST_EVENTS, describe_metrics, find_first_token, sum_metrics
from deltawire.gateway.client.backoff import DEFAULT_BACKOFF, Retries
from deltawire.gateway.streams.info import StreamInfo
from deltawire.protocol.codec import JSON
from deltawire.protocol.errors import WireError
from deltawire.protocol.events import Event
from deltawire.protocol.reasons import DECODE_ERRORS

SHARE: Final = 10
"""Waits are so many times as long as a look took: a list of thousands of streams is work for the gateway."""

PAGE_PAUSE: Final = 0.1
"""Seconds between two pages of the list."""

OPEN_INTERVAL: Final = 1.0
"""Seconds between two looks at a stream that is open."""

FIRST_TOKENS: Final = 5
"""Streams whose first events are read in one look."""


class Page(Struct, frozen=True):
    """Some streams.

    Attributes:
        infos: what the gateway says of them.
        at: when, in seconds.
    """

    infos: list[StreamInfo]
    at: float


class RoundOver(Struct, frozen=True):
    """All streams were on the pages since the last round."""


class Glance(Struct, frozen=True):
    """The gateway in one line."""

    text: str


class FirstToken(Struct, frozen=True):
    """What the first events of a stream say; None if that is nothing."""

    stream: str
    seconds: float | None


class Trouble(Struct, frozen=True):
    """Why there is no answer, and when the gateway is asked again."""

    text: str


class Failed(Struct, frozen=True):
    """Why the gateway is not asked again."""

    error: Exception


News: TypeAlias = Page | RoundOver | Glance | FirstToken | Trouble | Failed


class Looker:
    """Looks at a gateway.

    Args:
        asker: asks it.
        interval: seconds between two looks, at least.
        tell: called in this thread with what is new.
    """

    def __init__(self, asker: Asker, interval: float, tell: Callable[[News], None]) -> None:
        self._asker = asker
        self._interval = interval
        self._tell = tell
        self._retries = Retries(DEFAULT_BACKOFF, None)
        self._last_metrics: tuple[dict[str, float], float] = ({}, 0.0)
        self._wanted: Sequence[str] = ()
        self._open: str | None = None
        self._is_over = False
        self._patience = Patience(asker.url)
        self._paused = 0.0  # seconds of this look in which nothing was asked
        self._woken = threading.Event()

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="looking", daemon=True).start()

    def stop(self) -> None:
        """Look no more; a look that has begun may still tell what it sees."""
        self._is_over = True
        self._woken.set()

    def want_first_tokens(self, streams: Sequence[str]) -> None:
        """Read the first events of these streams at the next looks."""
        self._wanted = streams

    def open(self, stream: str | None) -> None:
        """Look at one stream alone, at once; None looks at all again."""
        self._open = stream
        self._woken.set()

    def _run(self) -> None:
        while not self._is_over:
            begun = time.monotonic()
            self._paused = 0.0
            try:
                self._look()
                self._patience.is_connected = True
                self._retries.reset()
                took = time.monotonic() - begun - self._paused
                wait = max(OPEN_INTERVAL if self._open else self._interval, SHARE * took)
            except Failure as error:
                if not self._asks_again(error):
                    self._tell(Failed(error))
                    return
                wait = self._wait_after(error)
            except Exception as error:  # noqa: BLE001 - the main thread raises it, and restores the terminal
                self._tell(Failed(error))
                return
            self._woken.wait(wait)
            self._woken.clear()

    def _asks_again(self, error: Failure) -> bool:
        """Whether to go on after a failure; at first, the address or the token is probably wrong."""
        is_away = isinstance(error, Unanswered) and self._patience.waits(has_answered=error.has_answered)
        return is_away or self._patience.is_connected

    def _wait_after(self, error: Failure) -> float:
        """Say what is wrong; return the seconds until the next look."""
        reason, told = error.message, 0.0
        if isinstance(error, Unanswered):
            reason, told = f"the gateway is away: {error.reason}", error.told
        chance = random.random()  # noqa: S311 - spreads clients, hides nothing
        wait = self._retries.wait_after_failure(time.monotonic(), chance, told)
        assert wait is not None, "it never gives up"
        self._tell(Trouble(f"{reason}; asking again in {wait:.1f} s"))
        return wait

    def _look(self) -> None:
        if (stream := self._open) is not None:
            self._look_at(stream)
            return
        for number, page in enumerate(self._asker.pages()):
            if number:
                time.sleep(PAGE_PAUSE)
                self._paused += PAGE_PAUSE
            self._tell(Page(_convert(page), time.monotonic()))
            self._patience.waits(has_answered=True)  # it is a gateway, which may leave before this look is over
            if self._open is not None:
                return
        self._tell(RoundOver())
        self._tell(Glance(self._look_at_metrics()))
        self._look_at_first_tokens()

    def _look_at(self, stream: str) -> None:
        try:
            info = self._asker.describe(stream)
        except Refusal as error:
            if not error.is_not_found:  # it is gone: the view of it says so
                raise
        else:
            self._tell(Page([info], time.monotonic()))

    def _look_at_metrics(self) -> str:
        try:
            sums, now = sum_metrics(self._asker.metrics()), time.monotonic()
        except Refusal as error:
            return "metrics need a token with admin of all streams" if error.is_forbidden else error.message
        except ValueError:
            raise Failure(NO_GATEWAY) from None
        (before, at), self._last_metrics = self._last_metrics, (sums, now)
        return describe_metrics(sums, before, now - at)

    def _look_at_first_tokens(self) -> None:
        wanted, self._wanted = self._wanted[:FIRST_TOKENS], ()
        for stream in wanted:
            try:
                seconds = find_first_token(self._read_events(stream))
            except Refusal:  # it is gone; or the token may see the stream, and not what it says
                seconds = None
            self._tell(FirstToken(stream, seconds))

    def _read_events(self, stream: str) -> Iterator[Event]:
        with closing(self._asker.read_events(stream, 0, FIRST_EVENTS)) as lines:
            for line in lines:
                try:
                    event = JSON.decode_to_consumer(line)
                except WireError:
                    raise Failure(NO_GATEWAY) from None
                if isinstance(event, Event):
                    yield event


def _convert(page: list[Info]) -> list[StreamInfo]:
    """The streams of a page.

    Raises:
        Failure: they are not those of a gateway.
    """
    try:
        return msgspec.convert(page, list[StreamInfo])
    except DECODE_ERRORS:
        raise Failure(NO_GATEWAY) from None
