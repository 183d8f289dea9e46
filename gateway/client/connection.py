"""Successive connections to an endpoint: open, classify a failure, wait, open again.

Retried are: no answer, HTTP 429, the 5xx statuses of overload, a lost connection, and every close that
`protocol.codes.is_retryable` names. Every other failure raises at once.
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
"""Maximum bytes of a message: a folded event can carry 1 MiB of text, four times that when escaped."""

CLOSE_TIMEOUT: Final = 1.0
"""Seconds the gateway has to answer a close: leaving must be quick even if the gateway is gone."""

OPEN_TIMEOUT: Final = 10.0
"""Seconds for connecting and the handshake; the same limit as in the gateway."""

PING_INTERVAL: Final = 20.0
"""Seconds between pings, and for the answer to one; their sum is how long it takes to notice a vanished gateway."""

SEND_TIMEOUT: Final = 2 * PING_INTERVAL
"""Seconds a message may wait to be sent. Pings, and so their deadline, wait behind it: with more unsent data than the
kernel buffers, nothing else would detect a stalled gateway."""

MAX_UNSENT: Final = 4 * 1024 * 1024
"""Maximum bytes that wait to be sent. A message has at most 1 MiB and waits for the ones before it; anything above the
limit consists of pongs that the gateway does not read."""

MAX_FRAGMENTS: Final = 1024
"""Maximum fragments of one message. A gateway sends none; a proxy in between may split messages at its buffer size.
websockets has its own limit, four times this one, since 17; older versions collect empty fragments without end."""

HUNG_UP: Final = "the connection was closed during the handshake"
"""The reason for a failed connection if nothing more specific is known."""

RETRIED_STATUS: Final = frozenset({429, 500, 502, 503, 504})
"""HTTP statuses of overload: the same request can succeed later."""

_NOT_TLS = (
    "WRONG_VERSION_NUMBER",
    "RECORD_LAYER_FAILURE",
)  # OpenSSL's names, by version, for an answer in plain text
_SECONDS = re.compile(r"[0-9]{1,6}", re.ASCII)
_ERRNO = re.compile(r"\[Errno (\d+)\]")  # asyncio joins the errors of several addresses of a host into one message

_PROXY_FAULTS: Final[dict[int, str]] = {
    HTTPStatus.UPGRADE_REQUIRED: "a proxy in between does not pass the header Upgrade on",
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: "a proxy in between speaks HTTP/1.0",
}
"""Explanations of statuses that only a proxy can cause: the client always requests an upgrade, in HTTP/1.1."""

OnReconnect = Callable[[str, float], None]


class BoundedConnection(ClientConnection):
    """A connection that ends when unread pongs, or the fragments of one message, pile up.

    Args:
        args: the arguments from the library.
        kwargs: likewise.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fragments = 0  # of the incomplete message

    def data_received(self, data: bytes) -> None:
        """Process received bytes; pings among them are answered at once."""
        super().data_received(data)
        if self.transport.get_write_buffer_size() > MAX_UNSENT:
            self.transport.abort()

    def process_event(self, event: Event) -> None:
        """Process a frame; end the connection if a message has too many fragments."""
        if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
            if self._fragments >= MAX_FRAGMENTS:
                self._refuse_fragments()
                return
            self._fragments = 0 if event.fin else self._fragments + 1
        super().process_event(event)

    def _refuse_fragments(self) -> None:
        if self.transport.is_closing():  # frames that arrived with the fragment above the limit
            return
        self.protocol.fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
        self.send_data()
        self.transport.abort()


class DirectConnect(connect):
    """Connects only to the given address: the token is meant for it alone, and TLS is set up for it."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Treat a redirect as a refusal."""
        return exc


class Connector:
    """Opens connections to one gateway, and decides what to do when they fail.

    Args:
        url: the gateway's address, for messages.
        codec: the encoding of messages.
        backoff: the lengths of the waits between attempts.
        retry_for: seconds without progress after which to give up; None never gives up, 0 never retries.
        on_reconnect: called before each wait with the reason and the seconds.
        tokens: the tokens for the connections.
        tls: the TLS context for a `wss` address; None trusts the system's CAs.

    Raises:
        ValueError: a TLS context was given for an address without TLS.
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
        self._failure: str | None = None  # until a connection is open again
        self._told = 0.0  # seconds the gateway asked for

    async def open(self, target: str) -> ClientConnection:
        """Open a new connection, with as many attempts and waits as necessary.

        Args:
            target: the whole URL.

        Raises:
            GatewayUnreachable: no attempt succeeded in time.
            Refused: the gateway refused before the upgrade.
            ProtocolFault: the answering program is not a gateway.
            TokenUnavailable: the function that provides tokens failed.
        """
        while True:
            if self._failure is not None:
                await self._wait(self._failure)
            try:
                connection = await self._connect(target)
            except (OSError, WebSocketException) as error:
                self.note(self._judge_attempt(error))
                self._told = retry_after(error)
                continue
            self._was_open = True
            self._failure = None
            if connection.subprotocol != self._codec.subprotocol:
                await connection.close()
                raise ProtocolFault(f"the server at {self._url} does not speak {self._codec.subprotocol}")
            return connection

    def _judge_attempt(self, error: OSError | WebSocketException) -> str | ClientError:
        hint = "" if self._was_open else hint_of(self._url, self._tls)
        failure = judge_attempt(error, hint)
        is_unauthorized = isinstance(failure, Refused) and failure.code == HTTPStatus.UNAUTHORIZED
        if is_unauthorized and self._was_open and self.tokens.note_refusal():
            return str(failure)  # it expired meanwhile, or the function returned an old one
        return failure

    def lost(self, error: ConnectionClosed, problem: Problem | None) -> None:
        """Note that a connection ended: the next `open` waits first.

        Args:
            error: how it ended.
            problem: the last `problem` received on it.

        Raises:
            ClientError: the same request would fail again.
        """
        self.note(judge_close(error, problem))

    def note(self, failure: str | ClientError) -> None:
        """Keep the reason of a failure for the next wait, or raise it if waiting does not help."""
        if isinstance(failure, ClientError):
            raise failure
        self._failure = failure

    @property
    def failure(self) -> str | None:
        """Why there is no connection; None while one is open, or before an attempt has failed."""
        return self._failure

    def progressed(self) -> None:
        """Note that something was delivered: the next failure begins a new run of retries."""
        self._retries.reset()

    async def renew_token(self, connection: ClientConnection) -> None:
        """Send a fresh token on a connection, to replace the one it was opened with.

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
            ssl=self._tls or (target.startswith("wss:") or None),  # True trusts the system's CAs
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
    """Close a connection and read the data still in transit, which precedes the gateway's close frame.

    The library's own deadline begins when the close frame is sent, which never happens if the gateway reads nothing.
    """
    try:
        async with asyncio.timeout(2 * CLOSE_TIMEOUT), asyncio.TaskGroup() as tasks:
            tasks.create_task(connection.close())
            try:
                while True:
                    await connection.recv(decode=False)
            except (ConnectionClosed, ConcurrencyError):
                pass  # closed; or another task is reading, and will notice
            except AssertionError:  # websockets 17.4 mistakes the rest of an abandoned message for a message
                connection.transport.abort()
    except TimeoutError:
        connection.transport.abort()
        await connection.wait_closed()


async def send(connection: ClientConnection, payload: bytes, *, text: bool) -> None:
    """Send a message; abort the connection if the gateway does not take it in time.

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
    """A suffix for a failure message: why a gateway that was never reached may close a handshake; may be empty.

    Args:
        url: its address.
        tls: the TLS context, if one was given.
    """
    if not url.startswith("wss:"):
        return "; if the gateway has TLS, its address begins with wss://"
    return "" if tls is None else "; it may not trust the client certificate, where one was shown"


def judge_attempt(error: OSError | WebSocketException, hint: str = "") -> str | ClientError:
    """Why connecting failed: the reason if a retry makes sense, otherwise the error to raise.

    Args:
        error: the exception.
        hint: added to the reason if the gateway only closed the connection.
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
            return f"HTTP {status}: {text}" if status in RETRIED_STATUS else refusal(status, text)
        case _:
            return ProtocolFault(f"the server is not a gateway: {error}")


def _judge_tls(error: ssl.SSLError) -> ProtocolFault:
    if isinstance(error, ssl.SSLCertVerificationError):
        return ProtocolFault(f"the gateway's certificate is not trusted: {error.verify_message}")
    why = (error.reason or "failed").replace("_", " ").lower()
    other = "; an address without TLS begins with ws://" if error.reason in _NOT_TLS else ""
    return ProtocolFault(f"the TLS handshake failed: {why}{other}")


def retry_after(error: Exception) -> float:
    """Seconds to wait as requested by a refusal (RFC 9110 §10.2.3); 0 if it requests none or gives a date."""
    if not isinstance(error, InvalidStatus):
        return 0.0
    return parse_retry_after(error.response.headers.get("Retry-After", ""))


def parse_retry_after(header: str) -> float:
    """The seconds in a `Retry-After`; 0 if it is a date, or empty."""
    return float(header) if _SECONDS.fullmatch(header) else 0.0


def judge_close(error: ConnectionClosed, problem: Problem | None = None) -> str | ClientError:
    """Why a connection ended: the reason if it can be resumed, otherwise the error to raise."""
    if error.sent is not None and not error.rcvd_then_sent:
        if error.sent.code != CloseCode.GATEWAY_FAULT:  # which websockets sends to a silent peer
            return ProtocolFault(f"the gateway broke RFC 6455: {error.sent.reason or error.sent.code}")
        return "the gateway stopped answering"
    if error.rcvd is None:
        return "the connection was lost"
    if problem is not None and problem.code in STAYS_OPEN:
        problem = None
    text = error.rcvd.reason if problem is None else problem.message
    code = error.rcvd.code
    if is_retryable(code) or code == CloseCode.STREAM_ENDED:  # no `stream_end` came: the stream has not ended
        return f"closed with {code}: {text}" if text else f"closed with {code}"
    return refusal(code, text or "no reason given", problem)


class _ProblemDetails(Struct):
    """The fields used of an `application/problem+json` body (RFC 9457)."""

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
    except ValueError:  # from a proxy: nginx has a 499, and can be configured to send a 599 without a phrase
        return "no reason given"


def _explain(error: OSError) -> str:
    number = _ERRNO.search(str(error))
    return os.strerror(int(number[1])).lower() if number else error.strerror or str(error) or type(error).__name__
