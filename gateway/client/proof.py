"""Check by the digest in `message_stop` whether the text of a message is complete (SPEC §4.4): pure."""

from __future__ import annotations

from msgspec import UNSET

from deltawire.gateway.client.errors import TextMismatch
from deltawire.protocol.digest import MessageDigest
from deltawire.protocol.events import Digest, Event, EventType, MessageStart, MessageStop, TextDelta
from deltawire.protocol.filters import Filter
from deltawire.protocol.messages import Gap, Message, Subscribed

NEEDED = frozenset({EventType.MESSAGE_START, EventType.TEXT_DELTA, EventType.MESSAGE_STOP})
"""Types without which nothing can be verified."""


class Proof:
    """Tracks the text that one reader received, over all its connections.

    Args:
        wanted: the events that the reader asked for; None means all.

    Attributes:
        whole: number of messages whose text was verified to be complete.
    """

    def __init__(self, wanted: Filter | None) -> None:
        self.whole = 0
        self._can_prove = wanted is None or (not wanted.is_of_blocks and (wanted.types or NEEDED) >= NEEDED)
        self._complete_from: int | None = None  # no event from this seq on is missing
        self._digest = MessageDigest()

    def check(self, message: Event | Message | None) -> None:
        """Process a message that is new to the reader.

        Raises:
            TextMismatch: a message ended whose text differs from what the gateway sent.
        """
        match message:
            case Subscribed() if self._complete_from is None:
                self._complete_from = message.after + 1
            case Gap():
                self._complete_from = message.seq + 1
                self._digest.begin(1)
            case Event(seq=int(seq), data=MessageStart()):
                self._digest.begin(seq)
            case Event(data=TextDelta(text=text, choice=choice)):
                self._digest.add(choice, text)
            case Event(seq=int(seq), data=MessageStop(choice=choice, digest=Digest() as theirs)):
                if self._can_prove and self._complete_from is not None and theirs.first >= self._complete_from:
                    ours = self._digest.of(choice)
                    if ours is UNSET or ours != theirs:
                        raise TextMismatch(theirs.first, seq)
                    self.whole += 1
