"""The digest of a message's text, by which a reader proves that it has all of it (SPEC §4.4).

The gateway keeps one while it relays and puts it into `message_stop`; a client keeps one over what it was given. Both
count from the latest `message_start`, each choice by itself.
"""

from __future__ import annotations

import hashlib

from msgspec import UNSET, UnsetType

from deltawire.protocol.events import Digest

PIECES = 16
"""Deltas hashed at a time: hashing token by token would cost a tenth of relaying them, 16 at a time a hundredth."""

LONG = 256
"""Characters that are hashed at once, however few the deltas: what waits to be hashed is kept for every choice."""

CHOICE_COST = 2048
"""Bytes a choice costs: the state of its hash (350), its place (200) and what waits to be hashed, at most 16 texts (80
each) of 255 characters together (four bytes each)."""

MAX_CHOICES = 128
"""Choices of one message kept count of: as many as any provider offers."""


class TextDigest:
    """Length and hash of a text that grows."""

    __slots__ = ("_hash", "_pending", "_waiting", "characters")

    def __init__(self) -> None:
        self.characters = 0
        self._hash = hashlib.sha256()
        self._pending: list[str] = []
        self._waiting = 0  # characters of them

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
        """What the choices cost beside the first one, which every stream has."""
        return max(0, len(self._texts) - 1) * CHOICE_COST

    def begin(self, seq: int) -> None:
        """A message starts with this seq."""
        self.first = seq
        self._texts.clear()

    def add(self, choice: int | UnsetType, text: str) -> bool:
        """A delta of the answer's text.

        Returns:
            Whether it costs more from now on, as the choice is new.
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
        """The digest of a choice's text so far; none when there are more choices than are kept count of."""
        digest = self._texts.get(choice)
        if digest is None:
            if len(self._texts) >= MAX_CHOICES:
                return UNSET
            digest = TextDigest()
        sha256 = digest.sha256()  # counts what was not hashed yet
        return Digest(first=self.first, characters=digest.characters, sha256=sha256)
