"""Classes of streams, by their ids (SPEC §10.2)."""

from __future__ import annotations

import pytest

from deltawire.protocol.priority import StreamClass, parse_classes


@pytest.mark.parametrize(
    ("stream_id", "stream_class"),
    [
        ("chat-1", StreamClass.HIGH),
        ("chat-", StreamClass.HIGH),
        ("chat", StreamClass.NORMAL),
        ("batch", StreamClass.LOW),
        ("batch-1", StreamClass.NORMAL),
        ("other", StreamClass.NORMAL),
    ],
)
def test_the_first_pattern_that_matches_names_the_class(stream_id: str, stream_class: StreamClass) -> None:
    classes = parse_classes("chat-*=high, batch=low,, chat-1=low")
    assert classes.of(stream_id) is stream_class


@pytest.mark.parametrize("text", ["chat", "=high", "chat-*=urgent", "a*b=high", "chat=="])
def test_an_entry_that_is_none_is_quoted_with_what_is_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected STREAM=CLASS or PREFIX") as error:
        parse_classes(text)
    assert repr(text) in str(error.value)
