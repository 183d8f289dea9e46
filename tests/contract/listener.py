"""A consumer over plain HTTP: a follower that reads server-sent events, and says nothing."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from deltawire.protocol.codec import JSON
from deltawire.protocol.codes import CloseCode, ProblemCode, close_code
from deltawire.protocol.messages import Problem
from deltawire.protocol.position import Position
from tests.contract.follower import Follower
from tests.support.loop import VirtualLoop
from tests.support.naive import NaiveStream


class Listener(Follower):
    """A consumer over plain HTTP.

    Args:
        loop: of the gateway.
        stream: the stream id.
        query: what it asks for.
        find_book: the book of the stream with an epoch.
        last_id: sent as EventSource does.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        stream: str,
        query: str,
        find_book: Callable[[str], NaiveStream],
        last_id: str = "",
    ) -> None:
        header = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
        target = f"/v1/streams/{stream}/sse?{query}"
        request = f"GET {target} HTTP/1.1\r\nHost: gateway\r\n{header}\r\n".encode()
        super().__init__(loop, stream, query, JSON, find_book, request)
        epoch, _, seq = last_id.rpartition(".")
        self._position = Position(epoch, int(seq)) if last_id else None
        self.request = replace(self.request, position=self._position)

    @property
    def is_served(self) -> bool:
        return self.status == 200

    def signal(self, times: int, rate: float) -> None:
        """It can't."""

    def hang_up(self) -> None:
        """Go, as a browser does."""
        self.socket.arrive(None)
        self.is_over = True

    def _read_body(self) -> None:
        if self.status == 204:
            assert self._position is not None
            book = self._find_book(self._position.epoch)
            assert book.stream.is_closed
            assert book.head == self._position.seq, "nothing is left to be read"
            self.has_ended = True
            return
        while not self.is_over and b"\r\n" in self._heard:
            size, _, rest = bytes(self._heard).partition(b"\r\n")
            length = int(size, 16)
            if len(rest) < length + 2:
                return
            event, end = rest[:length], rest[length : length + 2]
            assert end == b"\r\n"
            self._heard = bytearray(rest[length + 2 :])
            if not length:
                self.end_body()
                return
            self._take_event_of_body(event)

    def _take_event_of_body(self, event: bytes) -> None:
        assert event.endswith(b"\n\n")
        lines = dict(line.split(b": ", 1) for line in event.splitlines() if line and not line.startswith(b":"))
        if b"data" not in lines:
            return
        message = JSON.decode_to_consumer(lines[b"data"])
        assert message is not None
        if isinstance(message, Problem):
            self._take_problem(message)
            return
        self.take(message, event)
        assert b"id" not in lines or lines[b"id"].decode() == f"{self.epoch}.{self.position}"

    def end_body(self) -> None:
        """The body is whole: its last event says why."""
        self.is_over = True
        self.close_code = close_code(ProblemCode(self.problems[-1])) if self.problems else CloseCode.STREAM_ENDED
        self.ended()
