"""How connections fail, and which failures are worth another attempt."""

from __future__ import annotations

import errno
import ssl

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import (
    ConnectionClosedError,
    InvalidMessage,
    InvalidStatus,
    InvalidUpgrade,
    WebSocketException,
)
from websockets.frames import Close
from websockets.http11 import Response

from deltawire.gateway.client import Subscriber
from deltawire.gateway.client.connection import HUNG_UP, hint_of, judge_attempt, judge_close, retry_after
from deltawire.gateway.client.errors import Fenced, ProtocolFault, Refused, StreamClosed
from deltawire.protocol.messages import Problem
from tests.support.fakes import FakeGateway, stay


def status(code: int, reason: str = "", body: bytes = b"") -> InvalidStatus:
    return InvalidStatus(Response(code, reason, Headers(), body))


def closed(code: int, reason: str = "") -> ConnectionClosedError:
    return ConnectionClosedError(Close(code, reason), Close(code, reason), rcvd_then_sent=True)


def problem(code: str, message: str) -> Problem:
    return Problem(code=code, message=message, retryable=False)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)"), "connection refused"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed, [Errno 111] …"), "connection refused"),
        (TimeoutError("timed out during opening handshake"), "timed out during opening handshake"),
        (OSError(-2, "Name or service not known"), "Name or service not known"),
        (ConnectionResetError(), HUNG_UP),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), HUNG_UP),
        (status(503, body=b'{"title":"busy","detail":"the gateway is full"}'), "HTTP 503: the gateway is full"),
        (status(429, body=b'{"title":"slow down"}'), "HTTP 429: slow down"),
        (status(502, "Bad Gateway", b"<html>"), "HTTP 502: Bad Gateway"),
    ],
)
def test_these_attempts_are_repeated(error: OSError | WebSocketException, reason: str) -> None:
    assert judge_attempt(error) == reason


@pytest.mark.parametrize(
    ("told", "seconds"),
    [("7", 7), ("0", 0), ("-1", 0), ("soon", 0), ("Mon, 23 Nov 2026 07:00:00 GMT", 0), ("9" * 30, 0)],
)
def test_how_long_to_stay_away_is_read(told: str, seconds: float) -> None:
    assert retry_after(InvalidStatus(Response(503, "", Headers({"Retry-After": told})))) == seconds


def test_a_refusal_that_does_not_say_how_long_and_a_lost_network_say_nothing() -> None:
    assert retry_after(status(503)) == retry_after(OSError()) == 0


def test_an_end_inside_the_handshake_is_tried_again() -> None:
    error = InvalidMessage("did not receive a valid HTTP response")
    error.__cause__ = EOFError()
    assert judge_attempt(error) == HUNG_UP


def test_a_gateway_that_only_hangs_up_is_explained_by_its_address() -> None:
    assert judge_attempt(ConnectionResetError(), hint_of("ws://g", None)).endswith("begins with wss://")  # type: ignore[union-attr]
    assert judge_attempt(ConnectionResetError(), hint_of("wss://g", None)) == HUNG_UP
    assert "client certificate" in hint_of("wss://g", ssl.create_default_context())
    assert judge_attempt(TimeoutError("timed out"), hint_of("ws://g", None)) == "timed out"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (status(401, body=b'{"detail":"a token is needed"}'), "refused: a token is needed (HTTP 401)"),
        (status(404, "Not Found"), "refused: Not Found (HTTP 404)"),
        (status(418, "", b"\xff"), "refused: I'm a Teapot (HTTP 418)"),
    ],
)
def test_these_attempts_are_refusals(error: InvalidStatus, message: str) -> None:
    verdict = judge_attempt(error)
    assert isinstance(verdict, Refused)
    assert str(verdict) == message


def test_what_is_no_gateway_is_a_fault() -> None:
    assert isinstance(judge_attempt(InvalidUpgrade("Upgrade")), ProtocolFault)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionClosedError(None, None), "the connection was lost"),
        (ConnectionClosedError(None, Close(1011, "keepalive ping timeout")), "the gateway stopped answering"),
        (closed(1001), "closed with 1001"),
        (closed(1000), "closed with 1000"),
        (closed(4000, "slow_consumer"), "closed with 4000: slow_consumer"),
        (closed(4321), "closed with 4321"),
    ],
)
def test_these_ends_are_resumed(error: ConnectionClosedError, reason: str) -> None:
    assert judge_close(error) == reason


@pytest.mark.parametrize(
    ("code", "kind"), [(4500, Fenced), (4501, StreamClosed), (4502, Refused), (1009, Refused), (4999, Refused)]
)
def test_these_ends_are_refusals(code: int, kind: type[Refused]) -> None:
    verdict = judge_close(closed(code, "why"))
    assert type(verdict) is kind
    assert str(verdict) == f"refused: why (close {code})"


def test_a_refusal_has_the_words_of_its_problem() -> None:
    told = problem("position_ahead", "9 is beyond the head")
    verdict = judge_close(closed(4504, "position_ahead"), told)
    assert isinstance(verdict, Refused)
    assert verdict.problem == told
    assert str(verdict) == "refused: 9 is beyond the head (close 4504)"


def test_a_problem_about_one_message_does_not_explain_a_close() -> None:
    assert judge_close(closed(1001, "bye"), problem("unknown_message", "what?")) == "closed with 1001: bye"


def test_a_frame_this_side_could_not_take_is_a_fault_of_the_gateway() -> None:
    error = ConnectionClosedError(None, Close(1009, "over size limit"))
    assert isinstance(judge_close(error), ProtocolFault)


async def test_a_redirect_is_a_refusal_and_takes_no_token_elsewhere() -> None:
    async with FakeGateway(stay) as other:
        elsewhere = Headers({"Location": f"{other.url}/v1/streams/demo/subscribe"})
        async with FakeGateway(Response(302, "Found", elsewhere)) as gateway:
            with pytest.raises(Refused, match="Found"):
                async with Subscriber(gateway.url, "demo", token="secret") as reader:
                    await anext(aiter(reader))
        assert other.requests == []
