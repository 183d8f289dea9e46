"""Which server of a cluster has a stream."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from deltawire.gateway.engines.redis.address import Host, parse_address
from deltawire.gateway.engines.redis.keys import Keys
from deltawire.gateway.engines.redis.topology import (
    BUCKETS,
    SLOTS,
    TAGS,
    bucket_of,
    bucket_with,
    parse_moved,
    parse_slots,
    slot_of,
)
from deltawire.gateway.engines.redis.work import Work

ASKED = Host("asked", 7000)


def test_the_slot_of_a_tag_is_that_of_the_specification() -> None:
    assert slot_of("123456789") == 0x31C3 % SLOTS


def test_buckets_are_spread_over_all_slots_and_streams_over_all_buckets() -> None:
    assert [bucket_with(slot_of(tag)) for tag in TAGS] == list(range(BUCKETS))
    streams = Counter(bucket_of(f"chat-{number}") for number in range(100 * BUCKETS))
    assert len(streams) == BUCKETS
    assert max(streams.values()) < 200


def test_keys_of_a_stream_share_a_tag_and_no_two_streams_share_a_key() -> None:
    keys = Keys("deltawire", is_clustered=True)
    ids = ["demo", "a:state", "a", "streams", "nodes", ".", "a:events"]
    named = [name for stream in ids for name in keys.of_stream(stream)[:2]]
    assert len(set(named)) == 2 * len(ids)
    for stream in ids:
        tags = {name.partition("{")[2].partition("}")[0] for name in keys.of_stream(stream)}
        assert tags == {TAGS[bucket_of(stream)]}
        assert keys.of_stream(stream)[2] in keys.lists
    assert Keys("deltawire").of_stream("demo")[0] == "deltawire:{demo}:state", "as it is stored without a cluster"


def test_the_servers_of_a_cluster_are_parsed() -> None:
    half = SLOTS // 2
    reply: list[Any] = [
        [0, half - 1, [b"one", 7001, b"id1", []], [b"replica", 7011, b"id2", []]],
        [half, SLOTS - 1, [b"", 7002, b"id3", []]],
    ]
    servers, known = parse_slots(reply, ASKED)
    assert servers == [Host("one", 7001)] * (BUCKETS // 2) + [Host("asked", 7002)] * (BUCKETS // 2)
    assert known == [Host("one", 7001), Host("replica", 7011), Host("asked", 7002)]
    with pytest.raises(ValueError, match="no server has some of the slots"):
        parse_slots(reply[1:], ASKED)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"MOVED {slot_of(TAGS[7])} 10.0.0.1:7001", (7, Host("10.0.0.1", 7001))),
        (f"MOVED {slot_of(TAGS[7])} ::1:7001", (7, Host("::1", 7001))),
        (f"MOVED {slot_of(TAGS[7])} :7001", (7, Host("asked", 7001))),
        ("ASK 1 10.0.0.1:7001", None),
        ("TRYAGAIN Multiple keys request during rehashing of slot", None),
        ("MOVED nonsense", None),
    ],
)
def test_where_a_slot_has_moved_is_parsed(text: str, expected: object) -> None:
    assert parse_moved(text, ASKED) == expected


def test_a_cluster_s_address_names_some_servers_and_no_database() -> None:
    address = parse_address("rediss+cluster://gate:p%2Fw@one:7001,two")
    assert (address.hosts, address.is_cluster, address.database) == ((("one", 7001), ("two", 6379)), True, 0)
    assert str(address) == "one:7001,two:6379"


def test_work_that_was_not_done_goes_before_what_has_come_since() -> None:
    older, newer = Work("demo", "e"), Work("demo", "e")
    older.frames, older.last, older.fields, older.floor = [b"1", b"2"], 2, {"end": "", "p:a": "1:2:2"}, 1
    newer.frames, newer.last, newer.fields, newer.is_gone = [b"3"], 3, {"p:a": "1:3:3"}, True
    older.extend(newer)
    assert (older.frames, older.last, older.floor, older.is_gone) == ([b"1", b"2", b"3"], 3, 1, True)
    assert older.fields == {"end": "", "p:a": "1:3:3"}
