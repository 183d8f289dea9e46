"""What producers say and what liars do, to be drawn from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from deltawire.protocol.codec import JSON, MSGPACK
from deltawire.protocol.events import (
    Data,
    Error,
    EventType,
    Extension,
    MessageStart,
    TextDelta,
    Thinking,
    ToolDelta,
    Usage,
)

picks = st.integers(0, 99)
names = st.sampled_from(["a", "a", "a", "b"])
codecs = st.sampled_from([JSON, JSON, MSGPACK])
encodings = st.sampled_from([JSON, JSON, MSGPACK, None])  # None: server-sent events
MAKERS: dict[str, Callable[[int], Data]] = {
    "text": lambda number: TextDelta(f"{number};"),
    "big": lambda number: TextDelta(f"{number};" + "x" * 900),
    "thinking": lambda number: Thinking(f"{number};", number % 2),
    "tool": lambda number: ToolDelta(0, f"{number};"),
    "start": lambda number: MessageStart(f"m{number}"),
    "usage": lambda number: Usage(number, number, number),
    "error": lambda number: Error(f"error {number}"),
    "other": lambda number: Extension("p", "n", number),
}
kinds = st.sampled_from(["text", "text", *MAKERS, "stop"])
batches = st.lists(kinds, min_size=1, max_size=8)

values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-5, 5),
        st.sampled_from([2**53, -(2**63), 2**63, 1e300, -0.0, 0.5]),
        st.text(max_size=5),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["text", "index", "message_id", "provider", "name", "data", ""]), inner),
    ),
    max_leaves=8,
)
words = st.sampled_from([*EventType, "signal", "close_stream", "ack", "", "\ud7ff", "x" * 300])
envelopes = st.fixed_dictionaries(
    {"type": st.one_of(words, values)},
    optional={
        "data": values,
        "name": values,
        "id": values,
        "seq": values,
        "first": values,
        "timestamp": st.one_of(values, st.sampled_from(["2026-13-45T99:00:00Z", "2026-11-22T11:00:00", "now"])),
        "producer_seq": st.sampled_from([0, -1, 1.5, "1", None, 2**53, 2**64, 1_000_000]),
        "surplus": values,
    },
)
malformed: st.SearchStrategy[Any] = st.one_of(envelopes, st.lists(envelopes, min_size=1, max_size=3), values)
spoilt = st.one_of(  # not even an encoding
    st.binary(max_size=20),
    st.sampled_from(
        [
            b"",
            b"[" * 2000,
            b'{"type":' + b"[" * 2000,
            b'{"type":"text_delta","data":{"text":"\xff"}}',
            b'{"type":"text_delta","data":{"text":"\\ud800"}}',
            b'{"type":"extension","data":{"provider":"p","name":"n","data":NaN}}',
            b'{"type":"usage","data":{"prompt_tokens":' + b"9" * 400 + b"}}",
            b'{"type":"text_delta","data":{"text":"a"}} {}',
            b"x" * 70_000,
            b"\xdd\xff\xff\xff\xff",
            b"\xc1",
        ]
    ),
)
parameters = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from(
                [
                    "from",
                    "after",
                    "epoch",
                    "policy",
                    "buffer",
                    "types",
                    "index",
                    "choice",
                    "kind",
                    "extension",
                    "urgent",
                    "interval",
                    "producer",
                    "generation",
                    "on_full",
                    "limit",
                    "x",
                ]
            ),
            st.text(max_size=3),
        ),
        st.one_of(
            st.sampled_from(
                ["", "0", "1", "-1", "1.5", "1e3", "9" * 30, "start", "now", "e0", "block", "drop", "wait", "reject"]
            ),
            st.sampled_from(["text_delta,", ",", "usage,usage", "..", "a/b", "٣", "\x00", "x" * 200]),
            st.text(max_size=4),
        ),
    ),
    max_size=4,
)
