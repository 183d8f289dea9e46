"""What a producer is told of an event that middleware drops after it was held back (SPEC §7.8)."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from deltawire.gateway.config import Settings
from deltawire.gateway.hub import Hub
from deltawire.gateway.middleware import Context, make_middleware, split_thinking
from deltawire.gateway.server import Gateway
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.events import Data, TextDelta
from tests.support.peers import producer, text_delta


def refuse_bad(data: Data, _: Context) -> Iterable[Data]:
    if data == TextDelta("bad"):
        raise ValueError("the text was bad")
    return [data]


@pytest.mark.hears(ProblemCode.EVENT_DROPPED)
async def test_a_producer_is_told_of_an_event_that_fails_after_it_was_held_back() -> None:
    settings = Settings(port=0, drain_timeout=0.5)
    chosen = make_middleware({"*": [split_thinking(), refuse_bad]}, 10.0)
    async with (
        Hub(settings, chosen) as hub,
        Gateway(settings, hub) as gateway,
        producer(gateway, "producer=p") as writing,
    ):
        await writing.say(text_delta("bad<", producer_seq=1), text_delta("c", producer_seq=2))
        *_, problem, ack = await writing.read_until("ack")
        assert (problem["code"], problem["producer_seq"]) == ("event_dropped", 1)
        assert problem["message"] == (
            "the middleware's stage `refuse_bad` failed on this event after it had been held back, so it is dropped: "
            "do not send it again"
        )
        assert ack == {"type": "ack", "seq": 1, "producer_seq": 2}
        assert (hub.tally.middleware_failures, hub.tally.middleware_dropped) == (1, 1)
