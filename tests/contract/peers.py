"""The other end of a virtual socket: it reads when told to, and checks that every word it hears is documented."""

from __future__ import annotations

from deltawire.protocol.codec import Codec
from deltawire.protocol.codes import STAYS_OPEN, CloseCode, ProblemCode, close_code, is_problem_retryable
from deltawire.protocol.events import Event
from deltawire.protocol.messages import Message, Problem
from scripts.hardening.answers import STATUSES
from tests.contract.sockets import VirtualSocket
from tests.support.loop import VirtualLoop
from tests.support.rawpeer import BINARY, CLOSE, HANDSHAKE, PONG, TEXT, frame

WITHOUT_A_PROBLEM = {CloseCode.STREAM_ENDED, CloseCode.PROTOCOL_ERROR, CloseCode.INVALID_UTF8}
"""Closes no problem comes before (SPEC §8)."""


class Peer:
    """A client on a virtual socket.

    Args:
        loop: of the gateway.
        target: the request target.
        codec: its encoding.
        request: the whole request, where it is not a handshake for `target`.

    Attributes:
        is_reading: it takes what it is sent.
        is_polite: it answers pings and closes.
        was_hindered: it stalled or misbehaved at some time: whatever is documented may happen to it.
        may_be_ended: something happened for which the gateway may end it.
        is_over: the gateway sends nothing any more.
        close_code: that of the gateway's close frame.
        problems: their codes, in order.
    """

    def __init__(self, loop: VirtualLoop, target: str, codec: Codec, request: bytes | None = None) -> None:
        self.loop = loop
        self.target = target
        self.codec = codec
        self.is_reading = True
        self.is_polite = True
        self.was_hindered = False
        self.may_be_ended = False
        self.is_over = False
        self.status: int | None = None
        self.close_code: int | None = None
        self.problems: list[ProblemCode] = []
        self._heard = bytearray()
        self.socket = VirtualSocket(loop, self._hear, self._end)
        offer = f"Sec-WebSocket-Protocol: {codec.subprotocol}\r\n"
        self.socket.arrive(HANDSHAKE.format(path=target, headers=offer).encode() if request is None else request)

    @property
    def is_served(self) -> bool:
        """Whether the gateway serves it as a consumer or a producer."""
        return self.status == 101

    # Speaking

    def send(self, payload: bytes) -> None:
        """Send a message."""
        self.socket.arrive(frame(TEXT if self.codec.is_text else BINARY, payload))

    def hang_up(self) -> None:
        """Close as RFC 6455 wants it."""
        self.socket.arrive(frame(CLOSE, (1000).to_bytes(2)))
        self.is_over = True

    def cut(self) -> None:
        """The connection breaks."""
        self.socket.arrive(ConnectionResetError())
        self.is_over = True

    def stall(self, room: int) -> None:
        """Take so many bytes more, and answer nothing."""
        self.is_reading = False
        self.was_hindered = True
        self.socket.make_room(room)

    def go_on(self) -> None:
        """Read everything again."""
        self.is_reading = True
        self.socket.make_room(None)
        self.loop.call_soon(self._read)

    # Hearing: noted from within the gateway's calls, looked at in a callback of its own

    def _hear(self, data: bytes) -> None:
        self._heard += data
        if self.is_reading:
            self.loop.call_soon(self._read)

    def _end(self) -> None:
        self.loop.call_soon(self._read_end)

    def _read_end(self) -> None:
        self._read()
        if not self.is_over:
            self.is_over = True
            self.ended()
        self.socket.arrive(None)

    def _read(self) -> None:
        if self.status is None:
            head, found, rest = bytes(self._heard).partition(b"\r\n\r\n")
            if not found:
                return
            self._heard = bytearray(rest)
            self.status = int(head.split()[1])
            assert self.status in STATUSES, head
        self._read_body()

    def _read_body(self) -> None:
        while self.status == 101 and (whole := self._next_frame()):
            self._take(*whole)

    def _next_frame(self) -> tuple[int, bytes, bytes] | None:
        """First byte, payload and all bytes of the next frame, read as RFC 6455 §5.2 says."""
        heard = self._heard
        if len(heard) < 2:
            return None
        size, start = heard[1], 2
        assert size < 0x80, "a server's frames are not masked"
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(heard[2:start])
        end = start + size
        if len(heard) < end:
            return None
        whole = bytes(heard[:end])
        del heard[:end]
        return whole[0], whole[start:], whole

    def _take(self, first_byte: int, payload: bytes, whole: bytes) -> None:
        assert self.close_code is None, "nothing comes after a close"
        match first_byte & 0x0F:
            case 8:
                self._take_close(payload)
            case 9:
                if self.is_polite:
                    self.socket.arrive(frame(PONG, payload))
            case 10:
                pass
            case _:
                assert first_byte == self.codec.first_byte
                message = self.decode(payload)
                assert message is not None, payload
                if isinstance(message, Problem):
                    self._take_problem(message)
                else:
                    self.take(message, whole)

    def _take_close(self, payload: bytes) -> None:
        self.close_code = CloseCode(int.from_bytes(payload[:2])) if payload else 1005
        assert self.close_code != CloseCode.GATEWAY_FAULT
        assert len(payload) <= 125
        if self.close_code not in WITHOUT_A_PROBLEM and not self.is_over:
            assert close_code(self.problems[-1]) == self.close_code, "the problem says why"
        if self.is_polite and not self.is_over:
            self.socket.arrive(frame(CLOSE, payload[:2]))
        if not self.is_over:
            self.is_over = True
            self.ended()

    def _take_problem(self, problem: Problem) -> None:
        code = ProblemCode(problem.code)
        assert code is not ProblemCode.GATEWAY_FAULT, problem
        assert problem.message
        assert problem.retryable == is_problem_retryable(code)
        assert not self.problems or self.problems[-1] in STAYS_OPEN, "a close comes after this problem"
        self.problems.append(code)
        self.take_problem(problem)

    # What kind of peer it is

    def decode(self, payload: bytes) -> Event | Message | None:
        """A message of the gateway; of a peer that knows not what it asked for, one of either endpoint."""
        return self.codec.decode_to_consumer(payload) or self.codec.decode_to_producer(payload)

    def take(self, message: Event | Message, whole: bytes) -> None:
        """A message came."""

    def take_problem(self, problem: Problem) -> None:
        """A problem came."""

    def ended(self) -> None:
        """The gateway ended it."""
