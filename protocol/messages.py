"""Control messages in both directions: all messages that are not events (SPEC §5, §7)."""

# No annotation here is text (PEP 563): msgspec would compile each one at every start.
from enum import StrEnum
from typing import Any, Literal, Self, TypeAlias

from msgspec import UNSET, Raw, Struct, UnsetType

from deltawire.protocol.events import Count, Name, Seq


class Policy(StrEnum):
    """What happens to a consumer that falls behind (SPEC §6)."""

    COALESCE = "coalesce"
    BLOCK = "block"
    DROP_NEWEST = "drop_newest"
    DROP_OLDEST = "drop_oldest"
    DISCONNECT = "disconnect"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        return cls.DROP_NEWEST if value == "drop" else None  # the alias of SPEC §5.1, for every use of a policy


GapReason: TypeAlias = Literal["dropped", "evicted", "epoch_changed"]
EndReason: TypeAlias = Literal["closed", "inactive", "shutdown"]


class Message(Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of every control message."""


class Subscribed(Message, frozen=True, kw_only=True, tag="subscribed"):
    """The first message to a consumer: what it reads, and from which position.

    Attributes:
        stream: the stream id.
        epoch: the log's epoch; a client sends it back to resume.
        floor: oldest seq still held (head + 1 if none is).
        head: newest seq.
        after: the position from which reading continues: everything after it is delivered or named in a gap.
        policy: the policy of this consumer.
        buffer: its lag limit, in events.
        recovered: whether the client resumed and missed nothing.
        closed: whether the stream has already ended.
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
    """The replay is complete: live events follow. Sent once."""

    seq: Count


class Gap(Message, frozen=True, kw_only=True, tag="gap"):
    """Replaces `first … seq`, which this consumer does not get.

    With reason `epoch_changed`, the numbers belong to the new epoch; nothing of it is missing if `seq` is `first - 1`.
    """

    first: Seq
    seq: Count
    reason: GapReason


class StreamEnd(Message, frozen=True, kw_only=True, tag="stream_end"):
    """The stream has ended and has been delivered completely; close 1000 follows."""

    seq: Count
    reason: EndReason


class Problem(Message, frozen=True, kw_only=True, tag="problem"):
    """Something was wrong; precedes every abnormal close.

    Attributes:
        code: one of `ProblemCode`.
        message: what was wrong and what to do.
        retryable: whether the same request can succeed later.
        resume_after: the seq to resume after, if reconnecting makes sense.
        producer_seq: that of the event that the problem is about, if it has one.
        expected: with `sequence_gap`, the `producer_seq` that the gateway expects.
    """

    code: str
    message: str
    retryable: bool
    resume_after: Count | UnsetType = UNSET
    producer_seq: Count | UnsetType = UNSET
    expected: Count | UnsetType = UNSET


class Signal(Message, frozen=True, kw_only=True, tag="signal"):
    """A message from a reader to the stream's producers, above all `cancel`."""

    name: Name
    data: Any = UNSET
    id: str | UnsetType = UNSET


class SignalResult(Message, frozen=True, kw_only=True, tag="signal_result"):
    """The number of producers that a signal reached."""

    delivered: Count
    id: str | UnsetType = UNSET


class Ready(Message, frozen=True, kw_only=True, tag="ready"):
    """The first message to a producer.

    Attributes:
        stream: the stream id.
        epoch: the log's epoch.
        head: newest seq.
        generation: the producer's generation.
        producer_seq: the last one accepted from this producer and generation, 0 if none.
        continues: the epochs that this one continues, the newest first.
    """

    stream: str
    epoch: str
    head: Count
    generation: Count
    producer_seq: Count
    continues: tuple[str, ...] | UnsetType = UNSET


class Ack(Message, frozen=True, kw_only=True, tag="ack"):
    """All events up to this one are accepted; cumulative.

    Attributes:
        seq: that of the last event appended from this connection.
        producer_seq: the last one accepted from this producer, if it numbers its events.
    """

    seq: Count
    producer_seq: Seq | UnsetType = UNSET


class Audience(Message, frozen=True, kw_only=True, tag="audience"):
    """The number of consumers that follow the stream now."""

    consumers: Count


class CloseStream(Message, frozen=True, kw_only=True, tag="close_stream"):
    """From a producer: end the stream here."""


class Token(Message, frozen=True, kw_only=True, tag="token"):
    """From either peer: use this token from now on, instead of the one with which the connection was opened."""

    token: Name

    def __repr__(self) -> str:
        return "Token()"  # an error must not carry the secret into a log


class TokenAccepted(Message, frozen=True, kw_only=True, tag="token_accepted"):
    """The answer to a valid token.

    Attributes:
        expires_in: seconds until it expires; absent if the gateway requires no tokens.
    """

    expires_in: Count | UnsetType = UNSET


class Heartbeat(Message, frozen=True, kw_only=True, tag="heartbeat"):
    """A sign of life for a consumer that asked for it: a page can't see the WebSocket's own pings.

    Attributes:
        head: newest seq of the stream.
    """

    head: Count


class Urgent(Message, frozen=True, kw_only=True, tag="urgent"):
    """A copy of an event that comes ahead of others, to a consumer that is behind; the event comes in its place, too.

    It does not move a reader's position.

    Attributes:
        event: the event, in the encoding of the connection; `Codec.decode_to_consumer` decodes it.
    """

    event: Raw


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
    Urgent,
    Pong,
)
FROM_CONSUMER: tuple[type[Message], ...] = (Signal, Token, Ping)
TO_PRODUCER: tuple[type[Message], ...] = (Ready, Ack, Problem, Signal, Audience, TokenAccepted, Pong)
FROM_PRODUCER: tuple[type[Message], ...] = (CloseStream, Token, Ping)
