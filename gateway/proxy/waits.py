"""Who is waited for in an exchange, and who takes too long. Pure: every time, and what was taken, is an argument."""

from __future__ import annotations

from enum import Enum, auto


class Late(Enum):
    """Who takes too long."""

    BODY = auto()
    """The caller, to send more of the request's body."""

    ANSWER = auto()
    """The provider, to send more of the answer."""

    TAKING = auto()
    """The caller, to take more of the answer."""


class Waits:
    """The waits of one exchange. Times are in seconds of any clock that never goes back.

    Two may be waited for at once: the provider, whose answer is read ahead, and a caller who has yet to take what came.
    Neither makes the other late.

    Args:
        limit: seconds that each may take.
        now: when the exchange begins.
    """

    def __init__(self, limit: float, now: float) -> None:
        self._limit = limit
        self._asked = now  # when the last of the request came, or was waited for
        self._is_calling = False  # the caller is to send more of the body
        self._telling: float | None = None  # since when the caller is to take more of the answer
        self._unsent: int | None = None  # bytes that the caller had yet to take, at the last look

    @property
    def is_telling(self) -> bool:
        """Whether the caller has a part of the answer to take."""
        return self._telling is not None

    def call(self, now: float) -> None:
        """The caller is to send more of the body."""
        self._asked = now
        self._is_calling = True

    def hear(self, now: float) -> None:
        """The caller has sent it."""
        self._asked = now
        self._is_calling = False

    def tell(self, now: float) -> None:
        """The caller is to take a part of the answer."""
        self._telling = now
        self._unsent = None

    def told(self) -> None:
        """The caller has taken it, or never will."""
        self._telling = None

    def look(self, now: float, heard: float | None, unsent: int | None) -> Late | None:
        """Who takes too long, if anyone does.

        Args:
            now: the time.
            heard: when the provider sent something last, 0 before its answer; None if it is to send nothing now.
            unsent: bytes that the caller has yet to take; None if that can't be told.
        """
        if self._telling is not None and now - self._telling >= self._limit:
            before, self._unsent = self._unsent, unsent
            if before == unsent:
                return Late.TAKING
            self._telling = now  # something was taken, as far as can be told
        if heard is not None and now - max(self._asked, heard) >= self._limit:
            return Late.BODY if self._is_calling else Late.ANSWER
        return None

    def next_look(self, now: float, heard: float | None) -> float:
        """When anyone may take too long, if nothing happens before.

        Args:
            now: the time.
            heard: as for `look`.
        """
        since = now
        if self._telling is not None and now - self._telling < self._limit:
            since = min(since, self._telling)
        if heard is not None and now - (silent := max(self._asked, heard)) < self._limit:
            since = min(since, silent)
        return since + self._limit
