"""Texts that were told, remembered to know them again when a server sends all of an answer once more."""

from __future__ import annotations

from collections.abc import Hashable

MAX_TOLD = 1 << 20
"""Code points that are remembered of one answer; of a longer one nothing is, and what repeats it is told again."""


class Told:
    """The texts of one answer, each under a key."""

    def __init__(self) -> None:
        self._texts: dict[Hashable, list[str]] = {}
        self._sizes: dict[Hashable, int] = {}
        self._size = 0

    def __bool__(self) -> bool:
        return bool(self._size)

    def __contains__(self, key: Hashable) -> bool:
        """Whether any text was told under a key, be it remembered or not."""
        return key in self._sizes

    def forget(self, key: Hashable) -> None:
        """What is told under a key from now on is another text."""
        self._sizes.pop(key, None)
        self._texts.pop(key, None)

    def add(self, key: Hashable, text: str) -> None:
        """More of a text was told."""
        self._size += len(text)
        self._sizes[key] = self._sizes.get(key, 0) + len(text)
        if self._size <= MAX_TOLD:
            self._texts.setdefault(key, []).append(text)
        else:
            self._texts.clear()

    def rest_of(self, key: Hashable, whole: str) -> str | None:
        """What of a whole text was not told; None if another text was, or too much to remember."""
        size = self._sizes.get(key, 0)
        if not size:
            return whole
        if self._size > MAX_TOLD or len(whole) < size or not whole.startswith(self.text_of(key)):
            return None
        return whole[size:]

    def text_of(self, key: Hashable) -> str:
        """What was told of a text, as far as it is remembered."""
        text = "".join(self._texts.get(key, ()))
        if text:
            self._texts[key] = [text]
        return text
