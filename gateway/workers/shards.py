"""Which worker a stream lives in. Pure.

A stream's id alone decides its shard, for ever; the number of workers decides which worker has a shard.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

SHARDS: Final = 64
"""Shards, and so the most workers there can be."""


def shard_of(stream_id: str) -> int:
    """Return the shard of a stream, 0 to 63.

    Args:
        stream_id: any text, valid as an id or not.
    """
    return crc32(stream_id.encode("utf-8", "surrogatepass")) % SHARDS


def worker_of(stream_id: str, workers: int) -> int:
    """Return the worker that a stream lives in, 0 to `workers` − 1; none has two shards more than another."""
    return shard_of(stream_id) * workers // SHARDS
