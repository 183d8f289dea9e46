"""Control messages in both directions: everything on the wire that is not an event (SPEC §5, §7)."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from deltawire.protocol.events import Count, Name, Seq


class Policy(StrEnum):
    """What happens to a consumer that falls behind (SPEC §6)."""

    COALESCE = "coalesce"
    BLOCK = "block"
    DROP_NEWEST = "drop_newest"
    DROP_OLDEST = "drop_oldest"
    DISCONNECT = "disconnect"

    @classmethod
    def _missing_(cls, value: object) -> Policy | None:
        return cls.DROP_NEWEST if value == "drop" else None  # the alias of SPEC §5.1, wherever a policy is named


GapReason: TypeAlias = Literal["dropped", "evicted", "epoch_changed"]
EndReason: TypeAlias = Literal["closed", "inactive", "shutdown"]


class Message(Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of every control message."""


class Subscribed(Message, frozen=True, kw_only=True, tag="subscribed"):
    """First message to a consumer: what it reads and from where.

    Attributes:
        stream: the stream id.
        epoch: the log's epoch; a client that resumes sends it back.
        floor: oldest seq still held (head + 1 when none is).
        head: newest seq.
        after: the position reading continues from: all after it is delivered or named in a gap.
        policy: what happens when this consumer falls behind.
        buffer: its lag limit, in events.
        recovered: a resume was asked for and nothing was missed.
        closed: the stream has ended already.
    """

    stream: str
    epoch: str
    floor: Seq
    head: Count
    after: Count
    policy: Policy
    buffer: int
    recovered: bool
    closed: bool


class CaughtUp(Message, frozen=True, kw_only=True, tag="caught_up"):
    """The replay is complete: what follows is live. Sent once."""

    seq: Count


class Gap(Message, frozen=True, kw_only=True, tag="gap"):
    """Stands in place of `first … seq`, which this consumer does not get.

    With reason `epoch_changed` the numbers are of the new epoch; nothing of it was missed when `seq` is `first - 1`.
    """

    first: Seq
    seq: Count
    reason: GapReason


class StreamEnd(Message, frozen=True, kw_only=True, tag="stream_end"):
    """The stream has ended and all of it was delivered; close 1000 follows."""

    seq: Count
    reason: EndReason


class Problem(Message, frozen=True, kw_only=True, tag="problem"):
    """Something was wrong; comes before every abnormal close.

    Attributes:
        code: one of `ProblemCode`.
        message: what was wrong and what to do.
        retryable: whether the same request can succeed later.
        resume_after: the seq to resume after, where reconnecting makes sense.
        producer_seq: the event a producer's problem is about, where it carried one.
        expected: with `sequence_gap`, the `producer_seq` the gateway waits for.
    """

    code: str
    message: str
    retryable: bool
    resume_after: Count | UnsetType = UNSET
    producer_seq: Count | UnsetType = UNSET
    expected: Count | UnsetType = UNSET


class Signal(Message, frozen=True, kw_only=True, tag="signal"):
    """A reader's word to the stream's producers, `cancel` first of all."""

    name: Name
    data: Any = UNSET
    id: str | UnsetType = UNSET


class SignalResult(Message, frozen=True, kw_only=True, tag="signal_result"):
    """How many producers a signal reached."""

    delivered: Count
    id: str | UnsetType = UNSET


class Ready(Message, frozen=True, kw_only=True, tag="ready"):
    """First message to a producer.

    Attributes:
        stream: the stream id.
        epoch: the log's epoch.
        head: newest seq.
        generation: the generation this producer publishes with.
        producer_seq: the last one accepted from this producer and generation, 0 if none.
    """

    stream: str
    epoch: str
    head: Count
    generation: Count
    producer_seq: Count


class Ack(Message, frozen=True, kw_only=True, tag="ack"):
    """Everything up to here is accepted; cumulative.

    Attributes:
        seq: the last one appended from this connection.
        producer_seq: the last one accepted from this producer, where it numbers its events.
    """

    seq: Count
    producer_seq: Seq | UnsetType = UNSET


class Audience(Message, frozen=True, kw_only=True, tag="audience"):
    """How many consumers follow the stream now."""

    consumers: Count


class CloseStream(Message, frozen=True, kw_only=True, tag="close_stream"):
    """From a producer: the stream ends here."""


class Token(Message, frozen=True, kw_only=True, tag="token"):
    """From either peer: go on with this token, in place of the one this connection was made with."""

    token: Name

    def __repr__(self) -> str:
        return "Token()"  # a secret must not get into a log by way of an error


class TokenAccepted(Message, frozen=True, kw_only=True, tag="token_accepted"):
    """The answer to a token that is good.

    Attributes:
        expires_in: seconds until it ends; absent where the gateway asks for no tokens.
    """

    expires_in: Count | UnsetType = UNSET


class Heartbeat(Message, frozen=True, kw_only=True, tag="heartbeat"):
    """A sign of life for a consumer that asked for it: a page can't see the WebSocket's own pings.

    Attributes:
        head: newest seq of the stream.
    """

    head: Count


class Ping(Message, frozen=True, kw_only=True, tag="ping"):
    """From either peer: answer with a `pong`, for programs that can't send the WebSocket's own pings."""

    id: str | UnsetType = UNSET


class Pong(Message, frozen=True, kw_only=True, tag="pong"):
    """The answer to a `ping`, with its `id` if it had one."""

    id: str | UnsetType = UNSET


TO_CONSUMER: tuple[type[Message], ...] = (
    Subscribed,
    CaughtUp,
    Gap,
    StreamEnd,
    Problem,
    SignalResult,
    TokenAccepted,
    Heartbeat,
    Pong,
)
FROM_CONSUMER: tuple[type[Message], ...] = (Signal, Token, Ping)
TO_PRODUCER: tuple[type[Message], ...] = (Ready, Ack, Problem, Signal, Audience, TokenAccepted, Pong)
FROM_PRODUCER: tuple[type[Message], ...] = (CloseStream, Token, Ping)
