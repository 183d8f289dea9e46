"""Which fields of a head pass, and what those of this proxy say. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from deltawire.gateway.proxy.decoding import READABLE
from deltawire.protocol.addresses import check_stream_id

Fields: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Names in lower case and values of a head, in turn."""

Named: TypeAlias = Mapping[bytes, bytes]
"""The first value of each field, by its name."""

STREAM: Final = b"x-deltawire-stream"
"""Of a request: the id of the stream that gets the answer. Of an answer: the id of the stream that has it."""

SUBSCRIBE: Final = b"x-deltawire-subscribe"
"""Of an answer: the URL at which to follow its stream."""

DETACH: Final = b"x-deltawire-detach"
"""Of a request: `1` if the answer is to go on when whoever asked for it leaves."""

_OURS: Final = b"x-deltawire-"

_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Fields about one connection (RFC 9110 §7.6.1)."""

_NOT_PASSED: Final = _HOP_BY_HOP | {b"host", b"expect"}
"""Those of a request that the upstream does not get."""

LAST_STATUS: Final = 599

_BODILESS: Final = (204, 304)
"""Statuses of answers that have no body, whatever their length says: servers hold the proxy to it."""

_ABOUT_NO_BODY: Final = _HOP_BY_HOP | {b"content-length"}

_STREAMED: Final = frozenset(
    {b"text/event-stream", b"application/x-ndjson", b"application/ndjson", b"application/jsonl"}
)
"""Media types of an answer that comes bit by bit."""


class Wishes(NamedTuple):
    """What a request asks of the proxy.

    Attributes:
        stream: the id of the stream; empty if it names none, or comes from a web page: whoever opens one would write to
            any stream with the proxy's token.
        detaches: whether the answer goes on without whoever asked for it.
    """

    stream: str
    detaches: bool


def by_name(fields: Fields) -> Named:
    """The first value of each field."""
    return dict(reversed(fields))


def read_wishes(named: Named) -> Wishes:
    """Read what a request asks of the proxy.

    Raises:
        ValueError: a field has no value it may have; the message names it.
    """
    stream = named.get(STREAM, b"").decode("latin-1")
    if stream:
        try:
            check_stream_id(stream)
        except ValueError as error:
            raise ValueError(f"X-Deltawire-Stream: {error}") from None
    detach = named.get(DETACH, b"").decode("latin-1")
    if detach not in ("", "0", "1"):
        raise ValueError(f"X-Deltawire-Detach: expected 0 or 1, got {detach!r}")
    return Wishes("" if b"origin" in named else stream, detach == "1")


def pass_to_upstream(fields: Fields, named: Named, *, may_stream: bool) -> Fields:
    """The fields of a request that pass; the host is another one, and what is asked of the proxy stays here.

    Args:
        fields: as they came.
        named: likewise, by name.
        may_stream: whether the answer may go to a stream, and has to be readable.
    """
    passed = _without(_NOT_PASSED, fields, named)
    if not may_stream or b"accept-encoding" not in named:
        return passed
    return [(name, _readable(value) if name == b"accept-encoding" else value) for name, value in passed]


def _readable(codings: bytes) -> bytes:
    """Those of the codings whose content can be read."""
    accepted = codings.decode("latin-1").split(",")
    kept = [coding for coding in accepted if coding.partition(";")[0].strip().lower() in READABLE]
    return codings if kept == accepted else ",".join(kept).strip().encode("latin-1") or b"identity"


def check_framing(named: Named) -> None:
    """Refuse a request whose body would be another for the upstream than for the proxy.

    Raises:
        ValueError: it has a length as well as chunks (RFC 9112 §6.3), or another transfer coding, which does not pass.
    """
    if named.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
        raise ValueError("the request has a Transfer-Encoding other than chunked: send the body as it is")
    if b"content-length" in named and b"transfer-encoding" in named:
        raise ValueError("the request has Content-Length as well as Transfer-Encoding: send one of them")


def has_body(named: Named) -> bool:
    """Whether a request has a body."""
    return b"content-length" in named or b"transfer-encoding" in named


def check_answer(status: int, named: Named) -> None:
    """Refuse an answer that would be another for the caller.

    Raises:
        ValueError: its status is none of HTTP (RFC 9110 §15), or it has a transfer coding, which does not pass.
    """
    if status > LAST_STATUS:
        raise ValueError(f"its status, {status}, is none of HTTP")
    if named.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
        raise ValueError("it has a Transfer-Encoding other than chunked")


def pass_to_caller(status: int, fields: Fields, named: Named) -> list[tuple[bytes, bytes]]:
    """The fields of an answer that pass; where it can be followed is for the proxy to say."""
    return _without(_ABOUT_NO_BODY if status in _BODILESS else _HOP_BY_HOP, fields, named)


def _without(dropped: frozenset[bytes], fields: Fields, named: Named) -> list[tuple[bytes, bytes]]:
    """Fields but for these, those that the sender says are about its connection, and ours."""
    if b"connection" in named:
        options = b",".join([value for name, value in fields if name == b"connection"])
        dropped = dropped.union([name.strip().lower() for name in options.split(b",")])
    return [(name, value) for name, value in fields if name not in dropped and not name.startswith(_OURS)]


def is_streamed(status: int, named: Named, target: bytes) -> bool:
    """Whether an answer is one that comes bit by bit.

    Args:
        status: of the answer.
        named: fields of its head.
        target: what was asked for; Gemini streams an array of JSON where nobody asks for `alt=sse`.
    """
    if not 200 <= status < 300:
        return False
    kind = named.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return kind in _STREAMED or (kind == b"application/json" and b":streamGenerateContent" in target)


def coding_of(named: Named) -> str:
    """The content coding of an answer, in lower case; empty if it has none."""
    coding = named.get(b"content-encoding", b"").decode("latin-1").strip().lower()
    return "" if coding == "identity" else coding
