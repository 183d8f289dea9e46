"""The URLs a client asks for say to the gateway what the program asked for."""

from __future__ import annotations

from typing import get_args
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltawire.gateway.client.urls import publish_url, subscribe_url
from deltawire.protocol.addresses import OnFull, PublishRequest, SubscribeRequest, parse_publish, parse_subscribe
from deltawire.protocol.events import MAX_KIND, MAX_SEQ, EventType
from deltawire.protocol.filters import MAX_WANTED
from deltawire.protocol.messages import Policy
from deltawire.protocol.position import Position

NAMES = st.text("AZaz09._:@-", min_size=1, max_size=64).filter(lambda name: name not in (".", ".."))
KINDS = st.text(st.characters(exclude_characters=",", codec="utf-8"), min_size=1, max_size=MAX_KIND)
POSITIONS = st.builds(Position, st.just("") | NAMES, st.integers(0, MAX_SEQ))
SUBSCRIBE = st.builds(
    SubscribeRequest,
    position=st.none() | POSITIONS,
    policy=st.none() | st.sampled_from(Policy),
    buffer=st.none() | st.integers(1, 10_000),
    types=st.none() | st.frozensets(st.sampled_from(EventType), min_size=1),
    index=st.none() | st.frozensets(st.integers(0, MAX_SEQ), min_size=1, max_size=9),
    choice=st.none() | st.frozensets(st.integers(0, 9), min_size=1),
    kind=st.none() | st.frozensets(KINDS, min_size=1, max_size=MAX_WANTED),
    extension=st.none() | st.just(frozenset({"p", "p/n/m", "é/&="})),
    urgent=st.none() | st.frozensets(st.sampled_from([EventType.ERROR, EventType.USAGE])),
)
PUBLISH = st.builds(
    PublishRequest, producer=NAMES, generation=st.integers(0, MAX_SEQ), on_full=st.sampled_from(get_args(OnFull))
)


@given(NAMES, SUBSCRIBE)
def test_the_gateway_reads_what_a_subscriber_asked_for(stream: str, request: SubscribeRequest) -> None:
    parts = urlsplit(subscribe_url("ws://127.0.0.1:8765/", stream, request))
    assert unquote(parts.path) == f"/v1/streams/{stream}/subscribe"
    assert parse_subscribe(parts.query) == request


@given(NAMES, PUBLISH)
def test_the_gateway_reads_what_a_publisher_asked_for(stream: str, request: PublishRequest) -> None:
    parts = urlsplit(publish_url("ws://127.0.0.1:8765", stream, request))
    assert unquote(parts.path) == f"/v1/streams/{stream}/publish"
    assert parse_publish(parts.query) == request


def test_a_start_and_an_interval_are_sent() -> None:
    url = subscribe_url("ws://h", "demo", SubscribeRequest(start="now", interval=16))
    assert url == "ws://h/v1/streams/demo/subscribe?from=now&interval=16"


def test_an_address_may_have_a_path_of_its_own() -> None:
    assert publish_url("wss://h/llm/", "demo", PublishRequest()) == "wss://h/llm/v1/streams/demo/publish"


@pytest.mark.parametrize("url", ["", "127.0.0.1:8765", "http://h", "ws://", "ws://h?a=b", "ws://h/#x"])
def test_a_wrong_address_is_a_value_error_that_names_it(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        publish_url(url, "demo", PublishRequest())


def test_a_wrong_argument_is_a_value_error_in_the_gateways_words() -> None:
    with pytest.raises(ValueError, match="'buffer': expected an integer from 1 to 10000"):
        subscribe_url("ws://h", "demo", SubscribeRequest(buffer=0))
    with pytest.raises(ValueError, match="producer"):
        publish_url("ws://h", "demo", PublishRequest(producer="no spaces"))
    with pytest.raises(ValueError, match="stream id"):
        subscribe_url("ws://h", "no/slash", SubscribeRequest())
