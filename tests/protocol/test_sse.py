from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltawire.protocol.providers.sse import EventStreamDecoder, EventTooLargeError, ServerSentEvent


def decode(*chunks: bytes) -> list[ServerSentEvent]:
    decoder = EventStreamDecoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)] + list(decoder.finish())


def one_by_one(body: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in body]


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: a\n\n", [("", "a")]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [("", "a"), ("", "b")]),
        (b"data: a\r\rdata: b\r\r", [("", "a"), ("", "b")]),
        (b"data: a\r\ndata: b\r\n\r\n", [("", "a\nb")]),
        (b"event: x\ndata: a\n\ndata: b\n\n", [("x", "a"), ("", "b")]),
        (b"data: a\ndata: b\ndata:\n\n", [("", "a\nb\n")]),
        (b"data:  two spaces\n\n", [("", " two spaces")]),
        (b"data:a: b\n\n", [("", "a: b")]),
        (b"data\n\n", [("", "")]),
        (b"event: a\nevent: b\ndata: x\n\n", [("b", "x")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("", "a")]),
        (b"data: \xef\xbb\xbfa\n\n", [("", "\ufeffa")]),
        (b"data: gr\xc3\xbc\xc3\x9fe \xf0\x9f\x8c\x8d\n\n", [("", "grüße 🌍")]),
        (b"data: \xff\xe2\x82\n\n", [("", "\udcff\udce2\udc82")]),
        (b": comment\n\n:\n\ndata: a\n\n", [("", "a")]),
        (b"id: 7\nretry: 100\n\n", []),
        (b"\n\n\n", []),
        (b"", []),
    ],
)
def test_a_body_is_decoded_as_whatwg_says_however_it_is_split(body: bytes, events: list[tuple[str, str]]) -> None:
    assert decode(body) == events
    assert decode(*one_by_one(body)) == events


def test_an_event_is_given_with_the_byte_that_completes_it_not_later() -> None:
    decoder = EventStreamDecoder()
    assert list(decoder.feed(b"data: a\r\n\r")) == [("", "a")]
    assert list(decoder.feed(b"\ndata: b\n")) == []
    assert list(decoder.feed(b"\n")) == [("", "b")]


def test_an_event_cut_off_by_the_end_of_the_body_is_not_lost() -> None:
    assert decode(b"event: x\ndata: a\ndata: b") == [("x", "a\nb")]
    assert decode(b"data: a\n") == [("", "a")]


def test_a_name_without_data_is_an_event_with_empty_data() -> None:
    assert decode(b"event: error\n\n") == [("error", "")]


def test_lines_that_are_no_field_are_the_data_of_an_unnamed_event() -> None:
    assert decode(b'{\n "error": 1\n}') == [("", '{\n "error": 1\n}')]
    assert decode(b"data: a\nwhat: b\n\n") == [("", "a"), ("", "what: b")]


def test_lines_that_are_no_field_come_before_data_that_follows_them() -> None:
    assert decode(b"event: x\nwhat: b\ndata: a\n\n") == [("", "what: b"), ("x", "a")]
    assert decode(b"event: x\nwhat: b\n\n") == [("x", "what: b")]


def test_a_page_is_one_event_however_many_blank_lines_it_has() -> None:
    page = "<html>\n\n<p>Bad\n\ngateway</p>\n</html>"
    assert decode(f"{page}\n\nrest\n\n".encode()) == [("", page), ("", "rest")]
    assert decode(f"<p>\n\nx\n\ndata: {page[:6]}\n\n".encode()) == [("", "<p>\n\nx\n"), ("", "<html>")]


def test_blank_lines_end_no_json_that_is_not_whole() -> None:
    decoder = EventStreamDecoder(is_whole=lambda text: text == '{\n\n"a":\n\n{}}')
    assert list(decoder.feed(b'{\n\n"a":\n\n{}}\n')) == []
    assert list(decoder.feed(b"\n")) == [("", '{\n\n"a":\n\n{}}')]
    assert list(decoder.feed(b'{\n\n"a"\n\ndata: b\n\n')) == [("", '{\n\n"a"\n'), ("", "b")]


def whole(*chunks: bytes) -> list[ServerSentEvent]:
    """Decoded by one who knows whole events: those that end with a full stop."""
    decoder = EventStreamDecoder(is_whole=lambda line: line.endswith("."))
    return [event for chunk in chunks for event in decoder.feed(chunk)]


def test_a_whole_line_is_an_event_without_its_blank_line() -> None:
    assert whole(b"data: a.\n") == [("", "a.")]
    assert whole(b"data: a.\n\n", b"event: x\ndata: b.\n") == [("", "a."), ("x", "b.")]
    assert whole(b"data: a.\ndata: b.\nevent: x\ndata: c.\n") == [("", "a."), ("", "b."), ("x", "c.")]
    assert whole(b"a.\nb.\n") == [("", "a."), ("", "b.")]


def test_where_no_blank_lines_come_a_line_that_is_not_whole_ends_with_the_next_that_is() -> None:
    assert whole(b"data: a.\ndata: b\ndata: c.\n") == [("", "a."), ("", "b"), ("", "c.")]
    assert whole(b"data: a.\nevent: x\ndata: b\nevent: y\ndata: c.\n") == [("", "a."), ("x", "b"), ("y", "c.")]
    assert whole(b"data: a.\n\ndata: b\ndata: c.\n\n") == [("", "a."), ("", "b\nc.")], "here blank lines come"


def test_an_object_that_follows_an_object_begins_another_event() -> None:
    assert decode(b'data: {"a"\ndata: :1}\ndata: {"b":2}\n\n') == [("", '{"a"\n:1}'), ("", '{"b":2}')]


def test_an_event_over_the_limit_raises_after_those_before_it_were_given() -> None:
    decoder = EventStreamDecoder(max_event=10)
    events = decoder.feed(b"data: abcd\n\ndata: abcde\n\n")
    assert next(events) == ("", "abcd")
    with pytest.raises(EventTooLargeError, match="larger than 10 bytes"):
        next(events)


def test_many_short_lines_of_one_event_count_together_and_comments_do_not() -> None:
    decoder = EventStreamDecoder(max_event=20)
    assert list(decoder.feed(b": comment\n" * 100 + b"data: a\n" * 2)) == []
    with pytest.raises(EventTooLargeError):
        list(decoder.feed(b"data: b\n"))


@pytest.mark.timed
def test_time_is_linear_when_a_long_line_comes_byte_by_byte() -> None:
    def seconds(length: int) -> float:
        chunks = one_by_one(b"data: " + b"x" * length + b"\n\n")
        start = time.thread_time()  # which stands still while others have the machine
        assert len(decode(*chunks)) == 1
        return time.thread_time() - start

    assert any(seconds(320_000) < 24 * seconds(40_000) for _ in range(10)), (
        "eight times the bytes, and quadratic would be 64 times the work"
    )


@given(
    st.lists(st.sampled_from([b"data", b"event", b":", b" ", b"\r", b"\n", b"\xc3", b"\xbc", b"\xef\xbb\xbf", b"x"])),
    st.lists(st.integers(0, 100)),
)
def test_any_split_gives_the_same_events(pieces: list[bytes], cuts: list[int]) -> None:
    body = b"".join(pieces)
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    assert decode(*(body[start:end] for start, end in pairwise(edges))) == decode(body)
