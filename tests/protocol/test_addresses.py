"""What URLs say: ids and query parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltawire.protocol.addresses import (
    EventsRequest,
    ListRequest,
    PublishRequest,
    SubscribeRequest,
    check_producer_id,
    check_stream_id,
    parse_events,
    parse_list,
    parse_nothing,
    parse_publish,
    parse_subscribe,
)
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.events import MAX_SEQ, EventType
from deltawire.protocol.messages import Policy
from deltawire.protocol.position import Position

Parse = Callable[[str], object]


@pytest.mark.parametrize("text", ["a", "demo", "A-Z.a_z:0@9", "...", "a" * 128])
def test_a_stream_id_of_the_alphabet_is_taken_as_it_came(text: str) -> None:
    assert check_stream_id(text) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "1 to 128 characters, got 0"),
        ("a" * 129, "1 to 128 characters, got 129"),
        (".", "not allowed"),
        ("..", "not allowed"),
        ("a/b", "outside A-Z"),
        ("a b", "outside A-Z"),
        ("a\n", "outside A-Z"),
        ("é", "outside A-Z"),
        ("٣", "outside A-Z"),
        ("a%20", "outside A-Z"),
        ("\ud800", "outside A-Z"),
    ],
)
def test_a_stream_id_outside_the_rules_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"stream id.*{reason}"):
        check_stream_id(text)


def test_a_producer_id_is_shorter_than_a_stream_id() -> None:
    assert check_producer_id("p" * 64) == "p" * 64
    with pytest.raises(ValueError, match="producer must have 1 to 64 characters, got 65"):
        check_producer_id("p" * 65)


@pytest.mark.parametrize(
    ("query", "request_"),
    [
        ("", SubscribeRequest()),
        ("from=start", SubscribeRequest(start="start")),
        ("from=now", SubscribeRequest(start="now")),
        ("after=0", SubscribeRequest(position=Position("", 0))),
        ("after=17&epoch=f3a1c2", SubscribeRequest(position=Position("f3a1c2", 17))),
        ("epoch=f3a1c2&after=17&from=now", SubscribeRequest(start="now", position=Position("f3a1c2", 17))),
        (f"after={MAX_SEQ}", SubscribeRequest(position=Position("", MAX_SEQ))),
        ("policy=drop", SubscribeRequest(policy=Policy.DROP_NEWEST)),
        *[(f"policy={policy}", SubscribeRequest(policy=policy)) for policy in Policy],
        ("buffer=1", SubscribeRequest(buffer=1)),
        ("buffer=10000", SubscribeRequest(buffer=10_000)),
        ("types=usage", SubscribeRequest(types=frozenset({EventType.USAGE}))),
        ("types=text_delta,error", SubscribeRequest(types=frozenset({EventType.TEXT_DELTA, EventType.ERROR}))),
        ("types=text_delta%2Cerror", SubscribeRequest(types=frozenset({EventType.TEXT_DELTA, EventType.ERROR}))),
        ("index=0,17", SubscribeRequest(index=frozenset({0, 17}))),
        ("choice=1", SubscribeRequest(choice=frozenset({1}))),
        ("kind=text,tool_use", SubscribeRequest(kind=frozenset({"text", "tool_use"}))),
        (f"kind={'k' * 64}", SubscribeRequest(kind=frozenset({"k" * 64}))),
        ("extension=p,q/n/m", SubscribeRequest(extension=frozenset({"p", "q/n/m"}))),
        (f"index={','.join(map(str, range(32)))}", SubscribeRequest(index=frozenset(range(32)))),
        ("urgent=error,message_stop", SubscribeRequest(urgent=frozenset({EventType.ERROR, EventType.MESSAGE_STOP}))),
        ("urgent=marked", SubscribeRequest(urgent=frozenset())),
        ("urgent=marked,error", SubscribeRequest(urgent=frozenset({EventType.ERROR}))),
        ("urgent=error,marked", SubscribeRequest(urgent=frozenset({EventType.ERROR}))),
        ("interval=1000", SubscribeRequest(interval=1000)),
        ("interval=16&policy=coalesce", SubscribeRequest(interval=16, policy=Policy.COALESCE)),
        ("heartbeat=300", SubscribeRequest(heartbeat=300)),
        ("heartbeat=0&create=true", SubscribeRequest()),
        ("create=false", SubscribeRequest(create=False)),
        ("interval=0&policy=block", SubscribeRequest(policy=Policy.BLOCK)),
    ],
)
def test_a_subscription_asks_for_what_its_query_says(query: str, request_: SubscribeRequest) -> None:
    assert parse_subscribe(query) == request_


@pytest.mark.parametrize(
    ("query", "request_"),
    [
        ("", PublishRequest()),
        ("producer=proxy-1", PublishRequest(producer="proxy-1")),
        ("producer=p&generation=3&on_full=reject", PublishRequest(producer="p", generation=3, on_full="reject")),
        ("on_full=wait", PublishRequest()),
    ],
)
def test_a_publication_asks_for_what_its_query_says(query: str, request_: PublishRequest) -> None:
    assert parse_publish(query) == request_


@pytest.mark.parametrize(
    ("query", "request_"),
    [("", EventsRequest()), ("after=5&limit=10000", EventsRequest(after=5, limit=10_000))],
)
def test_a_page_holds_what_its_query_says(query: str, request_: EventsRequest) -> None:
    assert parse_events(query) == request_


def test_a_page_of_streams_holds_what_its_query_says() -> None:
    assert parse_list("") == ListRequest(after="", limit=1000)
    assert parse_list("after=a:b&limit=7") == ListRequest(after="a:b", limit=7)


def test_a_page_holds_no_more_by_default_than_it_may() -> None:
    assert parse_events("", max_limit=10) == EventsRequest(limit=10)


@pytest.mark.parametrize(
    ("parse", "query", "named", "reason"),
    [
        (parse_subscribe, "form=now", "'form'", "unknown parameter"),
        (parse_subscribe, "producer=p", "'producer'", "unknown parameter"),
        (parse_subscribe, "from=now&from=start", "'from'", "twice"),
        (parse_subscribe, "from=end", "'from'", "expected start or now, got 'end'"),
        (parse_subscribe, "from=", "'from'", "expected start or now"),
        (parse_subscribe, "after=-1", "'after'", "expected an integer from 0"),
        (parse_subscribe, "after=x", "'after'", "expected an integer"),
        (parse_subscribe, f"after={MAX_SEQ + 1}", "'after'", "expected an integer"),
        (parse_subscribe, "epoch=f3a1c2", "'epoch'", "needs 'after'"),
        (parse_subscribe, "after=1&epoch=", "'epoch'", "1 to 64 characters"),
        (parse_subscribe, "after=1&epoch=a/b", "'epoch'", "outside"),
        (parse_subscribe, "policy=fast", "'policy'", "expected one of coalesce, block"),
        (parse_subscribe, "buffer=0", "'buffer'", "from 1 to 10000"),
        (parse_subscribe, "buffer=10001", "'buffer'", "from 1 to 10000"),
        (parse_subscribe, "types=", "'types'", "unknown event type ''"),
        (parse_subscribe, "types=text", "'types'", "unknown event type 'text'; the types are text_delta"),
        (parse_subscribe, "types=usage,", "'types'", "unknown event type ''"),
        (parse_subscribe, "index=", "'index'", "an integer from 0 to"),
        (parse_subscribe, "index=0,-1", "'index'", "an integer from 0 to"),
        (parse_subscribe, "index=" + ",".join(["0"] * 33), "'index'", "at most 32 values, got 33"),
        (parse_subscribe, "urgent=", "'urgent'", "unknown event type ''"),
        (parse_subscribe, "urgent=error,marked,", "'urgent'", "unknown event type"),
        (parse_subscribe, "urgent=text_delta", "'urgent'", "text_delta is a delta, which is urgent only where"),
        (parse_subscribe, "choice=1.0", "'choice'", "an integer from 0 to"),
        (parse_subscribe, "kind=text,", "'kind'", "a kind must have 1 to 64 characters, got 0"),
        (parse_subscribe, f"kind={'k' * 65}", "'kind'", "a kind must have 1 to 64 characters, got 65"),
        (parse_subscribe, "extension=/n", "'extension'", "expected PROVIDER or PROVIDER/NAME, got '/n'"),
        (parse_subscribe, "extension=p/", "'extension'", "expected PROVIDER or PROVIDER/NAME, got 'p/'"),
        (parse_subscribe, f"extension={'p' * 129}", "'extension'", "an extension must have 1 to 128 characters"),
        (parse_subscribe, "interval=1001", "'interval'", "from 0 to 1000"),
        (parse_subscribe, "interval=5&policy=block", "'interval'", "only policy 'coalesce'"),
        (parse_subscribe, "nothing", "'nothing'", "name=value"),
        (parse_subscribe, "from=now&", "'from=now&'", "name=value"),
        (parse_subscribe, "from=%ff", "'from=%ff'", "not UTF-8"),
        (parse_subscribe, "&".join(f"a{n}=1" for n in range(40)), "query string", "over 32 parameters"),
        (parse_publish, "producer=", "'producer'", "1 to 64 characters"),
        (parse_publish, "producer=a%2Fb", "'producer'", "outside"),
        (parse_publish, "generation=1", "'generation'", "needs 'producer'"),
        (parse_publish, "producer=p&generation=-1", "'generation'", "expected an integer"),
        (parse_publish, "on_full=drop", "'on_full'", "expected wait or reject"),
        (parse_publish, "after=1", "'after'", "unknown parameter"),
        (parse_events, "after=x", "'after'", "expected an integer"),
        (parse_events, "limit=0", "'limit'", "from 1 to 10000"),
        (parse_events, "limit=10001", "'limit'", "from 1 to 10000"),
        (parse_events, "from=now", "'from'", "unknown parameter"),
        (parse_list, "after=a/b", "'after'", "outside"),
        (parse_list, "after=", "'after'", "1 to 128 characters"),
        (parse_list, "limit=0", "'limit'", "from 1 to 1000"),
        (parse_list, "limit=1001", "'limit'", "from 1 to 1000"),
        (parse_list, "foo=1", "'foo'", "the parameters are after, limit"),
        (parse_nothing, "foo=1", "'foo'", "there are none here"),
    ],
)
def test_a_bad_parameter_is_named_with_what_is_expected(parse: Parse, query: str, named: str, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        parse(query)
    assert caught.value.code is ProblemCode.BAD_REQUEST
    assert named in caught.value.message
    assert reason in caught.value.message


@given(
    st.one_of(
        st.text(),
        st.lists(st.tuples(st.sampled_from(["from", "after", "types", "buffer"]), st.text())).map(
            lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)
        ),
    )
)
def test_any_query_is_a_request_or_refused(query: str) -> None:
    for parse in (parse_subscribe, parse_publish, parse_events, parse_list, parse_nothing):
        with contextlib.suppress(WireError):
            parse(query)
