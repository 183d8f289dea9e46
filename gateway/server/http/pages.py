"""Pages of the list of streams, of several processes or gateways, made one. Pure."""

from __future__ import annotations

import msgspec
from msgspec import Struct


class _Named(Struct):
    id: str


def merge_pages(pages: list[bytes], limit: int) -> bytes:
    """Return the first of the streams of several pages, in the order of their ids.

    Args:
        pages: JSON arrays of objects with an `id`; of one that is in several, the first counts.
        limit: the most to return.
    """
    rows: dict[str, msgspec.Raw] = {}
    for page in pages:
        for row in msgspec.json.decode(page, type=list[msgspec.Raw]):
            rows.setdefault(msgspec.json.decode(row, type=_Named).id, row)
    return msgspec.json.encode([rows[name] for name in sorted(rows)[:limit]]) + b"\n"
