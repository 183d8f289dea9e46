"""The message that began last on a stream: its digest and its open blocks, which the gateway adds to events. Pure."""

from __future__ import annotations

from msgspec import UNSET
from msgspec.structs import replace

from deltawire.gateway.streams.blocks import Blocks
from deltawire.protocol.digest import MessageDigest
from deltawire.protocol.events import ContentEnd, ContentStart, Data, MessageStart, MessageStop, TextDelta


class LatestMessage:
    """The message of a stream that began last.

    Attributes:
        digest: of all text since it began.
        blocks: that are open.
    """

    __slots__ = ("_sole", "blocks", "digest")

    def __init__(self) -> None:
        self.digest = MessageDigest()
        self.blocks = Blocks()
        self._sole: int | None = None  # hash of its id, as that may be long; None where text may be another message's

    @property
    def bytes(self) -> int:
        """What it costs."""
        return self.digest.bytes + self.blocks.bytes

    def begin(self, start: MessageStart, seq: int, *, is_sole: bool) -> None:
        """Record that a message begins.

        Args:
            start: its first event.
            seq: of that.
            is_sole: whether no other message is in progress, so that all text from now on is its own.
        """
        self.blocks.follow(start)
        self.digest.begin(seq)
        self._sole = hash(start.message_id) if is_sole else None

    def end(self, stop: MessageStop) -> MessageStop:
        """Return the stop of a message with the digest of its text, if all text was its own."""
        return replace(stop, digest=self.digest.of(stop.choice) if hash(stop.message_id) == self._sole else UNSET)

    def digest_from(self, message_id: str) -> int:
        """Return the seq from which the text of a message counts towards its digest; 0 if it has none."""
        return self.digest.first if hash(message_id) == self._sole else 0

    # After a restart, from stored events

    def read(self, data: Data) -> None:
        """Follow an event of it."""
        if isinstance(data, TextDelta):
            self.digest.add(data.choice, data.text)
        elif isinstance(data, MessageStart | ContentStart | ContentEnd):
            self.blocks.follow(data)

    def is_read(self, message: int) -> None:
        """Record that all its events were followed: it has a digest.

        Args:
            message: hash of its id.
        """
        self._sole = message
