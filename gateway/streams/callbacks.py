"""Who streams tell of their messages, of their events, and of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from deltawire.gateway.streams.producers import Writer
from deltawire.protocol.events import Data, MessageStart, MessageStop

if TYPE_CHECKING:
    from deltawire.gateway.streams.durable import DurableStream
    from deltawire.gateway.streams.stream import Stream


class MessageWatcher(Protocol):
    """Is told when a message begins and ends, before the event is appended."""

    def began(self, stream: Stream, start: MessageStart, seq: int) -> None:
        """A message begins."""

    def ended(self, stream: Stream, stop: MessageStop, seq: int) -> None:
        """A message ends; `stop` contains its digest."""


class Screen(Protocol):
    """Decides what becomes of events before they are appended (`gateway.middleware`)."""

    @property
    def bytes(self) -> int:
        """What it holds back costs."""

    @property
    def due_at(self) -> float | None:
        """Monotonic seconds at which what it holds back has to be let out; None if it holds nothing."""

    def take(
        self, data: Data, timestamp: str, now: float, writer: Writer | None, *, is_urgent: bool = False
    ) -> int | None:
        """Append what becomes of an event, arguments as for `Stream.append`; None while it is held back."""

    @property
    def is_working(self) -> bool:
        """Whether `work` has to be called: there is more to do with what it has taken than one turn allows."""

    def work(self, now: float) -> None:
        """Do some of that, and append what is decided then."""

    def let_out(self, now: float) -> None:
        """Append what is held back, as it may not wait any longer."""

    def finish(self, now: float) -> None:
        """Append what is held back, as all texts end here."""


class StreamStore(Protocol):
    """Is told of streams, to keep them elsewhere."""

    @property
    def failure(self) -> str | None:
        """Why nothing can be stored now; None if it can."""

    def created(self, stream: DurableStream) -> None:
        """A stream is found by its id from now on."""

    def trimmed(self, stream: DurableStream) -> None:
        """The oldest events of a stream are not needed any more."""

    def forgotten(self, stream: DurableStream) -> None:
        """A stream is not found any more."""
