from __future__ import annotations

import pytest

from deltawire.protocol.providers import told as module
from deltawire.protocol.providers.told import Told


def test_of_a_whole_text_the_rest_is_news() -> None:
    told = Told()
    assert not told
    assert "a" not in told
    assert told.rest_of("a", "whole") == "whole"
    told.add("a", "Hel")
    told.add("b", "other")
    told.add("a", "lo")
    assert (told.rest_of("a", "Hello"), told.rest_of("a", "Hello!")) == ("", "!")
    assert (told.text_of("a"), told.text_of("b"), told.text_of("c")) == ("Hello", "other", "")
    assert told


@pytest.mark.parametrize("whole", ["", "Hel", "Jello", "Jello!"])
def test_another_text_has_no_rest(whole: str) -> None:
    told = Told()
    told.add("a", "Hello")
    assert told.rest_of("a", whole) is None


def test_a_text_that_is_forgotten_begins_anew() -> None:
    told = Told()
    told.add("a", "Hello")
    told.forget("a")
    told.forget("b")
    assert told.rest_of("a", "whole") == "whole"


def test_of_an_answer_that_is_too_long_nothing_is_remembered_but_that_it_was_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_TOLD", 10)
    told = Told()
    told.add("a", "x" * 6)
    told.add("b", "y" * 6)
    told.add("b", "y")
    assert "a" in told
    assert told.text_of("a") == told.text_of("b") == ""
    assert told.rest_of("a", "x" * 7) is told.rest_of("b", "y" * 7) is None
    assert told.rest_of("c", "new") == "new"
