"""Storing the commits of a stream again as one piece, which is read at once.

A piece takes the engine as long as many commits. Where those of many streams are worth one at the same time, they are
made one after the other: the commits that come meanwhile, and their acks, go in between.
"""

from __future__ import annotations

import asyncio
from typing import Final

from deltawire.gateway.engines.engine import Engine
from deltawire.gateway.streams.durable import DurableStream

PAUSE: Final = 0.01
"""Seconds after which the next piece is made, if no commit is answered before."""


class Merging:
    """Makes pieces.

    Args:
        engine: where the commits are.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: dict[DurableStream, None] = {}
        self._next: asyncio.TimerHandle | None = None

    def add(self, stream: DurableStream) -> None:
        """Look in its turn whether the commits of a stream are worth a piece, if the engine has a use for pieces."""
        if self._engine.merge is not None:
            self._waiting[stream] = None

    def discard(self, stream: DurableStream) -> None:
        """Leave a stream alone."""
        self._waiting.pop(stream, None)

    def stop(self) -> None:
        """Leave all streams alone."""
        self._waiting.clear()

    def make_one(self) -> None:
        """Make the next piece; to be called when commits are answered."""
        merge = self._engine.merge
        while self._waiting and merge is not None:
            stream = next(iter(self._waiting))
            self.discard(stream)
            if piece := stream.take_piece():
                merge(stream.id, stream.epoch, stream.log.head - len(piece) + 1, piece)
                break
        if self._waiting and self._next is None:
            self._next = asyncio.get_running_loop().call_later(PAUSE, self._make_next)

    def _make_next(self) -> None:
        self._next = None
        self.make_one()
