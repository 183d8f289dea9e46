"""The content of URLs: stream ids, paths and query parameters (SPEC §2, §5.1, §7.1).

The query string has all parameters of a subscription or a publication, so that wscat, a browser and curl need not send
a first message.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal, TypeAlias, TypeVar
from urllib.parse import parse_qsl

from msgspec import Struct

from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.events import MAX_SEQ, EventType
from deltawire.protocol.filters import (
    FILTERS,
    Filter,
    parse_extensions,
    parse_kinds,
    parse_numbers,
    parse_types,
    parse_urgent,
)
from deltawire.protocol.messages import Policy
from deltawire.protocol.position import Position, parse_integer, parse_seq

MAX_STREAM_ID = 128
MAX_PRODUCER_ID = 64
MAX_BUFFER = 10_000
DEFAULT_BUFFER = 100
MAX_INTERVAL_MS = 1000
MAX_HEARTBEAT = 300
MAX_LISTED = 1000
MAX_EVENTS = 10_000
MAX_WAIT = 60
"""Seconds: longer than most proxies wait for an answer."""
MAX_PARAMETERS = 32
"""Maximum parameters in a query string; several times as many as exist."""

PREFIX: Final = "/v1/streams"

_ALPHABET = "A-Z a-z 0-9 . _ : @ -"
_NAME = re.compile(r"[A-Za-z0-9._:@-]+", re.ASCII)

Start: TypeAlias = Literal["start", "now"]
OnFull: TypeAlias = Literal["wait", "reject"]
T = TypeVar("T")


def _check_name(what: str, text: str, longest: int) -> str:
    if text in (".", ".."):
        raise ValueError(f"{what} {text!r} is not allowed")
    if not 1 <= len(text) <= longest:
        raise ValueError(f"{what} must have 1 to {longest} characters, got {len(text)}")
    if _NAME.fullmatch(text) is None:
        raise ValueError(f"{what} {text!r} has a character outside {_ALPHABET}")
    return text


def check_stream_id(text: str) -> str:
    """Validate a stream id and return it.

    Raises:
        ValueError: it is not 1 to 128 characters of the alphabet, or is `.` or `..`.
    """
    return _check_name("stream id", text, MAX_STREAM_ID)


def check_producer_id(text: str) -> str:
    """Validate a producer id and return it.

    Raises:
        ValueError: it is not 1 to 64 characters of the alphabet, or is `.` or `..`.
    """
    return _check_name("producer", text, MAX_PRODUCER_ID)


class SubscribeRequest(Filter, frozen=True, kw_only=True):
    """The parameters of a subscription, the events that it asks for among them.

    Attributes:
        start: where to begin without a position: at the oldest event held, or only with new events.
        position: resume after this position; overrides `start`.
        policy: policy for when this consumer falls behind; None leaves it to the stream.
        buffer: lag limit in events, 1 to 10 000; None leaves it to the stream.
        urgent: event types to receive ahead when this consumer is behind, beside those that producers mark; None
            means none at all.
        interval: milliseconds between writes, 0 to 1000; deltas in between are folded.
        heartbeat: seconds between `heartbeat` messages, 1 to 300; 0 sends none.
        create: whether a stream that does not exist is created; otherwise the subscription is refused.
    """

    start: Start = "start"
    position: Position | None = None
    policy: Policy | None = None
    buffer: int | None = None
    urgent: frozenset[EventType] | None = None
    interval: int = 0
    heartbeat: int = 0
    create: bool = True


class PublishRequest(Struct, frozen=True, kw_only=True):
    """The parameters of a publication.

    Attributes:
        producer: its id, for retries without duplicates and for fencing; None publishes without an id.
        generation: among producers with the same id, only the highest generation may write.
        on_full: wait for slow `block` consumers, or get `stream_full` at once.
    """

    producer: str | None = None
    generation: int = 0
    on_full: OnFull = "wait"


class EventsRequest(Struct, frozen=True, kw_only=True):
    """The parameters of `GET …/events`.

    Attributes:
        after: seq after which the page begins.
        epoch: of `after`; empty means the current one.
        limit: the most events in the page.
        wait: seconds to wait for an event if there is none yet.
    """

    after: int = 0
    epoch: str = ""
    limit: int = 1000
    wait: int = 0


class ResponseRequest(Struct, frozen=True, kw_only=True):
    """The parameters of `GET /v1/responses/{id}`.

    Attributes:
        starting_after: number of the last event that the client has; -1 if it has none.
    """

    starting_after: int = -1


class ListRequest(Struct, frozen=True, kw_only=True):
    """The parameters of `GET /v1/streams`: a page has at most `limit` streams, by id, after the id `after`."""

    after: str = ""
    limit: int = MAX_LISTED


class CreateRequest(Struct, frozen=True, kw_only=True):
    """The defaults of a new stream, for consumers that choose none; None uses the gateway's settings."""

    policy: Policy | None = None
    buffer: int | None = None


def _parse_start(text: str) -> Start:
    if text == "start":
        return "start"
    if text == "now":
        return "now"
    raise ValueError(f"expected start or now, got {text!r}")


def _parse_policy(text: str) -> Policy:
    try:
        return Policy(text)
    except ValueError:
        raise ValueError(f"expected one of {', '.join(Policy)}, got {text!r}") from None


def _parse_on_full(text: str) -> OnFull:
    if text == "wait":
        return "wait"
    if text == "reject":
        return "reject"
    raise ValueError(f"expected wait or reject, got {text!r}")


def _parse_boolean(text: str) -> bool:
    if text in ("true", "false"):
        return text == "true"
    raise ValueError(f"expected true or false, got {text!r}")


def _parse_epoch(text: str) -> str:
    return _check_name("epoch", text, MAX_PRODUCER_ID)


def _parse_interval(text: str) -> int:
    return parse_integer(text, 0, MAX_INTERVAL_MS)


def _parse_buffer(text: str) -> int:
    return parse_integer(text, 1, MAX_BUFFER)


class _Query:
    """The parameters of one query string; each may occur only once."""

    def __init__(self, query: str, known: tuple[str, ...]) -> None:
        try:
            pairs = parse_qsl(
                query,
                keep_blank_values=True,
                strict_parsing=bool(query),
                errors="strict",
                max_num_fields=MAX_PARAMETERS,
            )
        except UnicodeDecodeError:
            raise _bad_request(f"query string {query!r} is not UTF-8 when percent-decoded") from None
        except ValueError:
            if query.count("&") >= MAX_PARAMETERS:
                raise _bad_request(f"query string has over {MAX_PARAMETERS} parameters") from None
            raise _bad_request(f"query string {query!r} is not name=value pairs joined by &") from None
        self._values: dict[str, str] = {}
        for name, value in pairs:
            if name not in known:
                others = f"the parameters are {', '.join(known)}" if known else "there are none here"
                raise _bad_request(f"unknown parameter {name!r}; {others}")
            if name in self._values:
                raise _bad_request(f"parameter {name!r} is given twice")
            self._values[name] = value

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def take(self, name: str, parse: Callable[[str], T], default: T) -> T:
        if name not in self._values:
            return default
        try:
            return parse(self._values[name])
        except ValueError as error:
            raise _bad_request(f"parameter {name!r}: {error}") from None


def _bad_request(message: str) -> WireError:
    return WireError(ProblemCode.BAD_REQUEST, message)


SUBSCRIBE_PARAMETERS = (
    "from",
    "after",
    "epoch",
    "policy",
    "buffer",
    *FILTERS,
    "urgent",
    "interval",
    "heartbeat",
    "create",
)
PUBLISH_PARAMETERS = ("producer", "generation", "on_full")
EVENTS_PARAMETERS = ("after", "epoch", "limit", "wait")
LIST_PARAMETERS = ("after", "limit")
CREATE_PARAMETERS = ("policy", "buffer")
UI_PARAMETERS = ("interval", "create")
RESPONSE_PARAMETERS = ("stream", "starting_after", "include_obfuscation")


def parse_subscribe(query: str) -> SubscribeRequest:
    """Parse the query string of `…/subscribe`.

    Raises:
        WireError: `bad_request`, naming the parameter and what is expected.
    """
    params = _Query(query, SUBSCRIBE_PARAMETERS)
    if "epoch" in params and "after" not in params:
        raise _bad_request("parameter 'epoch' needs 'after': the last seq seen in that epoch")
    epoch = params.take("epoch", _parse_epoch, "")
    position: Position | None = params.take("after", lambda text: Position(epoch, parse_seq(text)), None)
    policy: Policy | None = params.take("policy", _parse_policy, None)
    interval = params.take("interval", _parse_interval, 0)
    if interval and policy not in (None, Policy.COALESCE):
        raise _bad_request(f"parameter 'interval' folds deltas, which only policy 'coalesce' does, not {policy}")
    return SubscribeRequest(
        start=params.take("from", _parse_start, "start"),
        position=position,
        policy=policy,
        buffer=params.take("buffer", _parse_buffer, None),
        types=params.take("types", parse_types, None),
        index=params.take("index", parse_numbers, None),
        choice=params.take("choice", parse_numbers, None),
        kind=params.take("kind", parse_kinds, None),
        extension=params.take("extension", parse_extensions, None),
        urgent=params.take("urgent", parse_urgent, None),
        interval=interval,
        heartbeat=params.take("heartbeat", lambda text: parse_integer(text, 0, MAX_HEARTBEAT), 0),
        create=params.take("create", _parse_boolean, True),
    )


def parse_ui_message_stream(query: str) -> SubscribeRequest:
    """Parse the query string of `…/ui-message-stream`.

    Raises:
        WireError: `bad_request`, naming the parameter and what is expected.
    """
    params = _Query(query, UI_PARAMETERS)
    return SubscribeRequest(
        policy=Policy.COALESCE,
        interval=params.take("interval", _parse_interval, 0),
        create=params.take("create", _parse_boolean, False),
    )


def parse_response(query: str) -> ResponseRequest:
    """Parse the query string of `GET /v1/responses/{id}`.

    Raises:
        WireError: `bad_request`, naming the parameter and what is expected.
    """
    params = _Query(query, RESPONSE_PARAMETERS)
    params.take("stream", _parse_boolean, False)
    return ResponseRequest(starting_after=params.take("starting_after", parse_seq, -1))


def parse_publish(query: str) -> PublishRequest:
    """Parse the query string of `…/publish`.

    Raises:
        WireError: `bad_request`, naming the parameter and what is expected.
    """
    params = _Query(query, PUBLISH_PARAMETERS)
    if "generation" in params and "producer" not in params:
        raise _bad_request("parameter 'generation' needs 'producer': generations belong to a producer id")
    return PublishRequest(
        producer=params.take("producer", check_producer_id, None),
        generation=params.take("generation", lambda text: parse_integer(text, 0, MAX_SEQ), 0),
        on_full=params.take("on_full", _parse_on_full, "wait"),
    )


def parse_events(query: str, max_limit: int = MAX_EVENTS) -> EventsRequest:
    """Parse the query string of `GET …/events`.

    Raises:
        WireError: `bad_request`, naming the parameter and what is expected.
    """
    params = _Query(query, EVENTS_PARAMETERS)
    return EventsRequest(
        after=params.take("after", parse_seq, 0),
        epoch=params.take("epoch", _parse_epoch, ""),
        limit=params.take("limit", lambda text: parse_integer(text, 1, max_limit), min(1000, max_limit)),
        wait=params.take("wait", lambda text: parse_integer(text, 0, MAX_WAIT), 0),
    )


def parse_list(query: str) -> ListRequest:
    """Parse the query string of `GET /v1/streams`.

    Raises:
        WireError: `bad_request`, naming the parameter and what is expected.
    """
    params = _Query(query, LIST_PARAMETERS)
    return ListRequest(
        after=params.take("after", check_stream_id, ""),
        limit=params.take("limit", lambda text: parse_integer(text, 1, MAX_LISTED), MAX_LISTED),
    )


def parse_nothing(query: str) -> None:
    """Check that a query string is empty, for paths without parameters.

    Raises:
        WireError: `bad_request`, naming a parameter.
    """
    _Query(query, ())


def parse_create(query: str) -> CreateRequest:
    """Parse the query string of `PUT /v1/streams/{id}`.

    Raises:
        WireError: `bad_request`, naming the parameter and what is expected.
    """
    params = _Query(query, CREATE_PARAMETERS)
    return CreateRequest(
        policy=params.take("policy", _parse_policy, None), buffer=params.take("buffer", _parse_buffer, None)
    )
