"""What the gateway says of a message in another protocol is read back as the same message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltawire.protocol.events import Data, Error, MessageStart, MessageStop, TextDelta, Thinking, ToolDelta, Usage
from deltawire.protocol.message_reader import FINISH_REASONS, MessageReader
from deltawire.protocol.openai_responses import ResponseReader
from deltawire.protocol.providers import ANY, TRANSLATORS
from deltawire.protocol.ui_messages import UiMessage
from tests.protocol.test_translators import check
from tests.support.answers import events, framed
from tests.support.provider_bodies import FORMS

PROTOCOLS: dict[str, Callable[[], MessageReader]] = {
    "ai-sdk-sse": UiMessage,
    "openai-responses-sse": lambda: ResponseReader("m1"),
}


def said(answer: list[Data]) -> tuple[str, str, Counter[str], list[tuple[int, int]]]:
    """All text, thinking and arguments of an answer, and its usage.

    Arguments are counted without braces: calls change places, and one without arguments has an empty object.
    """
    usage = [(data.prompt_tokens, data.completion_tokens) for data in answer if isinstance(data, Usage)]
    arguments = "".join(data.partial_json for data in answer if isinstance(data, ToolDelta))
    return (
        "".join(data.text for data in answer if isinstance(data, TextDelta)),
        "".join(data.thinking for data in answer if isinstance(data, Thinking)),
        Counter(arguments.replace("{", "").replace("}", "")),
        usage[-1:],
    )


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("is_named", [True, False])
@given(answer=st.lists(events, max_size=20))
def test_whatever_the_events_are_the_same_is_read_back(name: str, answer: list[Data], *, is_named: bool) -> None:
    body = PROTOCOLS[name]().convert(framed([MessageStart("m1", "model"), *answer, MessageStop("m1", "end_turn")]))
    translator = TRANSLATORS[name if is_named else ANY]()
    read = translator.feed(body) + translator.finish()
    check(read)
    assert said(read) == said(answer)
    assert translator.unparsed == 0
    assert not any(isinstance(data, Error) for data in read)
    [start] = [data for data in read if isinstance(data, MessageStart)]
    [stop] = [data for data in read if isinstance(data, MessageStop)]
    assert start.message_id == stop.message_id == "m1"
    assert FINISH_REASONS[stop.stop_reason] == "stop"


@pytest.mark.parametrize("name", FORMS)
def test_the_stop_reasons_of_every_provider_mean_something_in_other_protocols(name: str) -> None:
    translator = TRANSLATORS[name]()
    read = translator.feed(FORMS[name].encode(*FORMS[name].clean) + FORMS[name].end) + translator.finish()
    assert {data.stop_reason for data in read if isinstance(data, MessageStop)} <= FINISH_REASONS.keys()
