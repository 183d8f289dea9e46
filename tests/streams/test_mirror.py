"""A mirror has the owner's events as they are, serves whom it can, and leaves the rest to the owner."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deltawire.gateway.streams.log import Ledger, Retention
from deltawire.gateway.streams.manager import StreamManager
from deltawire.gateway.streams.mirror import Mirror
from deltawire.gateway.streams.settings import StreamSettings
from deltawire.gateway.streams.stream import Stream
from deltawire.gateway.streams.subscription import Subscription
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.codec import decode_relayed
from deltawire.protocol.errors import StreamError, is_full
from deltawire.protocol.events import Data, Error, MessageStart, TextDelta
from deltawire.protocol.framing import payload_start, payloads
from deltawire.protocol.messages import Policy
from deltawire.protocol.position import Position

AT = "2026-11-22T11:00:00.000000Z"
EPOCH = "e1"


class Followed:
    """A stream and its mirror, which is brought up to date by `catch_up`."""

    def __init__(self, after: int = 0, settings: StreamSettings | None = None) -> None:
        self.overruns = 0
        settings = settings or StreamSettings()
        self.owner = Stream("demo", EPOCH, settings, 0.0, Ledger())
        self.mirror = Mirror("demo", EPOCH, settings, after, 0.0, Ledger(), self._overrun)

    def _overrun(self) -> None:
        self.overruns += 1

    def append(self, *events: Data) -> None:
        for data in events:
            self.owner.append(data, AT, 0.0)

    def catch_up(self) -> None:
        head = self.mirror.log.head
        for frame in self.owner.log.frames(head, self.owner.log.head):
            self.mirror.take(decode_relayed(frame[payload_start(frame) :]), frame, 0.0)


def take_all(reader: Subscription) -> Iterator[bytes]:
    while data := reader.take():
        yield data


def texts(count: int) -> Iterator[TextDelta]:
    return (TextDelta(f"{number} ") for number in range(1, count + 1))


@pytest.mark.parametrize("policy", [Policy.COALESCE, Policy.DROP_OLDEST, Policy.DISCONNECT])
def test_a_reader_of_the_mirror_gets_the_bytes_of_a_reader_of_the_owner(policy: Policy) -> None:
    followed = Followed()
    followed.append(MessageStart("m1"), *texts(300), Error("slow"), *texts(300))
    followed.catch_up()
    request = SubscribeRequest(policy=policy)
    readers = [stream.subscribe(request, now=0.0) for stream in (followed.owner, followed.mirror)]
    got = [b"".join(take_all(reader)) for reader in readers]
    assert got[0] == got[1]
    assert len(list(payloads(got[1]))) > 3


@pytest.mark.parametrize(
    ("request_", "serves"),
    [
        (SubscribeRequest(), False),
        (SubscribeRequest(start="now"), True),
        (SubscribeRequest(start="now", policy=Policy.BLOCK), False),
        (SubscribeRequest(position=Position(EPOCH, 9)), False),
        (SubscribeRequest(position=Position(EPOCH, 10)), True),
        (SubscribeRequest(position=Position("", 15)), True),
        (SubscribeRequest(position=Position(EPOCH, 20)), True),
        (SubscribeRequest(position=Position(EPOCH, 21)), False),
        (SubscribeRequest(position=Position("e0", 15)), False),
    ],
)
def test_a_mirror_that_begins_after_10_serves_who_wants_what_it_has(request_: SubscribeRequest, serves: bool) -> None:  # noqa: FBT001
    followed = Followed(after=10)
    followed.append(*texts(20))
    followed.catch_up()
    assert followed.mirror.serves(request_) is serves


def test_a_mirror_of_a_whole_stream_serves_from_the_start_unless_producers_wait_for_its_readers() -> None:
    assert Followed().mirror.serves(SubscribeRequest())
    assert not Followed(settings=StreamSettings(policy=Policy.BLOCK)).mirror.serves(SubscribeRequest())


def test_what_the_owner_drops_goes_from_the_mirror_and_its_readers_are_left_to_the_owner() -> None:
    followed = Followed()
    followed.append(*texts(20))
    followed.catch_up()
    reader = followed.mirror.subscribe(SubscribeRequest(position=Position(EPOCH, 3), policy=Policy.DISCONNECT), now=0.0)
    reader.take()
    followed.mirror.tell_floor(11)
    assert (followed.mirror.floor, followed.mirror.log.floor) == (11, 11)
    assert reader.take() == b"", "no gap: the owner may have these events"
    assert followed.overruns == 1
    assert not followed.mirror.serves(SubscribeRequest(position=Position(EPOCH, 9)))
    assert followed.mirror.serves(SubscribeRequest(position=Position(EPOCH, 10)))


def test_a_gap_of_the_owner_begins_the_mirror_anew_behind_it() -> None:
    followed = Followed()
    followed.append(*texts(20))
    followed.catch_up()
    followed.mirror.skip_to(30)
    assert (followed.mirror.log.floor, followed.mirror.log.head, followed.mirror.log.bytes) == (31, 30, 0)
    assert not followed.mirror.serves(SubscribeRequest(position=Position(EPOCH, 20)))


def test_the_latest_message_is_there_if_its_beginning_is() -> None:
    followed = Followed()
    assert not followed.mirror.has_latest_message
    followed.append(TextDelta("x"), MessageStart("m1"), *texts(5))
    followed.catch_up()
    assert followed.mirror.has_latest_message
    assert followed.mirror.log.message_start == followed.owner.log.message_start == 2
    followed.mirror.tell_floor(3)
    assert not followed.mirror.has_latest_message


def test_a_mirror_holds_no_more_than_its_settings_and_shrinks_to_what_policies_need() -> None:
    settings = StreamSettings(retention=Retention(events=100), buffer_bytes=2_000)
    followed = Followed(settings=settings)
    followed.append(*texts(90))
    followed.catch_up()
    followed.append(*texts(90))
    followed.catch_up()
    assert followed.mirror.log.head - followed.mirror.log.floor + 1 == 100
    assert followed.mirror.shrink()
    assert followed.mirror.log.bytes <= 2_000
    assert not followed.mirror.shrink()
    followed.mirror.clear()
    assert followed.mirror.log.ledger.bytes == 0


def test_mirrors_count_towards_the_number_of_streams() -> None:
    manager = StreamManager(StreamSettings(), lambda: "e", max_streams=1)
    followed = Followed()
    manager.keep_mirror(followed.mirror, 0.0)
    assert manager.mirrors == 1
    with pytest.raises(StreamError, match="max_streams") as refused:
        manager.keep_mirror(Followed().mirror, 0.0)
    assert is_full(refused.value)
    manager.drop_mirror(followed.mirror)
    manager.drop_mirror(followed.mirror)
    assert manager.mirrors == 0
    manager.keep_mirror(Followed().mirror, 0.0)


def test_a_mirror_gives_as_many_bytes_back_as_are_wanted_the_oldest_events_first() -> None:
    followed = Followed()
    followed.append(*texts(90))
    followed.catch_up()
    log = followed.mirror.log
    before = log.bytes
    followed.mirror.give_back(1_000)
    assert before - 1_200 <= log.bytes <= before - 1_000
    assert (log.head, log.floor > 1) == (90, True)
    followed.mirror.give_back(before)
    assert (log.bytes, log.floor) == (0, 91)
    assert not followed.mirror.serves(SubscribeRequest(position=Position(EPOCH, 89)))
