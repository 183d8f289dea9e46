"""Asking a server, for all but commits: claims, sessions, reads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from deltawire.gateway.engines.redis.address import Address, Host, Login
from deltawire.gateway.engines.redis.library import LOAD, is_unloaded
from deltawire.gateway.engines.redis.link import Command

NAMED: Final = {"client_name": "deltawire"}


class Client(Protocol):
    """Asks a server, or the servers of a cluster, which get our functions again if they have lost them.

    Its methods raise `RedisError` and `OSError`.
    """

    async def execute(self, command: Command) -> Any:
        """Send a command; returns its reply, or raises what it was refused with."""

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands; returns their replies, of which each may be an error."""

    async def everywhere(self, command: Command) -> list[Any]:
        """Send a command to each server that may be written to; returns the replies, or raises the first error."""

    async def close(self) -> None:
        """End the connections."""


class SentinelLoginError(AuthenticationError):
    """A sentinel accepts neither that user nor that password."""


class Sentinels(Sentinel):
    """Sentinels, which are asked all at once, so that one that does not answer holds nothing up.

    The library asks one after the other. Its errors show all arguments of its connections; before release 8, also the
    password.
    """

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return where a primary is.

        Raises:
            RedisError: no sentinel can be asked, or knows.
        """
        errors: list[RedisError] = []
        asking = [asyncio.create_task(self._ask(it, service_name)) for it in self.sentinels]
        try:
            for answer in asyncio.as_completed(asking):
                try:
                    if (found := await answer) is not None:
                        return found
                except RedisError as error:
                    errors.append(error)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        if len(errors) < len(asking):
            raise MasterNotFoundError(f"No master found for {service_name!r}")
        raise next((it for it in errors if isinstance(it, SentinelLoginError)), errors[0])

    async def _ask(self, sentinel: Any, name: str) -> tuple[str, int] | None:
        """Where a primary is, as one sentinel has it; None if it does not know."""
        try:
            state = (await sentinel.sentinel_masters()).get(name)
        except AuthenticationError as error:
            raise SentinelLoginError(str(error)) from None
        return (state["ip"], state["port"]) if state and self.check_master_state(state, name) else None


async def replies_to(client: Client, commands: Sequence[Command]) -> list[Any]:
    """Send commands; returns their replies, or raises the first error."""
    replies = await client.send(commands)
    if (refusal := next((it for it in replies if isinstance(it, Exception)), None)) is not None:
        raise refusal
    return replies


class SingleClient:
    """Asks the one server there is.

    Args:
        redis: the library's client of it.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def execute(self, command: Command) -> Any:
        """Send a command; as `Client` has it."""
        try:
            return await self._execute(command)
        except ResponseError as error:
            if not is_unloaded(error):
                raise
        await self._execute(LOAD)
        return await self._execute(command)

    async def _execute(self, command: Command) -> Any:
        return await self._redis.execute_command(*command)  # type: ignore[no-untyped-call]

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands; as `Client` has it."""
        replies = await self._send(commands)
        if unloaded := [index for index, reply in enumerate(replies) if is_unloaded(reply)]:
            [refusal] = loaded = await self._send([LOAD])
            again = await self._send([commands[index] for index in unloaded])
            if isinstance(refusal, Exception):  # it says more
                again = loaded * len(unloaded)
            for index, reply in zip(unloaded, again, strict=True):
                replies[index] = reply
        return replies

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return await pipe.execute(raise_on_error=False) if commands else []

    async def everywhere(self, command: Command) -> list[Any]:
        """Send a command; as `Client` has it."""
        return [await self.execute(command)]

    async def close(self) -> None:
        """End the connections."""
        pool = self._redis.connection_pool
        await self._redis.aclose()
        if isinstance(pool, SentinelConnectionPool):
            await _close(pool.sentinel_manager)


def make_client(address: Address, timeout: float) -> Client:
    """Return a client, to be closed.

    Args:
        address: of the server.
        timeout: seconds that it has for an answer.
    """
    if address.primary:
        options = {"db": address.database} | NAMED | _options(address, timeout) | _named(address.login)
        return SingleClient(cast("Redis", _sentinel(address, timeout).master_for(address.primary, **options)))
    return client_of(address, address.hosts[0], timeout)


def client_of(address: Address, host: Host, timeout: float) -> SingleClient:
    """Return a client of one server; arguments as for `make_client`, but for where it is."""
    options = {"db": address.database} | NAMED | _options(address, timeout) | _named(address.login)
    return SingleClient(Redis(host=host.name, port=host.port, **options))


async def find_primary(address: Address, timeout: float) -> Host:
    """Return where the server is now.

    Raises:
        RedisError: no sentinel can be asked, or knows.
    """
    if not address.primary:
        return address.hosts[0]
    sentinel = _sentinel(address, timeout)
    try:
        return Host(*await sentinel.discover_master(address.primary))
    finally:
        await _close(sentinel)


def _sentinel(address: Address, timeout: float) -> Sentinels:
    options = _options(address, timeout) | _named(address.sentinel_login)
    return Sentinels(list(address.hosts), sentinel_kwargs=options)  # type: ignore[no-untyped-call]


async def _close(sentinel: Sentinel) -> None:
    for client in sentinel.sentinels:
        await client.aclose()


def _options(address: Address, timeout: float) -> dict[str, Any]:
    """Arguments of every client."""
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 1),
        "protocol": 2,
    }
    if address.tls is not None:
        ca, cert, key = address.files
        options |= {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True}
        options |= {"ssl_ca_certs": ca, "ssl_certfile": cert, "ssl_keyfile": key}
    return options


def _named(login: Login) -> dict[str, Any]:
    return {"username": login.user or None, "password": login.password or None}
