"""The follows of a node: one for each stream that it has consumers of and another node owns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from deltawire.gateway.config import Settings
from deltawire.gateway.engines.engine import Elsewhere
from deltawire.gateway.hub import Hub
from deltawire.gateway.server.admission.request import AdmissionRequest
from deltawire.gateway.server.http.event_streams import request_of
from deltawire.gateway.server.http.target import SSE
from deltawire.gateway.server.relaying.fields import follow_head
from deltawire.gateway.server.relaying.follow import Follow
from deltawire.gateway.server.relaying.link import Link
from deltawire.gateway.server.relaying.reaching import Reach, UnreachableError
from deltawire.gateway.streams.mirror import Mirror
from deltawire.protocol.messages import Policy


class Follows:
    """All follows.

    Args:
        settings: where this node is reached itself.
        hub: its consumers read the mirrors.
        reach: connects to other nodes.
    """

    def __init__(self, settings: Settings, hub: Hub, reach: Reach) -> None:
        self._own_url = settings.advertise_url
        self._hub = hub
        self._reach = reach
        self._follows: dict[str, Follow] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def find(self, incoming: AdmissionRequest) -> Mirror | None:
        """Return the mirror that serves a consumer, if there is one now, and this node does not own the stream."""
        stream_id = incoming.target.stream_id
        follow = self._follows.get(stream_id)
        if follow is None or not follow.is_live or self._hub.manager.has(stream_id) or not may_follow(incoming):
            return None
        follow.use()
        return _serving(follow, incoming)

    async def join(self, incoming: AdmissionRequest, owner: Elsewhere) -> Mirror | None:
        """Return the mirror that serves a consumer; None for other requests, and for what the owner has to serve.

        Args:
            incoming: a request about a stream.
            owner: of the stream.

        Raises:
            UnreachableError: it can't be reached.
        """
        if not may_follow(incoming):
            return None
        stream_id = incoming.target.stream_id
        follow = self._follows.get(stream_id)
        if follow is None:
            follow = self._follows[stream_id] = Follow(self._hub, stream_id, self._connect, self._locate)
            task = asyncio.get_running_loop().create_task(self._run(follow, owner))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if not await follow.wait_live(self._reach.timeout):
            raise UnreachableError(f"{owner.why} (it does not answer now)")
        if follow.failure and not follow.is_live:
            raise UnreachableError(follow.failure)
        return _serving(follow, incoming) if follow.is_live else None

    async def close(self) -> None:
        """End all follows."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, follow: Follow, owner: Elsewhere) -> None:
        try:
            await follow.run(owner)
        finally:
            del self._follows[follow.stream_id]

    async def _connect(self, owner: Elsewhere, path: str, received: Callable[[list[bytes]], None]) -> Link:
        node, _, link = await self._reach.connect(owner, lambda: Link(received))
        link.ask(follow_head(path, node, owner.key))
        return link

    async def _locate(self, stream_id: str) -> Elsewhere | None:
        """Find the owner of a stream; this node itself, if it has taken the stream over meanwhile."""
        finding = self._hub.dispatcher.locate(stream_id)
        found = None if finding is None else await finding
        if found is None and self._own_url and self._hub.manager.has(stream_id):
            return Elsewhere("", self._own_url, self._hub.node_key)
        return found


def may_follow(incoming: AdmissionRequest) -> bool:
    """Whether a request is one of a consumer that a mirror may serve: not one of policy `block`."""
    request = None if incoming.connection.is_relayed else request_of(incoming)
    return request is not None and request.policy is not Policy.BLOCK


def _serving(follow: Follow, incoming: AdmissionRequest) -> Mirror | None:
    """Return the mirror of a follow if it has what a consumer wants."""
    mirror, request = follow.mirror, request_of(incoming)
    if mirror is None or request is None:
        return None
    is_by_position = incoming.target.is_websocket or incoming.target.tail == SSE
    return mirror if (mirror.serves(request) if is_by_position else mirror.has_latest_message) else None
