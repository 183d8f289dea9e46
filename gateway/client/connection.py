"""One connection after another to an endpoint: open, judge how it failed, wait, open again.

What can be retried: nobody answers, HTTP 429 and 5xx of overload, a lost connection, and every close that
`protocol.codes.is_retryable` names. Everything else raises at once.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import ssl
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec
from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConcurrencyError, ConnectionClosed, InvalidMessage, InvalidStatus, WebSocketException
from websockets.frames import DATA_OPCODES, Frame
from websockets.http11 import Response
from websockets.protocol import Event
from websockets.typing import Subprotocol

from deltawire.gateway.client.backoff import Backoff, Retries
from deltawire.gateway.client.errors import ClientError, GatewayUnreachable, ProtocolFault, Refused, refusal
from deltawire.gateway.client.tokens import Tokens
from deltawire.protocol.codec import Codec
from deltawire.protocol.codes import STAYS_OPEN, CloseCode, is_retryable
from deltawire.protocol.messages import Problem, Token
from deltawire.protocol.reasons import DECODE_ERRORS

MAX_MESSAGE: Final = 4 * 1024 * 1024
"""Bytes of the largest message taken: a folded event can carry 1 MiB of text, four times that when escaped."""

CLOSE_TIMEOUT: Final = 1.0
"""Seconds the gateway has to answer a close: leaving must be quick even when it is gone."""

OPEN_TIMEOUT: Final = 10.0
"""Seconds for connecting and the handshake; as long as the gateway gives its side."""

PING_INTERVAL: Final = 20.0
"""Seconds between pings, and to answer one; a gateway that vanished without a word is noticed after both."""

SEND_TIMEOUT: Final = 2 * PING_INTERVAL
"""Seconds a message may wait to be taken. Pings wait behind it, and so does their own deadline: with more unsent than
the kernel buffers, nothing else would notice a gateway that stands still."""

MAX_UNSENT: Final = 4 * 1024 * 1024
"""Bytes that may wait to be sent: a message is at most 1 MiB, and waits for those before it. More are answers to pings
that the gateway does not read."""

MAX_FRAGMENTS: Final = 1024
"""Fragments of one message. A gateway sends none, a proxy in between cuts at its buffers; websockets has had a limit of
its own since 17, four times this, and before that would collect empty ones for ever."""

HUNG_UP: Final = "the connection was closed during the handshake"
"""Why there is no connection where nothing more is known."""

_NOT_TLS = (
    "WRONG_VERSION_NUMBER",
    "RECORD_LAYER_FAILURE",
)  # what OpenSSL calls an answer in plain text, by its version
_RETRIED_STATUS = frozenset({429, 500, 502, 503, 504})
_SECONDS = re.compile(r"[0-9]{1,6}", re.ASCII)
_ERRNO = re.compile(r"\[Errno (\d+)\]")  # asyncio joins several attempts of one host name into one message

_PROXY_FAULTS: Final[dict[int, str]] = {
    HTTPStatus.UPGRADE_REQUIRED: "a proxy in between does not pass the header Upgrade on",
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: "a proxy in between speaks HTTP/1.0",
}
"""What refusals mean that a client never earns, as it asks in HTTP/1.1 for an upgrade."""

OnReconnect = Callable[[str, float], None]


class BoundedConnection(ClientConnection):
    """A connection on which neither answers to pings that the gateway doesn't read pile up, nor fragments without end.

    Args:
        args: as the library gives them.
        kwargs: likewise.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fragments = 0  # of the message that is not whole yet

    def data_received(self, data: bytes) -> None:
        """Bytes came, which are answered at once where they are pings."""
        super().data_received(data)
        if self.transport.get_write_buffer_size() > MAX_UNSENT:
            self.transport.abort()

    def process_event(self, event: Event) -> None:
        """Take a frame, but for those of a message in too many pieces: it ends the connection."""
        if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
            if self._fragments >= MAX_FRAGMENTS:
                self._refuse_fragments()
                return
            self._fragments = 0 if event.fin else self._fragments + 1
        super().process_event(event)

    def _refuse_fragments(self) -> None:
        if self.transport.is_closing():  # what was read along with the one too many
            return
        self.protocol.fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
        self.send_data()
        self.transport.abort()


class DirectConnect(connect):
    """Connects to the address that was given and to no other: a token is for nobody else, and TLS is set up for it."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Take a redirect for the refusal it is."""
        return exc


class Connector:
    """Opens connections to one gateway, and knows what to do when they fail.

    Args:
        url: the gateway's address, for messages.
        codec: how messages are encoded.
        backoff: how long the waits between attempts are.
        retry_for: seconds without progress after which to give up; None never does, 0 never retries.
        on_reconnect: told the reason and the seconds of each wait, before it.
        tokens: what each connection is made with.
        tls: whom to trust where the address is `wss`, and what to show; None trusts whom the system trusts.

    Raises:
        ValueError: TLS is set up for an address without it.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - each is one fact about the connections
        self,
        url: str,
        codec: Codec,
        backoff: Backoff,
        retry_for: float | None,
        on_reconnect: OnReconnect | None,
        tokens: Tokens,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if tls is not None and not url.startswith("wss:"):
            raise ValueError(f"TLS is set up, but the address {url!r} does not begin with wss://")
        self.tokens = tokens
        self._was_open = False
        self._url = url
        self._codec = codec
        self._retries = Retries(backoff, retry_for)
        self._on_reconnect = on_reconnect
        self._tls = tls
        self._failure: str | None = None
        self._told = 0.0  # seconds the gateway asked for

    async def open(self, target: str) -> ClientConnection:
        """A new connection, after as many attempts and waits as it takes.

        Args:
            target: the whole URL.

        Raises:
            GatewayUnreachable: no attempt succeeded in time.
            Refused: the gateway said no before the upgrade.
            ProtocolFault: what answers there is no gateway.
            TokenUnavailable: the function that gives tokens failed.
        """
        while True:
            if self._failure is not None:
                await self._wait(self._failure)
                self._failure = None
            try:
                connection = await self._connect(target)
            except (OSError, WebSocketException) as error:
                self.note(self._judge_attempt(error))
                self._told = retry_after(error)
                continue
            self._was_open = True
            if connection.subprotocol != self._codec.subprotocol:
                await connection.close()
                raise ProtocolFault(f"what answers at {self._url} does not speak {self._codec.subprotocol}")
            return connection

    def _judge_attempt(self, error: OSError | WebSocketException) -> str | ClientError:
        hint = "" if self._was_open else hint_of(self._url, self._tls)
        failure = judge_attempt(error, hint)
        is_unauthorized = isinstance(failure, Refused) and failure.code == HTTPStatus.UNAUTHORIZED
        if is_unauthorized and self._was_open and self.tokens.note_refusal():
            return str(failure)  # it ended on the way, or the function had kept it for too long
        return failure

    def lost(self, error: ConnectionClosed, problem: Problem | None) -> None:
        """A connection ended: the next `open` waits first.

        Args:
            error: how it ended.
            problem: the last `problem` that came on it.

        Raises:
            ClientError: the same request would fail again.
        """
        self.note(judge_close(error, problem))

    def note(self, failure: str | ClientError) -> None:
        """Keep the reason of a failure for the next wait, or raise it where waiting does not help."""
        if isinstance(failure, ClientError):
            raise failure
        self._failure = failure

    def progressed(self) -> None:
        """Something was delivered: the next failure starts with the shortest wait and all its time."""
        self._retries.reset()

    async def renew_token(self, connection: ClientConnection) -> None:
        """Send a fresh token on a connection, in place of the one it was made with.

        Raises:
            ConnectionClosed: it can't be sent.
        """
        token = await self.tokens.renew(asyncio.get_running_loop().time())
        if token is not None:
            await connection.send(self._codec.encode(Token(token=token)), text=self._codec.is_text)

    async def _connect(self, target: str) -> ClientConnection:
        token = await self.tokens.take(asyncio.get_running_loop().time())
        return await DirectConnect(
            target,
            create_connection=BoundedConnection,
            additional_headers=None if token is None else {"Authorization": f"Bearer {token}"},
            subprotocols=[Subprotocol(self._codec.subprotocol)],
            compression=None,
            ssl=self._tls or (target.startswith("wss:") or None),  # True trusts whom the system trusts
            open_timeout=OPEN_TIMEOUT,
            ping_interval=PING_INTERVAL,
            ping_timeout=PING_INTERVAL,
            close_timeout=CLOSE_TIMEOUT,
            max_size=MAX_MESSAGE,
        )

    async def _wait(self, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        told, self._told = self._told, 0.0
        delay = self._retries.wait_after_failure(now, random.random(), told)  # noqa: S311 - spreads clients, hides nothing
        if delay is None:
            raise GatewayUnreachable(self._url, reason)
        if self._on_reconnect is not None:
            self._on_reconnect(reason, delay)
        await asyncio.sleep(delay)


async def close(connection: ClientConnection) -> None:
    """Close a connection and take what is still on its way: unread frames would keep the answer from being read.

    The library's own deadline begins when the close frame is sent, which is never where the gateway takes nothing.
    """
    try:
        async with asyncio.timeout(2 * CLOSE_TIMEOUT), asyncio.TaskGroup() as tasks:
            tasks.create_task(connection.close())
            try:
                while True:
                    await connection.recv(decode=False)
            except (ConnectionClosed, ConcurrencyError):
                pass  # closed; or another task is reading, and finds out by itself
            except AssertionError:  # websockets 17.4 takes the rest of a message it gave up on for a message
                connection.transport.abort()
    except TimeoutError:
        connection.transport.abort()
        await connection.wait_closed()


async def send(connection: ClientConnection, payload: bytes, *, text: bool) -> None:
    """Send a message; a gateway that takes nothing loses its connection.

    Raises:
        ConnectionClosed: it can't be sent.
    """
    try:
        async with asyncio.timeout(SEND_TIMEOUT):
            await connection.send(payload, text=text)
    except TimeoutError:
        connection.transport.abort()
        await connection.wait_closed()


def hint_of(url: str, tls: ssl.SSLContext | None) -> str:
    """Why a gateway that was never reached may hang up on a handshake, in words that follow others; often empty.

    Args:
        url: its address.
        tls: whom to trust there and what to show, where that was said.
    """
    if not url.startswith("wss:"):
        return "; if the gateway has TLS, its address begins with wss://"
    return "" if tls is None else "; it may not trust the client certificate, where one was shown"


def judge_attempt(error: OSError | WebSocketException, hint: str = "") -> str | ClientError:
    """Why connecting failed: the reason where it can be tried again, otherwise what to raise.

    Args:
        error: what it failed with.
        hint: what to say beside it where the gateway only hung up.
    """
    match error:
        case ssl.SSLEOFError() | ConnectionResetError() | InvalidMessage(__cause__=EOFError()):
            return HUNG_UP + hint
        case ssl.SSLError():
            return _judge_tls(error)
        case OSError():
            return _explain(error)
        case InvalidStatus():
            status, text = error.response.status_code, _body_text(error.response)
            if fault := _PROXY_FAULTS.get(status):
                text += f"; {fault}"
            return f"HTTP {status}: {text}" if status in _RETRIED_STATUS else refusal(status, text)
        case _:
            return ProtocolFault(f"what answers is not a gateway: {error}")


def _judge_tls(error: ssl.SSLError) -> ProtocolFault:
    if isinstance(error, ssl.SSLCertVerificationError):
        return ProtocolFault(f"the gateway's certificate is not trusted: {error.verify_message}")
    why = (error.reason or "failed").replace("_", " ").lower()
    other = "; an address without TLS begins with ws://" if error.reason in _NOT_TLS else ""
    return ProtocolFault(f"no TLS with what answers there: {why}{other}")


def retry_after(error: Exception) -> float:
    """Seconds a refusal asks to stay away (RFC 9110 §10.2.3); 0 where it doesn't, or names a date."""
    if not isinstance(error, InvalidStatus):
        return 0.0
    told = error.response.headers.get("Retry-After", "")
    return float(told) if _SECONDS.fullmatch(told) else 0.0


def judge_close(error: ConnectionClosed, problem: Problem | None = None) -> str | ClientError:
    """Why a connection ended: the reason where it can be resumed, otherwise what to raise."""
    if error.sent is not None and not error.rcvd_then_sent:
        if error.sent.code != CloseCode.GATEWAY_FAULT:  # what websockets gives up on a silent peer with
            return ProtocolFault(f"the gateway broke RFC 6455: {error.sent.reason or error.sent.code}")
        return "the gateway stopped answering"
    if error.rcvd is None:
        return "the connection was lost"
    if problem is not None and problem.code in STAYS_OPEN:
        problem = None
    text = error.rcvd.reason if problem is None else problem.message
    code = error.rcvd.code
    if is_retryable(code) or code == CloseCode.STREAM_ENDED:  # without `stream_end` before it, nothing has ended
        return f"closed with {code}: {text}" if text else f"closed with {code}"
    return refusal(code, text or "no reason given", problem)


class _ProblemDetails(Struct):
    """What is read of an `application/problem+json` body (RFC 9457)."""

    title: str = ""
    detail: str = ""


_decode_details = msgspec.json.Decoder(_ProblemDetails).decode


def _body_text(response: Response) -> str:
    try:
        details = _decode_details(response.body)
    except DECODE_ERRORS:
        details = _ProblemDetails()
    return details.detail or details.title or response.reason_phrase or _phrase(response.status_code)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # of a proxy: nginx knows a 499, and sends a 599 without a phrase if told to
        return "no reason given"


def _explain(error: OSError) -> str:
    number = _ERRNO.search(str(error))
    return os.strerror(int(number[1])).lower() if number else error.strerror or str(error) or type(error).__name__
