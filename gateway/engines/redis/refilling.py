"""Appending again, from memory, what a server has lost of a stream whose owner is still here."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from deltawire.gateway.engines.engine import Memory
from deltawire.gateway.engines.redis.library import call
from deltawire.gateway.engines.redis.link import Command
from deltawire.gateway.engines.redis.stored import Owned, changed_fields, flat
from deltawire.gateway.engines.redis.work import append

PIECE: Final = 512 * 1024
"""Bytes of events in one entry."""

MANY: Final = 500
"""Streams confirmed at a time."""

_Key = tuple[str, str]


class Refill:
    """Does it.

    Args:
        node: name of this gateway there.
        memory: of the gateway.
        send: sends commands and returns their replies.
    """

    def __init__(
        self,
        node: str,
        memory: Memory,
        send: Callable[[Sequence[Command]], Awaitable[Sequence[Any]]],
    ) -> None:
        self._node = node
        self._memory = memory
        self._send = send

    async def confirm(self, owned: Mapping[_Key, Owned]) -> list[tuple[_Key, Owned, Any]]:
        """Ask whether the server has all of some streams; returns the reply for each."""
        asked = list(owned.items())
        replies: list[Any] = []
        for at in range(0, len(asked), MANY):
            some = asked[at : at + MANY]
            replies += await self._send([call("confirm", it.names, it.term, it.head) for _, it in some])
        return [(key, it, reply) for (key, it), reply in zip(asked, replies, strict=True)]

    async def repair(self, stream: str, epoch: str, owned: Owned, seen: bytes) -> bool:
        """Append again what the server does not have. If it can't be done, the next append finds out why.

        Args:
            stream: its id.
            epoch: of its log.
            owned: what the server had; unchanged if the repair is cut.
            seen: an older term that the server shows; empty for none.

        Returns:
            Whether memory has the stream still.
        """
        recalled = self._memory.recall(stream, epoch)
        if recalled is None:
            return False
        now = time.time()
        names = owned.names
        fields = owned.fixed | changed_fields(recalled.producers, recalled.messages, recalled.end_reason or None, now)
        fields.setdefault("end", "")
        base = recalled.first - 1
        begin = call("repair", names, owned.term, seen, self._node, epoch, base, *flat(fields))
        [head] = await self._send([begin])
        if not isinstance(head, int):
            return True
        frames = recalled.frames[head - base :] if head < recalled.head else ()
        for some in _pieces(frames):
            last = head + len(some)
            [head] = await self._send([append(names, owned.term, head, last, b"".join(some), {}, now)])
            if not isinstance(head, int):
                return True
        [head] = await self._send([call("confirm", names, owned.term, head)])
        if isinstance(head, int):
            owned.head = head  # not before: if this was cut, the next try has to know what the server should have
        return True


def _pieces(frames: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Divide frames into pieces of a size."""
    begin = size = 0
    for at, frame in enumerate(frames):
        size += len(frame)
        if size >= PIECE:
            yield frames[begin : at + 1]
            begin, size = at + 1, 0
    if begin < len(frames):
        yield frames[begin:]
