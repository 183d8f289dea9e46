"""Control messages: what each carries on the wire, in its order."""

from __future__ import annotations

import pytest
from msgspec import Raw

from deltawire.protocol.codec import JSON, MSGPACK, Codec
from deltawire.protocol.messages import (
    FROM_CONSUMER,
    FROM_PRODUCER,
    TO_CONSUMER,
    TO_PRODUCER,
    Ack,
    Audience,
    CaughtUp,
    CloseStream,
    Gap,
    Heartbeat,
    Message,
    Ping,
    Policy,
    Pong,
    Problem,
    Ready,
    Signal,
    SignalResult,
    StreamEnd,
    Subscribed,
    Token,
    TokenAccepted,
    Urgent,
)

SUBSCRIBED = Subscribed(
    stream="demo",
    epoch="f3a1c2",
    floor=1,
    head=2,
    after=0,
    policy=Policy.COALESCE,
    buffer=100,
    recovered=False,
    closed=True,
)
ON_THE_WIRE = [
    (
        SUBSCRIBED,
        (
            '{"type":"subscribed","stream":"demo","epoch":"f3a1c2","floor":1,"head":2,"after":0,"policy":"coalesce",'
            '"buffer":100,"recovered":false,"closed":true}'
        ),
    ),
    (CaughtUp(seq=0), '{"type":"caught_up","seq":0}'),
    (Gap(first=1, seq=0, reason="epoch_changed"), '{"type":"gap","first":1,"seq":0,"reason":"epoch_changed"}'),
    (StreamEnd(seq=3, reason="inactive"), '{"type":"stream_end","seq":3,"reason":"inactive"}'),
    (
        Problem(code="idle", message="why", retryable=True),
        '{"type":"problem","code":"idle","message":"why","retryable":true}',
    ),
    (
        Problem(code="idle", message="why", retryable=True, resume_after=0, producer_seq=2, expected=1),
        '{"type":"problem","code":"idle","message":"why","retryable":true,"resume_after":0,"producer_seq":2,"expected":1}',
    ),
    (SignalResult(delivered=0), '{"type":"signal_result","delivered":0}'),
    (SignalResult(delivered=1, id=""), '{"type":"signal_result","delivered":1,"id":""}'),
    (Signal(name="cancel"), '{"type":"signal","name":"cancel"}'),
    (Signal(name="cancel", data=None, id="s"), '{"type":"signal","name":"cancel","data":null,"id":"s"}'),
    (
        Ready(stream="demo", epoch="e", head=0, generation=1, producer_seq=0),
        '{"type":"ready","stream":"demo","epoch":"e","head":0,"generation":1,"producer_seq":0}',
    ),
    (Ack(seq=0), '{"type":"ack","seq":0}'),
    (Ack(seq=9, producer_seq=4), '{"type":"ack","seq":9,"producer_seq":4}'),
    (Audience(consumers=3), '{"type":"audience","consumers":3}'),
    (CloseStream(), '{"type":"close_stream"}'),
    (Token(token="a.b.c"), '{"type":"token","token":"a.b.c"}'),
    (TokenAccepted(), '{"type":"token_accepted"}'),
    (Heartbeat(head=0), '{"type":"heartbeat","head":0}'),
    (Urgent(event=Raw(b"1")), '{"type":"urgent","event":1}'),  # a number in either encoding
    (Ping(), '{"type":"ping"}'),
    (Ping(id="1"), '{"type":"ping","id":"1"}'),
    (Pong(), '{"type":"pong"}'),
    (Pong(id="1"), '{"type":"pong","id":"1"}'),
    (TokenAccepted(expires_in=60), '{"type":"token_accepted","expires_in":60}'),
]


@pytest.mark.parametrize(("message", "text"), ON_THE_WIRE)
def test_a_message_has_its_fields_on_the_wire_in_order(message: Message, text: str) -> None:
    assert JSON.encode(message).decode() == text


def test_every_message_is_among_the_examples() -> None:
    assert {type(message) for message, _ in ON_THE_WIRE} == {
        *TO_CONSUMER,
        *FROM_CONSUMER,
        *TO_PRODUCER,
        *FROM_PRODUCER,
    }


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.subprotocol)
@pytest.mark.parametrize("message", [message for message, _ in ON_THE_WIRE])
def test_a_message_is_read_back_equal_where_it_may_travel(codec: Codec, message: Message) -> None:
    payload = codec.encode(message)
    directions = [
        (TO_CONSUMER, codec.decode_to_consumer),
        (FROM_CONSUMER, codec.decode_from_consumer),
        (TO_PRODUCER, codec.decode_to_producer),
        (FROM_PRODUCER, codec.decode_from_producer),
    ]
    decoders = [decode for classes, decode in directions if type(message) in classes]
    assert decoders
    for decode in decoders:
        decoded = decode(payload)
        assert isinstance(decoded, type(message))
        assert codec.encode(decoded) == payload


def test_a_token_does_not_show_itself() -> None:
    assert "secret" not in repr(Token(token="secret"))
