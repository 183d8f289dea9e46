"""Keeping the session of a gateway: it is renewed, and begun again if it was lost.

    renewed ──► over ──► begun again ──► verified
                └─ in doubt: others may have claimed streams

What is still here once the server was asked after that is this gateway's, as nobody claims it while the session lasts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from redis.exceptions import RedisError

from deltawire.gateway.engines.redis.clustered import ClusterCommitter
from deltawire.gateway.engines.redis.committer import Committer
from deltawire.gateway.engines.redis.session import RENEWAL, Session

RETRY: Final = 0.2
"""Seconds between two tries to renew."""

ANSWER: Final = 3.0
"""Seconds that an answer may take: if it is lost, there is time to ask again before the session is over."""


class SessionKeeper:
    """Keeps a session.

    Args:
        session: that has begun.
        committer: has the streams.
        renewed: called after each renewal.
    """

    def __init__(self, session: Session, committer: Committer | ClusterCommitter, renewed: Callable[[], None]) -> None:
        self._session = session
        self._committer = committer
        self._renewed = renewed
        self._must_verify = False  # it was lost
        self._has_lapsed = False  # for so long that others may have claimed streams

    def is_in_doubt(self, now: float) -> bool:
        """Whether others may have claimed streams that are still here."""
        return now >= self._session.lasts_until or (self._has_lapsed and not self._committer.is_verified)

    async def run(self, closing: asyncio.Event) -> None:
        """Renew it until an event is set."""
        pause = RENEWAL
        while not closing.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(closing.wait(), pause)
                return
            health, began = self._committer.health, time.monotonic()
            try:
                async with asyncio.timeout(ANSWER):
                    await self._renew()
            except (RedisError, OSError) as error:
                health.failed(str(error), began)
                pause = RETRY
                continue
            pause = RENEWAL
            with suppress(RedisError, OSError):  # a server of a cluster that is away must not end the session
                async with asyncio.timeout(ANSWER):
                    await self._session.look()
            if self._session.is_full:  # nothing may have been refused yet, as nobody publishes
                health.failed("OOM: it uses more memory than maxmemory", began, is_told=True)
            elif health.asking_since is None:
                health.answered()
            self._renewed()

    async def _renew(self) -> None:
        if not self.is_in_doubt(time.monotonic()):
            self._has_lapsed = False
        until = self._session.lasts_until
        if not await self._session.renew():
            self._must_verify = True
            self._session.hold_claims()  # before others that look find it there again
            await self._session.begin()
        if self._must_verify:  # what is still here now, nobody else can claim
            self._must_verify = False
            self._has_lapsed |= time.monotonic() >= until
            self._committer.verify()
