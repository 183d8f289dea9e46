"""What two gateways tell each other over a follow, beside what SPEC says of a consumer. Pure.

A follow is a WebSocket of a consumer in JSON. These messages are MessagePack in binary frames, so that neither is taken
for the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from deltawire.gateway.streams.settings import StreamSettings
from deltawire.protocol import framing
from deltawire.protocol.messages import Signal


class FollowMessage(msgspec.Struct, frozen=True, tag_field="type"):
    """Base of these messages."""


class Terms(FollowMessage, frozen=True, tag="terms"):
    """From the owner, first: the settings of the stream."""

    settings: StreamSettings


class State(FollowMessage, frozen=True, tag="state"):
    """From the owner, when it has changed, and every few seconds as a sign of life.

    Attributes:
        floor: seq of the oldest event that can be read.
        consumers: that follow the stream, those of the follow among them.
    """

    floor: int
    consumers: int


class Count(FollowMessage, frozen=True, tag="count"):
    """From the one who follows: how many consumers it has."""

    consumers: int


class Forward(FollowMessage, frozen=True, tag="forward"):
    """From the one who follows: a signal of one of its consumers.

    Attributes:
        number: of the signal, on this connection.
        signal: for the producers.
    """

    number: int
    signal: Signal


class Forwarded(FollowMessage, frozen=True, tag="forwarded"):
    """From the owner: how many producers a signal has reached."""

    number: int
    delivered: int


_encode: Final = msgspec.msgpack.Encoder().encode
FromOwner: TypeAlias = Terms | State | Forwarded
_decode_from_owner: Final[Callable[[bytes], FromOwner]] = msgspec.msgpack.Decoder(FromOwner).decode
decode_from_follower: Final = msgspec.msgpack.Decoder(Count | Forward).decode


def encode(message: FollowMessage) -> bytes:
    """A message as the payload of a binary frame."""
    return _encode(message)


def frame(message: FollowMessage) -> bytes:
    """A message of the owner as a whole frame."""
    return framing.frame(framing.BINARY, encode(message))


def read_from_owner(payload: bytes) -> FromOwner | None:
    """Decode a message of the owner; None for what only a later version knows."""
    try:
        return _decode_from_owner(payload)
    except msgspec.ValidationError:
        return None
