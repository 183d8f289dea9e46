"""Whether the text of a message arrived whole, by the digest in its `message_stop` (SPEC §4.4): pure."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import UNSET

from deltawire.gateway.client.errors import TextMismatch
from deltawire.protocol.digest import MessageDigest
from deltawire.protocol.events import Digest, Event, EventType, MessageStart, MessageStop, TextDelta
from deltawire.protocol.messages import Gap, Message, Subscribed

NEEDED = frozenset({EventType.MESSAGE_START, EventType.TEXT_DELTA, EventType.MESSAGE_STOP})
"""Types without which nothing can be proven."""


class Proof:
    """Keeps count of one reader's text, through all its connections.

    Args:
        types: event types the reader asked for; None means all.

    Attributes:
        whole: messages whose text was proven to have arrived whole.
    """

    def __init__(self, types: Collection[EventType] | None) -> None:
        self.whole = 0
        self._can_prove = types is None or frozenset(types) >= NEEDED
        self._complete_from: int | None = None  # from this seq on nothing is missing
        self._digest = MessageDigest()

    def check(self, message: Event | Message | None) -> None:
        """Take in what is news to the reader.

        Raises:
            TextMismatch: a message ended, and its text is not what the gateway sent.
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
