"""The body of a request that publishes, byte by byte (SPEC §9.6)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers

from deltawire.gateway.server.http.bodies import BadBody, Chunks, Framing, Lines, Whole, find_framing, find_splitter
from deltawire.protocol.codec import JSON


def feed(framing: Framing, data: bytes, cuts: list[int]) -> bytes:
    """The body, of bytes that come in pieces."""
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return b"".join(framing.feed(data[start:end]) for start, end in itertools.pairwise(bounds))


def chunked(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(it), it) for it in pieces if it) + b"0\r\n\r\n"


@given(st.lists(st.binary(max_size=20), max_size=6), st.lists(st.integers(0, 400), max_size=8), st.binary(max_size=9))
def test_chunks_are_joined_however_they_are_cut_and_what_follows_is_ignored(
    pieces: list[bytes], cuts: list[int], behind: bytes
) -> None:
    framing = Chunks()
    assert feed(framing, chunked(pieces) + behind, cuts) == b"".join(pieces)
    assert framing.is_complete


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=4), st.data())
def test_chunks_that_are_cut_short_are_not_complete(pieces: list[bytes], data: st.DataObject) -> None:
    whole = chunked(pieces)
    framing = Chunks()
    framing.feed(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert not framing.is_complete


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_any_bytes_are_chunks_or_a_bad_body(data: bytes, cuts: list[int]) -> None:
    framing = Chunks()
    try:
        assert len(feed(framing, data, cuts)) <= len(data)
    except BadBody:
        assert not framing.is_complete


@pytest.mark.parametrize(
    "data",
    [
        b"g\r\n",
        b"-1\r\n",
        b"0x5\r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\r\nhelloX\r\n",
        b"5\r\nhello!\r\n",
        b"\r\n",
        b"1" * 300,
        b"5;" + b"x" * 300,
        b"fffffffffffffffff\r\n",
        b"0\r\n" + b"Trailer: x\r\n" * 1000,
        b"0\r\n" + b"x" * 9000,
    ],
)
def test_what_are_no_chunks_is_told(data: bytes) -> None:
    with pytest.raises(BadBody):
        Chunks().feed(data)


def test_extensions_and_trailers_are_ignored() -> None:
    framing = Chunks()
    assert framing.feed(b"5;name=value\r\nhello\r\n0\r\nDigest: x\r\n\r\n") == b"hello"
    assert framing.is_complete


@pytest.mark.parametrize(
    ("fields", "others", "protocol", "status"),
    [
        ([], {}, "HTTP/1.1", 411),
        ([("content-length", "5")], {"Content-Length": "0"}, "HTTP/1.1", 400),
        ([("transfer-encoding", "chunked")], {"Content-Length": "0"}, "HTTP/1.1", 400),
        ([("content-length", "+5")], {}, "HTTP/1.1", 400),
        ([("content-length", "5, 5")], {}, "HTTP/1.1", 400),
        ([("content-length", "\u0665")], {}, "HTTP/1.1", 400),
        ([("content-length", "")], {}, "HTTP/1.1", 400),
        ([("transfer-encoding", "gzip, chunked")], {}, "HTTP/1.1", 501),
        ([("transfer-encoding", "chunked")], {}, "HTTP/1.0", 400),
    ],
)
def test_a_length_that_is_not_told_once_and_plainly_is_refused(
    fields: list[tuple[str, str]], others: dict[str, str], protocol: str, status: int
) -> None:
    with pytest.raises(BadBody) as caught:
        find_framing(fields, Headers(others), protocol)
    assert caught.value.status == status


@given(st.lists(st.binary(max_size=12).filter(lambda it: b"\n" not in it), max_size=6), st.lists(st.integers(0, 90)))
def test_lines_are_messages_with_their_numbers_and_empty_ones_are_none(lines: list[bytes], cuts: list[int]) -> None:
    data = b"\n".join(lines)
    splitter = Lines(limit=12)
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    got = [it for start, end in itertools.pairwise(bounds) for it in splitter.feed(data[start:end])]
    got += splitter.finish()
    assert got == [(number, line) for number, line in enumerate(lines, 1) if line.strip(b" \t\r\n\v\f")]
    assert splitter.held_bytes == 0


def test_a_message_that_is_too_long_is_refused_before_it_is_whole() -> None:
    lines = Lines(limit=5)
    assert lines.feed(b"12345\n12345") == [(1, b"12345")]
    with pytest.raises(BadBody, match="line 2 has over max_message"):
        lines.feed(b"6")
    for too_long in (b"123456\n", b"123456"):
        with pytest.raises(BadBody, match="line 3 has over max_message") as caught:
            Lines(limit=5).feed(b"1\n2\n" + too_long)
        assert caught.value.before == [(1, b"1"), (2, b"2")], "what is right is not lost with it"
    whole = Whole(JSON, limit=5)
    whole.feed(b"12345")
    with pytest.raises(BadBody, match="the body has over max_message"):
        whole.feed(b"6")


@pytest.mark.parametrize(
    "headers",
    [
        Headers(),
        Headers({"Content-Type": "text/plain"}),
        Headers({"Content-Type": "application/x-www-form-urlencoded"}),
        Headers([("Content-Type", "application/json"), ("Content-Type", "application/json")]),
        Headers({"Content-Type": "application/json", "Content-Encoding": "gzip"}),
    ],
)
def test_a_body_of_another_type_is_415(headers: Headers) -> None:
    with pytest.raises(BadBody) as caught:
        find_splitter(headers, 100)
    assert caught.value.status == 415


def test_parameters_and_case_of_a_type_don_t_matter() -> None:
    assert isinstance(find_splitter(Headers({"Content-Type": "Application/JSON; charset=utf-8"}), 9), Whole)
    assert isinstance(find_splitter(Headers({"Content-Type": "application/x-ndjson"}), 9), Lines)
