"""Whether the server can be used, judged by its answers. Pure."""

from __future__ import annotations


class Health:
    """Whether a server can be used: it can't once it refuses a request, or answers none for `timeout`.

    Args:
        server: its address, for messages.
        timeout: seconds without an answer after which it counts as failing.

    Attributes:
        asking_since: monotonic seconds when the oldest request was sent that has no answer yet; None if there is none.
    """

    def __init__(self, server: str, timeout: float) -> None:
        self._server = server
        self._timeout = timeout
        self.asking_since: float | None = None
        self._failing_since: float | None = None
        self._refusal = ""
        self._why = ""

    def failed(self, why: str, since: float, *, is_told: bool = False) -> None:
        """Record that a request failed.

        Args:
            why: in words; empty if there was no answer.
            since: monotonic seconds when it was sent.
            is_told: whether the server has refused it; the server then counts as failing at once, not after `timeout`.
        """
        if self._failing_since is None:
            self._failing_since = since
        self._why = why
        if is_told or self._refusal:  # after a refusal, only an answer shows that the server can be used again
            self._refusal = why or self._refusal

    def answered(self) -> None:
        """Record that every request was answered."""
        self.asking_since = self._failing_since = None
        self._refusal = self._why = ""

    def failure(self, now: float) -> str | None:
        """Why nothing can be committed; None if it can, or if requests have failed for less than `timeout`."""
        if self._refusal:
            return f"{self._server}: {self._refusal}"
        since = self._failing_since if self._failing_since is not None else self.asking_since
        if since is None or now - since < self._timeout:
            return None
        seconds = f"{now - since:.0f} s (engine_timeout)"
        if not self._why:
            return f"{self._server} has not answered for {seconds}"
        return f"{self._server} could not be used for {seconds}: {self._why}"
