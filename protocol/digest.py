"""The digest of a message's text, with which a reader verifies that it has the whole text (SPEC §4.4).

The gateway computes it while it relays a message, and puts it into `message_stop`; a client computes it from the text
it received. Both start at the latest `message_start`, separately for each choice.
"""

from __future__ import annotations

import hashlib

from msgspec import UNSET, UnsetType

from deltawire.protocol.events import Digest

PIECES = 16
"""Deltas hashed at a time: hashing each token costs a tenth of relaying it, hashing 16 at a time a hundredth."""

LONG = 256
"""Pending characters that trigger hashing, however few the deltas: every choice keeps its pending text."""

CHOICE_COST = 2048
"""Bytes a choice costs: the state of its hash (350), its dictionary entry (200) and its pending text, at most 16 texts
(80 each) of 255 characters in total (four bytes each)."""

MAX_CHOICES = 128
"""Maximum tracked choices of one message: as many as any provider offers."""


class TextDigest:
    """Length and hash of a text that grows."""

    __slots__ = ("_hash", "_pending", "_waiting", "characters")

    def __init__(self) -> None:
        self.characters = 0
        self._hash = hashlib.sha256()
        self._pending: list[str] = []
        self._waiting = 0  # characters in `_pending`

    def add(self, text: str) -> None:
        """Append to the text."""
        self._pending.append(text)
        self._waiting += len(text)
        if self._waiting >= LONG or len(self._pending) >= PIECES:
            self._update()

    def sha256(self) -> str:
        """The hash of the text so far, in hexadecimal."""
        self._update()
        return self._hash.hexdigest()

    def _update(self) -> None:
        text = "".join(self._pending)
        self._pending.clear()
        self._waiting = 0
        self.characters += len(text)
        self._hash.update(text.encode())


class MessageDigest:
    """The texts of the message in progress, by choice.

    Attributes:
        first: seq of its `message_start`; 1 before the first one.
    """

    __slots__ = ("_texts", "first")

    def __init__(self) -> None:
        self.first = 1
        self._texts: dict[int | UnsetType, TextDigest] = {}

    @property
    def bytes(self) -> int:
        """The cost of the choices except the first, which every stream has."""
        return max(0, len(self._texts) - 1) * CHOICE_COST

    def begin(self, seq: int) -> None:
        """Begin a message whose `message_start` has this seq."""
        self.first = seq
        self._texts.clear()

    def add(self, choice: int | UnsetType, text: str) -> bool:
        """Add a delta of the answer's text.

        Returns:
            Whether `bytes` grew, because the choice is new.
        """
        digest = self._texts.get(choice)
        if digest is not None:
            digest.add(text)
            return False
        if len(self._texts) >= MAX_CHOICES:
            return False
        self._texts[choice] = TextDigest()
        self._texts[choice].add(text)
        return True

    def of(self, choice: int | UnsetType) -> Digest | UnsetType:
        """The digest of a choice's text so far; UNSET if the message has too many choices to track."""
        digest = self._texts.get(choice)
        if digest is None:
            if len(self._texts) >= MAX_CHOICES:
                return UNSET
            digest = TextDigest()
        sha256 = digest.sha256()  # updates `characters` too
        return Digest(first=self.first, characters=digest.characters, sha256=sha256)
