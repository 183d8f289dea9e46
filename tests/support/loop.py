"""An event loop whose time passes only when a test says so, and a server that listens nowhere."""

from __future__ import annotations

import asyncio
import selectors
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

MAX_TURNS = 20_000
"""Turns of the loop at one moment; past them something goes round in circles."""


class Clock(selectors.SelectSelector):
    """Where the loop would wait for the next timer, time jumps to it, up to where the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.until = self.now
        self.turns = 0
        self.next_timer: float | None = None
        self.stop: Callable[[], None] = lambda: None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        assert self.turns < MAX_TURNS, "the loop never comes to rest"
        if timeout is None or timeout > 0:
            self.next_timer = None if timeout is None else self.now + timeout
            if timeout is None or self.now + timeout > self.until:
                self.now = self.until
                self.stop()
            else:
                self.now += timeout
                self.turns = 0
        return super().select(0)


class Listener:
    """What `create_server` gives: it only hands out the factory of connections."""

    sockets = ()

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._is_serving = True

    def is_serving(self) -> bool:
        return self._is_serving

    def get_loop(self) -> VirtualLoop:
        return self._loop

    def close(self) -> None:
        self._is_serving = False

    async def wait_closed(self) -> None:
        """No connection is its own: the library waits for those."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop to be driven step by step.

    Attributes:
        accept: makes the protocol of a new connection, once a server listens.
        failures: exceptions nobody caught.
    """

    def __init__(self) -> None:
        self._clock = Clock()
        super().__init__(self._clock)
        self._clock.stop = self.stop
        self.accept: Callable[[], asyncio.Protocol]
        self.failures: list[BaseException | str] = []
        self.set_exception_handler(self._note_failure)

    async def shutdown(self) -> None:
        """End what a run that failed has left."""
        for task in asyncio.all_tasks(self) - {asyncio.current_task()}:
            task.cancel()

    def _note_failure(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.failures.append(context.get("exception") or context["message"])

    def time(self) -> float:
        return self._clock.now

    @property
    def has_timers(self) -> bool:
        """Whether anything was yet to happen when the loop last came to rest."""
        return self._clock.next_timer is not None

    @property
    def next_timer(self) -> float | None:
        """When something was yet to happen, when the loop last came to rest; None for never."""
        return self._clock.next_timer

    @property
    def timers(self) -> list[str]:
        """What is yet to be called."""
        scheduled: list[Any] = self._scheduled  # type: ignore[attr-defined]  # asyncio's own
        return sorted(timer._callback.__qualname__ for timer in scheduled if not timer.cancelled())

    def advance(self, seconds: float = 0.0) -> None:
        """Let time pass, and everything happen that is due meanwhile; with 0, what can happen at this moment."""
        self._clock.until = self._clock.now + seconds
        self._clock.turns = 0
        failure = sys.exception()  # of a test that is about to be told of
        frames = None if failure is None else failure.__traceback__
        try:
            self.run_forever()
        finally:
            if failure is not None:  # connections forget the frames of what failed in them, and of what that came from
                failure.__traceback__ = frames

    def advance_to(self, now: float) -> None:
        """Let time jump, as for a process that was not running; everything happens that was due meanwhile."""
        self._clock.now = now
        self.advance()

    def finish(self, coroutine: Coroutine[Any, Any, T], within: float = 0.0) -> T:
        """Run a coroutine, which has to end within so many virtual seconds."""
        task = self.create_task(coroutine)
        self.advance(within)
        assert task.done(), f"it takes longer than {within} s"
        return task.result()

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
        """What is numeric already; the loop's own would ask a thread."""
        return [(None, None, None, "", (host, port))]

    async def create_server(self, protocol_factory: Any, *_: Any, **__: Any) -> Any:
        self.accept = protocol_factory
        return Listener(self)
