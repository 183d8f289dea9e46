"""Whether a server answers. Pure."""

from __future__ import annotations


class Health:
    """What is known of it.

    Args:
        server: its address.
        timeout: seconds without an answer after which it counts as failing.

    Attributes:
        asking_since: monotonic seconds of a question that is not answered; None if all are.
    """

    def __init__(self, server: str, timeout: float) -> None:
        self._server = server
        self._timeout = timeout
        self.asking_since: float | None = None
        self._failing_since: float | None = None
        self._refusal = ""
        self._why = ""

    def failed(self, why: str, since: float, *, is_told: bool = False) -> None:
        """Record that a question was not answered.

        Args:
            why: in words; empty for no answer.
            since: monotonic seconds when it was asked.
            is_told: the server has refused it, so that there is nothing to wait for.
        """
        if self._failing_since is None:
            self._failing_since = since
        self._why = why
        if is_told or self._refusal:  # who else asks, and fails in another way, does not make it good
            self._refusal = why or self._refusal

    def answered(self) -> None:
        """Record that everything was answered."""
        self.asking_since = self._failing_since = None
        self._refusal = self._why = ""

    def failure(self, now: float) -> str | None:
        """Why nothing can be committed; None while it can, or has not failed for long."""
        if self._refusal:
            return f"{self._server}: {self._refusal}"
        since = self._failing_since if self._failing_since is not None else self.asking_since
        if since is None or now - since < self._timeout:
            return None
        seconds = f"{now - since:.0f} s (engine_timeout)"
        if not self._why:
            return f"{self._server} has not answered for {seconds}"
        return f"{self._server} could not be used for {seconds}: {self._why}"
