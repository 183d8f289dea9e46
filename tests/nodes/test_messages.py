"""What two nodes tell each other over a follow."""

from __future__ import annotations

import msgspec
import pytest

from deltawire.gateway.server.relaying.messages import (
    Count,
    FollowMessage,
    Forward,
    Forwarded,
    State,
    Terms,
    decode_from_follower,
    encode,
    frame,
    read_from_owner,
)
from deltawire.gateway.streams.log import Retention
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.protocol.framing import BINARY, payload_start
from deltawire.protocol.messages import Policy, Signal

SETTINGS = StreamSettings(retention=Retention(events=7), policy=Policy.DROP_OLDEST, buffer=9)


@pytest.mark.parametrize("message", [Terms(SETTINGS), State(3, 50), Forwarded(1, 2)])
def test_what_the_owner_says_is_read_as_it_was_said(message: FollowMessage) -> None:
    whole = frame(message)
    assert whole[0] == BINARY
    assert read_from_owner(whole[payload_start(whole) :]) == message


@pytest.mark.parametrize("message", [Count(5), Forward(1, Signal(name="cancel", id="s1", data={"why": [1, None]}))])
def test_what_a_follower_says_is_read_as_it_was_said(message: FollowMessage) -> None:
    assert decode_from_follower(encode(message)) == message


def test_what_only_a_later_version_says_is_passed_over() -> None:
    assert read_from_owner(msgspec.msgpack.encode({"type": "later", "data": 1})) is None
    assert read_from_owner(msgspec.msgpack.encode({"type": "state", "floor": 1, "consumers": 2, "more": 3})) == State(
        1, 2
    )
