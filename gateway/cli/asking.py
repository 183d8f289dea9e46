"""Requests of commands to a gateway, over HTTP (SPEC §9)."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from ssl import SSLContext, create_default_context
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import quote

import msgspec

from deltawire.gateway.cli.credentials import GivenToken
from deltawire.gateway.cli.ending import Failure
from deltawire.gateway.cli.reconnecting import Unanswered
from deltawire.gateway.client import ClientError
from deltawire.gateway.client.connection import HUNG_UP, RETRIED_STATUS, hint_of, judge_attempt, parse_retry_after
from deltawire.gateway.http_client import Answer, NoAnswer, open_answer
from deltawire.gateway.streams.info import StreamInfo
from deltawire.protocol.addresses import MAX_LISTED, PREFIX
from deltawire.protocol.reasons import DECODE_ERRORS

TIMEOUT: Final = 10.0
"""Seconds until the gateway has to answer, as for a WebSocket handshake."""

READ_TIMEOUT: Final = 30.0
"""Seconds in which the gateway has to send the whole answer, unless it is a page of events."""

MAX_ANSWER: Final = 4 * 1024 * 1024
"""Maximum bytes of an answer, or of a line in a page of events; a page of 1000 streams has less than half of 1 MiB."""

NO_GATEWAY: Final = "the server there is not a gateway"

Info: TypeAlias = dict[str, Any]
Decoded = TypeVar("Decoded")


class Refusal(Failure):
    """The gateway refused.

    Args:
        message: why, in its words.
        status: of its answer.

    Attributes:
        is_not_found: whether there is no such stream.
        is_forbidden: whether the token does not allow it.
        is_taken: whether there is such a stream already.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.is_not_found = status == HTTPStatus.NOT_FOUND
        self.is_forbidden = status == HTTPStatus.FORBIDDEN
        self.is_taken = status == HTTPStatus.CONFLICT


class Asker:
    """Asks one gateway.

    Args:
        url: its WebSocket address; its HTTP side is on the same port.
        token: the token to send.
        tls: the TLS context; None trusts the system's CAs.
    """

    def __init__(self, url: str, token: GivenToken, tls: SSLContext | None) -> None:
        self.url = url
        self._token = token
        self._tls = tls
        self._trusted = tls or create_default_context()

    def ask(self, method: str, stream: str, params: dict[str, str] | None = None) -> bytes:
        """The body of the answer about a stream.

        Args:
            method: GET, PUT or DELETE.
            stream: the stream id; empty for all streams.
            params: the parameters of the query string.

        Raises:
            Failure: the gateway did not answer, or refused.
        """
        with self._asking(method, _path_of(stream), params) as pieces:
            return _read(pieces)

    def describe(self, stream: str) -> StreamInfo:
        """The info of a stream.

        Raises:
            Failure: as `ask`.
        """
        return decode(self.ask("GET", stream), StreamInfo)

    def list_streams(self) -> list[Info]:
        """The info of all streams, ordered by id.

        Raises:
            Failure: as `ask`.
        """
        return [info for page in self.pages() for info in page]

    def pages(self) -> Iterator[list[Info]]:
        """The pages of the list, each asked for when it is wanted.

        Raises:
            Failure: as `ask`.
        """
        asked = {"limit": str(MAX_LISTED)}
        while True:
            page = decode(self.ask("GET", "", asked), list[Info])
            yield page
            if len(page) != MAX_LISTED:
                return
            last = page[-1].get("id")
            if not isinstance(last, str) or last <= asked.get("after", ""):  # the loop would never end
                raise Failure(NO_GATEWAY)
            asked["after"] = last

    def metrics(self) -> str:
        """The metrics of the gateway, in Prometheus' text format.

        Raises:
            Failure: as `ask`.
        """
        with self._asking("GET", "/metrics", None) as pieces:
            return _read(pieces).decode(errors="replace")

    def read_events(self, stream: str, after: int, limit: int) -> Generator[bytes]:
        """The lines of one page of events, as they come.

        Args:
            stream: the stream id.
            after: the seq after which the page begins.
            limit: maximum number of events.

        Raises:
            Failure: as `ask`; `Unanswered` also where the page breaks off.
        """
        rest = b""
        asked = {"after": str(after), "limit": str(limit)}
        with self._asking("GET", f"{_path_of(stream)}/events", asked) as pieces:
            for piece in pieces:
                *lines, rest = (rest + piece).split(b"\n")
                yield from lines
                if len(rest) > MAX_ANSWER:
                    raise Failure(f"{NO_GATEWAY}: a line of its answer does not end")

    @contextmanager
    def _asking(self, method: str, path: str, params: dict[str, str] | None) -> Iterator[Iterator[bytes]]:
        """A request, whose body is read in the block."""
        address = f"http{self.url.removeprefix('ws')}{path}"
        text = self._token() if callable(self._token) else self._token
        headers = {"Accept-Encoding": "identity"} | ({} if text is None else {"Authorization": f"Bearer {text}"})
        has_begun = False
        try:
            with open_answer(
                method, address, params=params, headers=headers, timeout=TIMEOUT, tls=self._trusted
            ) as answer:
                has_begun = True
                self._check(answer)
                yield answer.pieces
        except UnicodeError:
            raise Failure("the token has a character that is not allowed in tokens") from None
        except NoAnswer as error:
            raise self._explain(error, has_begun=has_begun) from None

    def _check(self, answer: Answer[Iterator[bytes]]) -> None:
        """Raise what a refusal says."""
        if answer.is_success:
            return
        why = _problem(_read(answer.pieces)) or answer.reason
        if answer.status in RETRIED_STATUS:
            told = parse_retry_after(answer.headers.get("Retry-After", ""))
            raise Unanswered(self.url, f"HTTP {answer.status}: {why}", told)
        raise Refusal(f"{why} (HTTP {answer.status})", answer.status)

    def _explain(self, error: NoAnswer, *, has_begun: bool) -> Failure:
        """Why there was no whole answer, in the words of the commands that follow streams."""
        if has_begun and (error.system_error is not None or error.hung_up):
            verdict = "the connection was lost"
        elif error.system_error is not None:
            judged = judge_attempt(error.system_error, hint_of(self.url, self._tls))
            if isinstance(judged, ClientError):
                return Failure(str(judged))
            verdict = judged
        elif error.hung_up:
            verdict = HUNG_UP + hint_of(self.url, self._tls)
        else:
            verdict = str(error).lower()
        return Unanswered(self.url, verdict)


def _path_of(stream: str) -> str:
    """The path of a stream; of all streams if the id is empty."""
    return f"{PREFIX}/{quote(stream, safe='')}" if stream else PREFIX


def decode(answer: bytes, wanted: type[Decoded]) -> Decoded:
    """The JSON value of an answer.

    Raises:
        Failure: it is not that of a gateway.
    """
    try:
        return msgspec.json.decode(answer, type=wanted)
    except DECODE_ERRORS:
        raise Failure(NO_GATEWAY) from None


def _read(pieces: Iterable[bytes]) -> bytes:
    """A body, as long and as slow as that of a gateway may be."""
    over_at = time.monotonic() + READ_TIMEOUT
    body = b""
    for piece in pieces:
        body += piece
        if len(body) > MAX_ANSWER or time.monotonic() > over_at:
            raise Failure(f"{NO_GATEWAY}: its answer does not end")
    return body


def _problem(body: bytes) -> str:
    """The gateway's own explanation of a refusal (RFC 9457); empty if there is none."""
    try:
        problem = decode(body, Info)
    except Failure:
        problem = {}
    return str(problem.get("detail") or problem.get("title") or "")
