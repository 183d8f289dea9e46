"""Taking over streams that no gateway serves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from secrets import token_hex
from typing import Any

from redis.exceptions import ResponseError

from deltawire.gateway.engines.engine import Elsewhere
from deltawire.gateway.engines.redis.client import Client, replies_to
from deltawire.gateway.engines.redis.identity import Identity
from deltawire.gateway.engines.redis.keys import Keys
from deltawire.gateway.engines.redis.library import call
from deltawire.gateway.engines.redis.link import Command
from deltawire.gateway.engines.redis.server import in_words, is_about_keys
from deltawire.gateway.engines.redis.session import RENEWAL, Session
from deltawire.gateway.engines.redis.stored import Claimed, UnreadableError, parse_claim

MANY = 200
"""Streams asked for at a time."""

TRIES = 3
"""How often a stream is claimed that others claim too: the second try finds out who was quicker, unless it is gone."""


async def claim_unserved(  # noqa: PLR0913, PLR0917 - two of them hear what was found
    client: Client,
    keys: Keys,
    session: Session,
    owns: Callable[[str], bool],
    claimed: Callable[[Claimed], None],
    unreadable: Callable[[UnreadableError], object],
) -> int:
    """Claim every stream whose gateway is gone, oldest first.

    Args:
        client: of the server.
        keys: on it.
        session: of this gateway.
        owns: whether a stream, by its id, is for this process to serve; the others stay as they are.
        claimed: called with each at once, as those after it may fail.
        unreadable: called for each that is not what a gateway writes; the others are claimed.

    Returns:
        How many streams other gateways serve.

    Raises:
        RedisError: the server can't be asked.
    """
    ids = [stream for stream in await _list(client, keys) if owns(stream)]
    gone = {session.node: False, "": True}  # by node
    elsewhere = 0
    for at in range(0, len(ids), MANY):
        some = ids[at : at + MANY]
        free: list[tuple[str, bytes]] = []
        for stream, reply in zip(some, await _ask_owners(client, keys, some), strict=True):
            try:
                owner, term = _owner(stream, reply)
            except UnreadableError as error:
                unreadable(error)
                continue
            if term is None:
                await client.execute(call("unlist", keys.of_stream(stream)))  # which looks again
                continue
            if owner not in gone:
                gone[owner] = await session.find(owner) is None and await session.may_claim()
            if gone[owner]:
                free.append((stream, term))
            else:
                elsewhere += 1
        claims = [_claim(keys, session, stream, term) for stream, term in free]
        for (stream, term), reply in zip(free, await client.send(claims), strict=True):
            try:
                found = await _complete(client, keys, stream, term, reply)
            except UnreadableError as error:  # it stays this gateway's, so that others don't try again and again
                unreadable(error)
                continue
            if found is None:
                elsewhere += 1
            else:
                claimed(found)
    return elsewhere


async def claim(client: Client, keys: Keys, session: Session, stream: str) -> Claimed | Elsewhere | None:
    """Claim a stream, if its gateway is gone; None if there is no such stream.

    Raises:
        RedisError: the server can't be asked.
        UnreadableError: the stream is not what a gateway writes.
    """
    for _ in range(TRIES):
        [reply] = await _ask_owners(client, keys, [stream])
        owner, term = _owner(stream, reply)
        is_others = owner not in {"", session.node}
        if is_others and (other := await session.find(owner)) is not None:
            return served_elsewhere(stream, other)
        if (is_others or term is None) and not await session.may_claim():
            return unsettled(session)
        if term is None:
            [reply] = await client.send([call("vacant", keys.of_stream(stream))])
            _readable(stream, reply)
            return None
        if session.held_for > 0:  # also for one that was given up: what the server says of it may be old
            return unsettled(session)
        [reply] = await client.send([_claim(keys, session, stream, term)])
        if (found := await _complete(client, keys, stream, term, reply)) is not None:
            return found
    return served_elsewhere(stream, Identity())


async def _list(client: Client, keys: Keys) -> list[str]:
    """The ids of all streams, oldest first."""
    found: list[tuple[float, str]] = []
    for reply in await replies_to(client, [("ZRANGE", name, 0, -1, "WITHSCORES") for name in keys.lists]):
        found += ((float(score), id_.decode()) for id_, score in zip(reply[::2], reply[1::2], strict=True))
    return [id_ for _, id_ in sorted(found)]


async def _ask_owners(client: Client, keys: Keys, streams: Sequence[str]) -> list[Any]:
    return await client.send([("HMGET", keys.of_stream(stream)[0], "owner", "term") for stream in streams])


def _owner(stream: str, reply: Any) -> tuple[str, bytes | None]:
    """Owner and term of a stream; no term for one that is not there, or was deleted."""
    owner, term = _readable(stream, reply)
    return (owner or b"").decode(), None if owner is None else term


def _claim(keys: Keys, session: Session, stream: str, term: bytes) -> Command:
    return call("claim", keys.of_stream(stream), session.node, term, token_hex(8))


async def _complete(client: Client, keys: Keys, stream: str, term: bytes, reply: Any) -> Claimed | None:
    """Make of the reply to a claim, and of what it has left out, what was claimed; None if another was quicker."""
    if isinstance(_readable(stream, reply), bytes):  # BUSY
        return None
    pairs, entries, begin = reply
    names = keys.of_stream(stream)
    while begin:
        [reply] = await client.send([call("summary", names, begin)])
        more, begin = _readable(stream, reply)
        entries += more
    return parse_claim(stream, names, pairs, entries, term)


def _readable(stream: str, reply: Any) -> Any:
    """Return a reply that is no error.

    Raises:
        RedisError: the server refuses this for all streams.
        UnreadableError: the stream is not what a gateway writes.
    """
    if isinstance(reply, ResponseError) and is_about_keys(str(reply)):
        raise UnreadableError(stream, in_words(str(reply)))
    if isinstance(reply, Exception):
        raise reply
    return reply


def unsettled(session: Session) -> Elsewhere:
    """The answer for any stream while it is not known which gateways are there."""
    wait = max(session.held_for, RENEWAL)
    return Elsewhere(f"gateways settle who serves which stream after a fault: try again in {wait:.0f} s")


def served_elsewhere(stream: str, other: Identity) -> Elsewhere:
    """The answer for a stream of another gateway.

    Args:
        stream: its id.
        other: that gateway, as far as it says who it is.
    """
    where = f" at {other.url}" if other.url else ""
    why = f"another gateway serves stream {stream!r}{where}: connect there, or try again later"
    return Elsewhere(why, other.url, other.key)
