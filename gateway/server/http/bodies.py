"""The body of a request that publishes or signals (SPEC §9.6, §9.7): from bytes to messages. Pure.

    bytes of the socket ──Framing──► bytes of the body ──Splitter──► messages

Each holds the end of what it was given, as far as it is incomplete, and no more than a limit allows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol

from websockets.datastructures import Headers

from deltawire.protocol.codec import JSON, MSGPACK, Codec

MAX_CHUNK_LINE: Final = 256
"""Bytes of the line before a chunk, extensions included; nobody sends extensions."""

MAX_TRAILERS: Final = 8192
"""Bytes of the fields after the last chunk, which are ignored; a head has no longer line."""

_LENGTH = re.compile(r"[0-9]{1,16}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(;[^\r\n]*)?\r\n")

LINES: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
"""Media types of which each line is a message."""

WHOLE: Final[dict[str, Codec]] = {
    "application/json": JSON,
    "application/msgpack": MSGPACK,
    "application/vnd.msgpack": MSGPACK,
    "application/x-msgpack": MSGPACK,
}
"""Media types of a body that is one message, with its codec."""


class BadBody(ValueError):  # noqa: N818 - the name says what is wrong
    """A body that can't be read.

    Args:
        detail: what is wrong, and what to do.
        status: of the refusal.
        before: the messages before what is wrong, in what was fed last.
    """

    def __init__(
        self, detail: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST, before: Sequence[Message] = ()
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.before = before


class Framing(Protocol):
    """Where the body ends among the bytes that follow the head of a request (RFC 9112 §6)."""

    @property
    def is_complete(self) -> bool:
        """Whether the end has come; whatever follows is ignored."""

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the socket; return those of the body.

        Raises:
            BadBody: they can't be read.
        """


class Length:
    """A body whose length is known.

    Args:
        length: in bytes.
    """

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def is_complete(self) -> bool:
        """As `Framing`."""
        return self._left == 0

    def feed(self, data: bytes) -> bytes:
        """As `Framing`."""
        body = data[: self._left]
        self._left -= len(body)
        return body


class Chunks:
    """A body in chunks (RFC 9112 §7.1)."""

    def __init__(self) -> None:
        self._rest = b""  # an incomplete line
        self._left = 0  # bytes of this chunk, and of the end of its line, that are still to come
        self._trailers = -1  # bytes of trailers so far; −1 before them
        self.is_complete = False

    def feed(self, data: bytes) -> bytes:
        """As `Framing`."""
        data, at = self._rest + data, 0
        pieces: list[bytes] = []
        while at < len(data) and not self.is_complete:
            if self._left > 0:
                at = self._take(data, at, pieces)
                continue
            end = data.find(b"\n", at) + 1
            line = data[at : end or len(data)]
            if self._trailers < 0 and len(line) > MAX_CHUNK_LINE:
                raise BadBody(f"the line before a chunk has over {MAX_CHUNK_LINE} bytes")
            if not end:
                break
            self._take_line(line)
            at = end
        self._rest = b"" if self.is_complete else data[at:]
        if len(self._rest) + max(self._trailers, 0) > MAX_TRAILERS:
            raise BadBody(f"the trailers have over {MAX_TRAILERS} bytes")
        return b"".join(pieces)

    def _take(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """Take a part of a chunk; its last two bytes end its line, and are not of the body."""
        upto = min(at + self._left, len(data))
        body = data[at : min(upto, at + max(self._left - 2, 0))]
        ending = data[at + len(body) : upto]
        if ending and not b"\r\n"[2 - self._left + len(body) :].startswith(ending):
            raise BadBody("a chunk is longer than the line before it says")
        if body:
            pieces.append(body)
        self._left -= upto - at
        return upto

    def _take_line(self, line: bytes) -> None:
        if self._trailers >= 0:
            self._trailers += len(line)
            self.is_complete = line == b"\r\n"
            return
        match = _CHUNK.fullmatch(line)
        if match is None:
            raise BadBody("the line before a chunk is not its size in hexadecimal")
        size = int(match[1], 16)
        if size:
            self._left = size + 2
        else:
            self._trailers = 0


class Message(NamedTuple):
    """A message of a body.

    Attributes:
        line: its number, from 1; None if the body is the message.
        payload: the message.
    """

    line: int | None
    payload: bytes


class Splitter(Protocol):
    """Where messages end in a body.

    Attributes:
        codec: of the messages.
    """

    codec: Codec

    @property
    def held_bytes(self) -> int:
        """Bytes of an incomplete message."""

    def feed(self, body: bytes) -> Sequence[Message]:
        """Take bytes of the body; return the messages that are complete.

        Raises:
            BadBody: a message is too long.
        """

    def finish(self) -> Sequence[Message]:
        """Return what is left, as the body is complete."""


class Lines:
    """One message a line; empty lines are none.

    Args:
        limit: maximum bytes of a message.
    """

    codec = JSON

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = b""
        self._number = 0  # of lines so far

    @property
    def held_bytes(self) -> int:
        """As `Splitter`."""
        return len(self._rest)

    def feed(self, body: bytes) -> Sequence[Message]:
        """As `Splitter`."""
        if not body:
            return ()
        *lines, self._rest = (self._rest + body).split(b"\n")
        messages: list[Message] = []
        for line in lines:
            self._number += 1
            if line and not line.isspace():
                if len(line) > self._limit:
                    raise _too_long(self._limit, self._number, messages)
                messages.append(Message(self._number, line))
        if len(self._rest) > self._limit:
            raise _too_long(self._limit, self._number + 1, messages)
        return messages

    def finish(self) -> Sequence[Message]:
        """As `Splitter`."""
        return self.feed(b"\n")


class Whole:
    """The body is one message.

    Args:
        codec: of it.
        limit: maximum bytes.
    """

    def __init__(self, codec: Codec, limit: int) -> None:
        self.codec = codec
        self._limit = limit
        self._body = bytearray()

    @property
    def held_bytes(self) -> int:
        """As `Splitter`."""
        return len(self._body)

    def feed(self, body: bytes) -> Sequence[Message]:
        """As `Splitter`."""
        self._body += body
        if len(self._body) > self._limit:
            raise _too_long(self._limit)
        return ()

    def finish(self) -> Sequence[Message]:
        """As `Splitter`."""
        body, self._body = bytes(self._body), bytearray()
        return (Message(None, body),)


def _too_long(limit: int, line: int | None = None, before: Sequence[Message] = ()) -> BadBody:
    what = "the body" if line is None else f"line {line}"
    return BadBody(
        f"{what} has over max_message ({limit} bytes): send events in several requests, or as application/x-ndjson",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        before,
    )


def find_framing(fields: Sequence[tuple[str, str]], headers: Headers, protocol: str) -> Framing:
    """Find out how the end of a body is told (RFC 9112 §6.3).

    Args:
        fields: what `HeadReader` kept back: `Content-Length` or `Transfer-Encoding`, one of them at most.
        headers: all others of the request.
        protocol: its HTTP version.

    Raises:
        BadBody: it is not told, or in two ways, of which another program on the way may believe the other one.
    """
    if not fields:
        raise BadBody("a Content-Length, or chunks, are needed", HTTPStatus.LENGTH_REQUIRED)
    (name, value), *_ = fields
    if "Content-Length" in headers or "Transfer-Encoding" in headers:
        raise BadBody("the request tells the length of its body twice")
    if name == "content-length":
        if _LENGTH.fullmatch(value) is None:
            raise BadBody("Content-Length: expected a number of bytes")
        return Length(int(value))
    if value.lower() != "chunked":
        raise BadBody("Transfer-Encoding: only chunked is known", HTTPStatus.NOT_IMPLEMENTED)
    if protocol == "HTTP/1.0":
        raise BadBody("HTTP/1.0 has no chunks")
    return Chunks()


def find_splitter(headers: Headers, limit: int, *, may_be_lines: bool = True) -> Splitter:
    """Find out what the messages of a body are.

    Args:
        headers: of the request.
        limit: maximum bytes of a message.
        may_be_lines: whether it may have several messages.

    Raises:
        BadBody: the body is encoded, or of no known type.
    """
    if any(coding.strip().lower() != "identity" for coding in headers.get_all("Content-Encoding")):
        detail = "Content-Encoding: send the body as it is"
        raise BadBody(detail, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    named = headers.get_all("Content-Type")
    kind = named[0].partition(";")[0].strip().lower() if len(named) == 1 else ""
    if kind in LINES and may_be_lines:
        return Lines(limit)
    if kind in WHOLE:
        return Whole(WHOLE[kind], limit)
    known = "application/x-ndjson, " * may_be_lines + "application/json, application/msgpack"
    raise BadBody(f"Content-Type: expected one of {known}", HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
