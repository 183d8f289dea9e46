"""Where streams are in a cluster. Pure.

    stream ──CRC32──► one of 256 buckets, each with a tag ──CRC16──► a slot ──► the server that has it

A cluster keeps keys with the same tag together, and nothing else. What changes a stream changes the list that it is on
too, so streams with one tag have a list of their own; and there are so few tags that all lists can be asked for.

Source: Redis Cluster specification, "Key distribution model" and "Redirection and resharding".
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from itertools import count
from typing import Any, Final
from zlib import crc32

from deltawire.gateway.engines.redis.address import Host

SLOTS: Final = 16384

BUCKETS: Final = 256
"""Some for each server of a large cluster, and few enough to list the streams of each every ten seconds."""

REDIRECTED: Final = ("MOVED ", "ASK ", "TRYAGAIN ")
"""How refusals begin of a server that does not have a key, or is just moving its slot: nothing was done."""


def slot_of(tag: str) -> int:
    """Return the slot of the keys with a tag."""
    return crc_hqx(tag.encode(), 0) % SLOTS


def bucket_with(slot: int) -> int:
    """Return the bucket whose tag leads to a slot, or would if its tag were another."""
    return slot * BUCKETS // SLOTS


def bucket_of(stream: str) -> int:
    """Return the bucket of a stream, 0 to 255, by its id."""
    return crc32(stream.encode()) % BUCKETS


def _spread_tags() -> tuple[str, ...]:
    """A tag for each bucket, so that their slots are as far from each other as possible: servers get equal parts."""
    found: dict[int, str] = {}
    for number in count():
        found.setdefault(bucket_with(slot_of(str(number))), str(number))
        if len(found) == BUCKETS:
            return tuple(found[bucket] for bucket in range(BUCKETS))
    raise AssertionError


TAGS: Final = _spread_tags()


def parse_slots(reply: Sequence[Any], asked: Host) -> tuple[list[Host], list[Host]]:
    """Parse the reply to `CLUSTER SLOTS`.

    Args:
        reply: first and last slot, the server that has them, and its replicas, for each range.
        asked: who has answered; a server that does not know its own address leaves it out.

    Returns:
        The server of each bucket; and all servers, with replicas.

    Raises:
        ValueError: some bucket's slot is nobody's.
    """
    by_bucket: dict[int, Host] = {}
    hosts: dict[Host, None] = {}
    slots = {slot_of(tag): bucket for bucket, tag in enumerate(TAGS)}
    for first, last, *servers in reply:
        named = [Host((name or b"").decode() or asked.name, int(port)) for name, port, *_ in servers]
        hosts.update(dict.fromkeys(named))
        by_bucket |= {bucket: named[0] for slot, bucket in slots.items() if first <= slot <= last}
    if len(by_bucket) < BUCKETS:
        raise ValueError("no server has some of the slots")
    return [by_bucket[bucket] for bucket in range(BUCKETS)], list(hosts)


def parse_moved(text: str, asked: Host) -> tuple[int, Host] | None:
    """Parse `MOVED SLOT HOST:PORT`: the bucket, and the server that has it; None for another refusal."""
    word, _, rest = text.partition(" ")
    slot, _, address = rest.partition(" ")
    name, _, port = address.rpartition(":")
    if word != "MOVED" or not (slot.isdecimal() and port.isdecimal()):
        return None
    return bucket_with(int(slot)), Host(name.strip("[]") or asked.name, int(port))
