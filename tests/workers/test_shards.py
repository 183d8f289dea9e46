"""Which worker a stream lives in."""

from __future__ import annotations

from collections import Counter

import pytest

from deltawire.gateway.server.accepting.routing import stream_of
from deltawire.gateway.workers.shards import SHARDS, shard_of, worker_of


@pytest.mark.parametrize(("stream", "shard"), [("demo", 32), ("chat-7", 17), ("a", 3), ("b", 57)])
def test_the_shard_of_a_stream_never_changes(stream: str, shard: int) -> None:
    assert shard_of(stream) == shard


@pytest.mark.parametrize("workers", [1, 2, 3, 5, 7, 63, 64])
def test_every_worker_has_as_many_shards_as_any_other_or_one_more(workers: int) -> None:
    a_stream_of_each = {shard_of(f"s{number}"): f"s{number}" for number in range(2000)}
    assert len(a_stream_of_each) == SHARDS
    counts = Counter(worker_of(stream, workers) for stream in a_stream_of_each.values())
    assert sorted(counts) == list(range(workers))
    assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize(
    ("line", "stream"),
    [
        (b"GET /v1/streams/demo/subscribe HTTP/1.1\r", "demo"),
        (b"GET /v1/streams/demo/publish?producer=a HTTP/1.1\r", "demo"),
        (b"DELETE /v1/streams/a%3Ab HTTP/1.1\r", "a:b"),
        (b"GET /v1/streams/demo/sse HTTP/1.1\r", "demo"),
        (b"POST /v1/responses/demo/cancel HTTP/1.1\r", "demo"),
        (b"GET http://elsewhere/v1/streams/demo HTTP/1.1\r", "demo"),
        (b"GET /v1/streams/\xc3\xa4 HTTP/1.1\r", "\udcc3\udca4"),
        (b"GET /v1/streams HTTP/1.1\r", ""),
        (b"GET /v1/streams//publish HTTP/1.1\r", ""),
        (b"GET /v1/streams/a/b/c HTTP/1.1\r", ""),
        (b"GET /metrics HTTP/1.1\r", ""),
        (b"GET\r", ""),
        (b"", ""),
    ],
)
def test_the_line_of_a_request_says_which_stream_it_is_about(line: bytes, stream: str) -> None:
    assert stream_of(line) == stream


def test_an_id_that_is_none_has_a_worker_too() -> None:
    assert 0 <= worker_of("\udcc3\udca4", 64) < 64
