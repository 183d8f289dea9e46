"""Texts that were told, remembered to know them again when a server sends all of an answer once more."""

from __future__ import annotations

from collections.abc import Hashable

MAX_TOLD = 1 << 20
"""Code points that are remembered of one answer; of a longer one nothing is, and what repeats it is told again."""


class _Text:
    """A text in its pieces, as far as it is remembered, and its size."""

    __slots__ = ("pieces", "size")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.size = 0


class Told:
    """The texts of one answer, each under a key."""

    def __init__(self) -> None:
        self._texts: dict[Hashable, _Text] = {}
        self._size = 0

    def __bool__(self) -> bool:
        return bool(self._size)

    def __contains__(self, key: Hashable) -> bool:
        """Whether any text was told under a key, be it remembered or not."""
        return key in self._texts

    def add(self, key: Hashable, text: str) -> None:
        """More of a text was told."""
        told = self._texts.get(key)
        if told is None:
            told = self._texts[key] = _Text()
        told.size += len(text)
        self._size += len(text)
        if self._size <= MAX_TOLD:
            told.pieces.append(text)
        elif self._size - len(text) <= MAX_TOLD:
            for other in self._texts.values():
                other.pieces = []

    def forget(self, key: Hashable) -> None:
        """What is told under a key from now on is another text."""
        self._texts.pop(key, None)

    def rest_of(self, key: Hashable, whole: str) -> str | None:
        """What of a whole text was not told; None if another text was, or too much to remember."""
        told = self._texts.get(key)
        if told is None:
            return whole
        if self._size > MAX_TOLD or len(whole) < told.size or not whole.startswith(self.text_of(key)):
            return None
        return whole[told.size :]

    def text_of(self, key: Hashable) -> str:
        """What was told of a text, as far as it is remembered."""
        told = self._texts.get(key)
        if told is None:
            return ""
        text = "".join(told.pieces)
        told.pieces = [text]
        return text
