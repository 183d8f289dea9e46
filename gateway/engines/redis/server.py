"""The server as it is found at the start: whether it can be used, and what it does with what it has."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from redis.exceptions import AuthenticationError, NoPermissionError, OutOfMemoryError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from deltawire.gateway.engines.engine import EngineAwayError, EngineError
from deltawire.gateway.engines.redis.address import Address
from deltawire.gateway.engines.redis.client import Client, SentinelLoginError, replies_to
from deltawire.gateway.engines.redis.keys import Keys
from deltawire.gateway.engines.redis.library import LOAD, call

OLDEST = (7, 0)

NO_EVICTION = "noeviction"

_FOREIGN = (
    "engine_url: at {} another program has the key engine_prefix:nodes or engine_prefix:streams: "
    "delete or rename it, or set another engine_prefix"
)

T = TypeVar("T")


class Server(NamedTuple):
    """What a server is.

    Attributes:
        name: product and version.
        persistence: in words; empty for none.
        replicas: that are connected; in a cluster, those of the primary that has fewest.
    """

    name: str
    persistence: str
    replicas: int


async def check_server(client: Client, address: Address) -> Server:
    """Check whether a server can be used, without changing anything.

    Raises:
        EngineError: it can't.
    """
    infos = await asked(client.everywhere(("INFO", "everything")), address, "INFO")
    for info in infos:
        _check(info, address)
    replicas = min(int(info.get("connected_slaves", 0)) for info in infos)
    return Server(_name(infos[0]), await _persistence(client, infos), replicas)


def _name(info: dict[str, Any]) -> str:
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info.get('redis_version', '0')}"


def _check(info: dict[str, Any], address: Address) -> None:
    """Check one server."""
    compatible = tuple(int(part) for part in str(info.get("redis_version", "0.0")).split(".")[:2])
    if compatible < OLDEST:
        raise EngineError(f"engine_url: {_name(info)} at {address} is too old: version 7 or newer is needed")
    if info.get("cluster_enabled") and not address.is_cluster:
        raise EngineError(f"engine_url: {address} is one server of a cluster: use redis+cluster:// for all of them")
    if info.get("role") == "slave":
        raise EngineError(f"engine_url: {address} is a replica, which can't be written to: name its primary")
    if evicting := eviction(info.get("maxmemory_policy"), address):
        raise EngineError(f"engine_url: {evicting}")


def eviction(policy: str | None, address: Address) -> str:
    """What is told of a `maxmemory-policy`; empty if it evicts nothing."""
    if policy == NO_EVICTION:
        return ""
    return f"maxmemory-policy of {address} is {policy}, which evicts stored events: set it to {NO_EVICTION}"


async def _persistence(client: Client, infos: Sequence[dict[str, Any]]) -> str:
    if all(info.get("aof_enabled") for info in infos):
        return "append-only file"
    try:
        found = await client.everywhere(("CONFIG GET", "save"))
    except RedisError:  # many services don't allow it
        return "snapshots at most"
    return "snapshots" if all(it.get("save", "") for it in found) else ""


async def load_functions(client: Client, keys: Keys, address: Address, *, waits: bool) -> None:
    """Load our functions, and try them and what else is asked later.

    Args:
        client: of the server.
        keys: on it.
        address: of it, for messages.
        waits: whether replicas are waited for.

    Raises:
        EngineError: that is not allowed.
    """
    await asked(_load(client), address, "FUNCTION LOAD")
    probing = [call("probe", names) for names in keys.probes]
    for refused in filter(None, await asked(replies_to(client, probing), address, "FCALL")):
        command, why = (part.decode() for part in refused)
        if "WRONGTYPE" in why:
            raise EngineError(_FOREIGN.format(address))
        if "user" in why.lower():
            raise EngineError(f"engine_url: {address} does not permit this user {command} in functions (ACL)")
        raise EngineError(f"engine_url: {address} refuses {command} in functions: {why}")
    reading = [call("read", names, 1, 1, 1) for names in keys.probes]
    await asked(replies_to(client, reading), address, "FCALL_RO")
    await asked(client.execute(("GET", keys.of_node("*"))), address, "GET")
    if waits:
        await asked(client.everywhere(("WAIT", 0, 1)), address, "WAIT")


async def _load(client: Client) -> None:
    with suppress(OutOfMemoryError):  # another gateway may have loaded them; if not, what calls them is refused
        await client.everywhere(LOAD)


def is_about_keys(refusal: str) -> bool:
    """Whether a refusal is about the keys of one stream: they hold something else than a gateway writes."""
    return refusal.removeprefix("ERR ").startswith(("WRONGTYPE", "user_function:", "The ID specified in XADD"))


def in_words(refusal: str) -> str:
    """What a refusal about the keys of a stream means; the server's own words are about our functions."""
    if "WRONGTYPE" in refusal:
        return "another program has it"
    if "The ID specified in XADD" in refusal:
        return "it has entries after the last event"
    return "a field is missing or malformed"


async def asked(answer: Awaitable[T], address: Address, what: str) -> T:
    """Return an answer of a server.

    Args:
        answer: to wait for.
        address: of the server, for messages.
        what: was asked.

    Raises:
        EngineError: it did not answer, or refused; in words that name no secret.
    """
    try:
        return await answer
    except AuthenticationError as error:
        raise EngineError(f"engine_url: {_login_refusal(error, address)}") from None
    except NoPermissionError as error:
        named = re.search("'([^']+)' command", str(error))  # the command that the client has sent before may be another
        what = named[1].replace("|", " ").upper() if named else "keys that begin with engine_prefix"
        raise EngineError(f"engine_url: {address} does not permit this user {what} (ACL)") from None
    except OutOfMemoryError:  # a matter of time
        raise EngineAwayError(f"engine_url: the memory of {address} is full (maxmemory): it refuses {what}") from None
    except ResponseError as error:
        if "cluster support disabled" in str(error):
            raise EngineError(f"engine_url: {address} is not a cluster: use redis:// for a single server") from None
        if "WRONGTYPE" in str(error):
            raise EngineError(_FOREIGN.format(address)) from None
        raise EngineError(f"engine_url: {address} refuses {what}: {error}") from None
    except (RedisError, OSError) as error:
        raise EngineAwayError(f"engine_url: {address} can't be reached: {_reason(error, address)}") from None


def _login_refusal(error: AuthenticationError, address: Address) -> str:
    is_sentinel = isinstance(error, SentinelLoginError)
    who = f"a sentinel of {address}" if is_sentinel else f"{address}"
    if "required" in str(error):  # NOAUTH, of who did not try
        return f"{who} asks for a password, and the URL has {'no sentinel_password' if is_sentinel else 'none'}"
    if "without any password" in str(error):
        return f"{who} has no password, and the URL has one"
    return f"{who} accepts neither that user nor that password"


def _reason(error: Exception, address: Address) -> str:
    if address.tls is not None and (isinstance(error, RedisTimeoutError) or str(error).endswith("TimeoutError")):
        return "it does not answer in TLS: if it has none at that port, use redis instead of rediss"
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLError):  # its number is none of the system's
        return str(cause.strerror)
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)  # getaddrinfo has others
    return str(error)
