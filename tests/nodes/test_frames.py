"""Where frames end, however their bytes come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deltawire.gateway.server.relaying.frames import CLOSE, FrameEnds
from deltawire.protocol.framing import BINARY, TEXT, frame

FRAMES = st.lists(
    st.builds(frame, st.sampled_from((TEXT, BINARY)), st.sampled_from((0, 1, 125, 126, 127, 65535, 65536)).map(bytes)),
    max_size=6,
)


@given(FRAMES, st.lists(st.integers(1, 70_000), max_size=20), st.integers(1, 11))
def test_the_ends_are_known_in_pieces_of_any_size(frames: list[bytes], cuts: list[int], then: int) -> None:
    data, ends, at = b"".join(frames), set(), 0
    for it in frames:
        at += len(it)
        ends.add(at)
    tracked, at = FrameEnds(), 0
    for size in [*cuts, *([then] * 30), len(data)]:
        piece = data[at : at + size]
        whole = tracked.feed(piece)
        latest = max((end for end in ends if at < end <= at + len(piece)), default=at)
        assert whole == latest - at
        at += len(piece)
        assert tracked.is_whole is (at == 0 or at in ends)
    assert not tracked.is_closed


def test_a_close_frame_is_seen() -> None:
    tracked = FrameEnds()
    tracked.feed(frame(TEXT, b"\x88") + bytes((CLOSE,)))
    assert tracked.is_closed
    assert not tracked.is_whole
    assert tracked.feed(b"\x02\x03\xe8") == 3
    assert tracked.is_whole
