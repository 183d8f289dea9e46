"""The URLs that a client requests: the inverse of `protocol.addresses`, which also validates them here."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote, urlencode

from websockets.exceptions import InvalidURI
from websockets.uri import parse_uri

from deltawire.protocol.addresses import (
    PREFIX,
    PublishRequest,
    SubscribeRequest,
    check_stream_id,
    parse_publish,
    parse_subscribe,
)
from deltawire.protocol.errors import WireError
from deltawire.protocol.filters import format_filter, format_urgent


def subscribe_url(url: str, stream: str, request: SubscribeRequest) -> str:
    """The URL of a subscription.

    Args:
        url: the gateway's address, `ws://HOST:PORT`.
        stream: the stream's id.
        request: the parameters.

    Raises:
        ValueError: the address, the stream id or a parameter is wrong; the message says which, and what is expected.
    """
    parameters: dict[str, object] = {}
    if request.position is not None:
        parameters["after"] = request.position.seq
        if request.position.epoch:
            parameters["epoch"] = request.position.epoch
    elif request.start != "start":
        parameters["from"] = request.start
    if request.policy is not None:
        parameters["policy"] = request.policy
    if request.buffer is not None:
        parameters["buffer"] = request.buffer
    parameters |= format_filter(request)
    if request.urgent is not None:
        parameters["urgent"] = format_urgent(request.urgent)
    if request.interval:
        parameters["interval"] = request.interval
    if request.heartbeat:
        parameters["heartbeat"] = request.heartbeat
    if not request.create:
        parameters["create"] = "false"
    query = urlencode(parameters)
    _judge(parse_subscribe, query)
    return _join(url, stream, "subscribe", query)


def publish_url(url: str, stream: str, request: PublishRequest) -> str:
    """The URL of a publication; arguments and errors are those of `subscribe_url`."""
    parameters: dict[str, object] = {}
    if request.producer is not None:
        parameters["producer"] = request.producer
    if request.generation:
        parameters["generation"] = request.generation
    if request.on_full != "wait":
        parameters["on_full"] = request.on_full
    query = urlencode(parameters)
    _judge(parse_publish, query)
    return _join(url, stream, "publish", query)


def _judge(parse: Callable[[str], object], query: str) -> None:
    try:
        parse(query)
    except WireError as error:
        raise ValueError(error.message) from None


def _join(url: str, stream: str, action: str, query: str) -> str:
    try:
        if parse_uri(url).query:
            raise ValueError(f"address {url!r} must end before the query string")
    except InvalidURI as error:
        raise ValueError(f"address {url!r} is not of the form ws://HOST:PORT: {error.msg}") from None
    path = f"{url.rstrip('/')}{PREFIX}/{quote(check_stream_id(stream), safe=':@')}/{action}"
    return f"{path}?{query}" if query else path
