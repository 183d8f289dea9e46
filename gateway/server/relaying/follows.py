"""The follows of a node: one for each stream that it has consumers of and another node owns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from deltawire.gateway.config import Settings
from deltawire.gateway.engines.engine import Elsewhere
from deltawire.gateway.hub import Hub
from deltawire.gateway.logs import get_logger
from deltawire.gateway.server.admission.request import AdmissionRequest
from deltawire.gateway.server.http.event_streams import request_of
from deltawire.gateway.server.http.target import SSE
from deltawire.gateway.server.relaying.fields import follow_head
from deltawire.gateway.server.relaying.follow import Follow
from deltawire.gateway.server.relaying.link import Link
from deltawire.gateway.server.relaying.reaching import Reach, UnreachableError
from deltawire.gateway.streams.mirror import Mirror
from deltawire.protocol.addresses import SubscribeRequest
from deltawire.protocol.messages import Policy

log = get_logger()


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
        self._tasks: dict[asyncio.Task[None], None] = {}

    def find(self, incoming: AdmissionRequest) -> Mirror | None:
        """Return the mirror that serves a consumer, if there is one now, and this node does not own the stream."""
        stream_id = incoming.target.stream_id
        follow = self._follows.get(stream_id)
        if follow is None or not follow.is_live or self._hub.manager.has(stream_id):
            return None
        request = _request_for_mirror(incoming)
        return None if request is None else _serving(follow, incoming, request)

    async def join(self, incoming: AdmissionRequest, owner: Elsewhere) -> Mirror | None:
        """Return the mirror that serves a consumer; None for other requests, and for what the owner has to serve.

        Args:
            incoming: a request about a stream.
            owner: of the stream.

        Raises:
            UnreachableError: it can't be reached.
        """
        request = _request_for_mirror(incoming)
        if request is None:
            return None
        stream_id = incoming.target.stream_id
        follow = self._follows.get(stream_id)
        if follow is None:
            follow = self._follows[stream_id] = Follow(self._hub, stream_id, self._connect, self._locate)
            task = asyncio.get_running_loop().create_task(self._run(follow, owner))
            self._tasks[task] = None
            task.add_done_callback(self._tasks.pop)
        if not await follow.wait_live(self._reach.timeout):
            raise UnreachableError(f"{owner.why} (it does not answer now)")
        if follow.failure and not follow.is_live:
            raise UnreachableError(follow.failure)
        return _serving(follow, incoming, request) if follow.is_live else None

    async def close(self) -> None:
        """End all follows."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, follow: Follow, owner: Elsewhere) -> None:
        try:
            await follow.run(owner)
        except Exception:  # one stream's fault is not another's
            self._hub.tally.faults += 1
            log.exception("follow.failed", stream=follow.stream_id)
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


def _request_for_mirror(incoming: AdmissionRequest) -> SubscribeRequest | None:
    """Return what a consumer asks for; None for those who need the owner itself, whatever a mirror has."""
    request = None if incoming.connection.is_relayed else request_of(incoming)
    return None if request is None or request.policy is Policy.BLOCK else request


def _serving(follow: Follow, incoming: AdmissionRequest, request: SubscribeRequest) -> Mirror | None:
    """Return the mirror of a follow if it has what a consumer wants."""
    mirror = follow.mirror
    assert mirror is not None, "it is live"
    is_by_position = incoming.target.is_websocket or incoming.target.tail == SSE
    if not (mirror.serves(request) if is_by_position else mirror.has_latest_message):
        return None
    follow.use()
    return mirror
