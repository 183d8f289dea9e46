"""Events of an answer, as a consumer is sent them."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import strategies as st

from deltawire.protocol.codec import encode_event
from deltawire.protocol.events import (
    ContentEnd,
    ContentStart,
    Data,
    MessageStart,
    TextDelta,
    Thinking,
    ToolDelta,
    Usage,
)
from deltawire.protocol.framing import TEXT, frame


def framed(events: Iterable[Data], first: int = 1) -> bytes:
    """Frames of a stream."""
    stamp = "2026-11-22T11:00:00.000000Z"
    return b"".join(frame(TEXT, encode_event(data, seq, stamp)) for seq, data in enumerate(events, first))


indices = st.sampled_from([0, 1])
texts = st.text(st.characters(codec="utf-8"), max_size=3)
events: st.SearchStrategy[Data] = st.one_of(
    st.builds(TextDelta, texts),
    st.builds(TextDelta, texts, indices),
    st.builds(Thinking, texts),
    st.builds(Thinking, texts, indices),
    st.builds(ToolDelta, indices, texts),
    st.builds(ContentStart, indices),
    st.builds(ContentStart, indices, kind=st.sampled_from(["text", "thinking", "tool_use", "image"])),
    st.builds(ContentStart, indices, name=st.just("n")),
    st.builds(ContentEnd, indices),
    st.just(Usage(1, 2, 3)),
    st.just(MessageStart("m1")),
)
"""Anything between the first event of a message and the last."""
