"""The servers of a cluster: which of them has which streams, and asking them for all but commits."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Final

from redis.exceptions import (
    AskError,
    ClusterDownError,
    ConnectionError,  # noqa: A004 - the library's
    MovedError,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004 - likewise
    TryAgainError,
)

from deltawire.gateway.engines.redis.address import Address, Host
from deltawire.gateway.engines.redis.client import SingleClient, client_of
from deltawire.gateway.engines.redis.link import Command
from deltawire.gateway.engines.redis.topology import TAGS, bucket_with, parse_slots

PAUSE: Final = 0.05
"""Seconds until a server is asked again that is just giving keys away, or whose replica takes over."""

LOOK: Final = 1.0
"""Seconds in which a server has to say who has which slots, before another one is asked."""

REDIRECTED: Final = (MovedError, AskError, TryAgainError)
LOST: Final = (ClusterDownError, ConnectionError, TimeoutError)

_BUCKETS: Final = {tag: bucket for bucket, tag in enumerate(TAGS)}
_TAGGED: Final = re.compile(r"{(\d+)}")


class Layout:
    """Which server has which bucket, as far as it is known here.

    Args:
        address: of the cluster; some of its servers.
        timeout: seconds that a server has for an answer.

    Attributes:
        servers: of each bucket; empty until it was looked for.
    """

    def __init__(self, address: Address, timeout: float) -> None:
        self.address = address
        self.timeout = timeout
        self.servers: list[Host] = []
        self._known = list(address.hosts)

    async def look(self) -> None:
        """Ask one server after the other until one knows.

        Raises:
            RedisError: none does.
        """
        random.shuffle(self._known)  # one that is cut off may know an older state
        failed: Exception | None = None
        for host in (*self._known, *(it for it in self.address.hosts if it not in self._known)):
            client = client_of(self.address, host, min(LOOK, self.timeout))
            try:
                self.servers, self._known = parse_slots(await client.execute(("CLUSTER", "SLOTS")), host)
            except (RedisError, OSError) as error:
                failed = failed if isinstance(failed, ResponseError) else error  # it says more
            except ValueError as error:
                failed = ClusterDownError(str(error))
            else:
                return
            finally:
                await client.close()
        assert failed is not None, "an address has a host"
        raise failed

    def moved(self, bucket: int, host: Host) -> None:
        """Take note that a server has a bucket now."""
        self.servers[bucket] = host
        if host not in self._known:
            self._known.append(host)


class ClusterClient:
    """Asks the servers of a cluster; a `Client`.

    Args:
        layout: of the cluster.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._clients: dict[Host, SingleClient] = {}

    async def execute(self, command: Command) -> Any:
        """Send a command; as `Client` has it."""
        [reply] = await self.send([command])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands; as `Client` has it. While slots are being moved, they are sent again for `timeout`."""
        replies: list[Any] = [None] * len(commands)
        left: Sequence[int] = range(len(commands))
        until = time.monotonic() + self._layout.timeout
        if not self._layout.servers:
            await self._layout.look()
        for attempt in count():
            by_host: dict[Host, list[int]] = {}
            for index in left:
                by_host.setdefault(self._layout.servers[_bucket(commands[index])], []).append(index)
            sent = (self._send_to(host, [commands[index] for index in some]) for host, some in by_host.items())
            for some, answers in zip(by_host.values(), await asyncio.gather(*sent), strict=True):
                for index, reply in zip(some, answers, strict=True):
                    replies[index] = reply
            left = [index for index in left if _is_passing(replies[index])]
            await self._learn([replies[index] for index in left])
            if not left or (attempt and time.monotonic() >= until):
                break
            await asyncio.sleep(PAUSE)
        return replies

    async def _learn(self, refusals: Sequence[Exception]) -> None:
        """Learn from refusals who has which slots now."""
        for refusal in refusals:
            if type(refusal) is MovedError and refusal.host:
                self._layout.moved(bucket_with(refusal.slot_id), Host(refusal.host, refusal.port))
        if any(isinstance(refusal, LOST) for refusal in refusals):
            with suppress(RedisError, OSError):  # the refusals say what is wrong
                await self._layout.look()

    async def _send_to(self, host: Host, commands: Sequence[Command]) -> list[Any]:
        """Send commands to one server; if it is lost, that is the reply to each."""
        client = self._client_of(host)
        try:
            return await client.send(commands)
        except (ConnectionError, TimeoutError) as error:
            return [error] * len(commands)
        except OSError as error:
            return [ConnectionError(str(error))] * len(commands)

    async def everywhere(self, command: Command) -> list[Any]:
        """Send a command; as `Client` has it."""
        if not self._layout.servers:
            await self._layout.look()
        hosts = dict.fromkeys(self._layout.servers)
        try:
            return await asyncio.gather(*(self._client_of(host).execute(command) for host in hosts))
        except (*LOST, OSError):
            await self._layout.look()  # for the next time
            raise

    def _client_of(self, host: Host) -> SingleClient:
        if host not in self._clients:
            self._clients[host] = client_of(self._layout.address, host, self._layout.timeout)
        return self._clients[host]

    async def close(self) -> None:
        """End the connections."""
        for client in self._clients.values():
            await client.close()


def _is_passing(reply: Any) -> bool:
    """Whether a command that got a reply is to be sent again."""
    return isinstance(reply, (*REDIRECTED, *LOST))


def _bucket(command: Command) -> int:
    """The bucket of the first key of a command."""
    key = str(command[3 if str(command[0]).startswith("FCALL") else 1])
    tagged = _TAGGED.search(key)
    assert tagged is not None, "every key in a cluster has a tag"
    return _BUCKETS[tagged[1]]
